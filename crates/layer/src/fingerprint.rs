//! Whether a tree changed, told from what the kernel says of it and without reading a file.
//!
//! Any write to a file or a directory, and any change of its status, moves its status change time, which no program can
//! set. So the same fingerprint means that nothing happened to the tree; another one that something did, and not what.
//! It is worth something on the same machine only. Not here: content; see [`crate::pack::hash`].

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::copy::Keep;
use crate::error::PathError;
use crate::meta::{Kind, Meta};
use crate::walk::Walk;
use crate::{Digest, Hasher};

/// The fingerprint of the tree at `dir`: path, sort, mode, size, inode, modification and status change time of every
/// entry that `keep` keeps (path below the tree, whether it is a directory; one that is not kept is not entered). The
/// times of the tree's own directory count only when all is kept.
pub fn fingerprint(dir: &Path, keep: Option<&Keep<'_>>) -> Result<Digest, PathError> {
    let (mut walk, meta) = Walk::new(dir)?;
    let mut hasher = Hasher::new();
    if keep.is_none() {
        add(&mut hasher, b"", &meta);
    }
    while let Some(kind) = walk.next()? {
        if keep.is_some_and(|keep| !keep(walk.path(), kind == Kind::Dir)) {
            walk.skip();
            continue;
        }
        let mut meta = walk.stat()?;
        if keep.is_some() && meta.is_dir() {
            // Something that is not kept came or went in it: the names of what is kept tell what matters.
            meta = Meta { size: 0, mtime: 0, mtime_nsec: 0, ctime: 0, ctime_nsec: 0, ..meta };
        }
        add(&mut hasher, walk.path().as_os_str().as_bytes(), &meta);
    }
    Ok(hasher.finish())
}

/// What can be seen of the tree at `dir` without reading a file, and would be seen of an exact copy too: path, sort,
/// mode, size and modification time of every entry. After a power failure it tells files that were never written.
pub fn shape(dir: &Path) -> Result<Digest, PathError> {
    Ok(survey(dir)?.shape)
}

/// What a tree looked like: enough to tell later that it is not what it was, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Entries below the directory, of any sort.
    pub entries: u64,
    /// Bytes of regular files; a file with several names counts for each of them.
    pub bytes: u64,
    /// As [`shape`] returns it.
    pub shape: Digest,
}

/// Looks at all of the tree at `dir` without reading a file.
pub fn survey(dir: &Path) -> Result<Survey, PathError> {
    let (mut walk, meta) = Walk::new(dir)?;
    let mut hasher = Hasher::new();
    let (mut entries, mut bytes) = (0, 0);
    add_shape(&mut hasher, b"", &meta);

    while walk.next()?.is_some() {
        let meta = walk.stat()?;
        add_shape(&mut hasher, walk.path().as_os_str().as_bytes(), &meta);
        entries += 1;
        if meta.is_file() {
            bytes += meta.size;
        }
    }
    Ok(Survey { entries, bytes, shape: hasher.finish() })
}

fn add_shape(hasher: &mut Hasher, path: &[u8], meta: &Meta) {
    // The size of a directory depends on what was ever in it.
    let size = if meta.is_dir() { 0 } else { meta.size };
    add(hasher, path, &Meta { size, ino: 0, ctime: 0, ctime_nsec: 0, ..*meta });
}

fn add(hasher: &mut Hasher, path: &[u8], meta: &Meta) {
    hasher.update(path);
    // A name has no zero byte, so nothing can be taken for what follows.
    let line = writeln!(
        hasher,
        "\0{:?} {:o} {} {} {}.{} {}.{}",
        meta.kind, meta.mode, meta.size, meta.ino, meta.mtime, meta.mtime_nsec, meta.ctime, meta.ctime_nsec
    );
    debug_assert!(line.is_ok(), "a hasher takes everything");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs_err::create_dir(at("d")).unwrap();
        fs_err::write(at("d/f"), "1").unwrap();
        let mut seen = vec![fingerprint(dir.path(), None).unwrap()];
        assert_eq!(fingerprint(dir.path(), None).unwrap(), seen[0]);
        let changes: [&dyn Fn(); 5] = [
            &|| fs_err::write(at("d/f"), "2").unwrap(),
            &|| fs_err::set_permissions(at("d/f"), PermissionsExt::from_mode(0o600)).unwrap(),
            &|| fs_err::rename(at("d/f"), at("d/g")).unwrap(),
            &|| fs_err::write(at("new"), "").unwrap(),
            &|| fs_err::remove_file(at("new")).unwrap(),
        ];
        for change in changes {
            // Times move in steps of a timer tick on older kernels.
            std::thread::sleep(Duration::from_millis(12));
            change();
            let now = fingerprint(dir.path(), None).unwrap();
            assert!(!seen.contains(&now));
            seen.push(now);
        }
    }

    #[test]
    fn a_copy_has_the_same_shape() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs_err::create_dir_all(from.join("d")).unwrap();
        fs_err::write(from.join("d/f"), "1").unwrap();
        crate::copy_tree(&from, &to, &crate::CopyOptions::default()).unwrap();
        let before = shape(&from).unwrap();
        assert_eq!(shape(&to).unwrap(), before);
        assert_ne!(fingerprint(&to, None).unwrap(), fingerprint(&from, None).unwrap());
        fs_err::File::create(to.join("d/f")).unwrap();
        assert_ne!(shape(&to).unwrap(), before);
    }

    #[test]
    fn what_is_not_kept_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir(dir.path().join("d")).unwrap();
        fs_err::write(dir.path().join("d/kept"), "1").unwrap();
        let keep = |path: &Path, _: bool| !path.ends_with("log");
        let before = fingerprint(dir.path(), Some(&keep)).unwrap();
        std::thread::sleep(Duration::from_millis(12));
        fs_err::write(dir.path().join("d/log"), "1").unwrap();
        fs_err::write(dir.path().join("log"), "1").unwrap();
        assert_eq!(fingerprint(dir.path(), Some(&keep)).unwrap(), before);
        fs_err::write(dir.path().join("d/kept"), "2").unwrap();
        assert_ne!(fingerprint(dir.path(), Some(&keep)).unwrap(), before);
    }
}
