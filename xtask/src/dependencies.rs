//! Checks on what the workspace depends on: licences that may be shipped, and one source. Reads `cargo metadata`
//! only, so it costs a second and needs nothing installed.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use xshell::{Shell, cmd};

/// Licences whose code may be part of the binaries: permissive ones, and MPL (per file).
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

const REGISTRY: &str = "registry+";

/// # Errors
///
/// When a dependency has a licence that is not in the list, or comes from anywhere but the workspace and the crate
/// registry.
pub fn check(shell: &Shell) -> Result<()> {
    let metadata = cmd!(shell, "cargo metadata --format-version 1 --locked").quiet().read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let mut wrong = Vec::new();
    for package in packages {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        match package["source"].as_str() {
            Some(source) if !source.starts_with(REGISTRY) => {
                wrong.push(format!("{name} comes from {source}"))
            }
            _ => {}
        }
        match package["license"].as_str() {
            Some(expression) if allowed(expression) => {}
            Some(expression) => wrong.push(format!("{name} has the licence {expression}")),
            None => wrong.push(format!("{name} names no licence")),
        }
    }
    if !wrong.is_empty() {
        bail!("{} dependencies are not allowed\n{}", wrong.len(), wrong.join("\n"));
    }
    println!("{} packages, all with an allowed licence and from the crate registry", packages.len());
    Ok(())
}

/// Whether an SPDX expression can be met with allowed licences alone. `/` is the old way to write `OR`.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let words = expression.replace('(', " ( ").replace(')', " ) ");
    let mut words = words.split_whitespace().peekable();
    any(&mut words) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> bool {
    let mut met = all(words);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words);
    }
    met
}

fn all(words: &mut Words<'_>) -> bool {
    let mut met = one(words);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words);
    }
    met
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words);
        return words.next_if_eq(&")").is_some() && met;
    }
    let Some(mut licence) = words.next().map(str::to_owned) else { return false };
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    ALLOWED.contains(&licence.as_str())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-2.0/MIT",
            "(MIT OR GPL-3.0) AND Zlib",
            "MIT AND (ISC OR Unlicense)",
        ] {
            assert!(allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT)", "Apache-2.0 WITH Classpath", "MIT ISC"]
        {
            assert!(!allowed(bad), "{bad}");
        }
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0"));
    }
}
