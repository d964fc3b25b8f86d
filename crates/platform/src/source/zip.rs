//! An app in a zip file, unpacked into a fresh folder.
//!
//! The archive is hostile input: names may not leave the folder, no entry is written through a symlink, because all
//! symlinks are made after everything else, and what it becomes is bounded by its own size.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;

use super::SourceError;

const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
/// A symlink's target is a path; anything longer is not one.
const TARGET_LIMIT: u64 = 4096;

/// Entries that an app may have, folders on their ways included.
const ENTRY_LIMIT: u64 = 2_000_000;
/// What any app may have unpacked, in bytes: sources that shrink to a hundredth are rare, and small.
const FREE_BYTES: u64 = 1 << 30;
/// How many bytes each byte of the archive may become, beyond that.
const MAX_RATIO: u64 = 100;
/// The most that any archive may become: what layers may ([`layer::unpack::Limits`]).
const MAX_BYTES: u64 = 128 << 30;

/// Unpacks the zip file at `archive` into the empty folder `dest`, leaving out what `keep` refuses; everything
/// becomes `owner`'s (user, group).
///
/// Entries made on a system without Unix modes become 0777, as with pack. FIFOs, sockets and devices are left out.
pub fn unpack(
    archive: &Path,
    dest: &Path,
    owner: Option<(u32, u32)>,
    keep: &dyn Fn(&Path, bool) -> bool,
) -> Result<(), SourceError> {
    let broken = |source: zip::result::ZipError| SourceError::Zip { path: archive.to_owned(), source };
    let file = layer::named::open(archive)?;
    let limit = byte_limit(file.metadata()?.len());
    let mut zip = zip::ZipArchive::new(file).map_err(broken)?;
    let mut unpacking = Unpacking { archive, dest, limit, bytes: 0, entries: 0, links: Vec::new() };
    // Nothing is written of an archive that says itself that it is too much.
    unpacking.count_bytes(zip.decompressed_size().map_or(0, |size| size.try_into().unwrap_or(u64::MAX)))?;
    if zip.has_overlapping_files().map_err(broken)? {
        return Err(unpacking.refuse("several entries have the same bytes"));
    }
    unpacking.bytes = 0;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let relative = inside(&name)
            .ok_or_else(|| SourceError::ZipName { path: archive.to_owned(), name: name.clone() })?;
        if relative.as_os_str().is_empty() || !kept(&relative, entry.is_dir(), keep) {
            continue;
        }
        unpacking.entry(&relative, &mut entry)?;
    }
    unpacking.make_links()?;
    owner.map_or(Ok(()), |owner| give(dest, owner))
}

/// What an archive of this length may become.
fn byte_limit(length: u64) -> u64 {
    length.saturating_mul(MAX_RATIO).clamp(FREE_BYTES, MAX_BYTES)
}

