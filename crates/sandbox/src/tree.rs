//! Directory trees that belong to sandboxes: removing them, and the skeleton of mount points.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, openat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

/// Removes a directory and all below it, whatever the modes on the way (an overlay's `work/` has mode 000).
/// Nothing is followed out of it, and mounts below it make it fail rather than empty them. A missing one is fine.
///
/// # Errors
///
/// The first the kernel gives, with the path it concerns.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match remove_top(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display()))),
        Ok(()) => Ok(()),
    }
}

fn remove_top(path: &Path) -> io::Result<()> {
    let Some(opened) = open_to_empty(CWD, path.as_os_str())? else {
        return Ok(());
    };
    Removal { top: opened.as_fd(), hoisted: 0 }.empty(opened.as_fd(), 0)?;
    Ok(unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
}

/// How deep a tree is walked with a descriptor for each level; what lies deeper is moved up first. A program can nest
/// folders deeper than this process may have files open.
const DEPTH: usize = 64;

/// A removal under way.
struct Removal<'a> {
    /// Where what lies too deep is moved to.
    top: BorrowedFd<'a>,
    hoisted: u64,
}

impl Removal<'_> {
    /// Removes all entries of a directory.
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
        loop {
            // Names are collected first: removing entries while reading a directory may skip some.
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(dir)? {
                let entry = entry?;
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    names.push(name.to_owned());
                }
            }
            if names.is_empty() {
                return Ok(());
            }
            for name in &names {
                match self.remove(dir, name, depth) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    done => done?,
                }
            }
        }
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
        let Some(opened) = open_to_empty(dir, name)? else {
            return Ok(());
        };
        if depth == DEPTH {
            drop(opened);
            return self.hoist(dir, name);
        }
        self.empty(opened.as_fd(), depth + 1)?;
        Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
    }

    /// Moves a directory to the top, whose own loop finds it there.
    fn hoist(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        loop {
            self.hoisted += 1;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match renameat_with(dir, name, self.top, format!("hoisted-{}", self.hoisted), flags) {
                Err(Errno::EXIST) => {}
                done => return Ok(done?),
            }
        }
    }
}

/// Removes the entry if it can be done at once; else it is a directory, opened, with a mode that lets it be emptied.
fn open_to_empty<P: rustix::path::Arg + Copy>(dir: BorrowedFd<'_>, name: P) -> io::Result<Option<OwnedFd>> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        unlinkat(dir, name, AtFlags::empty())?;
        return Ok(None);
    }
    // Most directories that are left behind are empty. This also refuses to go on where something is mounted.
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
        done => return Ok(done.map(|()| None)?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match openat(dir, name, flags, Mode::empty()) {
        // Its mode, then: nobody but us works below a directory that is being removed.
        Err(Errno::ACCESS) => {
            chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            openat(dir, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if stat.st_mode & 0o700 != 0o700 {
        // Root's capabilities make this needless; an ordinary user outside of a namespace needs it.
        let _ = rustix::fs::fchmod(&opened, Mode::RWXU);
    }
    Ok(Some(opened))
}

/// Makes the empty mount points a sandbox uses below `dir`, which may exist: `dev`, `proc`, `sys`, `tmp`,
/// `etc/hosts` and so on.
///
/// As the lowest layer of a root file system's overlay it saves images without them from being written to: what a
/// sandbox makes in the upper would be seen as a change of the image.
///
/// # Errors
///
/// When something cannot be created.
pub fn make_skeleton(dir: &Path) -> io::Result<()> {
    for name in ["dev", "proc", "sys", "tmp", "etc"] {
        fs_err::create_dir_all(dir.join(name))?;
    }
    fs_err::set_permissions(dir.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
        fs_err::OpenOptions::new().create(true).append(true).open(dir.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn removes_what_nobody_may_enter() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tree = dir.path().join("tree");
        fs_err::create_dir_all(tree.join("work/work/deep")).expect("made");
        fs_err::write(tree.join("work/work/file"), "x").expect("written");
        std::os::unix::fs::symlink("/etc", tree.join("link")).expect("linked");
        fs_err::set_permissions(tree.join("work/work"), PermissionsExt::from_mode(0o000)).expect("chmod");
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
        assert!(Path::new("/etc").exists(), "links are removed, not followed");
        remove_tree(&tree).expect("missing is fine");
    }

    #[test]
    fn removes_what_is_nested_deeper_than_files_can_be_open() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tree = dir.path().join("tree");
        fs_err::create_dir(&tree).expect("made");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut deep = openat(CWD, &tree, flags, Mode::empty()).expect("opened");
        for _ in 0..2000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).expect("made");
            deep = openat(&deep, "d", flags, Mode::empty()).expect("opened");
        }
        drop(deep);
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists());
    }

    #[test]
    fn a_skeleton_can_be_made_twice() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        make_skeleton(dir.path()).expect("made");
        make_skeleton(dir.path()).expect("made again");
        let mode = fs_err::metadata(dir.path().join("tmp")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        assert_eq!(fs_err::metadata(dir.path().join("etc/hosts")).expect("there").len(), 0);
    }
}
