//! The variables of a word.

use pannier_dockerfile::{ExpandError, expand};

/// Every variable that is set, by the first letter of its name.
fn lookup(name: &str) -> Option<String> {
    match name.bytes().next()? {
        b'a' => Some("x y".to_owned()),
        b'b' => Some("/usr/lib/a*b?c\\d".to_owned()),
        b'c' => Some(String::new()),
        b'd' => Some("é$a\"'}".to_owned()),
        b'l' => Some("ab".repeat(500)),
        _ => None,
    }
}

/// What comes of expanding `input`, with either escape character.
pub fn outcome(input: &[u8]) -> String {
    let text = String::from_utf8_lossy(input);
    let [backslash, backtick] = ['\\', '`'].map(|escape| {
        let expanded = expand(&text, &lookup, escape);
        match &expanded {
            // Replacing every letter of a value is what makes most of the least.
            Ok(expanded) => assert!(expanded.len() <= 3000 * (text.len() + 1) * (text.len() + 1)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        if !text.contains(['$', '\'', '"', escape]) {
            assert_eq!(expanded.as_deref(), Ok(&*text));
        }
        summary(&expanded)
    });
    if backslash == backtick { backslash } else { format!("{backslash}; with backticks: {backtick}") }
}

fn summary(expanded: &Result<String, ExpandError>) -> String {
    match expanded {
        Ok(text) if text.len() <= 60 => format!("`{}`", text.escape_default()),
        Ok(text) => format!("{} bytes", text.len()),
        Err(error) => error.to_string().escape_default().to_string(),
    }
}
