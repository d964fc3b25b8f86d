//! Which program starts: the image's entrypoint and command, and what replaces them.

use std::ffi::OsString;

use oci::RunConfig;

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub program: OsString,
    pub args: Vec<OsString>,
}

/// As container engines do: arguments replace the image's command; an entrypoint replaces its entrypoint and its
/// command. `None` when nothing is left to run.
pub(super) fn choose(config: &RunConfig, entrypoint: Option<&str>, args: &[OsString]) -> Option<Command> {
    let own = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let (mut words, default) = match entrypoint {
        None => (own(&config.entrypoint), own(&config.cmd)),
        Some("") => (Vec::new(), Vec::new()),
        Some(program) => (vec![program.into()], Vec::new()),
    };
    words.extend(if args.is_empty() { default } else { args.to_vec() });
    let mut words = words.into_iter();
    Some(Command { program: words.next()?, args: words.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_together_as_engines_do() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let chosen = |entrypoint: &[&str], cmd: &[&str], own: Option<&str>, args: &[&str]| {
            let config = RunConfig { entrypoint: list(entrypoint), cmd: list(cmd), ..RunConfig::default() };
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            choose(&config, own, &args).map(|command| {
                let words = std::iter::once(command.program).chain(command.args);
                words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
            })
        };
        let says = |text: &str| Some(text.to_owned());
        assert_eq!(chosen(&["/web"], &["-p", "1"], None, &[]), says("/web -p 1"));
        assert_eq!(chosen(&["/web"], &["-p", "1"], None, &["-q"]), says("/web -q"));
        assert_eq!(chosen(&["/web"], &["-p", "1"], Some("worker"), &[]), says("worker"));
        assert_eq!(chosen(&["/web"], &["-p", "1"], Some("worker"), &["x"]), says("worker x"));
        assert_eq!(chosen(&["/web"], &["-p", "1"], Some(""), &["sh", "-c"]), says("sh -c"));
        assert_eq!(chosen(&[], &["sh"], None, &[]), says("sh"));
        assert_eq!(chosen(&[], &[], None, &[]), None);
        assert_eq!(chosen(&["/web"], &["x"], Some(""), &[]), None);
    }
}
