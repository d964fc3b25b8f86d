//! Several trees as the one that an overlay of them would show, for machines where no overlay can be mounted.
//!
//! Each tree is copied over those below it, after what it hides of them was removed: what it deletes, what lies below
//! an opaque directory, and whatever has the name of something else. Not here: copying; see [`crate::copy_tree`].

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::copy::{CopyOptions, copy_tree};
use crate::error::{At, PathError};
use crate::meta::{Kind, Meta};
use crate::overlay::{deleted_by, is_opaque, remove};
use crate::walk::Walk;

/// Makes `to`, a new directory, what an overlay of `trees`, the topmost first, would show. Nothing of it is linked to
/// them, and none of it is a mark of overlayfs.
pub fn flatten(trees: &[PathBuf], to: &Path) -> Result<(), PathError> {
    for (above, tree) in trees.iter().rev().enumerate() {
        if above > 0 {
            make_room(tree, to)?;
        }
        let keep = |path: &Path, _: bool| !matches!(deleted_by(tree, path), Ok(Some(_)));
        copy_tree(tree, to, &CopyOptions { keep: &keep, ..CopyOptions::default() })?;
    }
    Ok(())
}

/// Removes what `tree` hides of the directory `below`.
///
/// No path in it leads through a link: a directory of `tree` is entered when `below` has one there too, or nothing.
fn make_room(tree: &Path, below: &Path) -> Result<(), PathError> {
    let (mut walk, _) = Walk::new(tree)?;
    if is_opaque(tree)? {
        for entry in fs_err::read_dir(below).at("read", below)? {
            remove(&entry.at("read", below)?.path())?;
        }
        return Ok(());
    }
    while let Some(kind) = walk.next()? {
        let deleted = deleted_by(tree, walk.path())?;
        let path = below.join(deleted.as_deref().unwrap_or(walk.path()));
        let there = match rustix::fs::lstat(&path).map(Meta::from) {
            Err(Errno::NOENT) => None,
            result => Some(result.at("stat", &path)?),
        };
        let keep =
            kind == Kind::Dir && there.is_some_and(|there| there.is_dir()) && !is_opaque(&walk.full_path())?;
        if keep {
            continue;
        }
        if there.is_some() {
            remove(&path)?;
        }
        if kind == Kind::Dir {
            // Nothing is left below it.
            walk.skip();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use rustix::fs::XattrFlags;

    use super::*;
    use crate::overlay::OPAQUE;

    /// Lines of `path` for directories, `path=content` for files, `path->target` for links.
    fn listing(dir: &Path) -> Vec<String> {
        let (mut walk, _) = Walk::new(dir).unwrap();
        let mut lines = Vec::new();
        while let Some(kind) = walk.next().unwrap() {
            let path = walk.path().display().to_string();
            lines.push(match kind {
                Kind::Dir => path,
                Kind::Symlink => format!("{path}->{}", String::from_utf8(walk.read_link().unwrap()).unwrap()),
                _ => format!("{path}={}", fs_err::read_to_string(walk.full_path()).unwrap()),
            });
        }
        lines
    }

    fn write(path: PathBuf, text: &str) {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    /// False where the file system has no such attributes, or where devices are root's.
    fn mark(tree: &Path) -> bool {
        let whiteout = rustix::fs::mknodat(
            rustix::fs::CWD,
            tree.join("gone"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        );
        let opaque = rustix::fs::setxattr(tree.join("hiding"), OPAQUE, b"y", XattrFlags::empty());
        whiteout.is_ok() && opaque.is_ok()
    }

    #[test]
    fn the_topmost_tree_wins() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(at("low/both"), "low");
        write(at("low/dir/low"), "low");
        write(at("low/dir-to-file/x"), "low");
        write(at("low/file-to-dir"), "low");
        write(at("low/gone/x"), "low");
        write(at("low/hiding/low"), "low");
        symlink("/etc", at("low/link-to-dir")).unwrap();
        write(at("mid/dir/mid"), "mid");
        write(at("mid/both"), "mid");
        write(at("top/both"), "top");
        write(at("top/dir-to-file"), "top");
        write(at("top/file-to-dir/x"), "top");
        write(at("top/link-to-dir/x"), "top");
        write(at("top/hiding/top"), "top");
        fs_err::set_permissions(at("top/hiding"), PermissionsExt::from_mode(0o710)).unwrap();
        let marked = mark(&at("top"));
        let etc = fs_err::metadata("/etc").unwrap().mtime();
        flatten(&[at("top"), at("mid"), at("low")], &at("flat")).unwrap();
        let mut expected = vec![
            "both=top",
            "dir",
            "dir/low=low",
            "dir/mid=mid",
            "dir-to-file=top",
            "file-to-dir",
            "file-to-dir/x=top",
        ];
        if marked {
            expected.extend(["hiding", "hiding/top=top", "link-to-dir", "link-to-dir/x=top"]);
            let mut found = listing(&at("flat"));
            found.sort();
            expected.sort_unstable();
            assert_eq!(found, expected);
            assert!(!is_opaque(&at("flat/hiding")).unwrap());
        }
        assert_eq!(fs_err::metadata(at("flat/hiding")).unwrap().mode() & 0o777, 0o710);
        assert_eq!(fs_err::metadata("/etc").unwrap().mtime(), etc);
        assert_eq!(fs_err::read_to_string(at("low/both")).unwrap(), "low", "what is below stays as it was");
    }

    #[test]
    fn one_tree_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("one/file"), "text");
        flatten(&[dir.path().join("one")], &dir.path().join("flat")).unwrap();
        assert_eq!(listing(&dir.path().join("flat")), ["file=text"]);
    }
}
