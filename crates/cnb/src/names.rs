//! What texts of buildpacks can be: names become files and lines of output, everything else ends up in the arguments and
//! variables of programs, which have no zero bytes.

/// The most bytes of the name of a file.
const FILE_NAME: usize = 255;

/// The type of a process, which becomes the name of a link in the image.
pub(crate) fn process_type(name: &str) -> Result<(), String> {
    let forbidden = |character: char| "/><:|&\\".contains(character) || character.is_control();
    if matches!(name, "" | "." | "..") || name.contains(forbidden) {
        return Err(format!(
            "process type '{}' is empty or has one of the characters /><:|&\\, a control character or nothing but dots",
            name.escape_debug()
        ));
    }
    match name.len() {
        ..=FILE_NAME => Ok(()),
        length => Err(format!("process type '{name:.32}…' has {length} bytes, expected at most {FILE_NAME}")),
    }
}

/// A name that is shown in lines of output, and compared: `what` is how errors call it.
pub(crate) fn name(what: &str, name: &str) -> Result<(), String> {
    if name.contains(char::is_control) {
        return Err(format!("{what} '{}' has a control character", name.escape_debug()));
    }
    Ok(())
}

/// A text that a program or a file system gets: `what` is how errors call it.
pub(crate) fn text(what: &str, text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err(format!("{what} '{}' has a zero byte", text.escape_debug()));
    }
    Ok(())
}

/// The version of a buildpack or extension, which becomes the name of a folder.
pub(crate) fn version(version: &str) -> Result<(), String> {
    let forbidden = |character: char| matches!(character, '/' | '\\') || character.is_control();
    if matches!(version, "." | "..") || version.contains(forbidden) || version.len() > FILE_NAME {
        return Err(format!(
            "'{}' is not a version: letters, digits, '.' and '-' were expected",
            version.escape_debug()
        ));
    }
    Ok(())
}
