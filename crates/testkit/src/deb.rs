//! Debian packages and repositories of them, written byte by byte: the same whoever makes them and when.

use std::path::Path;

use fs_err as fs;

use crate::image::{architecture, digest};
use crate::needs;
use crate::tree::{MTIME, Tree};

/// A Debian package in the making.
#[derive(Debug, Clone)]
pub struct Deb {
    name: String,
    version: String,
    architecture: String,
    fields: String,
    scripts: Vec<(String, String)>,
    data: Tree,
    folders: Vec<String>,
}

impl Deb {
    /// A package for every architecture without any file.
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            architecture: "all".into(),
            fields: String::new(),
            scripts: Vec::new(),
            data: Tree::new().dir("./", 0o755),
            folders: Vec::new(),
        }
    }

    /// A package for this machine only.
    #[must_use]
    pub fn native(mut self) -> Self {
        self.architecture = architecture().into();
        self
    }

    /// Adds a field to the control file: `Depends`, `Provides`, …
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push_str(&format!("{name}: {value}\n"));
        self
    }

    /// Adds a maintainer script (`preinst`, `postinst`, …) for `/bin/sh`.
    #[must_use]
    pub fn script(mut self, name: &str, body: &str) -> Self {
        self.scripts.push((name.into(), format!("#!/bin/sh\nset -e\n{body}\n")));
        self
    }

    /// Adds a file, and the folders above it. `path` is absolute.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.owned_file(path, mode, (0, 0), content)
    }

    /// As [`Deb::file`], of another owner.
    #[must_use]
    pub fn owned_file(mut self, path: &str, mode: u32, owner: (u64, u64), content: impl AsRef<[u8]>) -> Self {
        self = self.parents(path);
        self.data = self.data.owner(owner.0, owner.1).file(&format!(".{path}"), mode, content);
        self
    }

    /// Adds a folder, and those above it.
    #[must_use]
    pub fn owned_dir(mut self, path: &str, mode: u32, owner: (u64, u64)) -> Self {
        self = self.parents(path);
        self.folders.push(path.to_owned());
        self.data = self.data.owner(owner.0, owner.1).dir(&format!(".{path}/"), mode);
        self
    }

    /// Adds a symbolic link, and the folders above it.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self = self.parents(path);
        self.data = self.data.owner(0, 0).symlink(&format!(".{path}"), target);
        self
    }

    fn parents(mut self, path: &str) -> Self {
        for (at, _) in path.match_indices('/').skip(1) {
            let folder = &path[..at];
            if !self.folders.iter().any(|known| known == folder) {
                self.folders.push(folder.to_owned());
                self.data = self.data.owner(0, 0).dir(&format!(".{folder}/"), 0o755);
            }
        }
        self
    }

    /// The name of the file: `NAME_VERSION_ARCHITECTURE.deb`, the version without its epoch.
    pub fn file_name(&self) -> String {
        let version = self.version.rsplit(':').next().unwrap_or_default();
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }

    /// The package: an `ar` archive of a version and two tars.
    pub fn bytes(&self) -> Vec<u8> {
        let mut control = Tree::new().dir("./", 0o755).file("./control", 0o644, self.control());
        for (name, text) in &self.scripts {
            control = control.file(&format!("./{name}"), 0o755, text);
        }
        let mut archive = b"!<arch>\n".to_vec();
        ar_member(&mut archive, "debian-binary", b"2.0\n");
        ar_member(&mut archive, "control.tar", &control.into_tar());
        ar_member(&mut archive, "data.tar", &self.data.clone().into_tar());
        archive
    }

    fn control(&self) -> String {
        let Self { name, version, architecture, fields, .. } = self;
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n\
             Maintainer: Test Kit <test@example.org>\nSection: misc\nPriority: optional\n{fields}\
             Description: {name}, for tests\n"
        )
    }
}

