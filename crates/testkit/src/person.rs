//! Who runs a command. Tests that run as root can also be two ordinary users, who exist only in the mount namespace of
//! the command: nothing is added to the machine's own `/etc/passwd` or `/etc/subuid`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use fs_err as fs;

use crate::needs;

/// Who runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Person {
    /// Whoever runs the tests: root, or an ordinary user.
    Caller,
    /// An ordinary user with 65,536 subordinate ids.
    Ranges,
    /// An ordinary user without any.
    Plain,
}

/// The name of the script that follows, as its shell has it: marks where a command's own words begin.
pub(crate) const BECOMES: &str = "become";

/// Binds the files of the invented users over the machine's, becomes one of them, runs the rest. `exec` all the way, so
/// that the process id and its signals are the program's.
const BECOME: &str = r#"
files=$1 id=$2; shift 2
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || : > /etc/$file
    mount --bind "$files/$file" /etc/$file || exit 125
done
exec setpriv --reuid "$id" --regid "$id" --clear-groups --inh-caps=-all "$@"
"#;

impl Person {
    /// Everybody a test can be on this machine. As root: root and both ordinary users; otherwise the caller alone.
    pub fn all() -> Vec<Person> {
        if !is_root() {
            return vec![Person::Caller];
        }
        if !needs::have(&["setpriv", "unshare", "newuidmap"]) {
            return vec![Person::Caller];
        }
        if !can_bind() {
            needs::cannot("no mounts can be made here, so nothing is tried as an ordinary user");
            return vec![Person::Caller];
        }
        vec![Person::Caller, Person::Ranges, Person::Plain]
    }

    /// A command that runs `program` as this person. Arguments, environment and so on can be added as to any other.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        let Some(id) = self.invented_id() else { return Command::new(program) };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", BECOME, BECOMES]);
        command.arg(account_files()).arg(id.to_string()).arg(program);
        command
    }

    /// The user id (and group id) this person has.
    pub fn id(self) -> u32 {
        self.invented_id().unwrap_or_else(caller_id)
    }

    /// Whether this person is root.
    pub fn is_root(self) -> bool {
        self.id() == 0
    }

    /// A short name for messages and folders.
    pub fn name(self) -> &'static str {
        match self {
            Person::Caller if is_root() => "root",
            Person::Caller => "caller",
            Person::Ranges => "pannier-ranges",
            Person::Plain => "pannier-plain",
        }
    }

    /// Makes `path` (a folder or a file, nothing below it) this person's.
    ///
    /// # Panics
    ///
    /// When the owner can't be changed.
    pub fn own(self, path: &Path) {
        if let Some(id) = self.invented_id() {
            fs_err::os::unix::fs::lchown(path, Some(id), Some(id)).expect("the owner can be changed");
        }
    }

    /// Makes `path` and everything below it this person's.
    ///
    /// # Panics
    ///
    /// When the owner can't be changed.
    pub fn own_all(self, path: &Path) {
        if self.invented_id().is_none() {
            return;
        }
        self.own(path);
        if fs::symlink_metadata(path).expect("it is there").is_dir() {
            for entry in fs::read_dir(path).expect("the folder can be read") {
                self.own_all(&entry.expect("the folder can be read").path());
            }
        }
    }

    fn invented_id(self) -> Option<u32> {
        match self {
            Person::Caller => None,
            Person::Ranges => Some(61_001),
            Person::Plain => Some(61_002),
        }
    }
}

fn is_root() -> bool {
    caller_id() == 0
}

fn caller_id() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").expect("/proc is mounted").uid()
}

fn can_bind() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| Person::Ranges.command("true").output().is_ok_and(|output| output.status.success()))
}

/// The folder with `passwd`, `group`, `subuid` and `subgid`: the machine's own lines and those of the invented users.
fn account_files() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = crate::base::scratch().join("accounts");
        fs::create_dir_all(&folder).expect("a folder for account files");
        let mut passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut group = fs::read_to_string("/etc/group").unwrap_or_default();
        for person in [Person::Ranges, Person::Plain] {
            let (name, id) = (person.name(), person.id());
            passwd.push_str(&format!("{name}:x:{id}:{id}::/nonexistent:/bin/sh\n"));
            group.push_str(&format!("{name}:x:{id}:\n"));
        }
        let subordinate = format!("{}:1000000:65536\n", Person::Ranges.name());
        for (name, text) in
            [("passwd", &passwd), ("group", &group), ("subuid", &subordinate), ("subgid", &subordinate)]
        {
            // By rename: another test process may be mounting these at this very moment.
            let temporary = folder.join(format!("{name}.{}", std::process::id()));
            fs::write(&temporary, text).expect("account files can be written");
            fs::rename(&temporary, folder.join(name)).expect("account files can be written");
        }
        folder
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_who_they_say() {
        for person in Person::all() {
            let output = person.command("sh").args(["-c", "id -u; id -g; id -G"]).output().expect("it runs");
            let said = String::from_utf8(output.stdout).expect("digits");
            if person != Person::Caller {
                let id = person.id();
                assert_eq!(said, format!("{id}\n{id}\n{id}\n"));
            }
            assert!(said.starts_with(&format!("{}\n", person.id())), "{said}");
        }
    }

    #[test]
    fn the_machine_keeps_its_own_accounts() {
        for person in Person::all() {
            person.command("true").status().expect("it runs");
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("there is one");
        assert!(!passwd.contains(Person::Ranges.name()));
    }

    #[test]
    fn only_one_has_subordinate_ids() {
        let try_map = "unshare --user sh -c 'echo $$; read _; cat /proc/self/uid_map' ";
        for person in Person::all().into_iter().filter(|person| *person != Person::Caller) {
            // A child in a new user namespace; this side maps 0..65536 and reads the map back.
            let script = format!(
                "mkfifo {dir}/go; {try_map} < {dir}/go > {dir}/out & exec 3>{dir}/go; sleep 0.2; \
                 newuidmap $(head -n1 {dir}/out) 0 $(id -u) 1 1 1000000 65536; code=$?; echo >&3; wait; exit $code",
                dir = "$1"
            );
            let folder = tempfile::tempdir().expect("a folder");
            person.own(folder.path());
            let status = person
                .command("sh")
                .args(["-c", &script, "sh"])
                .arg(folder.path())
                .output()
                .expect("it runs");
            assert_eq!(status.status.success(), person == Person::Ranges, "{person:?}: {status:?}");
        }
    }
}
