//! Files in memory: what a layer is made of before it is one.

use std::borrow::Cow;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A folder.
    Directory,
    /// A file with these bytes.
    File(Cow<'static, [u8]>),
    /// A symbolic link to this path.
    Symlink(&'static str),
}

/// A file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where: an absolute path without `.`, `..` and a slash at the end.
    pub path: String,
    /// Permissions, with the sticky bit where there is one.
    pub mode: u32,
    /// The user who owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// What it is.
    pub content: Content,
}

/// Entries in the order of their paths; a folder comes before what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The entries.
    pub entries: Vec<Entry>,
}

impl Tree {
    /// A tree of these entries, with the folders above them where they are missing: root's, mode 0755.
    pub(crate) fn new(mut entries: Vec<Entry>) -> Self {
        let mut missing: Vec<Entry> = Vec::new();
        for entry in &entries {
            for (end, _) in entry.path.match_indices('/').skip(1) {
                let parent = &entry.path[..end];
                if !entries.iter().chain(&missing).any(|known| known.path == parent) {
                    missing.push(Entry::directory(parent));
                }
            }
        }
        entries.append(&mut missing);
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Tree { entries }
    }

    /// The entry at `path`.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }
}

impl Entry {
    /// A folder of root, mode 0755.
    pub(crate) fn directory(path: impl Into<String>) -> Self {
        Entry { path: path.into(), mode: 0o755, uid: 0, gid: 0, content: Content::Directory }
    }

    /// A file of root, mode 0644.
    pub(crate) fn file(path: impl Into<String>, content: impl Into<Cow<'static, [u8]>>) -> Self {
        Entry { path: path.into(), mode: 0o644, uid: 0, gid: 0, content: Content::File(content.into()) }
    }

    /// A program of root, mode 0755.
    pub(crate) fn program(path: impl Into<String>, content: &'static [u8]) -> Self {
        Entry::file(path, content).with_mode(0o755)
    }

    /// A symbolic link of root.
    pub(crate) fn symlink(path: impl Into<String>, target: &'static str) -> Self {
        Entry { path: path.into(), mode: 0o777, uid: 0, gid: 0, content: Content::Symlink(target) }
    }

    /// The same with other permissions.
    pub(crate) fn with_mode(self, mode: u32) -> Self {
        Entry { mode, ..self }
    }

    /// The same, owned by a user and their group.
    pub(crate) fn owned_by(self, id: u32) -> Self {
        Entry { uid: id, gid: id, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_above_are_added_once_and_come_first() {
        let tree = Tree::new(vec![
            Entry::file("/a/b/c", &b"x"[..]),
            Entry::file("/a/b.d", &b"x"[..]),
            Entry::directory("/a/b").with_mode(0o700),
            Entry::directory("/tmp"),
        ]);
        let paths: Vec<_> = tree.entries.iter().map(|entry| (entry.path.as_str(), entry.mode)).collect();
        assert_eq!(
            paths,
            [("/a", 0o755), ("/a/b", 0o700), ("/a/b.d", 0o644), ("/a/b/c", 0o644), ("/tmp", 0o755)]
        );
    }
}
