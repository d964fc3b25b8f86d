use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs_err::create_dir(tree.0.path().join("ctx")).unwrap();
        for file in files {
            tree.write(file, file);
        }
        tree
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join("ctx").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs_err::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs_err::write(self.at(path), text).unwrap();
    }

    fn context(&self, rules: &str) -> Context {
        Context::open(&self.at(""), Ignore::parse(".dockerignore", rules).unwrap()).unwrap()
    }

    fn select(&self, rules: &str, line: &str) -> Result<(Context, Selection), SourceError> {
        let context = self.context(rules);
        let dockerfile = Dockerfile::parse("Dockerfile", line).unwrap();
        let crate::InstructionKind::Copy(copy) = &dockerfile.instructions[0].kind else { panic!() };
        let words: Vec<&Word> = copy
            .sources
            .iter()
            .map(|source| match source {
                crate::CopySource::Path(word) => word,
                crate::CopySource::Heredoc(_) => panic!(),
            })
            .collect();
        let selection = context.select(&dockerfile, &words, &copy.excludes)?;
        Ok((context, selection))
    }

    /// What would be copied: `name` of a file, `/path` of what is in a folder.
    fn paths(&self, rules: &str, line: &str) -> Vec<String> {
        let (_, selection) = self.select(rules, line).unwrap();
        let mut paths = Vec::new();
        for item in selection.items {
            for entry in item.entries {
                let shown = entry.path.display();
                paths.push(if item.is_dir {
                    format!("/{shown}")
                } else {
                    item.name.to_string_lossy().into()
                });
            }
        }
        paths
    }

    fn error(&self, rules: &str, line: &str) -> String {
        let error = self.select(rules, line).unwrap_err();
        match error.help() {
            Some(help) => format!("{error} ({help})"),
            None => error.to_string(),
        }
    }

    fn digest(&self, line: &str) -> Digest {
        let (context, selection) = self.select("", line).unwrap();
        context.digest(&selection).unwrap()
    }
}

#[test]
fn files_folders_and_patterns() {
    let tree = Tree::new(&["a.txt", "b.txt", ".h.txt", "d/x", "d/e/y", "f/x", "[odd].txt"]);
    assert_eq!(tree.paths("", "COPY a.txt /"), ["a.txt"]);
    assert_eq!(tree.paths("", "COPY /a.txt ./d/../b.txt /"), ["a.txt", "b.txt"]);
    assert_eq!(tree.paths("", "COPY d /x"), ["/e", "/e/y", "/x"]);
    assert_eq!(tree.paths("", "COPY d/ /x"), ["/e", "/e/y", "/x"]);
    assert_eq!(tree.paths("", "COPY *.txt /"), [".h.txt", "[odd].txt", "a.txt", "b.txt"]);
    assert_eq!(tree.paths("", "COPY [ab].txt none* /"), ["a.txt", "b.txt"]);
    assert_eq!(tree.paths("", "COPY */x /"), ["x", "x"]);
    assert_eq!(tree.paths("", "COPY [odd].txt /"), ["[odd].txt"]);
    assert_eq!(tree.paths("", "COPY --exclude=*/y --exclude=x d a.txt /"), ["/e", "a.txt"]);
    assert_eq!(tree.paths("", "COPY --exclude=a* *.txt /"), [".h.txt", "[odd].txt", "b.txt"]);
    let all = tree.paths("", "COPY . /");
    assert_eq!(
        all,
        ["/.h.txt", "/[odd].txt", "/a.txt", "/b.txt", "/d", "/d/e", "/d/e/y", "/d/x", "/f", "/f/x"]
    );
}

#[test]
fn what_is_ignored_is_not_there() {
    let tree = Tree::new(&["a.txt", "b.md", "d/x.md", "d/keep", "n/m/o"]);
    assert_eq!(tree.paths("*.md\nn", "COPY . /"), ["/a.txt", "/d", "/d/keep", "/d/x.md"]);
    assert_eq!(tree.paths("*\n!d/keep", "COPY . /"), ["/d", "/d/keep"]);
    assert_eq!(tree.paths("*\n!d/keep", "COPY d /"), ["/keep"]);
    assert_eq!(tree.paths("*\n!d/keep\n!a.txt", "COPY * /"), ["a.txt", "/keep"]);
    assert_eq!(tree.paths("**/*.md", "COPY *.* d/* /"), ["a.txt", "keep"]);
    assert_eq!(
        tree.error("n", "COPY a.txt n /"),
        "Dockerfile:1:12: `n` is not in the context: .dockerignore leaves it out"
    );
    assert!(tree.error("*.md", "COPY b.md /").contains(".dockerignore leaves it out"));
    assert!(tree.error("n", "COPY n/m/o /").contains(".dockerignore leaves it out"));
    assert_eq!(tree.paths("*.md", "COPY *.md /"), [] as [&str; 0]);
}

#[test]
fn what_is_missing_has_a_line() {
    let tree = Tree::new(&["package.json", "d/x"]);
    assert_eq!(
        tree.error("", "COPY d pakage.json /"),
        "Dockerfile:1:8: `pakage.json` is not in the context (there is `package.json`)"
    );
    assert_eq!(
        tree.error("", "COPY no/such/file /"),
        "Dockerfile:1:6: `no/such/file` is not in the context: there is no `no`"
    );
    assert_eq!(tree.error("", "COPY d/x/y /"), "Dockerfile:1:6: `d/x/y` is not in the context");
    assert_eq!(tree.paths("", "COPY *.go /"), [] as [&str; 0]);
    assert!(tree.error("", "COPY [a /").contains("invalid pattern `[a`"));
}

