//! URLs in text that people will see, without what may be secret in them.
//!
//! A URL's user is often a token (`https://TOKEN@host/`), and its query a signature that lets anybody in for a while.
//! Whoever makes a message of a URL cannot know; so every line is looked at once more, where it is printed.

use std::borrow::Cow;

/// What stands for what is left out.
const LEFT_OUT: &str = "***";

/// `text` without the users, passwords and queries of URLs in it: `https://***@host/path?***`.
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    redact(text, true)
}

/// `text` without the users and passwords of URLs in it; queries stay.
pub fn without_users(text: &str) -> Cow<'_, str> {
    redact(text, false)
}

fn redact(text: &str, queries: bool) -> Cow<'_, str> {
    let Some(first) = text.find("://") else { return Cow::Borrowed(text) };
    let mut shown = String::with_capacity(text.len());
    let (mut done, mut next) = (0, Some(first));
    while let Some(at) = next {
        let start = at + "://".len();
        let end = start + text[start..].find(is_end).unwrap_or(text.len() - start);
        shown.push_str(&text[done..start]);
        push_url(&mut shown, &text[..at], &text[start..end], queries);
        done = end;
        next = text[end..].find("://").map(|at| end + at);
    }
    shown.push_str(&text[done..]);
    Cow::Owned(shown)
}

/// What cannot be in a URL, and so ends one in a sentence.
fn is_end(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\' | '{' | '}')
}

/// Adds what follows the `://` of a URL. `before` ends with its scheme.
fn push_url(shown: &mut String, before: &str, rest: &str, queries: bool) {
    let is_web = ["http", "https"].iter().any(|scheme| before.to_ascii_lowercase().ends_with(scheme));
    let (rest, query) = match rest.find('?') {
        Some(at) if queries => (&rest[..at], &rest[at..]),
        _ => (rest, ""),
    };
    match user_end(rest) {
        // Of `ssh://git@host`, the user is no secret.
        Some(at) if is_web || rest[..at].contains(':') => {
            shown.push_str(LEFT_OUT);
            shown.push_str(&rest[at..]);
        }
        _ => shown.push_str(rest),
    }
    if query.len() > 1 {
        shown.push('?');
        shown.push_str(LEFT_OUT);
    } else {
        shown.push_str(query);
    }
}

/// Where the `@` is that ends a URL's user, if it has one.
fn user_end(rest: &str) -> Option<usize> {
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // The `@` of `name:tag@sha256:…` is none.
    let is_digest =
        |at: usize| rest[at + 1..].starts_with("sha256:") || rest[at + 1..].starts_with("sha512:");
    let in_authority = rest[..authority].rfind('@').filter(|at| !is_digest(*at));
    in_authority.or_else(|| {
        // A password with a slash in it is not written as it should be, and is one all the same.
        let (_, port) = rest[..authority].split_once(':')?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        rest.rfind('@').filter(|at| !is_port && !is_digest(*at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_queries_of_urls_are_left_out() {
        for (text, shown) in [
            ("get https://me:hunter2@x.io/a: no", "get https://***@x.io/a: no"),
            ("https://token@x.io:5000/a", "https://***@x.io:5000/a"),
            ("`http://me:hun/ter2@x.io/a`", "`http://***@x.io/a`"),
            ("http://me:hun@ter2@x.io", "http://***@x.io"),
            ("http://me:p@x.io and https://u:q@y.io/z?s=1.", "http://***@x.io and https://***@y.io/z?***"),
            ("https://s3/b?X-Amz-Signature=ab%2Fc&x=1 gone", "https://s3/b?*** gone"),
            ("docker://me:hunter2@r.io/a", "docker://***@r.io/a"),
            ("socks5://u:p@proxy:1080", "socks5://***@proxy:1080"),
            ("uri = \"https://t@x/y?k=v\" # x", "uri = \"https://***@x/y?***\" # x"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
        assert_eq!(without_users("https://t@x/y?ref=1"), "https://***@x/y?ref=1");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "no URL: me@x.io, a:b@c, from=builder:x/y@1.2.3",
            "https://x.io/a@1.2.3 and http://127.0.0.1:5000/v2/",
            "docker://r.io:5000/a:1@sha256:abc",
            "docker://busybox:1@sha256:abc",
            "ssh://git@host/x.git",
            "https://x.io/what?",
            "://",
            "a://",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }
}
