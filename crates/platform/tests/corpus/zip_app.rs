//! An app in a zip file.

use std::path::Path;

use fs_err as fs;
use pannier_platform::source::{Source, SourceError};

/// What comes of unpacking `input`, with nothing outside of the folder touched.
pub fn outcome(input: &[u8]) -> String {
    let temp = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (archive, app) = (temp.path().join("app.zip"), temp.path().join("app"));
    fs::write(&archive, input).unwrap();
    fs::create_dir(&app).unwrap();
    // Whatever its first bytes are: a zip file may have anything before it.
    let copied = Source::Zip(archive.clone()).copy_to(&app, None, &|path, _| path != Path::new("left-out"));

    let mut names: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["app", "app.zip"]);
    assert_eq!(fs::read(&archive).unwrap(), input);
    assert!(!app.join("left-out").exists());
    let found = if Source::find(&archive).is_ok() { "" } else { ", not taken for one" };
    let what = match copied {
        Ok(()) => format!("{} entries", count(&app)),
        Err(SourceError::Zip { .. }) => "broken".to_owned(),
        Err(SourceError::ZipName { .. }) => "a name that leads out".to_owned(),
        Err(SourceError::Io(_)) => "cannot be read or written".to_owned(),
        Err(error) => format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect(),
    };
    what + found
}

fn count(dir: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        count += 1;
        if entry.file_type().unwrap().is_dir() {
            count += self::count(&entry.path());
        }
    }
    count
}
