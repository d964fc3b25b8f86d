//! The two layers of every app image that no tree on disk looks like: the launcher and the process types.
//!
//! Not here: which process types there are and whether their names are allowed.

use std::path::Path;

use super::{PackError, Tar};

/// Where the launcher is in an app image (platform specification, "Launch").
pub const LAUNCHER: &str = "/cnb/lifecycle/launcher";

impl Tar<'_, '_> {
    /// Adds `/cnb`, `/cnb/lifecycle` and the launcher, whose file on disk is `launcher`: executable, all of it root's.
    pub fn launcher(&mut self, launcher: &Path) -> Result<(), PackError> {
        self.dir(Path::new("/cnb"), 0o755, 0, 0)?;
        self.dir(Path::new("/cnb/lifecycle"), 0o755, 0, 0)?;
        self.file(Path::new(LAUNCHER), launcher, 0o755, 0, 0)
    }

    /// Adds `/cnb`, `/cnb/process` and in it, for each type, a symlink to the launcher; all of it root's.
    pub fn process_types<'a>(&mut self, types: impl IntoIterator<Item = &'a str>) -> Result<(), PackError> {
        self.dir(Path::new("/cnb"), 0o755, 0, 0)?;
        let dir = Path::new("/cnb/process");
        self.dir(dir, 0o755, 0, 0)?;
        for name in types {
            self.symlink(&dir.join(name), Path::new(LAUNCHER), 0o755, 0, 0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash;

    // The diffIDs were computed with Go's archive/tar from the headers that the reference writes.
    #[test]
    fn process_types() {
        let layer = hash(&|_| (), |tar| tar.process_types(["web", "worker"])).unwrap();
        assert_eq!(layer.entries, 4);
        assert_eq!(layer.tar_size, 4 * 512 + 1024);
        assert_eq!(
            layer.diff_id.to_string(),
            "sha256:c32b6c6d08c5d84a980a518d1dd9093c22b9e003f2b6b468f12fe1e7cd918b3f"
        );
    }

    #[test]
    fn launcher() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("any-name");
        fs_err::write(&file, "launcher\n").unwrap();
        let layer = hash(&|_| (), |tar| tar.launcher(&file)).unwrap();
        assert_eq!(layer.entries, 3);
        assert_eq!(
            layer.diff_id.to_string(),
            "sha256:29ab6994a205a7ca19089f346ccd2ef69bbf4f321758ff6e0685970210d5e9b4"
        );
    }
}
