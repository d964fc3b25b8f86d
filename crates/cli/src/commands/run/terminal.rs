//! The user's terminal and the program's: what is typed goes in, what is written comes out, and sizes are kept alike.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Rows and columns of the user's terminal; zeroes where there is none.
pub(super) fn size() -> (u16, u16) {
    tcgetwinsize(rustix::stdio::stdin()).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// The program's terminal, and the user's in raw mode. Dropping it gives the user's back as it was.
#[derive(Debug)]
pub(super) struct Terminal {
    program: File,
    before: Termios,
}

impl Terminal {
    /// Puts the user's terminal in raw mode: every key, Ctrl-C too, is for the program.
    pub(super) fn attach(program: OwnedFd) -> io::Result<Self> {
        copy_size(&program);
        let user = rustix::stdio::stdin();
        let before = tcgetattr(user)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(user, OptionalActions::Now, &raw)?;
        Ok(Self { program: program.into(), before })
    }

    /// Something that gives the program's terminal the size of the user's.
    pub(super) fn size_follower(&self) -> io::Result<impl Fn() + Send + Sync + use<>> {
        let program = self.program.try_clone()?;
        Ok(move || copy_size(&program))
    }

    /// Passes on both ways until the program's side is closed.
    pub(super) fn relay(mut self) {
        if let Ok(mut program) = self.program.try_clone() {
            // It waits for a key when the program ends, and goes with this process.
            std::thread::spawn(move || copy(&mut io::stdin().lock(), &mut program));
        }
        copy(&mut self.program, &mut io::stdout().lock());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Copies as it comes, until either side ends. A terminal whose other side is closed fails instead of ending.
fn copy(from: &mut impl io::Read, to: &mut impl io::Write) {
    let mut buffer = [0; 8192];
    loop {
        match from.read(&mut buffer) {
            Ok(length @ 1..) => {
                if to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

fn copy_size(program: impl AsFd) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
        let _ = tcsetwinsize(program, size);
    }
}
