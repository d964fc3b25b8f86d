//! Shell patterns as Go's `path/filepath` has them: what the specification's slices are matched with.
//!
//! `*` and `?` stop at a slash, `**` is nothing special, classes are `[a-z]` and `[^a-z]`, a backslash quotes.
//! Not here: which files are matched; see the slices.

/// The pattern is malformed: an open class, or a backslash at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// True when `pattern` matches the whole of `name` (Go: `filepath.Match`).
pub(crate) fn matches(mut pattern: &[u8], mut name: &[u8]) -> Result<bool, BadPattern> {
    'pattern: while !pattern.is_empty() {
        let (star, chunk, rest) = scan_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(left) = match_chunk(chunk, name)?
            && (left.is_empty() || !pattern.is_empty())
        {
            name = left;
            continue;
        }
        if star {
            for at in 0..name.iter().position(|byte| *byte == b'/').unwrap_or(name.len()) {
                if let Some(left) = match_chunk(chunk, &name[at + 1..])?
                    && (left.is_empty() || !pattern.is_empty())
                {
                    name = left;
                    continue 'pattern;
                }
            }
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// The next piece of a pattern: whether a star comes first, the text up to the next star, and the rest.
fn scan_chunk(mut pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let mut star = false;
    while let [b'*', rest @ ..] = pattern {
        pattern = rest;
        star = true;
    }
    let mut in_class = false;
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => return (star, &pattern[..at], &pattern[at..]),
            _ => (),
        }
        at += 1;
    }
    (star, pattern, b"")
}

/// What is left of `name` after `chunk`, which has no star; `None` when it does not match. A chunk is read to its
/// end even when it cannot match any more, to find its errors.
fn match_chunk<'a>(mut chunk: &[u8], mut name: &'a [u8]) -> Result<Option<&'a [u8]>, BadPattern> {
    let mut failed = false;
    while let [first, rest @ ..] = chunk {
        failed |= name.is_empty();
        chunk = rest;
        match first {
            b'[' => {
                let mut letter = 0;
                if !failed {
                    (letter, name) = decode(name);
                }
                let inside;
                (inside, chunk) = match_class(chunk, letter)?;
                failed |= !inside;
            }
            b'?' => {
                if !failed {
                    failed = name[0] == b'/';
                    (_, name) = decode(name);
                }
            }
            literal => {
                let mut literal = *literal;
                if literal == b'\\' {
                    (literal, chunk) = chunk.split_first().map(|(l, rest)| (*l, rest)).ok_or(BadPattern)?;
                }
                if !failed {
                    failed = literal != name[0];
                    name = &name[1..];
                }
            }
        }
    }
    Ok((!failed).then_some(name))
}

/// Whether `letter` is in the class that `chunk` begins with (after its `[`), and what follows the class.
fn match_class(mut chunk: &[u8], letter: u32) -> Result<(bool, &[u8]), BadPattern> {
    let mut negated = false;
    if let [b'^', rest @ ..] = chunk {
        chunk = rest;
        negated = true;
    }
    let mut inside = false;
    let mut ranges = 0;
    loop {
        if let [b']', rest @ ..] = chunk
            && ranges > 0
        {
            return Ok((inside != negated, rest));
        }
        let (low, high);
        (low, chunk) = class_letter(chunk)?;
        if let [b'-', rest @ ..] = chunk {
            (high, chunk) = class_letter(rest)?;
        } else {
            high = low;
        }
        inside |= (low..=high).contains(&letter);
        ranges += 1;
    }
}

/// A letter of a class, quoted or not. Something must follow it: the class's end at least.
fn class_letter(chunk: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    let chunk = match chunk {
        [] | [b'-' | b']', ..] | [b'\\'] => return Err(BadPattern),
        [b'\\', rest @ ..] => rest,
        chunk => chunk,
    };
    let (letter, rest) = decode(chunk);
    let invalid = letter == REPLACEMENT && chunk.len() - rest.len() == 1;
    if invalid || rest.is_empty() { Err(BadPattern) } else { Ok((letter, rest)) }
}

const REPLACEMENT: u32 = 0xfffd;

/// The first letter of `text`, which is not empty, and the rest. A byte that is not UTF-8 is a letter of its own.
fn decode(text: &[u8]) -> (u32, &[u8]) {
    let longest = text.len().min(4);
    for length in 1..=longest {
        if let Ok(valid) = str::from_utf8(&text[..length])
            && let Some(letter) = valid.chars().next()
        {
            return (letter.into(), &text[length..]);
        }
    }
    (REPLACEMENT, &text[1..])
}

/// The shortest path that means the same (Go: `path.Clean`): no `.`, no `//`, `..` only in front.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => (),
            b".." => match parts.last() {
                Some(last) if *last != b".." => {
                    parts.pop();
                }
                _ if absolute => (),
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (absolute, joined.is_empty()) {
        (true, _) => [b"/".as_slice(), &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of Go's own test of `filepath.Match`; `None` is a malformed pattern.
    const CASES: &[(&str, &str, Option<bool>)] = &[
        ("abc", "abc", Some(true)),
        ("*", "abc", Some(true)),
        ("*c", "abc", Some(true)),
        ("a*", "a", Some(true)),
        ("a*", "abc", Some(true)),
        ("a*", "ab/c", Some(false)),
        ("a*/b", "abc/b", Some(true)),
        ("a*/b", "a/c/b", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
        ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
        ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
        ("ab[c]", "abc", Some(true)),
        ("ab[b-d]", "abc", Some(true)),
        ("ab[e-g]", "abc", Some(false)),
        ("ab[^c]", "abc", Some(false)),
        ("ab[^e-g]", "abc", Some(true)),
        ("a\\*b", "a*b", Some(true)),
        ("a\\*b", "ab", Some(false)),
        ("a?b", "a☺b", Some(true)),
        ("a[^a]b", "a☺b", Some(true)),
        ("a???b", "a☺b", Some(false)),
        ("a[^a][^a][^a]b", "a☺b", Some(false)),
        ("[a-ζ]*", "α", Some(true)),
        ("*[a-ζ]", "A", Some(false)),
        ("a?b", "a/b", Some(false)),
        ("a*b", "a/b", Some(false)),
        ("[\\]a]", "]", Some(true)),
        ("[\\-]", "-", Some(true)),
        ("[x\\-]", "-", Some(true)),
        ("[x\\-]", "z", Some(false)),
        ("[\\-x]", "a", Some(false)),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[-x]", "x", None),
        ("\\", "a", None),
        ("[a-b-c]", "a", None),
        ("[", "a", None),
        ("[^", "a", None),
        ("[^bc", "a", None),
        ("a[", "a", None),
        ("a[", "ab", None),
        ("a[", "x", None),
        ("a/b[", "x", None),
        ("*x", "xxx", Some(true)),
        ("**/*.png", "static/c.png", Some(true)),
        ("**/*.png", "static/img/c.png", Some(false)),
        ("**/*.png", "c.png", Some(false)),
        ("", "", Some(true)),
        ("", "a", Some(false)),
    ];

    #[test]
    fn matches_as_go() {
        for (pattern, name, expected) in CASES {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()).ok(), *expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn cleans_as_go() {
        for (path, expected) in [
            ("", "."),
            ("./static/../lib/*", "lib/*"),
            ("a//b/./c/", "a/b/c"),
            ("../x/..", ".."),
            ("../../x", "../../x"),
            ("/../a", "/a"),
            ("/", "/"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
