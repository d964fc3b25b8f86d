//! An app in a zip file, unpacked into a fresh folder.
//!
//! The archive is hostile input: names may not leave the folder, and no entry is written through a symlink,
//! because all symlinks are made after everything else.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;

use super::SourceError;

const TYPE_MASK: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;
/// A symlink's target is a path; anything longer is not one.
const TARGET_LIMIT: u64 = 4096;

/// Unpacks the zip file at `archive` into the empty folder `dest`, leaving out what `keep` refuses; everything
/// becomes `owner`'s (user, group).
///
/// Entries made on a system without Unix modes become 0777, as with pack.
pub fn unpack(
    archive: &Path,
    dest: &Path,
    owner: Option<(u32, u32)>,
    keep: &dyn Fn(&Path, bool) -> bool,
) -> Result<(), SourceError> {
    let broken = |source: zip::result::ZipError| SourceError::Zip { path: archive.to_owned(), source };
    let file = fs::File::open(archive)?;
    let mut zip = zip::ZipArchive::new(file.into_parts().0).map_err(broken)?;
    let mut links = Vec::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let relative = inside(&name)
            .ok_or_else(|| SourceError::ZipName { path: archive.to_owned(), name: name.clone() })?;
        if relative.as_os_str().is_empty() || !kept(&relative, entry.is_dir(), keep) {
            continue;
        }
        let target = dest.join(&relative);
        let mode = entry.unix_mode();
        if mode.is_some_and(|mode| mode & TYPE_MASK == SYMLINK) {
            let mut text = String::new();
            entry.by_ref().take(TARGET_LIMIT).read_to_string(&mut text)?;
            links.push((target, PathBuf::from(text)));
            continue;
        }
        let mode = mode.map_or(0o777, |mode| mode & 0o7777);
        if entry.is_dir() {
            fs::create_dir_all(&target)?;
            fs::set_permissions(&target, std::fs::Permissions::from_mode(mode | 0o700))?;
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = fs::File::create(&target)?;
        io::copy(&mut entry, &mut out)?;
        fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))?;
    }
    for (path, target) in links {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs_err::os::unix::fs::symlink(target, path)?;
    }
    owner.map_or(Ok(()), |owner| give(dest, owner))
}

/// Changes the owner of everything in a folder; symlinks are not followed.
fn give(dir: &Path, (uid, gid): (u32, u32)) -> Result<(), SourceError> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        std::os::unix::fs::lchown(entry.path(), Some(uid), Some(gid))?;
        if entry.file_type()?.is_dir() {
            give(&entry.path(), (uid, gid))?;
        }
    }
    Ok(())
}

/// The name as a path beneath the folder, or nothing where it would lead out.
fn inside(name: &str) -> Option<PathBuf> {
    if name.contains('\0') || name.starts_with('/') {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// A path is kept when it and every folder above it are.
fn kept(path: &Path, is_dir: bool, keep: &dyn Fn(&Path, bool) -> bool) -> bool {
    let above = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty());
    keep(path, is_dir) && above.into_iter().all(|dir| keep(dir, true))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(entries: &[(&str, u32, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, mode, content) in entries {
            let options = SimpleFileOptions::default().unix_permissions(*mode);
            if mode & TYPE_MASK == SYMLINK {
                zip.add_symlink(*name, *content, options).unwrap();
            } else {
                zip.start_file(*name, options).unwrap();
                zip.write_all(content.as_bytes()).unwrap();
            }
        }
        zip.finish().unwrap();
        file
    }

    #[test]
    fn files_modes_and_links() {
        let zip = archive(&[("a/b.sh", 0o755, "hi"), ("l", SYMLINK | 0o777, "a/b.sh"), ("x/y", 0o644, "no")]);
        let dest = tempfile::tempdir().unwrap();
        unpack(zip.path(), dest.path(), None, &|path, _| path != Path::new("x")).unwrap();
        let meta = fs::metadata(dest.path().join("a/b.sh")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_to_string(dest.path().join("l")).unwrap(), "hi");
        assert!(!dest.path().join("x").exists());
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["../x", "/x", "a/../../x"] {
            let zip = archive(&[(name, 0o644, "x")]);
            let dest = tempfile::tempdir().unwrap();
            let error = unpack(zip.path(), dest.path(), None, &|_, _| true).unwrap_err();
            assert!(error.to_string().contains("leads out"), "{name}: {error}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_symlink() {
        let outside = tempfile::tempdir().unwrap();
        let zip = archive(&[("d", SYMLINK | 0o777, outside.path().to_str().unwrap()), ("d/x", 0o644, "x")]);
        let dest = tempfile::tempdir().unwrap();
        assert!(unpack(zip.path(), dest.path(), None, &|_, _| true).is_err());
        assert!(!outside.path().join("x").exists());
    }
}
