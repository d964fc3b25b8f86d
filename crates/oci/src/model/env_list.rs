//! The variables of an image, found by name without looking through all of them.

use std::collections::HashMap;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `NAME=value` entries in their order. Reads as a list of texts.
#[derive(Clone, Debug, Default)]
pub struct EnvList {
    entries: Vec<String>,
    /// Where the last entry of each name is.
    places: HashMap<String, usize>,
    /// Bytes of all entries.
    bytes: usize,
}

impl EnvList {
    /// The last value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = &self.entries[*self.places.get(name)?];
        entry.get(name.len() + 1..)
    }

    /// Sets a variable in its place, or at the end.
    pub fn set(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        self.bytes += entry.len();
        match self.places.get(name) {
            Some(place) => {
                self.bytes -= self.entries[*place].len();
                self.entries[*place] = entry;
            }
            None => {
                self.places.insert(name.to_owned(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// Bytes of all entries, each with the zero that ends it for a program.
    pub fn bytes(&self) -> usize {
        self.bytes + self.entries.len()
    }
}

impl Deref for EnvList {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.entries
    }
}

impl<'a> IntoIterator for &'a EnvList {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

impl FromIterator<String> for EnvList {
    fn from_iter<I: IntoIterator<Item = String>>(entries: I) -> Self {
        let entries: Vec<String> = entries.into_iter().collect();
        let named = entries.iter().enumerate().filter_map(|(place, entry)| {
            // What has no name stays, and is found by none.
            entry.split_once('=').map(|(name, _)| (name.to_owned(), place))
        });
        let places = named.collect();
        let bytes = entries.iter().map(String::len).sum();
        Self { entries, places, bytes }
    }
}

impl From<Vec<String>> for EnvList {
    fn from(entries: Vec<String>) -> Self {
        entries.into_iter().collect()
    }
}

impl PartialEq for EnvList {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for EnvList {}

impl Serialize for EnvList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EnvList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(entries: &[&str]) -> EnvList {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn a_variable_is_replaced_in_its_place() {
        let mut vars = variables(&["A=1", "broken", "AB=2", "A=3", "=x"]);
        assert_eq!(
            (vars.get("A"), vars.get("AB"), vars.get("B"), vars.get("broken")),
            (Some("3"), Some("2"), None, None)
        );
        vars.set("A", "a=b");
        vars.set("C", "");
        assert_eq!(vars[..], ["A=1", "broken", "AB=2", "A=a=b", "=x", "C="]);
        assert_eq!((vars.get("A"), vars.get("C"), vars.bytes()), (Some("a=b"), Some(""), 28));
    }

    #[test]
    fn many_variables_take_no_longer_each() {
        let mut vars = variables(&[]);
        for round in 0..2 {
            for number in 0..100_000 {
                vars.set(&format!("NAME_{number}"), if round == 0 { "first" } else { "second" });
            }
        }
        assert_eq!((vars.len(), vars.get("NAME_99999")), (100_000, Some("second")));
    }
}
