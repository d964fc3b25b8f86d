//! The options of `pannier build` for image extensions, as values.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use layer::Refused;
use platform::build::Secrets;

use crate::error::CommandError;

/// The largest secret, in bytes: as `docker build` has it.
const SECRET_LIMIT: u64 = 500 * 1024;

/// Reads how long what an instruction did may be used again: `90m`, `336h`, `14d`, `1h30m`, `0`.
pub fn ttl(text: &str) -> Result<Duration, CommandError> {
    let invalid = || {
        CommandError::new(format!(
            "invalid time `{text}`: expected a number with s, m, h, d or w, such as 90m or 14d, or 0"
        ))
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut total, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next().ok_or_else(invalid)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(invalid()),
        };
        let number: u64 = number.parse().map_err(|_| invalid())?;
        total = number.checked_mul(seconds).and_then(|it| it.checked_add(total)).ok_or_else(invalid)?;
        rest = &tail[unit.len_utf8()..];
    }
    match text.is_empty() {
        true => Err(invalid()),
        false => Ok(Duration::from_secs(total)),
    }
}

/// Reads secrets: `id=NAME,src=FILE`, `id=NAME,env=VARIABLE`, or `id=NAME` for the variable of that name.
pub fn secrets(texts: &[String]) -> Result<Secrets, CommandError> {
    let mut secrets = BTreeMap::new();
    for text in texts {
        let (id, value) = secret(text)?;
        secrets.insert(id, value);
    }
    Ok(Secrets(secrets))
}

fn secret(text: &str) -> Result<(String, Vec<u8>), CommandError> {
    let invalid = || {
        CommandError::new(format!(
            "invalid secret `{}`: expected id=NAME,src=FILE or id=NAME,env=VARIABLE",
            keys(text)
        ))
    };
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=').ok_or_else(invalid)? {
            ("id", value) => id = Some(value),
            ("src" | "source", value) => file = Some(value),
            ("env", value) => variable = Some(value),
            ("type", "file" | "env") => {}
            _ => return Err(invalid()),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(invalid)?;
    let value = match (file, variable) {
        (Some(_), Some(_)) => return Err(invalid()),
        (Some(file), None) => from_file(Path::new(file))?,
        (None, variable) => from_variable(id, variable.unwrap_or(id))?,
    };
    Ok((id.to_owned(), value))
}

/// What an option is made of, without the values: one that is wrong may have the secret itself in it.
fn keys(text: &str) -> String {
    let shown = |field: &str| match field.split_once('=') {
        Some((key @ ("id" | "src" | "source" | "env" | "type"), _)) => format!("{key}=…"),
        _ => "…".to_owned(),
    };
    text.split(',').map(shown).collect::<Vec<_>>().join(",")
}

fn from_file(path: &Path) -> Result<Vec<u8>, CommandError> {
    layer::named::read_input(path, SECRET_LIMIT).map_err(|error| match Refused::of(&error.source) {
        Some(Refused::TooLarge(limit)) => CommandError::new(format!(
            "{} is too large for a secret: expected at most {limit} bytes",
            path.display()
        )),
        _ => error.into(),
    })
}

fn from_variable(id: &str, name: &str) -> Result<Vec<u8>, CommandError> {
    use std::os::unix::ffi::OsStringExt as _;
    match std::env::var_os(name) {
        Some(value) => Ok(value.into_vec()),
        None => Err(CommandError::new(format!("secret `{id}` has no value: the variable {name} is not set"))
            .hint(format!("name a file with --secret id={id},src=FILE"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let seconds = |text: &str| ttl(text).map(|time| time.as_secs()).map_err(|error| error.message());
        assert_eq!(seconds("0"), Ok(0));
        assert_eq!(seconds("14d"), Ok(14 * 86_400));
        assert_eq!(seconds("336h0m0s"), Ok(14 * 86_400));
        for odd in ["", "5", "d", "5y", "-1h", "99999999999999999999s", "9999999999999999w", "5é"] {
            assert!(seconds(odd).unwrap_err().starts_with(&format!("invalid time `{odd}`")), "{odd}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "pass\n").unwrap();
        let path = file.path().display();
        let read = secrets(&[format!("id=a,src={path}"), "id=b,env=PATH".into(), "id=PATH".into()]).unwrap();
        assert_eq!(read.0["a"], b"pass\n");
        assert_eq!(read.0["b"], read.0["PATH"]);
        assert_eq!(format!("{read:?}"), r#"{"PATH", "a", "b"}"#);
        for (odd, shown) in [
            ("", "…"),
            ("hunter2", "…"),
            ("src=x", "src=…"),
            ("id=", "id=…"),
            ("id=a,src=x,env=y", "id=…,src=…,env=…"),
            ("id=a,hunter2=1", "id=…,…"),
        ] {
            let error = secrets(&[odd.to_owned()]).unwrap_err().message();
            assert!(error.starts_with(&format!("invalid secret `{shown}`: ")), "{odd}: {error}");
        }
        let missing = secrets(&["id=a,src=/no/such".into()]).unwrap_err().message();
        assert!(missing.contains("/no/such"), "{missing}");
        assert_eq!(
            secrets(&["id=NOT_SET_ANYWHERE".into()]).unwrap_err().message(),
            "secret `NOT_SET_ANYWHERE` has no value: the variable NOT_SET_ANYWHERE is not set"
        );
    }
}
