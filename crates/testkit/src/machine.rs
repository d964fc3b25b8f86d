//! A person's folder with a home and the real `pannier` binary: what an end-to-end test runs in.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use fs_err as fs;
use tempfile::TempDir;

use crate::person::Person;

/// Puts an overlay where the store is, on which the kernel mounts no other, and becomes the rest.
const ON_OVERLAY: &str = r#"#!/bin/sh
set -e
mkdir -p "$PANNIER_HOME" under/lower under/upper under/work
mount -t overlay store -o "lowerdir=$PWD/under/lower,upperdir=$PWD/under/upper,workdir=$PWD/under/work$OPTIONS" "$PANNIER_HOME"
exec "$@"
"#;

/// A home, an empty working folder and an environment of nothing but what is said here. Everything is removed in the
/// end.
#[derive(Debug)]
pub struct Machine {
    person: Person,
    folder: TempDir,
    pannier: PathBuf,
}

impl Machine {
    /// A machine for `person` with the binary at `pannier` (as `env!("CARGO_BIN_EXE_pannier")` gives it).
    ///
    /// # Panics
    ///
    /// When its folder can't be made.
    pub fn new(pannier: &str, person: Person) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::Builder::new().prefix("pannier-").tempdir().expect("a folder can be made");
        fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .expect("the folder is ours");
        person.own(folder.path());
        let machine = Self { person, folder, pannier: reachable(Path::new(pannier)) };
        for name in ["home", "tmp", "work"] {
            machine.make_dir(name);
        }
        machine
    }

    /// Who works here.
    pub fn person(&self) -> Person {
        self.person
    }

    /// Where the binary is, for scripts that call it.
    pub fn program(&self) -> &Path {
        &self.pannier
    }

    /// A path in the machine's folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder, the person's own.
    ///
    /// # Panics
    ///
    /// When it can't be made.
    pub fn make_dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        for ancestor in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if ancestor.starts_with(self.folder.path()) && !ancestor.exists() {
                fs::create_dir(ancestor).expect("a folder can be made");
                self.person.own(ancestor);
            }
        }
        path
    }

    /// Writes a file, the person's own, and its folders.
    ///
    /// # Panics
    ///
    /// When it can't be written.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        self.make_dir(path.parent().expect("it has a folder"));
        fs::write(&path, content).expect("a file can be written");
        self.person.own(&path);
        path
    }

    /// As [`Machine::write`], executable.
    ///
    /// # Panics
    ///
    /// When it can't be written.
    pub fn write_script(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write(name, content);
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("modes can be set");
        path
    }

    /// A `pannier` command with these arguments.
    pub fn pannier<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Call {
        self.call(&self.pannier, arguments)
    }

    /// A `pannier` command whose store, in `home` below this machine's folder, is where no overlay can be mounted: on
    /// one, as in a container whose own files are an overlay.
    pub fn pannier_on_overlay<A: AsRef<OsStr>>(
        &self,
        home: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Call {
        let script = self.write_script("work/on-overlay", ON_OVERLAY);
        let root = self.person.is_root();
        let words: &[&str] = if root { &["--mount"] } else { &["--mount", "--map-root-user"] };
        self.call("unshare", words)
            .arg(script)
            .arg(&self.pannier)
            .args(arguments)
            .env("PANNIER_HOME", self.path(home))
            .env("OPTIONS", if root { "" } else { ",userxattr" })
    }

    /// Any other command, run as the same person in the same surroundings.
    pub fn call<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Call {
        let mut command = self.person.command(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("LANG", "C.UTF-8")
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        Call { command, stdin: None }
    }

    /// Sends a signal, by its name (`TERM`), to a program that was started here. False when it was gone.
    pub fn signal(&self, child: &Child, name: &str) -> bool {
        let mut kill = self.person.command("kill");
        kill.args([&format!("-{name}"), &child.id().to_string()]).stderr(Stdio::null());
        kill.status().is_ok_and(|status| status.success())
    }

    /// Processes that have this machine's folder in their command line or environment.
    ///
    /// # Panics
    ///
    /// When there is no `/proc`.
    pub fn processes(&self) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        let text = |file: PathBuf| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        let all = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let about = |entry: fs::DirEntry| {
            format!("{} {}", text(entry.path().join("cmdline")), text(entry.path().join("environ")))
        };
        all.map(about).filter(|text| text.contains(&folder)).collect()
    }

    /// What is left in the folder for temporary files: nothing, after a command that tidies up.
    ///
    /// # Panics
    ///
    /// When the folder can't be read.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("tmp")).expect("the folder can be read");
        entries.map(|entry| entry.expect("the folder can be read").path()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Files of subordinate ids, and overlay work folders, which have mode 000: root removes them as they are; an
        // ordinary caller can only in a user namespace with the same ids.
        if !Person::Caller.is_root() {
            let _ = Command::new("unshare")
                .args(["--map-auto", "--map-root-user", "--", "rm", "-rf", "--"])
                .args(["home", "tmp", "work"].map(|name| self.path(name)))
                .output();
        }
    }
}

