//! Homes whose paths have characters that mean something somewhere: everything works, on overlays.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::fixture::*;
use crate::support::*;

/// What mounts, lists of mounts, shells, TOML and JSON read in a way of their own; and what is no text at all.
const NAMES: [&[u8]; 5] = [
    b"a,b,upperdir=x",
    b"a:b::c",
    b"back\\slash\\040\\",
    b"new\nline and\ttab",
    b"'\"%s%2f$HOME`{}#?*[x]=&;|<>!~^\xc3\xa9\xff",
];

everyone! {
    /// A build with extensions, the next one, and a run.
    fn of_any_name(machine: &Machine) {
        let ext = extension("test/ext", "RUN echo built > /etc/built", "RUN echo ran > /etc/ran");
        let keeps = facts("test/keeps", "layer deps launch,cache; fact built \"$(cat /etc/built)\"; echo x > \"$CNB_LAYERS_DIR/deps/file\"");
        let builder = with_extensions(machine, &[ext], &[keeps, web()]);
        for name in NAMES {
            let home = machine.path("homes").join(OsStr::from_bytes(name));
            machine.make_dir(&home);
            let build = || build(machine, &builder).env("PANNIER_HOME", &home);
            build().ok().never_says("are copied").never_says("No overlay");
            let image = built(machine);
            assert_eq!((image.text("/etc/ran"), fact(&image, "test/keeps", "built")), ("ran\n", "built"));
            build().ok().says("kept from an earlier build").never_says("are copied");
            assert_eq!(built(machine).digest, image.digest, "{}", name.escape_ascii());
            let run = |arguments: &[&str]| machine.pannier(arguments).env("PANNIER_HOME", &home);
            run(&["run", OUT]).ok().says("tool says hello");
            run(&["doctor", "--store"]).ok().says("works, where the store is");
            run(&["prune"]).ok();
        }
    }
}
