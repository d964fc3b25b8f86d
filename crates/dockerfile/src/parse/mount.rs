//! `RUN --mount=…`.

use std::ops::Range;

use super::Fault;
use crate::error::nearest;
use crate::expand::{ExpandError, Variables, expand_word};
use crate::instruction::{Mount, MountKind, Sharing, Word};

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

/// What may be said of a mount, before it is known what kind it is.
#[derive(Default)]
struct Options {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

/// Reads the option's value. With `variables`, those in it are expanded; without, what has one is left open.
pub(crate) fn parse(word: Word, variables: Option<Variables<'_>>) -> Result<Mount, Fault> {
    let mut options = Options::default();
    let fields = fields(&word.text)
        .ok_or_else(|| Fault::new(word.span.clone(), format!("a quote is not closed in `{}`", word.text)))?;
    for field in fields {
        options.read(&field, variables).map_err(|error| error.at(&word.span))?;
    }
    options.mount(word, variables.is_some())
}

/// A field that is not right.
enum Wrong {
    Message(String),
    Help(String, String),
}

impl Wrong {
    fn at(self, span: &Range<usize>) -> Fault {
        match self {
            Self::Message(message) => Fault::new(span.clone(), message),
            Self::Help(message, help) => Fault::new(span.clone(), message).with_help(help),
        }
    }
}

impl From<ExpandError> for Wrong {
    fn from(error: ExpandError) -> Self {
        Self::Message(error.to_string())
    }
}

impl Options {
    fn read(&mut self, field: &str, variables: Option<Variables<'_>>) -> Result<(), Wrong> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        if !KEYS.contains(&key.as_str()) {
            let message = format!("a mount has no option `{key}`");
            return Err(match nearest(&key, KEYS) {
                Some(meant) => Wrong::Help(message, format!("did you mean `{meant}`?")),
                None => Wrong::Message(message),
            });
        }
        let value = match (value, variables) {
            (Some(value), Some(variables)) => Some(expand_word(value, variables)?),
            // Numbers and words of a fixed set are known when the variable is.
            (Some(value), None) if value.contains('$') => {
                return self.read_text(&key, value.to_owned());
            }
            (value, _) => value.map(str::to_owned),
        };
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => self.read_only = Some(truth(&key, value)?),
            ("readwrite" | "rw", value) => self.read_only = Some(!truth(&key, value)?),
            ("required", value) => self.required = Some(truth(&key, value)?),
            (_, None) => return Err(Wrong::Message(format!("mount option `{key}` needs a value"))),
            ("sharing", Some(value)) => {
                self.sharing = Some(match value.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => {
                        let help = "it is `shared`, `private` or `locked`".to_owned();
                        return Err(Wrong::Help(format!("unknown sharing `{value}` of a mount"), help));
                    }
                });
            }
            ("size", Some(value)) => self.size = Some(size(&value)?),
            ("mode", Some(value)) => self.mode = Some(number(&key, &value, 8)?),
            ("uid", Some(value)) => self.uid = Some(number(&key, &value, 10)?),
            ("gid", Some(value)) => self.gid = Some(number(&key, &value, 10)?),
            (_, Some(value)) => return self.read_text(&key, value),
        }
        Ok(())
    }

    /// An option that is a text.
    fn read_text(&mut self, key: &str, value: String) -> Result<(), Wrong> {
        match key {
            "type" => self.kind = Some(value.to_ascii_lowercase()),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "id" => self.id = Some(value),
            "env" => self.env = Some(value),
            "from" => {
                let help = "there is one stage only: files come from the context".to_owned();
                return Err(Wrong::Help("mount option `from` is not supported".to_owned(), help));
            }
            _ => (),
        }
        Ok(())
    }

    fn mount(self, word: Word, expanded: bool) -> Result<Mount, Fault> {
        let kind = self.kind.as_deref().unwrap_or("bind").to_owned();
        self.check(&kind).map_err(|wrong| wrong.at(&word.span))?;
        let target = self.target.unwrap_or_default();
        let fault = |message: &str| Err(Fault::new(word.span.clone(), message));
        let kind = match kind.as_str() {
            "bind" => MountKind::Bind {
                source: self.source.unwrap_or_default(),
                read_only: self.read_only.unwrap_or(true),
            },
            "cache" => MountKind::Cache {
                id: self.id.unwrap_or_else(|| target.clone()),
                sharing: self.sharing.unwrap_or_default(),
                read_only: self.read_only.unwrap_or(false),
                mode: self.mode,
                uid: self.uid,
                gid: self.gid,
            },
            "tmpfs" => MountKind::Tmpfs { size: self.size },
            _ => {
                if self.source.is_some() && self.id.is_some() {
                    return fault("a secret has either `id` or `source`");
                }
                let last = target.rsplit('/').next().unwrap_or("").to_owned();
                let id = self.id.or(self.source).unwrap_or(last);
                if id.is_empty() {
                    return fault("a mount of a secret needs `id` or `target`");
                }
                MountKind::Secret {
                    id,
                    env: self.env,
                    required: self.required.unwrap_or(false),
                    mode: self.mode,
                    uid: self.uid,
                    gid: self.gid,
                }
            }
        };
        let needs_target = !matches!(kind, MountKind::Secret { .. });
        if needs_target && target.is_empty() && (expanded || !word.text.contains('$')) {
            return fault("a mount needs `target`");
        }
        Ok(Mount { kind, target, text: word.text, span: word.span })
    }

    /// Complains about options that this kind of mount does not have.
    fn check(&self, kind: &str) -> Result<(), Wrong> {
        let known = ["bind", "cache", "tmpfs", "secret"];
        if !known.contains(&kind) {
            let message = if kind == "ssh" {
                "mounts of type `ssh` are not supported".to_owned()
            } else {
                format!("unknown mount type `{kind}`")
            };
            return Err(Wrong::Help(message, "it is `bind`, `cache`, `tmpfs` or `secret`".to_owned()));
        }
        let owned = matches!(kind, "cache" | "secret");
        let wrong = [
            ("source", self.source.is_some() && matches!(kind, "tmpfs" | "cache")),
            ("id", self.id.is_some() && !owned),
            ("sharing", self.sharing.is_some() && kind != "cache"),
            ("required", self.required.is_some() && kind != "secret"),
            ("env", self.env.is_some() && kind != "secret"),
            ("size", self.size.is_some() && kind != "tmpfs"),
            ("mode", self.mode.is_some() && !owned),
            ("uid", self.uid.is_some() && !owned),
            ("gid", self.gid.is_some() && !owned),
        ];
        match wrong.iter().find(|(_, wrong)| *wrong) {
            Some((option, _)) => {
                Err(Wrong::Message(format!("a mount of type `{kind}` has no option `{option}`")))
            }
            None => Ok(()),
        }
    }
}

/// Fields separated by commas; one in double quotes may have commas, and quotes doubled.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        let field = fields.last_mut()?;
        match ch {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            ch => field.push(ch),
        }
    }
    (!quoted).then_some(fields)
}

fn truth(key: &str, value: Option<String>) -> Result<bool, Wrong> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(Wrong::Message(format!("mount option `{key}` is true or false, not `{other}`"))),
    }
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, Wrong> {
    u32::from_str_radix(value, radix).map_err(|_| {
        let what = if radix == 8 { "an octal number" } else { "a number" };
        Wrong::Message(format!("mount option `{key}` is {what}, not `{value}`"))
    })
}

/// A size with a unit, in powers of 1024: `64m`, `1.5g`, `100`.
fn size(value: &str) -> Result<u64, Wrong> {
    let wrong =
        || Wrong::Message(format!("mount option `size` is a number of bytes like `64m`, not `{value}`"));
    let text = value.trim().to_ascii_lowercase();
    let digits = text.find(|ch: char| !ch.is_ascii_digit() && ch != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match text[digits..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    Ok((number * (1u64 << shift) as f64) as u64)
}