/// The binary where every user can run it: a target folder below /root can't be entered by others.
fn reachable(pannier: &Path) -> PathBuf {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let open =
        |folder: &Path| fs::metadata(folder).is_ok_and(|about| about.permissions().mode() & 0o005 == 0o005);
    if pannier.ancestors().skip(1).all(open) {
        return pannier.to_owned();
    }
    let about = fs::metadata(pannier).expect("the binary is there");
    let copy = crate::base::scratch().join(format!("pannier-{}-{}", about.ino(), about.mtime()));
    if !copy.exists() {
        let temporary = copy.with_extension(std::process::id().to_string());
        fs::copy(pannier, &temporary).expect("the binary can be copied");
        fs::rename(&temporary, &copy).expect("a finished file can be renamed");
    }
    copy
}

/// A command about to be run.
#[derive(Debug)]
pub struct Call {
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Call {
    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// The folder to run in.
    #[must_use]
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// What the program reads.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// The command itself, for a caller that runs it in a way of its own.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    pub fn run(mut self) -> Output {
        let stdin = self.stdin.take();
        let mut child = self.start_with(stdin.is_some());
        let writer = stdin.map(|text| {
            let mut pipe = child.stdin.take().expect("it is a pipe");
            std::thread::spawn(move || pipe.write_all(&text))
        });
        let output = child.wait_with_output().expect("it ends");
        if let Some(writer) = writer {
            // A program may end without having read everything.
            let _ = writer.join();
        }
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Output {
            status: output.status,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            raw: output.stdout,
        }
    }

    /// Runs it to its end, which has to be a good one.
    ///
    /// # Panics
    ///
    /// When it fails; the message has all it wrote.
    pub fn ok(self) -> Output {
        let name = self.to_string();
        let output = self.run();
        assert!(output.status.success(), "{name} failed\n{output}");
        output
    }

    /// Runs it to its end, which has to be a failure by exit code (not by a signal).
    ///
    /// # Panics
    ///
    /// When it does not fail.
    pub fn fails(self) -> Output {
        let name = self.to_string();
        let output = self.run();
        assert!(
            output.status.code().is_some_and(|code| code != 0),
            "{name} did not fail as it should\n{output}"
        );
        output
    }

    /// Starts it and leaves it running, its output in pipes.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    pub fn start(mut self) -> Child {
        self.start_with(false)
    }

    fn start_with(&mut self, stdin: bool) -> Child {
        if stdin {
            self.command.stdin(Stdio::piped());
        }
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts")
    }
}

impl std::fmt::Display for Call {
    /// The program's name and its arguments, without what makes the person.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>();
        let own =
            words.iter().position(|word| word == crate::person::BECOMES).map_or(0, |position| position + 3);
        let own = words.get(own..).unwrap_or_default();
        let name = own.first().map_or("", |program| program.rsplit('/').next().unwrap_or_default());
        write!(f, "`{name} {}`", own.get(1..).unwrap_or_default().join(" "))
    }
}

/// What a command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output, as text.
    pub stdout: String,
    /// What it wrote to standard error, as text.
    pub stderr: String,
    /// What it wrote to standard output, byte for byte.
    pub raw: Vec<u8>,
}

impl Output {
    /// The exit code.
    ///
    /// # Panics
    ///
    /// When a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal\n{self}"))
    }

    /// Both outputs, for what may be said on either.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Checks that `text` was written, on either output, and returns itself.
    ///
    /// # Panics
    ///
    /// When it was not.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(self.all().contains(text), "expected {text:?} in\n{self}");
        self
    }

    /// Checks that `text` was not written, and returns itself.
    ///
    /// # Panics
    ///
    /// When it was.
    #[track_caller]
    pub fn never_says(&self, text: &str) -> &Self {
        assert!(!self.all().contains(text), "did not expect {text:?} in\n{self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_as_each_person_with_nothing_inherited() {
        for person in Person::all() {
            let machine = Machine::new("/bin/cat", person);
            let script = "id -u; echo $HOME; pwd; env | cut -d= -f1 | grep -v _ | sort | tr '\\n' ' '; echo mine > file";
            let output = machine.call("sh", ["-c", script]).ok();
            let lines = output.stdout.lines().collect::<Vec<_>>();
            let expected = [person.id().to_string(), machine.path("home").display().to_string()];
            assert_eq!(lines[..2], expected);
            assert_eq!(lines[2], machine.path("work").display().to_string());
            assert_eq!(
                lines[3].replace("OLDPWD ", ""),
                "HOME LANG PATH PWD SHLVL TMPDIR ".replace("SHLVL ", "")
            );
            let owned = fs::metadata(machine.path("work/file")).expect("it was written");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&owned), person.id());
        }
    }

    #[test]
    fn passes_standard_input_and_exit_codes() {
        let machine = Machine::new("/bin/sh", Person::Caller);
        let output = machine.pannier(["-c", "cat; exit 3"]).stdin("text").fails();
        assert_eq!((output.stdout.as_str(), output.code()), ("text", 3));
    }
}
