//! What `ADD` takes besides files of the context: archives, and files of web servers.
//!
//! Not here: where it goes in the image.

mod archive;
mod download;

pub use archive::{is_archive, unpack_archive};
pub use download::{Download, Downloads, Fetch, FetchError, url_file_name};

use crate::instruction::Word;

impl Word {
    /// Whether it is the URL of a file: `http://` or `https://`.
    pub fn is_url(&self) -> bool {
        ["http://", "https://"].iter().any(|scheme| {
            self.text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
    }

    /// Whether it names a git repository, as `ADD` elsewhere takes it.
    pub fn is_git(&self) -> bool {
        let before_fragment = self.text.split('#').next().unwrap_or("");
        ["git://", "ssh://", "git@"].iter().any(|scheme| self.text.starts_with(scheme))
            || self.is_url() && before_fragment.ends_with(".git")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_urls() {
        let word = |text: &str| Word { text: text.to_owned(), span: 0..0 };
        for (text, url, git) in [
            ("https://x/y.tgz", true, false),
            ("HTTP://x/y", true, false),
            ("http/x", false, false),
            ("é", false, false),
            ("https://x/y.git#main", true, true),
            ("git@github.com:a/b.git", false, true),
            ("a.git", false, false),
        ] {
            assert_eq!((word(text).is_url(), word(text).is_git()), (url, git), "{text}");
        }
    }
}
