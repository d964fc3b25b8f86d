//! Finding a program in PATH by the reference's rules, which are not quite those of execvp(3).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use crate::failure::{Failure, quoted, reason};
use crate::paths::join;

const NOT_FOUND: &str = "executable file not found in $PATH";
const RELATIVE: &str = "cannot run executable found relative to current directory";

/// The program that `name` means: itself when it has a slash, otherwise the first executable file in `path`.
///
/// A program found through a relative entry of `path` is refused.
pub fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Failure> {
    let refused = |why: &str| Failure::launch(format!("exec: {}: {why}", quoted(&name.to_string_lossy())));
    if name.is_empty() || name == "." || name == ".." {
        return Err(refused(NOT_FOUND));
    }
    if name.as_bytes().contains(&b'/') {
        let program = Path::new(name);
        return match executable(program) {
            Ok(()) => Ok(program.to_owned()),
            Err(why) => Err(refused(&why)),
        };
    }
    let dirs = path.as_bytes().split(|byte| *byte == b':').filter(|_| !path.is_empty());
    for dir in dirs {
        let dir = if dir.is_empty() { b"." } else { dir };
        let program = join(Path::new(OsStr::from_bytes(dir)), name);
        if executable(&program).is_ok() {
            return if program.is_absolute() { Ok(program) } else { Err(refused(RELATIVE)) };
        }
    }
    Err(refused(NOT_FOUND))
}

/// Whether we may execute the file, and if not, why.
fn executable(path: &Path) -> Result<(), String> {
    let text = |errno: Errno| reason(&io::Error::from(errno));
    let stat = stat(path).map_err(|errno| format!("stat {}: {}", path.display(), text(errno)))?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(text(Errno::ISDIR));
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        // A seccomp filter that does not know the call says one of these: then the mode has to do.
        Err(Errno::NOSYS | Errno::PERM) if stat.st_mode & 0o111 != 0 => Ok(()),
        Err(Errno::NOSYS | Errno::PERM) => Err(text(Errno::ACCESS)),
        Err(errno) => Err(text(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, path: &str) -> String {
        find(OsStr::new(name), OsStr::new(path)).unwrap_err().message
    }

    #[test]
    fn names_are_looked_up_and_paths_are_not() {
        assert_eq!(find(OsStr::new("sh"), OsStr::new("/nope:/bin")).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find(OsStr::new("/bin/sh"), OsStr::new("")).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn what_cannot_run_is_said() {
        assert_eq!(message("no-such", "/bin"), "exec: \"no-such\": executable file not found in $PATH");
        assert_eq!(message("sh", ""), "exec: \"sh\": executable file not found in $PATH");
        assert_eq!(message("", "/bin"), "exec: \"\": executable file not found in $PATH");
        assert_eq!(message("/nope/x", "/bin"), "exec: \"/nope/x\": stat /nope/x: no such file or directory");
        assert_eq!(message("/tmp", "/bin"), "exec: \"/tmp\": is a directory");
        assert_eq!(message("/etc/passwd", "/bin"), "exec: \"/etc/passwd\": permission denied");
    }

    #[test]
    fn a_program_beside_us_is_not_run_by_accident() {
        // Tests run in the crate's folder: `..` holds no program, so climb to the root.
        let up = "../".repeat(40);
        assert_eq!(
            message("sh", &format!("{up}bin")),
            "exec: \"sh\": cannot run executable found relative to current directory"
        );
    }
}
