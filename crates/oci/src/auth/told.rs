//! What must not come back: secrets that a server was told, or gave us.
//!
//! Errors quote the words of registries, proxies and token servers, and a server may repeat in its words whatever it was
//! sent, at any later time and in another form. So every secret is noted when it is used, for the whole process, and is
//! taken out of every text that came from elsewhere.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use ureq::http::Uri;

/// How many are remembered: the latest. Each upload is given some.
const MANY: usize = 512;
/// Shorter ones are words: without them, a text says nothing any more.
const SHORTEST: usize = 6;

static TOLD: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Remembers a secret that leaves this process, or came from a server.
pub(crate) fn note(secret: &str) {
    if secret.len() < SHORTEST {
        return;
    }
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.iter().any(|known| known == secret) {
        return;
    }
    if told.len() == MANY {
        told.pop_front();
    }
    told.push_back(secret.to_owned());
}

/// Remembers what is secret in a URL: its user, also in the form of the header that he is sent in, and the values of its
/// query, such as signatures and the states of uploads.
pub(crate) fn note_url(url: &Uri) {
    for pair in url.query().unwrap_or_default().split('&') {
        note(pair.split_once('=').map_or(pair, |(_, value)| value));
    }
    let authority = url.authority().map_or("", |authority| authority.as_str());
    if let Some((user, _)) = authority.rsplit_once('@') {
        note(user);
        user.split(':').for_each(note);
        note(&base64::engine::general_purpose::STANDARD.encode(user));
    }
}

/// The text without secrets, and without those of URLs.
pub(crate) fn mask(text: &str) -> String {
    let told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<&String> = told.iter().filter(|secret| text.contains(secret.as_str())).collect();
    // One may be part of another.
    found.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    let masked = found.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"));
    events::without_secrets(&masked).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_does_not_come_back() {
        note("told-hunter2");
        note("told-hunter2-and-more");
        note("a");
        note_url(&Uri::from_static("http://me:told-password@x/?state=told-state&told-bare&n=1"));
        assert_eq!(
            mask("a: told-hunter2-and-more, told-hunter2; told-state told-bare https://u:p@x?y=z"),
            "a: ***, ***; *** *** https://***@x?***"
        );
        assert_eq!(mask("told-password, Basic bWU6dG9sZC1wYXNzd29yZA=="), "***, Basic ***");
    }
}
