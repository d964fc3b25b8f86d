//! A TOML file that a person wrote: parsed into a type, with errors that point at the place.
//!
//! Every descriptor and configuration file of this crate goes through [`Document`]. What a key means is the
//! business of the module that owns the file; what a program wrote for a program is not read here.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use layer::{PathError, Root};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

/// The longest document that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// The text of a TOML file and the name to show for it.
#[derive(Clone, Debug)]
pub struct Document {
    source: Arc<Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    text: String,
}

/// A key that the type a document was parsed into does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The keys from the top of the document, an array's index as a number: `["io", "buildpacks", "gruop"]`.
    pub path: Vec<String>,
    /// Where the key is, in bytes of the text.
    pub span: Option<Range<usize>>,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> =
            self.path.iter().filter(|key| key.parse::<usize>().is_err()).map(String::as_str).collect();
        f.write_str(&keys.join("."))
    }
}

/// Something in a document is wrong, at a place where that is known.
///
/// Prints as one line, `<path>:<line>:<column>: <message>`; [`DocumentError::render`] shows the place too.
#[derive(Clone)]
pub struct DocumentError {
    inner: Box<ErrorInner>,
}

#[derive(Clone)]
struct ErrorInner {
    source: Arc<Source>,
    span: Option<Range<usize>>,
    message: String,
    help: Option<String>,
}

impl Document {
    /// A document of this text. `path` is only shown, never opened.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { source: Arc::new(Source { path: path.into(), text: text.into() }) }
    }

    /// Reads a file that a person names; it may be a pipe of a shell.
    ///
    /// # Errors
    /// A file that cannot be read, is no regular one, is longer than 4 MiB, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, PathError> {
        Ok(Self::new(path, layer::named::read_input_to_string(path, LIMIT)?))
    }

    /// Reads the file `name` that came with the folder `root` and may be anybody's: errors show lines of documents, so
    /// links must not lead to other files (see [`Root::beneath`]).
    ///
    /// # Errors
    /// As [`Document::read`]; a link that leads out.
    pub fn read_in(root: &Root, name: impl AsRef<Path>) -> Result<Self, PathError> {
        let name = name.as_ref();
        Ok(Self::new(root.path().join(name), root.read_to_string(name, LIMIT)?))
    }

    /// Where it came from, for messages.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// Parses it as a table of spanned values, to look at a few keys before its type is known.
    ///
    /// # Errors
    /// A text that is not TOML.
    pub fn table(&self) -> Result<DeTable<'_>, DocumentError> {
        Ok(DeTable::parse(self.text()).map_err(|error| self.toml_error(&error))?.into_inner())
    }

    /// Parses it into `T`, and says which keys `T` does not have.
    ///
    /// # Errors
    /// A text that is not TOML, or a value that `T` does not take.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<(T, Vec<UnknownKey>), DocumentError> {
        let mut unknown = Vec::new();
        let deserializer = toml::Deserializer::parse(self.text()).map_err(|error| self.toml_error(&error))?;
        let value = serde_ignored::deserialize(deserializer, |path| unknown.push(keys_of(&path)))
            .map_err(|error| self.toml_error(&error))?;
        if unknown.is_empty() {
            return Ok((value, Vec::new()));
        }
        let table = self.table()?;
        let mut unknown: Vec<_> =
            unknown.into_iter().map(|path| UnknownKey { span: span_of(&table, &path), path }).collect();
        // Tables are visited by name; people read files from the top.
        unknown.sort_by_key(|key| key.span.as_ref().map(|span| span.start));
        Ok((value, unknown))
    }

    /// An error at `span` of this document.
    pub fn error(&self, span: impl Into<Option<Range<usize>>>, message: impl Into<String>) -> DocumentError {
        DocumentError {
            inner: Box::new(ErrorInner {
                source: Arc::clone(&self.source),
                span: span.into(),
                message: message.into(),
                help: None,
            }),
        }
    }

    /// `<path>:<line>:<column>` of a place in this document, or the path alone.
    pub fn place(&self, span: Option<&Range<usize>>) -> String {
        self.source.place(span)
    }

    fn toml_error(&self, error: &toml::de::Error) -> DocumentError {
        // Serde's derive says "missing field"; to the person who writes the file it is a key.
        let message = error.message().replace("missing field", "missing key").replace('\n', ", ");
        self.error(error.span(), message)
    }
}

