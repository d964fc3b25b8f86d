//! Programs with a terminal of their own.

use std::fs::File;
use std::io::{Read, Write};

use pannier_sandbox::ExitStatus;

use crate::Case;
use crate::place::Place;

pub const CASES: &[Case] = &[
    ("a_terminal_of_ones_own", a_terminal_of_ones_own),
    ("control_c_reaches_the_program", control_c_reaches_the_program),
];

fn a_terminal_of_ones_own(place: &Place) {
    let root = place.root();
    for uid in [0, 1000] {
        let mut spec = root.sh("tty; test -t 0 && test -t 1 && test -t 2 && echo all; echo x > /dev/tty; read line; echo =$line=");
        spec.terminal = true;
        spec.uid = uid;
        let mut child = spec.spawn().expect("a sandbox");
        let mut terminal = File::from(child.terminal.take().expect("a terminal"));
        terminal.write_all(b"typed\n").expect("written");
        let text = read_all(&mut terminal);
        assert_eq!(child.wait().expect("waited"), ExitStatus::Code(0), "{text}");
        for part in ["/dev/pts/0", "all", "x", "=typed="] {
            assert!(text.contains(part), "{part} in {text:?}");
        }
    }
}

fn control_c_reaches_the_program(place: &Place) {
    let root = place.root();
    let mut spec = root.sh("echo ready; while :; do sleep 1; done");
    spec.terminal = true;
    let mut child = spec.spawn().expect("a sandbox");
    let mut terminal = File::from(child.terminal.take().expect("a terminal"));
    let mut first = [0; 5];
    terminal.read_exact(&mut first).expect("read");
    terminal.write_all(b"\x03").expect("written");
    read_all(&mut terminal);
    assert_eq!(child.wait().expect("waited"), ExitStatus::Signal(2));
}

/// A terminal whose other side is closed fails with EIO instead of ending.
fn read_all(terminal: &mut File) -> String {
    let mut text = Vec::new();
    let _ = terminal.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