/// An archive on its way into a folder, and what it has cost.
struct Unpacking<'a> {
    archive: &'a Path,
    dest: &'a Path,
    limit: u64,
    bytes: u64,
    entries: u64,
    /// Symlinks and their targets, made last.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Unpacking<'_> {
    fn entry(
        &mut self,
        relative: &Path,
        entry: &mut zip::read::ZipFile<'_, std::fs::File>,
    ) -> Result<(), SourceError> {
        let target = self.dest.join(relative);
        let mode = entry.unix_mode();
        match mode.map_or(0, |mode| mode & TYPE_MASK) {
            SYMLINK => return self.link(relative, target, entry),
            0 | REGULAR | DIRECTORY => {}
            _ => return Ok(()),
        }
        let mode = mode.map_or(0o777, |mode| mode & 0o7777);
        if entry.is_dir() {
            self.make_dirs(&target)?;
            fs::set_permissions(&target, std::fs::Permissions::from_mode(mode | 0o700))?;
            return Ok(());
        }
        self.make_dirs(target.parent().unwrap_or(self.dest))?;
        self.count_entries(1)?;
        let mut out = match fs::OpenOptions::new().write(true).create_new(true).open(&target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.refuse(&format!("it has two entries `{}`", relative.display())));
            }
            out => out?,
        };
        let left = self.limit - self.bytes;
        let written = io::copy(&mut entry.take(left.saturating_add(1)), &mut out)?;
        self.count_bytes(written)?;
        fs::set_permissions(&target, std::fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn link(
        &mut self,
        relative: &Path,
        target: PathBuf,
        entry: &mut impl io::Read,
    ) -> Result<(), SourceError> {
        let mut text = Vec::new();
        entry.take(TARGET_LIMIT + 1).read_to_end(&mut text)?;
        if text.len() as u64 > TARGET_LIMIT {
            return Err(self.refuse(&format!("the target of the link `{}` is no path", relative.display())));
        }
        self.count_entries(1)?;
        self.links.push((target, PathBuf::from(OsString::from_vec(text))));
        Ok(())
    }

    fn make_links(&mut self) -> Result<(), SourceError> {
        for (path, target) in std::mem::take(&mut self.links) {
            self.make_dirs(path.parent().unwrap_or(self.dest))?;
            fs_err::os::unix::fs::symlink(target, path)?;
        }
        Ok(())
    }

    /// Makes a folder and those on its way: one long name can ask for thousands.
    fn make_dirs(&mut self, dir: &Path) -> Result<(), SourceError> {
        let missing = dir.ancestors().take_while(|dir| fs::symlink_metadata(dir).is_err()).count();
        self.count_entries(missing as u64)?;
        Ok(fs::create_dir_all(dir)?)
    }

    fn count_entries(&mut self, more: u64) -> Result<(), SourceError> {
        self.entries += more;
        match self.entries > ENTRY_LIMIT {
            true => Err(self.refuse(&format!("it has more than {ENTRY_LIMIT} files and folders"))),
            false => Ok(()),
        }
    }

    fn count_bytes(&mut self, more: u64) -> Result<(), SourceError> {
        self.bytes = self.bytes.saturating_add(more);
        match self.bytes > self.limit {
            true => Err(self.refuse(&format!(
                "its files have more than {} bytes, which is the limit for an archive of its size",
                self.limit
            ))),
            false => Ok(()),
        }
    }

    fn refuse(&self, what: &str) -> SourceError {
        SourceError::ZipEntry { path: self.archive.to_owned(), what: what.to_owned() }
    }
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

    fn refusal(zip: &Path) -> String {
        let dest = tempfile::tempdir().unwrap();
        let error = unpack(zip, dest.path(), None, &|_, _| true).unwrap_err();
        assert!(fs::read_dir(dest.path()).unwrap().next().is_none(), "nothing is written: {error}");
        error.to_string()
    }

    /// Where the central directory's entries start.
    fn central_entries(bytes: &[u8]) -> Vec<usize> {
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02")).collect()
    }

    #[test]
    fn archives_that_swell_are_refused_by_what_they_say() {
        let zip = archive(&[("a", 0o644, "x"), ("b", 0o644, "x")]);
        let mut bytes = fs::read(zip.path()).unwrap();
        for entry in central_entries(&bytes) {
            bytes[entry + 24..entry + 28].copy_from_slice(&(700_u32 << 20).to_le_bytes());
        }
        fs::write(zip.path(), &bytes).unwrap();
        let text = refusal(zip.path());
        assert!(text.contains("more than 1073741824 bytes"), "{text}");
        assert_eq!(byte_limit(1 << 20), 1 << 30, "small ones are free");
        assert_eq!(byte_limit(100 << 20), 10_000 << 20);
        assert_eq!(byte_limit(u64::MAX), 128 << 30);
    }

    #[test]
    fn archives_that_swell_are_refused_by_what_comes() {
        let zip = archive(&[("a", 0o644, "12345"), ("b", 0o644, "12345")]);
        let dest = tempfile::tempdir().unwrap();
        let mut reading = zip::ZipArchive::new(zip.reopen().unwrap()).unwrap();
        let mut unpacking = Unpacking {
            archive: zip.path(),
            dest: dest.path(),
            limit: 7,
            bytes: 0,
            entries: 0,
            links: Vec::new(),
        };
        unpacking.entry(Path::new("a"), &mut reading.by_index(0).unwrap()).unwrap();
        let error = unpacking.entry(Path::new("b"), &mut reading.by_index(1).unwrap()).unwrap_err();
        assert!(error.to_string().contains("more than 7 bytes"), "{error}");
        assert_eq!(fs::metadata(dest.path().join("b")).unwrap().len(), 3, "no more than it takes to know");
    }

    #[test]
    fn entries_that_share_bytes_are_refused() {
        let zip = archive(&[("a", 0o644, "same"), ("b", 0o644, "same")]);
        let mut bytes = fs::read(zip.path()).unwrap();
        let second = central_entries(&bytes)[1];
        bytes[second + 42..second + 46].copy_from_slice(&0_u32.to_le_bytes());
        fs::write(zip.path(), &bytes).unwrap();
        let text = refusal(zip.path());
        assert!(text.contains("several entries have the same bytes"), "{text}");
    }

    #[test]
    fn two_names_of_one_file_are_refused() {
        let zip = archive(&[("d/a", 0o644, "1"), ("d/./a", 0o644, "2")]);
        let dest = tempfile::tempdir().unwrap();
        let error = unpack(zip.path(), dest.path(), None, &|_, _| true).unwrap_err().to_string();
        assert!(error.contains("two entries `d/a`"), "{error}");
    }

    #[test]
    fn fifos_and_devices_are_left_out() {
        let zip = archive(&[("fifo", 0o644, ""), ("device", 0o644, ""), ("file", 0o644, "x")]);
        let mut bytes = fs::read(zip.path()).unwrap();
        for (entry, kind) in central_entries(&bytes).into_iter().zip([0o010_644_u32, 0o020_644]) {
            bytes[entry + 38..entry + 42].copy_from_slice(&(kind << 16).to_le_bytes());
        }
        fs::write(zip.path(), &bytes).unwrap();
        let dest = tempfile::tempdir().unwrap();
        unpack(zip.path(), dest.path(), None, &|_, _| true).unwrap();
        let names: Vec<_> = fs::read_dir(dest.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    }

    #[test]
    fn a_link_whose_target_is_no_path_is_refused() {
        let zip = archive(&[("l", SYMLINK | 0o777, &"x".repeat(5000))]);
        assert!(refusal(zip.path()).contains("the target of the link `l` is no path"));
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
