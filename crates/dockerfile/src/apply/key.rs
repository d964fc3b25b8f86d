//! Keys of steps: digests of all that a step depends on.
//!
//! Every piece is written with its length, so that two different lists of pieces never look the same.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use layer::{Digest, Hasher};
use oci::Image;

/// Bumped when the same instruction comes to do something else: what was kept before is then of no use.
const VERSION: &str = "pannier step 1";

/// A key in the making.
pub(super) struct Key(Hasher);

impl Key {
    /// The key of a step of this sort that comes after `parent`.
    pub fn new(sort: &str, parent: &Digest) -> Self {
        let mut key = Self(Hasher::new());
        key.text(sort);
        key.text(&parent.to_string());
        key
    }

    /// Where the chain of an image's steps begins.
    pub fn of_base(image: &Image) -> Digest {
        let mut key = Self(Hasher::new());
        key.text(VERSION);
        key.text(&image.platform().to_string());
        key.texts(image.layers().iter().map(|layer| layer.diff_id.to_string()));
        key.finish()
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub fn os_text(&mut self, text: &OsStr) {
        self.bytes(text.as_bytes());
    }

    /// A list, which differs from its elements one by one.
    pub fn texts(&mut self, texts: impl IntoIterator<Item = impl AsRef<str>>) {
        let texts: Vec<_> = texts.into_iter().collect();
        self.0.update(&(texts.len() as u64).to_le_bytes());
        texts.iter().for_each(|text| self.text(text.as_ref()));
    }

    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_has_another_key() {
        let parent = Digest::of(b"");
        let key = |lists: &[&[&str]]| {
            let mut key = Key::new("run", &parent);
            lists.iter().for_each(|list| key.texts(*list));
            key.finish()
        };
        let all =
            [key(&[&["ab"]]), key(&[&["a", "b"]]), key(&[&["a"], &["b"]]), key(&[&["", "ab"]]), key(&[])];
        for (number, one) in all.iter().enumerate() {
            assert!(!all[..number].contains(one));
        }
        assert_ne!(Key::new("copy", &parent).finish(), Key::new("run", &parent).finish());
    }
}
