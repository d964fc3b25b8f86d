//! `--volume host:target[:ro|rw]`: a folder or file of the user's that buildpacks see.

use std::path::{Component, Path, PathBuf};

/// What a build needs for itself; a volume there hides it.
const SENSITIVE: [&str; 3] = ["/cnb", "/layers", "/platform/env"];

/// Something of the host's to mount into the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The folder or file on the host, absolute.
    pub host: PathBuf,
    /// Where it appears, absolute and without `.` or `..`.
    pub target: PathBuf,
    /// Whether it can be written to.
    pub writable: bool,
}

/// A volume cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid volume `{text}`: {reason}")]
pub struct InvalidVolume {
    /// The text that was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Volume {
    /// Parses `host:target[:option,…]` with the options `ro` (the default) and `rw`, and checks that the host's
    /// side is there.
    ///
    /// # Errors
    /// Another form, a path that is not absolute, an option that is not known, a host path that is not there.
    pub fn parse(text: &str) -> Result<Self, InvalidVolume> {
        let invalid = |reason: String| InvalidVolume { text: text.to_owned(), reason };
        let parts: Vec<&str> = text.split(':').collect();
        let (host, target, options) = match parts.as_slice() {
            [host, target] => (*host, *target, ""),
            [host, target, options] => (*host, *target, *options),
            _ => return Err(invalid("expected `host:target[:ro|rw]`".to_owned())),
        };
        let host = PathBuf::from(host);
        if !host.is_absolute() {
            return Err(invalid(
                "the host path must be absolute (named volumes do not exist here)".to_owned(),
            ));
        }
        let target = normal(Path::new(target)).ok_or_else(|| {
            invalid("the target must be an absolute path below `/`, without `..`".to_owned())
        })?;
        let mut writable = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            writable = match option {
                "ro" => false,
                "rw" => true,
                other => return Err(invalid(format!("unknown option `{other}`: expected `ro` or `rw`"))),
            };
        }
        fs_err::metadata(&host).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => invalid(format!("there is no {} here", host.display())),
            _ => invalid(error.to_string()),
        })?;
        Ok(Self { host, target, writable })
    }

    /// A warning for a target that hides what the build needs. `workspace` is the app's folder in the sandbox.
    pub fn warning(&self, workspace: &Path) -> Option<String> {
        let hides = |folder: &Path| self.target.starts_with(folder) || folder.starts_with(&self.target);
        let folder = SENSITIVE.into_iter().map(Path::new).chain([workspace]).find(|folder| hides(folder))?;
        Some(format!(
            "the volume at `{}` may hide what the build needs in `{}`",
            self.target.display(),
            folder.display()
        ))
    }
}

/// The path without `.`; `None` where it is relative, has `..`, or is the root.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::Normal(_) => normal.push(component),
            Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (normal.is_absolute() && normal != Path::new("/")).then_some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(host: &str, target: &str, writable: bool) -> Volume {
        Volume { host: host.into(), target: target.into(), writable }
    }

    #[test]
    fn read_only_unless_asked() {
        assert_eq!(Volume::parse("/tmp:/data"), Ok(volume("/tmp", "/data", false)));
        assert_eq!(Volume::parse("/tmp:/data/./x/:ro"), Ok(volume("/tmp", "/data/x", false)));
        assert_eq!(Volume::parse("/tmp:/data:rw"), Ok(volume("/tmp", "/data", true)));
        assert_eq!(Volume::parse("/tmp:/data:ro,rw"), Ok(volume("/tmp", "/data", true)));
    }

    #[test]
    fn refuses() {
        for (text, reason) in [
            ("/tmp", "expected `host:target"),
            ("a:b:c:d", "expected `host:target"),
            ("tmp:/data", "the host path must be absolute"),
            ("./tmp:/data", "the host path must be absolute"),
            ("/tmp:data", "the target must be an absolute path"),
            ("/tmp:/", "the target must be an absolute path"),
            ("/tmp:/a/../b", "the target must be an absolute path"),
            ("/tmp:/data:z", "unknown option `z`"),
            ("/does/not/exist:/data", "/does/not/exist"),
        ] {
            let error = Volume::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn warns_about_what_the_build_needs() {
        let workspace = Path::new("/workspace");
        let warning = |target: &str| volume("/tmp", target, false).warning(workspace);
        assert_eq!(warning("/data"), None);
        assert_eq!(warning("/cnbx"), None);
        // Where service bindings go.
        assert_eq!(warning("/platform/bindings/x"), None);
        for target in ["/cnb", "/cnb/buildpacks/x", "/layers/a", "/workspace/sub", "/platform"] {
            assert!(warning(target).is_some(), "{target}");
        }
    }
}