#[test]
fn nothing_leads_out() {
    let tree = Tree::new(&["d/x", "d/e/y"]);
    fs_err::write(tree.0.path().join("secret"), "s").unwrap();
    let link = |target: &str, at: &str| symlink(target, tree.at(at)).unwrap();
    link("/etc/passwd", "abs");
    link("../secret", "up");
    link("../../secret", "d/up");
    link("e/../../d/e", "d/in");
    link("in/y", "d/file");
    link("loop", "loop");
    link("..", "parent");
    for (line, expected) in [
        ("COPY ../secret /", "`../secret` is outside of the context"),
        ("COPY d/../../secret /", "`d/../../secret` is outside of the context"),
        ("COPY .. /", "`..` is outside of the context"),
        ("COPY abs /", "`abs` is a symlink that leads out of the context, to `/etc/passwd`"),
        ("COPY up /", "`up` is a symlink that leads out of the context, to `../secret`"),
        ("COPY d/up /", "`d/up` is a symlink that leads out of the context"),
        ("COPY parent/secret /", "`parent` is a symlink that leads out of the context, to `..`"),
        ("COPY u* /", "`up` is a symlink that leads out of the context"),
        ("COPY parent/* /", "`parent` is a symlink that leads out of the context"),
        ("COPY loop /", "`loop` leads through too many symlinks"),
    ] {
        let error = tree.error("", line);
        assert!(error.starts_with("Dockerfile:1:6: ") && error.contains(expected), "{line}: {error}");
    }
    assert_eq!(tree.paths("", "COPY d/in /"), ["/y"]);
    assert_eq!(tree.paths("", "COPY d/file /"), ["file"]);
    // Within a folder they are copied as they are.
    let (_, selection) = tree.select("", "COPY d /").unwrap();
    let up = selection.items[0].entries.iter().find(|entry| entry.path == Path::new("up")).unwrap();
    assert_eq!((up.meta.kind, up.link.as_deref()), (Kind::Symlink, Some(Path::new("../../secret"))));
}

#[test]
fn only_files_folders_and_symlinks() {
    let tree = Tree::new(&["d/x"]);
    let _listener = std::os::unix::net::UnixListener::bind(tree.at("d/socket")).unwrap();
    assert_eq!(tree.paths("", "COPY d /"), ["/x"]);
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.at("d/pipe"), 0o644.into()).unwrap();
    assert!(tree.error("", "COPY d /").contains("`d/pipe` is neither file, folder nor symlink"));
}

#[test]
fn the_digest_is_that_of_what_is_copied() {
    let tree = Tree::new(&["a", "d/x", "d/y"]);
    fs_err::copy(tree.at("a"), tree.at("b")).unwrap();
    let all = tree.digest("COPY a d /");
    let folder = tree.digest("COPY d /");
    assert_eq!(folder, tree.digest("COPY d/ /elsewhere/"));
    assert_ne!(tree.digest("COPY a /x"), tree.digest("COPY b /x"), "the name may count");
    fs_err::rename(tree.at("d"), tree.at("d2")).unwrap();
    assert_eq!(folder, tree.digest("COPY d2 /"));
    fs_err::rename(tree.at("d2"), tree.at("d")).unwrap();
    tree.write("d/x", "d/x");
    let time = std::time::SystemTime::UNIX_EPOCH;
    fs_err::File::open(tree.at("d/x")).unwrap().into_file().set_modified(time).unwrap();
    assert_eq!(all, tree.digest("COPY a d /"), "neither times");
    tree.write("d/x", "d/z");
    let changed = tree.digest("COPY a d /");
    assert_ne!(all, changed);
    fs_err::set_permissions(tree.at("d/y"), PermissionsExt::from_mode(0o755)).unwrap();
    let executable = tree.digest("COPY a d /");
    assert_ne!(changed, executable);
    fs_err::remove_file(tree.at("d/y")).unwrap();
    symlink("x", tree.at("d/y")).unwrap();
    assert_ne!(executable, tree.digest("COPY a d /"));
}

#[test]
fn locates_sources_of_mounts() {
    let tree = Tree::new(&["d/x"]);
    symlink("d", tree.at("l")).unwrap();
    symlink("/", tree.at("out")).unwrap();
    let context = tree.context("");
    let dockerfile = Dockerfile::parse("Dockerfile", "RUN true").unwrap();
    let locate = |text: &str| {
        let word = Word { text: text.to_owned(), span: 0..3 };
        context.locate(&dockerfile, &word).map_err(|error| error.to_string())
    };
    assert_eq!(locate("/l/x"), Ok(PathBuf::from("d/x")));
    assert_eq!(locate(""), Ok(PathBuf::new()));
    assert!(locate("out/etc").unwrap_err().contains("Dockerfile:1:1: `out` is a symlink that leads out"));
    assert!(locate("../x").unwrap_err().contains("outside of the context"));
}
