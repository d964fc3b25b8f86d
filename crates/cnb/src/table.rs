//! Metadata of any shape: a TOML table that survives being a label.
//!
//! The reference passes metadata through JSON, which has no dates and where 3 comes back as 3.0. Here whole numbers
//! stay whole, floats keep their point, and what JSON can not say at all (dates, infinities) is written beside it
//! once more as TOML, in a key that the reference ignores.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserializer, Serialize, Serializer};
use toml::value::{Datetime, Table, Value};

use crate::encode::Fields;

/// The key that the `toml` crate uses to pass a date through serde.
const DATETIME_KEY: &str = "$__toml_private_datetime";

/// A table as JSON, sorted by key: dates become texts and numbers that JSON does not have become null.
pub(crate) struct Json<'a>(pub(crate) &'a Table);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields: Vec<_> = self.0.iter().collect();
        fields.sort_by(|left, right| left.0.cmp(right.0));
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (name, value) in fields {
            map.serialize_entry(name, &JsonValue(value))?;
        }
        map.end()
    }
}

struct JsonValue<'a>(&'a Value);

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&JsonValue(value))?;
                }
                list.end()
            }
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Datetime(value) => serializer.collect_str(value),
            Value::Float(value) if !value.is_finite() => serializer.serialize_unit(),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Integer(value) => serializer.serialize_i64(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::Table(table) => Json(table).serialize(serializer),
        }
    }
}

/// The same table as TOML when its JSON form says less than it does.
pub(crate) fn toml_if_lossy(table: &Table) -> Option<String> {
    fn is_lossy(value: &Value) -> bool {
        match value {
            Value::Array(values) => values.iter().any(is_lossy),
            Value::Datetime(_) => true,
            Value::Float(value) => !value.is_finite(),
            Value::Table(table) => table.values().any(is_lossy),
            Value::Boolean(_) | Value::Integer(_) | Value::String(_) => false,
        }
    }
    table.values().any(is_lossy).then(|| Fields::from(table).to_toml())
}

/// For `serialize_with`: a table or null.
pub(crate) fn serialize<S: Serializer>(table: &Option<Table>, serializer: S) -> Result<S::Ok, S::Error> {
    match table {
        Some(table) => Json(table).serialize(serializer),
        None => serializer.serialize_none(),
    }
}

/// For `deserialize_with`: a table, or nothing where JSON says null. Nulls inside are left out.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Table>, D::Error> {
    match AnyValue.deserialize(deserializer)? {
        None => Ok(None),
        Some(Value::Table(table)) => Ok(Some(table)),
        Some(other) => {
            Err(serde::de::Error::custom(format!("invalid type: {}, expected a table", other.type_str())))
        }
    }
}

struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Option<Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Value::Boolean(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(Value::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "TOML has no whole number of this size")]
        let float = value as f64;
        Ok(Some(i64::try_from(value).map_or(Value::Float(float), Value::Integer)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(AnyValue)? {
            values.extend(value);
        }
        Ok(Some(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut table = Table::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == DATETIME_KEY {
                let date: Datetime = map.next_value::<String>()?.parse().map_err(serde::de::Error::custom)?;
                return Ok(Some(Value::Datetime(date)));
            }
            if let Some(value) = map.next_value_seed(AnyValue)? {
                table.insert(name, value);
            }
        }
        Ok(Some(Value::Table(table)))
    }
}

/// What is in a label for a table: its JSON form, and its TOML form where that says more.
pub(crate) fn restore<E: serde::de::Error>(
    json: Option<Table>,
    toml: Option<String>,
) -> Result<Option<Table>, E> {
    match toml {
        Some(text) => text.parse().map(Some).map_err(E::custom),
        None => Ok(json),
    }
}
