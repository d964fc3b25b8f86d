//! `pannier image list`.

use std::process::ExitCode;

use clap::Args;
use oci::store::Entry;
use serde::Serialize;

use crate::commands::Format;
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{bytes, escaped};

/// List the images of the local store
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pannier image list
  pannier image list --output json
  pannier image list --quiet         names only")]
pub struct ListArgs {
    /// How to print them; json has everything in full
    #[arg(short, long, value_enum, default_value_t = Format::Human)]
    output: Format,
}

/// Lists.
pub fn run(context: &Context<'_>, args: &ListArgs) -> Result<ExitCode, CommandError> {
    let entries = context.store()?.list()?;
    match args.output {
        Format::Json => context.ui.json(&json(&entries)?),
        // A script reads nothing from nothing.
        Format::Human if context.ui.is_quiet() => context.ui.results(entries.iter().map(familiar)),
        Format::Human if entries.is_empty() => context.ui.result("no images"),
        Format::Human => context.ui.results(table(&entries).split('\n')),
    }
    Ok(ExitCode::SUCCESS)
}

fn json(entries: &[Entry]) -> Result<String, CommandError> {
    #[derive(Serialize)]
    struct Shown<'a> {
        name: Option<&'a str>,
        digest: String,
        platforms: Vec<String>,
        created: Option<&'a str>,
        size: Option<u64>,
    }
    let shown: Vec<Shown<'_>> = entries
        .iter()
        .map(|entry| Shown {
            name: entry.name.as_deref(),
            digest: entry.digest.to_string(),
            platforms: entry.platforms.iter().map(ToString::to_string).collect(),
            created: entry.created.as_deref(),
            size: entry.size,
        })
        .collect();
    Ok(serde_json::to_string_pretty(&shown)?)
}

fn table(entries: &[Entry]) -> String {
    let header = ["NAME", "DIGEST", "PLATFORM", "CREATED", "SIZE"].map(str::to_owned);
    let rows = entries.iter().map(|entry| {
        // Documents that cannot be read: the list goes on, `doctor --store` says what is wrong.
        let unknown = || "?".to_owned();
        [
            familiar(entry),
            entry.digest.short(),
            match entry.platforms.as_slice() {
                [] => unknown(),
                [one] => one.to_string(),
                several => format!("{} platforms", several.len()),
            },
            entry
                .created
                .as_deref()
                .map_or_else(|| "-".to_owned(), |created| created.chars().take(10).collect()),
            entry.size.map_or_else(unknown, bytes),
        ]
    });
    let rows = rows.map(|row| row.map(|cell| escaped(&cell).into_owned()));
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The name as people write it.
fn familiar(entry: &Entry) -> String {
    match &entry.name {
        Some(name) => name.parse::<oci::Reference>().map_or_else(|_| name.clone(), |name| name.familiar()),
        None => format!("<{}>", entry.digest.short()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let entry = |name: Option<&str>, size: Option<u64>| Entry {
            name: name.map(str::to_owned),
            digest: oci::Digest::of(b"x"),
            platforms: size.iter().map(|_| "linux/amd64".parse().unwrap()).collect(),
            created: size.map(|_| "1980-01-01T00:00:01Z".to_owned()),
            size,
        };
        vec![
            entry(Some("docker.io/library/app:latest"), Some(1_234_567)),
            entry(Some("127.0.0.1:5000/team/service:v1"), None),
            entry(None, Some(10)),
        ]
    }

    #[test]
    fn columns() {
        insta::assert_snapshot!(table(&entries()), @r"
        NAME                            DIGEST        PLATFORM     CREATED     SIZE
        app:latest                      2d711642b726  linux/amd64  1980-01-01  1.2 MB
        127.0.0.1:5000/team/service:v1  2d711642b726  ?            -           ?
        <2d711642b726>                  2d711642b726  linux/amd64  1980-01-01  10 B
        ");
    }

    #[test]
    fn everything_in_json() {
        let value: serde_json::Value = serde_json::from_str(&json(&entries()).unwrap()).unwrap();
        assert_eq!(value[0]["name"], "docker.io/library/app:latest");
        assert_eq!(value[0]["size"], 1_234_567);
        assert_eq!(value[0]["platforms"], serde_json::json!(["linux/amd64"]));
        assert_eq!(value[1]["platforms"], serde_json::json!([]));
    }
}
