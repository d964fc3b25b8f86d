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

fn variables(budget: &Budget, escape: char) -> Variables<'_> {
    Variables { lookup: &lookup, escape, budget }
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
    let words = |text: &str| expand_words(text, variables(&Budget::default(), '\\')).unwrap();
    assert_eq!(words("a $spaces b"), ["a", "one", "two", "b"]);
    assert_eq!(words("\"a $spaces\" b\\ c ''"), ["a one two", "b c"]);
}

#[test]
fn shown_lines_keep_quotes_and_what_is_not_set() {
    let shown = |text: &str| expand_shown(text, variables(&Budget::default(), '\\')).unwrap();
    assert_eq!(
        shown(r#"ENV a="$x" b='$x' c=\$x d=$none ${none:-y}"#),
        r#"ENV a="value" b='$x' c=\$x d=$none ${none:-y}"#
    );
    assert_eq!(
        expand_text("\"$x\" it's \\$x", variables(&Budget::default(), '\\')).unwrap(),
        "\"value\" it's $x"
    );
}

proptest! {
    #[test]
    fn never_panics(text in "[$\\{}:+?#%/*a-z\"'<` \\\\é-]{0,40}", backtick: bool) {
        let escape = if backtick { '`' } else { '\\' };
        let _ = expand(&text, &lookup, escape);
        let _ = expand_shown(&text, variables(&Budget::default(), escape));
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

#[test]
fn what_variables_bring_is_bounded() {
    let long = "a".repeat(100 << 10);
    let lookup = |_: &str| Some(long.clone());
    let expanded = |text: &str| expand(text, &lookup, '\\');
    assert_eq!(expanded(&"$x".repeat(40)).unwrap().len(), 40 * long.len());
    let error = expanded(&"$x".repeat(50)).unwrap_err();
    assert_eq!(error, ExpandError::Size);
    assert!(error.to_string().ends_with("expected at most 4194304 bytes in all"), "{error}");
    for text in ["$y${x}", "\"${x:-$y}\"", "${x:+$y$y}", "${x/b/$y}"] {
        assert_eq!(expanded(&text.repeat(50)), Err(ExpandError::Size), "{text}");
    }
    // Each letter becomes as many again.
    assert!(matches!(expanded("${x//a/$y}"), Err(ExpandError::Work { .. })));
    // It is copied each time, and brings nothing.
    assert_eq!(expanded(&"${x:+}".repeat(1 << 20)), Err(ExpandError::Size));
}

#[test]
fn what_a_file_expands_to_is_bounded_as_a_whole() {
    let long = "a".repeat(100 << 10);
    let lookup = |_: &str| Some(long.clone());
    let budget = Budget::default();
    let variables = Variables { lookup: &lookup, escape: '\\', budget: &budget };
    let words = (0..1000).take_while(|_| expand_word("$x", variables).is_ok());
    assert_eq!(words.count(), 40);
}

#[test]
fn no_pattern_takes_for_ever() {
    let long = "a".repeat(100 << 10);
    let lookup = |_: &str| Some(long.clone());
    for text in ["${x//a*b/c}", "${x//*a*b/c}", "${x##*a*a*a*b}", "${x%%b*a*a}"] {
        // Short ones are fast, and long ones are refused or fast.
        let start = std::time::Instant::now();
        let result = expand(&text.repeat(3), &lookup, '\\');
        assert!(matches!(result, Ok(_) | Err(ExpandError::Work { .. } | ExpandError::Size)), "{text}");
        assert!(start.elapsed().as_secs() < 30, "{text} took {:?}", start.elapsed());
    }
}
