use proptest::prelude::*;

use super::*;

fn lookup(name: &str) -> Option<String> {
    match name {
        "x" => Some("value".to_owned()),
        "empty" => Some(String::new()),
        "path" => Some("/a/b/c.tar.gz".to_owned()),
        "spaces" => Some("one two".to_owned()),
        "é1" => Some("accent".to_owned()),
        _ => None,
    }
}

fn ex(text: &str) -> String {
    expand(text, &lookup, '\\').unwrap_or_else(|error| format!("error: {error}"))
}

#[test]
fn plain_and_braces() {
    for (text, expected) in [
        ("a $x b", "a value b"),
        ("${x}y", "valuey"),
        ("$xy", ""),
        ("$x-y", "value-y"),
        ("$é1", "accent"),
        ("$", "$"),
        ("$$", ""),
        ("a$.b", "a$.b"),
        ("$1x", "x"),
        ("${none}", ""),
        (r"\$x", "$x"),
        (r"\${x}", "${x}"),
        (r"a\", "a"),
        (r"\a\\", r"a\"),
    ] {
        assert_eq!(ex(text), expected, "{text}");
    }
}

#[test]
fn quotes_are_taken_away() {
    for (text, expected) in [
        ("'$x'", "$x"),
        ("\"$x\"", "value"),
        ("\"'$x'\"", "'value'"),
        (r#""\$x \" \\ \n""#, r#"$x " \ \n"#),
        (r"'\n'", r"\n"),
        ("a'b'c\"d\"", "abcd"),
        ("''", ""),
        ("'x", "error: missing closing `'`"),
        ("\"x", "error: missing closing `\"`"),
    ] {
        assert_eq!(ex(text), expected, "{text}");
    }
}

#[test]
fn words_for_what_is_not_set() {
    for (text, expected) in [
        ("${x:-d}", "value"),
        ("${none:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${none-d}", "d"),
        ("${x:+d}", "d"),
        ("${none:+d}", ""),
        ("${empty:+d}", ""),
        ("${empty+d}", "d"),
        ("${none+d}", ""),
        ("${x:?no}", "value"),
        ("${empty?no}", ""),
        ("${empty:?no}", "error: empty: no"),
        ("${empty:?}", "error: empty: is not allowed to be empty"),
        ("${none?no $x}", "error: none: no value"),
        ("${none:?}", "error: none: is not allowed to be unset"),
        ("${none:-${empty:-$x}}", "value"),
        ("${none:-a\\}b}", "a}b"),
        ("${none:-\"a}b\"}", "a}b"),
        ("${none:-'$x'}", "$x"),
        ("${none:-a b}", "a b"),
    ] {
        assert_eq!(ex(text), expected, "{text}");
    }
}

#[test]
fn patterns() {
    for (text, expected) in [
        ("${path#*/}", "a/b/c.tar.gz"),
        ("${path##*/}", "c.tar.gz"),
        ("${path%.*}", "/a/b/c.tar"),
        ("${path%%.*}", "/a/b/c"),
        ("${path#/?/}", "b/c.tar.gz"),
        ("${path%none}", "/a/b/c.tar.gz"),
        ("${path/a/x}", "/x/b/c.tar.gz"),
        (r"${path//\//_}", "_a_b_c.tar.gz"),
        ("${path/.*/}", "/a/b/c"),
        ("${x//?/-}", "-----"),
        ("${x//*/-}", "-"),
        (r"${path#\a}", r"error: invalid pattern `\a` of `${path}`"),
        ("${path/a}", "error: missing `/` in `${path/…}`"),
        ("${none#x}", ""),
    ] {
        assert_eq!(ex(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_closed_or_not_known_is_an_error() {
    for (text, expected) in [
        ("${x", "error: missing `}` after `${x`"),
        ("${", "error: missing `}` after `${`"),
        ("${x:-a", "error: missing `}` after `${x`"),
        ("${x:", "error: missing `}` after `${x`"),
        ("${}", "error: bad substitution: no variable name after `${`"),
        ("${:x}", "error: bad substitution: no variable name after `${`"),
        ("${x!y}", "error: unsupported modifier `!` of `${x}`"),
        ("${x:=y}", "error: unsupported modifier `:=` of `${x}`"),
        ("${x,,}", "error: unsupported modifier `,` of `${x}`"),
        ("${x:#y}", "error: unsupported modifier `:#` of `${x}`"),
    ] {
        assert_eq!(ex(text), expected, "{text}");
    }
    let deep = format!("{}{}", "${n-".repeat(100), "}".repeat(100));
    assert_eq!(expand(&deep, &|_| None, '\\'), Err(ExpandError::Depth));
    let wide = "${n-a}".repeat(200);
    assert_eq!(expand(&wide, &|_| None, '\\'), Ok("a".repeat(200)));
}

#[test]
fn the_escape_character_is_the_files_own() {
    assert_eq!(expand(r"`$x \$x", &lookup, '`').unwrap(), r"$x \value");
    assert_eq!(expand(r#""`" c:\\""#, &lookup, '`').unwrap(), r#"" c:\\"#);
}

#[test]
fn splits_words_after_expansion() {
    let words = |text: &str| expand_words(text, &lookup, '\\').unwrap();
    assert_eq!(words("a $spaces b"), ["a", "one", "two", "b"]);
    assert_eq!(words("\"a $spaces\" b\\ c ''"), ["a one two", "b c"]);
}

#[test]
fn shown_lines_keep_quotes_and_what_is_not_set() {
    let shown = |text: &str| expand_shown(text, &lookup, '\\').unwrap();
    assert_eq!(
        shown(r#"ENV a="$x" b='$x' c=\$x d=$none ${none:-y}"#),
        r#"ENV a="value" b='$x' c=\$x d=$none ${none:-y}"#
    );
    assert_eq!(expand_text("\"$x\" it's \\$x", &lookup, '\\').unwrap(), "\"value\" it's $x");
}

proptest! {
    #[test]
    fn never_panics(text in "[$\\{}:+?#%/*a-z\"'<` \\\\é-]{0,40}", backtick: bool) {
        let escape = if backtick { '`' } else { '\\' };
        let _ = expand(&text, &lookup, escape);
        let _ = expand_shown(&text, &lookup, escape);
        let _ = words(&text, true);
    }

    #[test]
    fn what_has_nothing_special_stays(text in "[a-zA-Z0-9 /.,:=é_-]{0,40}") {
        prop_assert_eq!(expand(&text, &lookup, '\\').unwrap(), text);
    }

    #[test]
    fn escaped_letters_are_letters(text in "[$\"'{}a-z\\\\]{0,20}") {
        let escaped: String = text.chars().flat_map(|ch| ['\\', ch]).collect();
        prop_assert_eq!(expand(&escaped, &lookup, '\\').unwrap(), text);
    }
}