fn ar_member(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    let size = content.len();
    archive.extend_from_slice(
        format!("{name:<16}{MTIME:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 100_644).as_bytes(),
    );
    archive.extend_from_slice(content);
    if size % 2 == 1 {
        archive.push(b'\n');
    }
}

/// A flat repository, file by file: what `deb [trusted=yes] file:/FOLDER ./` finds in `/FOLDER`.
pub fn repository(packages: &[Deb]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut index = String::new();
    for package in packages {
        let bytes = package.bytes();
        let sha = digest(&bytes).replace("sha256:", "");
        index.push_str(&package.control());
        index.push_str(&format!(
            "Filename: ./{}\nSize: {}\nSHA256: {sha}\n\n",
            package.file_name(),
            bytes.len()
        ));
        files.push((package.file_name(), bytes));
    }
    let sha = digest(index.as_bytes()).replace("sha256:", "");
    let release = format!(
        "Origin: testkit\nLabel: testkit\nSuite: stable\nCodename: stable\nDate: Tue, 01 Jan 1980 00:00:01 UTC\n\
         Architectures: all {}\nSHA256:\n {sha} {} Packages\n",
        architecture(),
        index.len()
    );
    files.push(("Packages".to_owned(), index.into_bytes()));
    files.push(("Release".to_owned(), release.into_bytes()));
    files
}

/// Writes a repository to a folder, which is made.
///
/// # Panics
///
/// When it can't be written.
pub fn write_repository(folder: &Path, packages: &[Deb]) {
    fs::create_dir_all(folder).expect("a folder can be made");
    for (name, content) in repository(packages) {
        fs::write(folder.join(name), content).expect("a file can be written");
    }
}

/// What the repository of [`Base::DebianApt`](crate::Base::DebianApt) has. Tiny all of them, and each one for
/// something:
///
/// | package | what it has |
/// |---|---|
/// | `greeting` | a shell script, `/usr/bin/greeting`, and a dependency |
/// | `libgreeting1` | the words that `greeting` says |
/// | `configured` | a maintainer script that writes `/etc/configured.conf` |
/// | `spooler` | a file and a folder of other users |
/// | `hello` | a static program of a few bytes that says what Debian's says, `/usr/bin/hello`; depends on `libgreeting1` |
/// | `broken-setup` | a maintainer script that fails |
/// | `busybox-static` | the static program of that name, in place of Debian's own |
pub fn packages() -> Vec<Deb> {
    let busybox =
        fs::read(needs::find("busybox").expect("busybox is on this machine")).expect("it can be read");
    vec![
        Deb::new("greeting", "1.2")
            .field("Depends", "libgreeting1 (>= 1.0)")
            .file("/usr/bin/greeting", 0o755, "#!/bin/sh\nexec cat /usr/share/libgreeting1/words\n")
            .file("/usr/share/doc/greeting/copyright", 0o644, "Public domain.\n"),
        Deb::new("libgreeting1", "1.0-3").field("Multi-Arch", "foreign").file(
            "/usr/share/libgreeting1/words",
            0o644,
            "hello from a package\n",
        ),
        Deb::new("configured", "3")
            .file("/usr/bin/configured", 0o755, "#!/bin/sh\ncat /etc/configured.conf\n")
            .script(
                "postinst",
                "if [ \"$1\" = configure ]; then echo set up by postinst >/etc/configured.conf; fi",
            ),
        Deb::new("spooler", "0.9").owned_dir("/var/spool/spooler", 0o2775, (8, 8)).owned_file(
            "/var/spool/spooler/first",
            0o640,
            (1, 12),
            "first\n",
        ),
        Deb::new("hello", "2:2.10-3")
            .native()
            .field("Depends", "libgreeting1")
            .file("/usr/bin/hello", 0o755, hello())
            .file("/usr/share/man/man1/hello.1", 0o644, ".TH HELLO 1\n"),
        Deb::new("broken-setup", "1").script("postinst", "echo this can not be set up; exit 3"),
        Deb::new("busybox-static", "1:1.35.0-4").native().file("/bin/busybox", 0o755, &busybox),
    ]
}

/// A whole program: writes a line, exits with 0. It needs no library and no shell.
fn hello() -> Vec<u8> {
    const TEXT: &str = "Hello, world!\n";
    const START: u64 = 0x40_0000;
    const HEADERS: u16 = 64 + 56;
    let length = u8::try_from(TEXT.len()).expect("it is short");
    let (machine, code) = if architecture() == "arm64" {
        let words: [u32; 8] = [
            0xd280_0808,                            // mov x8, 64 (write)
            0xd280_0020,                            // mov x0, 1
            0x1000_00c1,                            // adr x1, text
            0xd280_0002 | (u32::from(length) << 5), // mov x2, length
            0xd400_0001,                            // svc 0
            0xd280_0ba8,                            // mov x8, 93 (exit)
            0xd280_0000,                            // mov x0, 0
            0xd400_0001,                            // svc 0
        ];
        (183_u16, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    } else {
        let code = [
            [0xb8, 1, 0, 0, 0].as_slice(),    // mov eax, 1 (write)
            &[0xbf, 1, 0, 0, 0],              // mov edi, 1
            &[0x48, 0x8d, 0x35, 16, 0, 0, 0], // lea rsi, [text]
            &[0xba, length, 0, 0, 0],         // mov edx, length
            &[0x0f, 0x05],                    // syscall
            &[0xb8, 60, 0, 0, 0],             // mov eax, 60 (exit)
            &[0x31, 0xff],                    // xor edi, edi
            &[0x0f, 0x05],                    // syscall
        ];
        (62, code.concat())
    };
    let size = u64::from(HEADERS) + (code.len() + TEXT.len()) as u64;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    let halves = |elf: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| elf.extend_from_slice(&value.to_le_bytes()));
    };
    let quads = |elf: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|value| elf.extend_from_slice(&value.to_le_bytes()));
    };
    halves(&mut elf, &[2, machine, 1, 0]); // a program, of version 1
    quads(&mut elf, &[START + u64::from(HEADERS), 64, 0]); // entry, program headers, no sections
    halves(&mut elf, &[0, 0, 64, 56, 1, 0, 0, 0]); // sizes and counts
    halves(&mut elf, &[1, 0, 5, 0]); // loaded, to be read and executed
    quads(&mut elf, &[0, START, START, size, size, 0x1_0000]);
    elf.extend_from_slice(&code);
    elf.extend_from_slice(TEXT.as_bytes());
    elf
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn dpkg_reads_it() {
        if !needs::have(&["dpkg-deb"]) {
            return;
        }
        let deb = Deb::new("spool", "2:1-1")
            .field("Depends", "a, b")
            .script("postinst", "exit 0")
            .owned_file("/var/spool/x", 0o640, (1, 12), "first\n")
            .symlink("/var/y", "spool/x");
        assert_eq!(deb.file_name(), "spool_1-1_all.deb");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("it.deb");
        fs::write(&file, deb.bytes()).expect("it can be written");
        let ask = |arguments: &[&str]| {
            let output = Command::new("dpkg-deb").args(arguments).arg(&file).output().expect("it runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        let fields = ask(&["--field"]);
        assert!(fields.starts_with("Package: spool\nVersion: 2:1-1\n"), "{fields}");
        assert!(fields.contains("\nDepends: a, b\n"), "{fields}");
        let lines = ask(&["--contents"]);
        let names = lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>();
        let shown = names.iter().map(|words| (words[0], words[5])).collect::<Vec<_>>();
        assert_eq!(
            shown,
            [
                ("drwxr-xr-x", "./"),
                ("drwxr-xr-x", "./var/"),
                ("drwxr-xr-x", "./var/spool/"),
                ("-rw-r-----", "./var/spool/x"),
                ("lrwxrwxrwx", "./var/y")
            ]
        );
        assert!(matches!(names[3][1], "daemon/man" | "1/12"), "{lines}");
    }

    #[test]
    fn hello_runs_here() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hello");
        fs::write(&file, hello()).expect("it can be written");
        fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("modes can be set");
        let output = Command::new(&file).output().expect("it starts");
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(0), b"Hello, world!\n".as_slice())
        );
    }

    #[test]
    fn a_repository_names_its_packages() {
        let files = repository(&[Deb::new("a", "1"), Deb::new("b", "2").field("Depends", "a")]);
        let names = files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["a_1_all.deb", "b_2_all.deb", "Packages", "Release"]);
        let index = String::from_utf8(files[2].1.clone()).expect("text");
        assert!(index.contains("Filename: ./b_2_all.deb\nSize: "), "{index}");
    }
}
