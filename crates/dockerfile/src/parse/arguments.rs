//! Arguments of instructions, each by its own rules.

use std::ops::Range;
use std::time::Duration;

use super::flags::Flags;
use super::{Fault, KEYWORDS, Line, heredoc_start, is_space, mount};
use crate::instruction::{
    Add, Arg, Command, Copy, CopySource, From, Healthcheck, Heredoc, InstructionKind, Network, Pair, Run,
    Word,
};

/// An instruction's line taken apart as far as all instructions are alike.
pub(super) struct Reader<'a> {
    pub(super) line: &'a Line,
    pub(super) keyword: String,
    pub(super) flags: Flags,
    pub(super) arguments: Range<usize>,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) escape: char,
}

impl Reader<'_> {
    pub(super) fn read(mut self) -> Result<InstructionKind, Fault> {
        match self.keyword.as_str() {
            "ADD" => self.add().map(InstructionKind::Add),
            "COPY" => self.copy_alone().map(InstructionKind::Copy),
            "FROM" => self.from().map(InstructionKind::From),
            "HEALTHCHECK" => self.healthcheck().map(InstructionKind::Healthcheck),
            "RUN" => self.run().map(InstructionKind::Run),
            _ => {
                self.flags.none_left(&self.keyword, &[])?;
                self.without_flags()
            }
        }
    }

    fn without_flags(self) -> Result<InstructionKind, Fault> {
        Ok(match self.keyword.as_str() {
            "ARG" => InstructionKind::Arg(self.args()?),
            "CMD" => InstructionKind::Cmd(self.command(self.arguments.clone())?),
            "ENTRYPOINT" => InstructionKind::Entrypoint(self.command(self.arguments.clone())?),
            "ENV" => InstructionKind::Env(self.pairs()?),
            "EXPOSE" => InstructionKind::Expose(self.some_words()?),
            "LABEL" => InstructionKind::Label(self.pairs()?),
            "MAINTAINER" => InstructionKind::Maintainer(self.whole()?.text),
            "ONBUILD" => InstructionKind::Onbuild(self.onbuild()?),
            "SHELL" => InstructionKind::Shell(self.shell()?),
            "STOPSIGNAL" => InstructionKind::StopSignal(self.whole()?),
            "USER" => InstructionKind::User(self.whole()?),
            "VOLUME" => InstructionKind::Volume(self.volumes()?),
            "WORKDIR" => InstructionKind::Workdir(self.whole()?),
            other => return Err(self.fault(format!("unknown instruction `{other}`"))),
        })
    }

    /// A complaint about the instruction as a whole.
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.line.source(0..self.line.text.len()), message)
    }

    fn text(&self) -> &str {
        &self.line.text[self.arguments.clone()]
    }

    fn word(&self, range: Range<usize>) -> Word {
        Word { text: self.line.text[range.clone()].to_owned(), span: self.line.source(range) }
    }

    /// All arguments as one.
    fn whole(&self) -> Result<Word, Fault> {
        if self.text().is_empty() {
            return Err(self.fault(format!("{} needs an argument", self.keyword)));
        }
        Ok(self.word(self.arguments.clone()))
    }

    /// Arguments separated by spaces, or a JSON list.
    fn words(&self) -> Result<Vec<Word>, Fault> {
        let span = self.line.source(self.arguments.clone());
        match json_list(self.text()) {
            Ok(Some(list)) => Ok(list.into_iter().map(|text| Word { text, span: span.clone() }).collect()),
            Ok(None) => Ok(self.split_words()),
            Err(NotStrings) => Err(not_strings(span)),
        }
    }

    fn split_words(&self) -> Vec<Word> {
        let text = self.text();
        let offset = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize + self.arguments.start;
        text.split(is_space)
            .filter(|word| !word.is_empty())
            .map(|word| self.word(offset(word)..offset(word) + word.len()))
            .collect()
    }

    fn some_words(&self) -> Result<Vec<Word>, Fault> {
        let words = self.split_words();
        if words.is_empty() {
            return Err(self.fault(format!("{} needs at least one argument", self.keyword)));
        }
        Ok(words)
    }

    fn volumes(&self) -> Result<Vec<Word>, Fault> {
        let words = self.words()?;
        if words.is_empty() {
            return Err(self.fault("VOLUME needs at least one argument"));
        }
        match words.iter().find(|word| word.text.trim().is_empty()) {
            Some(empty) => Err(Fault::new(empty.span.clone(), "a volume has no path")),
            None => Ok(words),
        }
    }

    /// A command in either form.
    fn command(&self, range: Range<usize>) -> Result<Command, Fault> {
        let text = &self.line.text[range.clone()];
        match json_list(text) {
            Ok(Some(list)) => Ok(Command::Exec(list)),
            Ok(None) => Ok(Command::Shell(text.to_owned())),
            Err(NotStrings) => Err(not_strings(self.line.source(range))),
        }
    }

    fn shell(&self) -> Result<Vec<String>, Fault> {
        match self.command(self.arguments.clone())? {
            Command::Exec(list) if !list.is_empty() => Ok(list),
            Command::Exec(_) => Err(self.fault("SHELL needs at least one argument")),
            Command::Shell(_) => Err(self
                .fault("SHELL takes a JSON list of strings")
                .with_help("for instance `SHELL [\"/bin/bash\", \"-c\"]`")),
        }
    }

    fn args(&self) -> Result<Vec<Arg>, Fault> {
        let words = quoted_words(&self.line.text, self.arguments.clone(), self.escape);
        if words.is_empty() {
            return Err(self.fault("ARG needs at least one name"));
        }
        let arg = |range: Range<usize>| {
            let text = &self.line.text[range.clone()];
            let span = self.line.source(range);
            match text.split_once('=') {
                Some(("", _)) => Err(Fault::new(span, "ARG without a name before `=`")),
                Some((name, value)) => {
                    Ok(Arg { name: name.to_owned(), default: Some(value.to_owned()), span })
                }
                None => Ok(Arg { name: text.to_owned(), default: None, span }),
            }
        };
        words.into_iter().map(arg).collect()
    }

    fn pairs(&self) -> Result<Vec<Pair>, Fault> {
        let keyword = &self.keyword;
        let words = quoted_words(&self.line.text, self.arguments.clone(), self.escape);
        let Some(first) = words.first() else {
            return Err(self.fault(format!("{keyword} needs at least one name and value")));
        };
        if !self.line.text[first.clone()].contains('=') {
            return Ok(vec![self.old_pair()?]);
        }
        let pair = |range: Range<usize>| {
            let text = &self.line.text[range.clone()];
            let span = self.line.source(range);
            match text.split_once('=') {
                Some(("", _)) => Err(Fault::new(span, format!("{keyword} without a name before `=`"))),
                Some((key, value)) => Ok(Pair { key: key.to_owned(), value: value.to_owned(), span }),
                None => Err(Fault::new(span, format!("no `=` in `{text}`"))
                    .with_help("a value with spaces needs quotes: name=\"a value\"")),
            }
        };
        words.into_iter().map(pair).collect()
    }

    /// `ENV name value with spaces`, as it was once.
    fn old_pair(&self) -> Result<Pair, Fault> {
        let text = self.text();
        let Some((key, value)) = text.split_once(is_space) else {
            let message = format!("{} needs a name and a value", self.keyword);
            return Err(self.fault(message).with_help("written as name=value"));
        };
        let value = value.trim_start_matches(is_space).to_owned();
        Ok(Pair { key: key.to_owned(), value, span: self.line.source(self.arguments.clone()) })
    }

    fn from(&mut self) -> Result<From, Fault> {
        let platform = self.flags.take("platform")?;
        self.flags.none_left("FROM", &["platform"])?;
        let mut words = self.split_words();
        match words.len() {
            1 => Ok(From { image: words.remove(0), platform, name: None }),
            3 if words[1].text.eq_ignore_ascii_case("as") => {
                let name = words.pop();
                Ok(From { image: words.remove(0), platform, name })
            }
            _ => Err(self.fault("FROM takes an image, or an image, `AS`, and a name")),
        }
    }

    fn run(&mut self) -> Result<Run, Fault> {
        const FLAGS: [&str; 2] = ["mount", "network"];
        let mounts = self.flags.take_all("mount")?;
        let mounts = mounts.into_iter().map(|word| mount::parse(word, None)).collect::<Result<_, _>>()?;
        let network = match self.flags.take("network")? {
            None => None,
            Some(word) => Some(match word.text.as_str() {
                "default" => Network::Default,
                "host" => Network::Host,
                "none" => Network::None,
                other => {
                    return Err(Fault::new(word.span, format!("unknown network `{other}`"))
                        .with_help("it is `default`, `none` or `host`"));
                }
            }),
        };
        if let Some(word) = self.flags.take("security")?
            && word.text != "sandbox"
        {
            return Err(Fault::new(word.span, format!("RUN --security={} is not supported", word.text))
                .with_help("commands always run in the sandbox"));
        }
        self.unsupported("device", "commands see no devices of the machine")?;
        self.flags.none_left("RUN", &FLAGS)?;
        let command = self.command(self.arguments.clone())?;
        let empty = match &command {
            Command::Shell(text) => text.is_empty(),
            Command::Exec(list) => list.is_empty(),
        };
        if empty {
            return Err(self.fault("RUN needs a command"));
        }
        Ok(Run { command, heredocs: std::mem::take(&mut self.heredocs), mounts, network })
    }

    /// Complains about a flag that exists elsewhere.
    fn unsupported(&mut self, name: &str, why: &str) -> Result<(), Fault> {
        match self.flags.take_any(name) {
            Some(span) => {
                let message = format!("{} --{name} is not supported", self.keyword);
                Err(Fault::new(span, message).with_help(why))
            }
            None => Ok(()),
        }
    }

    fn copy_alone(&mut self) -> Result<Copy, Fault> {
        self.unsupported("from", "there is one stage only: copy from the context")?;
        self.unsupported("parents", "name the destination of each file")?;
        let copy = self.copy()?;
        self.flags.none_left("COPY", &["chown", "chmod", "exclude", "link"])?;
        self.copy_arguments(copy)
    }

    fn add(&mut self) -> Result<Add, Fault> {
        self.unsupported("keep-git-dir", "repositories cannot be added")?;
        let checksum = self.flags.take("checksum")?;
        let unpack = self.flags.take_bool("unpack")?.map(|(unpack, _)| unpack);
        let copy = self.copy()?;
        self.flags.none_left("ADD", &["chown", "chmod", "exclude", "link", "checksum", "unpack"])?;
        Ok(Add { copy: self.copy_arguments(copy)?, checksum, unpack })
    }

    /// The flags that `COPY` and `ADD` share.
    fn copy(&mut self) -> Result<Copy, Fault> {
        Ok(Copy {
            sources: Vec::new(),
            dest: self.word(self.arguments.start..self.arguments.start),
            chown: self.flags.take("chown")?,
            chmod: self.flags.take("chmod")?,
            excludes: self.flags.take_all("exclude")?,
            link: self.flags.take_bool("link")?.is_some_and(|(link, _)| link),
        })
    }

    fn copy_arguments(&mut self, copy: Copy) -> Result<Copy, Fault> {
        let keyword = &self.keyword;
        let mut words = self.words()?;
        let dest = words.pop().filter(|_| !words.is_empty());
        let Some(dest) = dest else {
            return Err(self.fault(format!("{keyword} needs at least one source and a destination")));
        };
        if heredoc_start(&dest.text).is_some() {
            return Err(Fault::new(dest.span, "a here-document cannot be the destination"));
        }
        let sources = words.into_iter().map(|word| self.source(word)).collect();
        Ok(Copy { sources, dest, ..copy })
    }

    /// A source; a here-document when there is one of that name.
    fn source(&self, word: Word) -> CopySource {
        heredoc_start(&word.text)
            .and_then(|start| self.heredocs.iter().rev().find(|heredoc| heredoc.name == start.name))
            .map_or(CopySource::Path(word), |heredoc| CopySource::Heredoc(heredoc.clone()))
    }

    fn onbuild(&self) -> Result<String, Fault> {
        let whole = self.whole()?;
        let trigger = whole.text.split(is_space).next().unwrap_or("").to_ascii_uppercase();
        match trigger.as_str() {
            "ONBUILD" | "FROM" | "MAINTAINER" => {
                return Err(Fault::new(whole.span, format!("ONBUILD cannot have `{trigger}`")));
            }
            known if KEYWORDS.contains(&known) => (),
            other => {
                return Err(Fault::new(whole.span, format!("unknown instruction `{other}` after ONBUILD")));
            }
        }
        let mut text = whole.text;
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.raw);
            text.push_str(&heredoc.name);
        }
        Ok(text)
    }

    fn healthcheck(&mut self) -> Result<Healthcheck, Fault> {
        const FLAGS: [&str; 5] = ["interval", "timeout", "start-period", "start-interval", "retries"];
        let text = self.text();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let kind = text[..end].to_ascii_uppercase();
        let start = end + (text[end..].len() - text[end..].trim_start().len());
        let rest = self.arguments.start + start..self.arguments.end;
        let mut durations = Vec::new();
        for name in &FLAGS[..4] {
            durations.push(self.flags.take(name)?.map(interval).transpose()?);
        }
        let [interval, timeout, start_period, start_interval] = durations[..] else { unreachable!() };
        let retries =
            match self.flags.take("retries")? {
                None => None,
                Some(word) => Some(word.text.parse().map_err(|_| {
                    Fault::new(word.span, format!("`{}` is not a number of retries", word.text))
                })?),
            };
        self.flags.none_left("HEALTHCHECK", &FLAGS)?;
        let command = match (kind.as_str(), rest.is_empty()) {
            ("NONE", true) => None,
            ("NONE", false) => return Err(self.fault("HEALTHCHECK NONE takes no arguments")),
            ("CMD", false) => Some(self.command(rest)?),
            ("CMD", true) => return Err(self.fault("HEALTHCHECK CMD needs a command")),
            ("", _) => return Err(self.fault("HEALTHCHECK needs `CMD` and a command, or `NONE`")),
            (other, _) => {
                return Err(self.fault(format!("HEALTHCHECK is followed by `CMD` or `NONE`, not `{other}`")));
            }
        };
        Ok(Healthcheck { command, interval, timeout, start_period, start_interval, retries })
    }
}

