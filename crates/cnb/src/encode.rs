//! TOML and JSON as the reference writes them, byte for byte: layers made of these files have the same digest.
//!
//! The reference's TOML writer indents by depth, writes plain values before tables, and puts an empty line before
//! each array element and each top-level table. Its JSON writer escapes `<`, `>` and `&`.

use serde::Serialize;
use toml::value::{Datetime, Table, Value};

/// A value to be written.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Array(Vec<Node>),
    Boolean(bool),
    Datetime(Datetime),
    Float(f64),
    Integer(i64),
    /// Text that is TOML already.
    Raw(String),
    String(String),
    Table(Fields),
}

/// The fields of a table in the order in which the reference's structure has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, Node)>);

impl Fields {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Node>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a field when there is a value.
    pub(crate) fn maybe(self, name: &str, value: Option<impl Into<Node>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a text when it is not empty.
    pub(crate) fn text(self, name: &str, value: &str) -> Self {
        self.maybe(name, (!value.is_empty()).then(|| value.to_owned()))
    }

    /// Adds a flag when it is true.
    pub(crate) fn flag(self, name: &str, value: bool) -> Self {
        self.maybe(name, value.then_some(true))
    }

    /// Adds a list when it is not empty.
    pub(crate) fn list<T: Clone + Into<Node>>(self, name: &str, values: &[T]) -> Self {
        self.maybe(name, (!values.is_empty()).then(|| values.to_vec()))
    }

    /// The document of these fields.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        write_table(&mut out, &mut Vec::new(), self);
        out
    }
}

macro_rules! node_from {
    ($($type:ty => |$value:ident| $node:expr),+ $(,)?) => {
        $(impl From<$type> for Node {
            fn from($value: $type) -> Self {
                $node
            }
        })+
    };
}

node_from! {
    bool => |value| Node::Boolean(value),
    i64 => |value| Node::Integer(value),
    &str => |value| Node::String(value.to_owned()),
    String => |value| Node::String(value),
    Fields => |value| Node::Table(value),
    &Table => |table| Node::Table(Fields::from(table)),
}

impl<T: Into<Node>> From<Vec<T>> for Node {
    fn from(values: Vec<T>) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

impl From<&Table> for Fields {
    /// Sorted by name, as the reference writes maps.
    fn from(table: &Table) -> Self {
        let mut fields: Vec<_> =
            table.iter().map(|(name, value)| (name.clone(), Node::from(value))).collect();
        fields.sort_by(|left, right| left.0.cmp(&right.0));
        Self(fields)
    }
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(values) => Self::Array(values.iter().map(Into::into).collect()),
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Datetime(value) => Self::Datetime(*value),
            Value::Float(value) => Self::Float(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::String(value) => Self::String(value.clone()),
            Value::Table(table) => Self::Table(Fields::from(table)),
        }
    }
}

impl Node {
    /// True for what gets a header of its own: a table, or a list of nothing but tables.
    fn is_table(&self) -> bool {
        match self {
            Self::Table(_) => true,
            Self::Array(values) => {
                !values.is_empty() && values.iter().all(|value| matches!(value, Self::Table(_)))
            }
            _ => false,
        }
    }
}

fn write_table(out: &mut String, path: &mut Vec<String>, fields: &Fields) {
    for (name, value) in fields.0.iter().filter(|(_, value)| !value.is_table()) {
        indent(out, path.len());
        out.push_str(&key(name));
        out.push_str(" = ");
        write_value(out, value);
        out.push('\n');
    }
    for (name, value) in fields.0.iter().filter(|(_, value)| value.is_table()) {
        path.push(key(name));
        match value {
            Node::Table(fields) => {
                if path.len() == 1 {
                    blank_line(out);
                }
                header(out, path, "[", "]");
                write_table(out, path, fields);
            }
            Node::Array(tables) => {
                for table in tables {
                    if let Node::Table(fields) = table {
                        blank_line(out);
                        header(out, path, "[[", "]]");
                        write_table(out, path, fields);
                    }
                }
            }
            _ => {}
        }
        path.pop();
    }
}

fn header(out: &mut String, path: &[String], open: &str, close: &str) {
    indent(out, path.len() - 1);
    out.push_str(open);
    out.push_str(&path.join("."));
    out.push_str(close);
    out.push('\n');
}

