//! What each buildpack adds to the documents of the image: an image whose manifest or configuration is larger than
//! anybody reads must not be made, and the error says who is to blame.
//!
//! Not here: the limit, which is that of reading.

use cnb::launch::Process;
use cnb::layer::Store;
use cnb::output::{Label, Slice};

use crate::build::BuiltLayer;

/// What an entry of a list takes beside its texts, roughly: the names of its keys.
const ENTRY: u64 = 100;
/// What a layer takes in the manifest and in the configuration, roughly, in the one that has more of it.
const LAYER: u64 = 180;

/// Bytes that a buildpack adds to the image's configuration, nearly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What it is, and how many bytes.
    parts: Vec<(String, u64)>,
}

/// Buildpacks leave more than an image can say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "buildpack {id} leaves too much for an image: {part} takes {size} bytes, and all buildpacks together {all}, \
     expected at most {limit}"
)]
pub struct TooMuch {
    /// The buildpack that adds the largest part.
    pub id: String,
    /// The part.
    pub part: String,
    /// Its bytes.
    pub size: u64,
    /// The bytes of all parts of all buildpacks.
    pub all: u64,
    /// The most that is read.
    pub limit: u64,
}

impl Share {
    /// Counts what a buildpack left.
    pub(crate) fn of(
        layers: &[BuiltLayer],
        store: Option<&Store>,
        processes: &[Process],
        labels: &[Label],
        slices: &[Slice],
    ) -> Self {
        let mut parts = Vec::new();
        if let Some(store) = store {
            parts.push(("store.toml".to_owned(), in_label(store)));
        }
        for layer in layers {
            let size = in_label(&layer.toml.metadata) + 2 * text(&layer.name) + LAYER;
            parts.push((format!("the metadata of layer `{}`", layer.name), size));
        }
        let texts = |list: &[String]| list.iter().map(|entry| text(entry) + 5).sum::<u64>();
        let process = |it: &Process| {
            let words = texts(&it.command) + texts(it.args()) + texts(&it.exec_env);
            words + text(&it.r#type) + text(&it.buildpack_id) + text(&it.working_dir) + ENTRY
        };
        let labelled = |it: &Label| text(&it.key) + text(&it.value) + 6;
        for (what, size) in [
            ("`[[processes]]` of launch.toml", processes.iter().map(process).sum()),
            ("`[[labels]]` of launch.toml", labels.iter().map(labelled).sum()),
            ("`[[slices]]` of launch.toml", slices.len() as u64 * LAYER),
        ] {
            parts.push((what.to_owned(), size));
        }
        Self { parts }
    }

    fn all(&self) -> u64 {
        self.parts.iter().map(|(_, size)| size).sum()
    }

    fn largest(&self) -> Option<&(String, u64)> {
        self.parts.iter().max_by_key(|(_, size)| *size)
    }
}

/// Checks that what these buildpacks add is not more than `limit` bytes.
///
/// # Errors
/// The largest part and whose it is.
pub(crate) fn check<'a>(
    shares: impl Iterator<Item = (&'a str, &'a Share)>,
    limit: u64,
) -> Result<(), TooMuch> {
    let shares: Vec<_> = shares.collect();
    let all: u64 = shares.iter().map(|(_, share)| share.all()).sum();
    if all <= limit {
        return Ok(());
    }
    let parts = shares.iter().filter_map(|(id, share)| Some((id, share.largest()?)));
    let Some((id, (part, size))) = parts.max_by_key(|(_, (_, size))| *size) else { return Ok(()) };
    Err(TooMuch { id: (*id).to_owned(), part: part.clone(), size: *size, all, limit })
}

/// Bytes of a value as JSON within a text of JSON.
fn in_label(value: &impl serde::Serialize) -> u64 {
    let mut counter = Counter(0);
    // What cannot be written as JSON is said elsewhere.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

/// Bytes of a text as a text of JSON, without its quotes.
fn text(text: &str) -> u64 {
    text.bytes().map(escaped).sum()
}

fn escaped(byte: u8) -> u64 {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// Counts what is written, escaped once more.
struct Counter(u64);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.iter().map(|byte| escaped(*byte)).sum::<u64>();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_part_and_its_buildpack_are_named() {
        let store = Store::parse("store.toml", &format!("[metadata]\nx = \"{}\"", "x".repeat(1000))).unwrap();
        let labels = vec![Label { key: "k".into(), value: "v".repeat(700) }];
        let first = Share::of(&[], Some(&store), &[], &labels, &[]);
        let second = Share::of(&[], None, &[], &labels, &[]);
        let both = || [("a", &first), ("b", &second)].into_iter();
        assert_eq!(check(both(), 5000), Ok(()));
        let error = check(both(), 2000).unwrap_err();
        assert_eq!((error.id.as_str(), error.part.as_str()), ("a", "store.toml"));
        assert!((1000..1100).contains(&error.size) && error.all > 2400, "{error}");
    }

    #[test]
    fn each_part_is_counted_as_it_is_written() {
        let process = Process {
            r#type: "web".into(),
            command: vec!["\"".repeat(100)],
            args: Some(vec!["\u{1}".repeat(10)]),
            ..Process::default()
        };
        let layer = BuiltLayer {
            name: "l".into(),
            toml: cnb::layer::LayerToml::parse("l.toml", "[metadata]\na = \"\\\"\"").unwrap(),
            has_contents: true,
        };
        let share = Share::of(&[layer], None, &[process], &[], &[Slice::default(), Slice::default()]);
        let size = |part: &str| share.parts.iter().find(|(name, _)| name.contains(part)).unwrap().1;
        assert!(size("[[processes]]") >= 200 + 60, "{share:?}");
        assert!(size("layer `l`") > LAYER, "{share:?}");
        assert_eq!((size("[[slices]]"), size("[[labels]]")), (2 * LAYER, 0));
    }
}
