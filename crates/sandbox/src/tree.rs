//! Directory trees that belong to sandboxes: removing them, and the skeleton of mount points.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, openat, statat, unlinkat};

/// Removes a directory and all below it, whatever the modes on the way (an overlay's `work/` has mode 000).
/// Nothing is followed out of it, and mounts below it make it fail rather than empty them. A missing one is fine.
///
/// # Errors
///
/// The first the kernel gives, with the path it concerns.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match remove_at(CWD, path.as_os_str()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display()))),
        Ok(()) => Ok(()),
    }
}

fn remove_at<P: rustix::path::Arg + Copy>(dir: impl std::os::fd::AsFd, name: P) -> io::Result<()> {
    let dir = dir.as_fd();
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(unlinkat(dir, name, AtFlags::empty())?);
    }
    // Most directories that are left behind are empty.
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST | rustix::io::Errno::ACCESS) => {}
        done => return Ok(done?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match openat(dir, name, flags, Mode::empty()) {
        // Not our own mode, then: nobody but us works below a directory that is being removed.
        Err(rustix::io::Errno::ACCESS) => {
            chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            openat(dir, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if stat.st_mode & 0o700 != 0o700 {
        // Root's capabilities make this needless; an ordinary user outside of a namespace needs it.
        let _ = rustix::fs::fchmod(&opened, Mode::RWXU);
    }
    loop {
        // Names are collected first: removing entries while reading a directory may skip some.
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        if names.is_empty() {
            break;
        }
        for name in &names {
            match remove_at(&opened, name.as_c_str()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
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
    fn a_skeleton_can_be_made_twice() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        make_skeleton(dir.path()).expect("made");
        make_skeleton(dir.path()).expect("made again");
        let mode = fs_err::metadata(dir.path().join("tmp")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        assert_eq!(fs_err::metadata(dir.path().join("etc/hosts")).expect("there").len(), 0);
    }
}
