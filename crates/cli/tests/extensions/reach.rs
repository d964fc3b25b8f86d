//! What a `RUN` can't reach, root though it is.

use testkit::Buildpack;

use crate::fixture::*;
use crate::support::*;

/// Instructions that run a script.
fn script(text: &str) -> String {
    format!("RUN <<END\n{text}\nEND")
}

everyone! {
    /// Devices work, and those of the machine keep their mode, owner and times.
    fn devices(machine: &Machine) {
        let before = crate::support::devices();
        let run = script(SPOIL);
        let generates = Buildpack::extension("test/generates", "1.0.0").generate(SPOIL);
        let builder = with_extensions(machine, &[generates, extension("test/ext", &run, &run)], &[web()]);
        build(machine, &builder).ok();
        assert_eq!(crate::support::devices(), before);
    }
}

everyone! {
    /// On the machine's network: neither packets of others nor low ports. On one of its own, both.
    fn network(machine: &Machine) {
        let look = "grep CapEff /proc/self/status > /etc/NAME; (timeout 1 nc -l -p 81 </dev/null) >> /etc/NAME 2>&1; \
                    (timeout 1 arping -c 1 -I lo 127.0.0.1) >> /etc/NAME 2>&1; true";
        let run = format!(
            "RUN {}\nRUN --network=none {}",
            look.replace("NAME", "machine"),
            look.replace("NAME", "own")
        );
        build(machine, &with_extensions(machine, &[extension("test/ext", "", &run)], &[web()])).ok();
        let image = built(machine);
        let (of_machine, own) = (image.text("/etc/machine"), image.text("/etc/own"));
        assert!(of_machine.contains("00000000a80401fb"), "{of_machine}");
        assert!(of_machine.contains("ermission denied") && of_machine.contains("not permitted"), "{of_machine}");
        assert!(own.contains("00000000a80425fb"), "{own}");
        assert!(!own.contains("ermission denied") && !own.contains("not permitted"), "{own}");
    }
}
