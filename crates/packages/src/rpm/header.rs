//! A package's header: an index of tags, and the data that they point into, as `rpm` keeps it in its database (the
//! manual's "Package Header", without the magic number that files have before it).

use std::collections::BTreeMap;

/// The tags that are asked for.
pub(crate) mod tag {
    pub(crate) const NAME: u32 = 1000;
    pub(crate) const VERSION: u32 = 1001;
    pub(crate) const RELEASE: u32 = 1002;
    pub(crate) const EPOCH: u32 = 1003;
    pub(crate) const LICENSE: u32 = 1014;
    pub(crate) const ARCH: u32 = 1022;
    pub(crate) const SOURCE_RPM: u32 = 1044;
    pub(crate) const PROVIDE_NAME: u32 = 1047;
}

/// More tags than any header has.
const MAX_TAGS: usize = 64 << 10;
/// More capabilities than any package provides.
const MAX_TEXTS: usize = 1 << 20;
const ENTRY: usize = 16;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// Where the data of a tag is.
#[derive(Clone, Copy, Debug)]
struct Place {
    kind: u32,
    offset: usize,
    count: usize,
}

/// A header.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    tags: BTreeMap<u32, Place>,
    data: &'a [u8],
}

impl<'a> Header<'a> {
    /// The header in `blob`; what is wrong with it otherwise.
    pub fn parse(blob: &'a [u8]) -> Result<Self, &'static str> {
        let word = |at: usize| {
            let bytes = blob.get(at..at + 4)?;
            Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let (Some(count), Some(length)) = (word(0), word(4)) else { return Err("it is cut off") };
        let (count, length) = (count as usize, length as usize);
        if count > MAX_TAGS {
            return Err("it has more tags than there are");
        }
        let start = 8 + count * ENTRY;
        let Some(data) = blob.get(start..start.saturating_add(length)) else { return Err("it is cut off") };
        let mut tags = BTreeMap::new();
        for index in 0..count {
            let at = 8 + index * ENTRY;
            let words = (word(at), word(at + 4), word(at + 8), word(at + 12));
            let (Some(tag), Some(kind), Some(offset), Some(count)) = words else {
                return Err("it is cut off");
            };
            // The regions before the first tag have offsets of their own kind.
            tags.entry(tag).or_insert(Place { kind, offset: offset as usize, count: count as usize });
        }
        Ok(Self { tags, data })
    }

    /// The first text of a tag.
    pub fn text(&self, tag: u32) -> Option<String> {
        let place = self.tags.get(&tag)?;
        let kinds = [STRING, STRING_ARRAY, I18N_STRING];
        if !kinds.contains(&place.kind) {
            return None;
        }
        self.strings(place.offset).next()
    }

    /// All texts of a tag.
    pub fn texts(&self, tag: u32) -> Vec<String> {
        match self.tags.get(&tag) {
            Some(place) if place.kind == STRING_ARRAY => {
                self.strings(place.offset).take(place.count.min(MAX_TEXTS)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The first number of a tag.
    pub fn number(&self, tag: u32) -> Option<u32> {
        let place = self.tags.get(&tag).filter(|place| place.kind == INT32)?;
        let bytes = self.data.get(place.offset..place.offset.checked_add(4)?)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The texts from `offset` on, each ended by a zero byte.
    fn strings(&self, offset: usize) -> impl Iterator<Item = String> {
        let mut rest = self.data.get(offset..).unwrap_or_default();
        std::iter::from_fn(move || {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 1..];
            Some(text)
        })
    }
}