fn blank_line(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn write_value(out: &mut String, value: &Node) {
    match value {
        Node::Array(values) => {
            let mut parts = Vec::with_capacity(values.len());
            for value in values {
                let mut part = String::new();
                write_value(&mut part, value);
                parts.push(part);
            }
            out.push('[');
            out.push_str(&parts.join(", "));
            out.push(']');
        }
        Node::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Node::Datetime(value) => out.push_str(&value.to_string()),
        Node::Float(value) => out.push_str(&float(*value)),
        Node::Integer(value) => out.push_str(&value.to_string()),
        Node::Raw(text) => out.push_str(text),
        Node::String(text) => out.push_str(&quoted(text)),
        Node::Table(fields) => write_inline(out, fields),
    }
}

fn write_inline(out: &mut String, fields: &Fields) {
    let (tables, plain): (Vec<_>, Vec<_>) = fields.0.iter().partition(|(_, value)| value.is_table());
    let mut parts = Vec::with_capacity(fields.0.len());
    for (name, value) in plain.into_iter().chain(tables) {
        let mut part = format!("{} = ", key(name));
        write_value(&mut part, value);
        parts.push(part);
    }
    out.push('{');
    out.push_str(&parts.join(", "));
    out.push('}');
}

fn key(name: &str) -> String {
    let bare = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if bare { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

/// The shortest digits that give the same number, with an exponent below 1e-4 and from 1e6 on.
fn float(value: f64) -> String {
    if value.is_nan() {
        return if value.is_sign_negative() { "-nan".to_owned() } else { "nan".to_owned() };
    }
    if value.is_infinite() {
        return if value < 0.0 { "-inf".to_owned() } else { "inf".to_owned() };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// JSON on one line, without a line end, as the reference writes a label.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    // The types of this crate have text keys only and no serialiser that fails.
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // None of them means anything to JSON outside of a text.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(text: &str) -> String {
        Fields::from(&text.parse::<Table>().unwrap()).to_toml()
    }

    /// What `toml.NewEncoder` of the reference's library writes for the same document.
    const WRITTEN: &str = r#"array = [1, 2.5, "x", [true, []]]
"b c" = "\"quoted\" \\ \u0001 \u007f é"
date = 1979-05-27T07:32:00Z
empty = []
float = 3.0
huge = 1.234567e+06
int = 3
mixed = [{a = 1, b = {}}, 2]
small = 1e-05
tiny = 0.0001

[table]
  x = 1
  [table.nested]

    [[table.nested.list]]
      name = "a"
      [table.nested.list."meta.data"]
        y = "z"

    [[table.nested.list]]

[zempty]
"#;

    #[test]
    fn toml_is_laid_out_as_the_reference_lays_it_out() {
        assert_eq!(rewritten(WRITTEN), WRITTEN);
    }

    #[test]
    fn the_first_table_has_no_line_before_it() {
        assert_eq!(rewritten("[a]\n[b]\n"), "[a]\n\n[b]\n");
        assert_eq!(rewritten("[[a]]\n[[a]]\n"), "[[a]]\n\n[[a]]\n");
    }

    #[test]
    fn floats_that_are_no_numbers_are_kept() {
        assert_eq!(
            rewritten("a = inf\nb = -inf\nc = nan\nd = -0.0\n"),
            "a = inf\nb = -inf\nc = nan\nd = -0.0\n"
        );
    }

    #[test]
    fn json_is_safe_in_html() {
        assert_eq!(to_json(&"a && <b>\u{2028}"), r#""a \u0026\u0026 \u003cb\u003e\u2028""#);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_filter("equal to itself", |number| !number.is_nan()).prop_map(Value::Float),
            ".*".prop_map(Value::String),
            Just(Value::Datetime("1979-05-27T07:32:00.5-07:00".parse().unwrap())),
            Just(Value::Datetime("07:32:00".parse().unwrap())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|map| Value::Table(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(map in prop::collection::btree_map(".*", value(), 0..5)) {
            let table: Table = map.into_iter().collect();
            let text = Fields::from(&table).to_toml();
            prop_assert_eq!(text.parse::<Table>().unwrap(), table, "{}", text);
        }
    }
}