/// A JSON list of something else than strings.
#[derive(Debug)]
pub(super) struct NotStrings;

/// Reads a JSON list of strings; `None` when it is no JSON.
pub(super) fn json_list(text: &str) -> Result<Option<Vec<String>>, NotStrings> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let strings = list.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(NotStrings),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

fn not_strings(span: Range<usize>) -> Fault {
    Fault::new(span, "a JSON list may have strings only")
}

/// The words of a part of a line; quotes and escapes keep spaces within them, and stay.
fn quoted_words(text: &str, part: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut chars = text[part.clone()].char_indices();
    while let Some((at, ch)) = chars.next() {
        let at = part.start + at;
        match quote {
            None if ch.is_whitespace() => {
                words.extend(start.take().map(|start| start..at));
                continue;
            }
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            Some(closing) if ch == closing => quote = None,
            // Nothing is escaped between single quotes.
            _ if ch == escape && quote != Some('\'') => {
                chars.next();
            }
            _ => (),
        }
        start.get_or_insert(at);
    }
    words.extend(start.map(|start| start..part.end));
    words
}

/// A duration of a health check: nothing when it is zero.
fn interval(word: Word) -> Result<Duration, Fault> {
    match duration(&word.text) {
        Some(time) if time.is_zero() || time >= Duration::from_millis(1) => Ok(time),
        Some(_) => Err(Fault::new(word.span, format!("`{}` is less than a millisecond", word.text))),
        None => Err(Fault::new(word.span, format!("`{}` is not a duration", word.text))
            .with_help("for instance `30s` or `1m30s`")),
    }
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `300ms`.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|ch: char| !ch.is_ascii_digit() && ch != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = rest[digits..].find(|ch: char| ch.is_ascii_digit() || ch == '.');
        let unit = &rest[digits..units.map_or(rest.len(), |length| digits + length)];
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[digits + unit.len()..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("300ms"), Some(Duration::from_millis(300)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for bad in ["", "5", "s", "1x", "1..2s", "-1s", "1s2"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn words_keep_quotes() {
        let text = r#"a=1 b="x y" c=a\ b d='\' e="\" f""#;
        let words: Vec<&str> =
            quoted_words(text, 0..text.len(), '\\').into_iter().map(|range| &text[range]).collect();
        assert_eq!(words, ["a=1", r#"b="x y""#, r"c=a\ b", r"d='\'", r#"e="\" f""#]);
    }
}