impl DocumentError {
    /// The same error with a line that says what to do.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.inner.help = Some(help.into());
        self
    }

    /// The file it is about.
    pub fn path(&self) -> &Path {
        &self.inner.source.path
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to do about it, where there is something to say.
    pub fn help(&self) -> Option<&str> {
        self.inner.help.as_deref()
    }

    /// The place in bytes of the text, where it is known.
    pub fn span(&self) -> Option<Range<usize>> {
        self.inner.span.clone()
    }

    /// Line and column of the place, both from 1, the column in characters.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.inner.span.as_ref().map(|span| self.inner.source.line_column(span.start))
    }

    /// The error with the lines it is about and a caret under the place, for a terminal.
    pub fn render(&self, colour: bool) -> String {
        let ErrorInner { source, span, message, help } = &*self.inner;
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let path = source.path.display().to_string();
        let title = Level::ERROR.primary_title(message.as_str());
        let mut group = match span {
            Some(span) => {
                let end = span.end.min(source.text.len());
                let start = span.start.min(end);
                let snippet = Snippet::source(source.text.as_str())
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(start..end));
                title.element(snippet)
            }
            None => title.element(annotate_snippets::Origin::path(path)),
        };
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.source.place(self.inner.span.as_ref()), self.inner.message)
    }
}

impl fmt::Debug for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentError")
            .field("place", &self.inner.source.place(self.inner.span.as_ref()))
            .field("message", &self.inner.message)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for DocumentError {}

impl Source {
    fn line_column(&self, offset: usize) -> (usize, usize) {
        let offset = (0..=offset.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at));
        let before = &self.text[..offset.unwrap_or(0)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn place(&self, span: Option<&Range<usize>>) -> String {
        let path = self.path.display();
        match span.map(|span| self.line_column(span.start)) {
            Some((line, column)) => format!("{path}:{line}:{column}"),
            None => path.to_string(),
        }
    }
}

fn keys_of(path: &serde_ignored::Path<'_>) -> Vec<String> {
    use serde_ignored::Path;
    let (parent, key) = match path {
        Path::Root => return Vec::new(),
        Path::Map { parent, key } => (parent, key.clone()),
        Path::Seq { parent, index } => (parent, index.to_string()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            return keys_of(parent);
        }
    };
    let mut keys = keys_of(parent);
    // A spanned value is a map with private keys to serde: they are not in the file.
    if !key.starts_with("$__serde_spanned") {
        keys.push(key);
    }
    keys
}

/// Where the key at the end of `path` is written.
fn span_of(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first.as_str())?;
    if rest.is_empty() { Some(key.span()) } else { span_within(value.get_ref(), rest) }
}

fn span_within(value: &DeValue<'_>, path: &[String]) -> Option<Range<usize>> {
    match value {
        DeValue::Table(table) => span_of(table, path),
        DeValue::Array(items) => {
            let (index, rest) = path.split_first()?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            if rest.is_empty() { Some(item.span()) } else { span_within(item.get_ref(), rest) }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use toml::Spanned;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Top {
        name: Spanned<String>,
        #[serde(default)]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        id: Option<Spanned<String>>,
    }

    fn document(text: &str) -> Document {
        Document::new("a.toml", text)
    }

    #[test]
    fn spans_survive_the_search_for_unknown_keys() {
        let text = "name = \"x\"\nodd = 1\n[[items]]\nid = \"a\"\n[[items]]\nidd = \"b\"\n";
        let (top, unknown) = document(text).parse::<Top>().unwrap();
        assert_eq!(&text[top.name.span()], "\"x\"");
        assert_eq!(&text[top.items[0].id.as_ref().unwrap().span()], "\"a\"");
        let places: Vec<_> =
            unknown.iter().map(|k| (k.to_string(), &text[k.span.clone().unwrap()])).collect();
        assert_eq!(places, [("odd".to_owned(), "odd"), ("items.idd".to_owned(), "idd")]);
    }

    #[test]
    fn errors_have_line_and_column() {
        let error = document("name = \"x\"\nitems = 3\n").parse::<Top>().unwrap_err();
        assert_eq!(error.line_column(), Some((2, 9)));
        assert_eq!(error.to_string(), "a.toml:2:9: invalid type: integer `3`, expected a sequence");
        let error = document("items = []\n").parse::<Top>().unwrap_err();
        assert!(error.to_string().ends_with("missing key `name`"), "{error}");
        let error = document("é = \"é\" x\n").parse::<Top>().unwrap_err();
        assert_eq!(error.line_column(), Some((1, 9)));
    }

    #[test]
    fn renders_a_caret_under_the_place() {
        let error =
            document("name = \"x\"\nitems = 3\n").parse::<Top>().unwrap_err().with_help("write a list");
        assert_eq!(
            error.render(false),
            "error: invalid type: integer `3`, expected a sequence\n \
             --> a.toml:2:9\n  |\n2 | items = 3\n  |         ^\n  |\n  = help: write a list"
        );
        assert!(error.render(true).contains("\u{1b}["));
    }

    #[test]
    fn an_error_without_a_place_or_at_the_end_is_rendered_too() {
        let doc = document("x = 1");
        assert!(doc.error(None, "odd").render(false).contains("a.toml"));
        assert!(doc.error(5..5, "odd").render(false).contains("^"));
        assert!(doc.error(90..95, "odd").render(false).contains("odd"));
        assert_eq!(doc.error(90..95, "odd").line_column(), Some((1, 6)));
    }
}
