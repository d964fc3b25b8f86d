//! `--cache`: `type=build|launch;format=volume|image|bind;name=…|source=…`, as pack writes it.
//!
//! Not here: what is kept, and how (see `lifecycle::cache`).

use std::path::PathBuf;

/// Where layers are kept between builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// In the store, under a name; without one, under the image's.
    Store {
        /// The name that was given.
        name: Option<String>,
    },
    /// In a folder of the user's.
    Folder(PathBuf),
    /// In an image of a registry.
    Image(String),
}

/// What a `--cache` option is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Layers that buildpacks asked to be kept.
    Build,
    /// Layers of the image. Pannier needs no such cache: the store has them.
    Launch,
}

/// A `--cache` option, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// What it is about.
    pub kind: CacheKind,
    /// Where it is.
    pub place: CachePlace,
}

/// A `--cache` option is not of that form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid cache `{text}`: {reason}")]
pub struct InvalidCacheSpec {
    /// The option's value.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl std::str::FromStr for CacheSpec {
    type Err = InvalidCacheSpec;

    fn from_str(text: &str) -> Result<Self, InvalidCacheSpec> {
        let invalid = |reason: String| InvalidCacheSpec { text: text.to_owned(), reason };
        let (mut kind, mut format, mut name, mut source) = (CacheKind::Build, "volume", None, None);
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| invalid(format!("`{part}` is not of the form key=value")))?;
            if value.is_empty() {
                return Err(invalid(format!("`{key}` has no value")));
            }
            match (key, value) {
                ("type", "build") => kind = CacheKind::Build,
                ("type", "launch") => kind = CacheKind::Launch,
                ("type", _) => {
                    return Err(invalid(format!("unknown type `{value}`: expected build or launch")));
                }
                ("format", "volume" | "image" | "bind") => format = value,
                ("format", _) => {
                    return Err(invalid(format!("unknown format `{value}`: expected volume, image or bind")));
                }
                ("name", _) => name = Some(value.to_owned()),
                ("source", _) => source = Some(PathBuf::from(value)),
                _ => {
                    return Err(invalid(format!(
                        "unknown key `{key}`: expected type, format, name or source"
                    )));
                }
            }
        }
        let place = match (format, name, source) {
            ("volume", name, None) => CachePlace::Store { name },
            ("bind", None, Some(source)) => CachePlace::Folder(source),
            ("image", Some(name), None) => CachePlace::Image(name),
            ("volume", ..) => return Err(invalid("a volume has a `name`, not a `source`".to_owned())),
            ("bind", ..) => return Err(invalid("a bind needs a `source` and has no `name`".to_owned())),
            _ => return Err(invalid("an image needs a `name` and has no `source`".to_owned())),
        };
        Ok(Self { kind, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_pack() {
        let parse = |text: &str| text.parse::<CacheSpec>().map(|spec| (spec.kind, spec.place));
        assert_eq!(
            parse("type=build;format=volume;name=x"),
            Ok((CacheKind::Build, CachePlace::Store { name: Some("x".to_owned()) }))
        );
        assert_eq!(parse("type=launch"), Ok((CacheKind::Launch, CachePlace::Store { name: None })));
        assert_eq!(
            parse("format=bind;source=/a"),
            Ok((CacheKind::Build, CachePlace::Folder(PathBuf::from("/a"))))
        );
        assert_eq!(
            parse("type=build;format=image;name=r/x"),
            Ok((CacheKind::Build, CachePlace::Image("r/x".to_owned())))
        );
    }

    #[test]
    fn refuses_others() {
        for text in
            ["format=bind", "type=x", "format=image", "volume", "name=", "format=volume;source=/a", "a=b"]
        {
            assert!(text.parse::<CacheSpec>().is_err(), "{text}");
        }
    }
}
