//! A layer, unpacked as a layer and as an archive.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use fs_err as fs;
use pannier_layer::Digest;
use pannier_layer::unpack::{Limits, Options, Owners, UnpackError, Unpacked, unpack};

/// Small, so that an input costs little whatever it says.
const LIMITS: Limits = Limits { bytes: 4 << 20, entries: 1000 };

/// What comes of unpacking `input`: the same each time, with nothing outside of the folder touched.
pub fn outcome(input: &[u8]) -> String {
    let layer = unpacked(input, true);
    let archive = unpacked(input, false);
    format!("layer: {}; archive: {}", summary(&layer), summary(&archive))
}

fn unpacked(input: &[u8], is_layer: bool) -> Result<Unpacked, UnpackError> {
    let temp = place().unwrap();
    let dest = temp.path().join("dest");
    fs::write(temp.path().join("secret"), "secret").unwrap();
    let options = Options { owners: Owners::Ours, limits: LIMITS, is_layer, ..Options::default() };
    let unpacked = unpack(input, &dest, &options);

    let mut names: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dest", "secret"]);
    let secret = temp.path().join("secret");
    let meta = fs::symlink_metadata(&secret).unwrap();
    assert!(meta.is_file() && meta.nlink() == 1 && fs::read(&secret).unwrap() == b"secret");
    check_tree(&dest);
    if let Ok(unpacked) = &unpacked {
        assert!(unpacked.tar_size <= LIMITS.bytes && unpacked.entries <= LIMITS.entries);
        if !is_compressed(input) {
            assert_eq!((unpacked.diff_id, unpacked.tar_size), (Digest::of(input), input.len() as u64));
        }
    }
    unpacked
}

/// In memory where that is possible.
fn place() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// No device but whiteouts; and everything can be removed afterwards, by its owner too.
fn check_tree(dir: &Path) {
    let _ = fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        assert!(
            !kind.is_block_device() && (!kind.is_char_device() || meta.rdev() == 0),
            "{}",
            path.display()
        );
        if meta.is_dir() {
            check_tree(&path);
        }
    }
}

fn is_compressed(input: &[u8]) -> bool {
    input.starts_with(&[0x1f, 0x8b])
        || matches!(input, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn summary(unpacked: &Result<Unpacked, UnpackError>) -> String {
    match unpacked {
        Ok(it) => format!("{} entries, {} devices left out", it.entries, it.skipped_devices),
        Err(UnpackError::Path(_)) => "cannot be written".to_owned(),
        Err(UnpackError::Read(_)) => "cannot be read".to_owned(),
        Err(UnpackError::Truncated { .. }) => "truncated".to_owned(),
        Err(UnpackError::Invalid { reason, .. }) => format!("invalid: {}", reason.escape_default()),
        Err(UnpackError::Limit { what, .. }) => format!("too many {what}"),
        Err(UnpackError::HardLink { .. }) => "hard link to nothing".to_owned(),
        Err(UnpackError::Owner { .. }) => "no such owner".to_owned(),
        Err(UnpackError::DiffId { .. }) => "another content".to_owned(),
    }
}
