//! Who a program runs as: `user[:group]`, names or numbers, looked up in the image's own `/etc/passwd` and
//! `/etc/group`.

use std::path::Path;

use layer::{PathError, Root};

/// More than any account file of an image has.
const LIMIT: u64 = 4 << 20;

/// Somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// A user or group cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// A name that the image does not have.
    #[error("no {kind} `{name}` in the image's {file}")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked up.
        file: &'static str,
    },
    /// A file cannot be read, though it is there.
    #[error("cannot look up a user")]
    Read(#[from] PathError),
}

/// The account that `user` means in the image at `root`. Empty means root.
pub(super) fn find(root: impl AsRef<Path>, user: &str) -> Result<Account, AccountError> {
    let root = Root::open(root)?;
    let text = |path: &str| match root.read(path, LIMIT) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error),
    };
    resolve(user, &text("etc/passwd")?, &text("etc/group")?)
}

fn resolve(user: &str, passwd: &str, group: &str) -> Result<Account, AccountError> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    // A name that looks like a number may still be a name; engines look there first.
    let entry = users(passwd).find(|entry| entry.name == name).or_else(|| {
        let uid: u32 = name.parse().ok()?;
        users(passwd).find(|entry| entry.uid == uid)
    });
    let uid = match (&entry, name.parse()) {
        (Some(entry), _) => entry.uid,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => {
            return Err(AccountError::Unknown { kind: "user", name: name.to_owned(), file: "/etc/passwd" });
        }
    };
    let home = entry.as_ref().map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/");
    let (gid, groups) = match group_name {
        // A group that was asked for is the only one.
        Some(name) => (find_group(name, group)?, Vec::new()),
        None => match &entry {
            Some(entry) => (entry.gid, groups_of(entry.name, group)),
            None => (0, Vec::new()),
        },
    };
    Ok(Account { uid, gid, groups, home: home.to_owned() })
}

fn find_group(name: &str, group: &str) -> Result<u32, AccountError> {
    let by_name = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    by_name.or_else(|| name.parse().ok()).ok_or_else(|| AccountError::Unknown {
        kind: "group",
        name: name.to_owned(),
        file: "/etc/group",
    })
}

/// The groups that list the user as a member.
fn groups_of(name: &str, group: &str) -> Vec<u32> {
    let lists = |line: &str| {
        let mut fields = line.split(':');
        let gid = fields.nth(2)?.parse().ok()?;
        fields.next()?.split(',').any(|member| member.trim() == name).then_some(gid)
    };
    group.lines().filter_map(lists).collect()
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ncnb:x:1000:1001::/home/cnb:/bin/bash\n1:x:7:7::/seven:\nbad\n\
                          bare:x:5:5:::\n";
    const GROUP: &str = "root:x:0:\ncnb:x:1001:\nwheel:x:10:root,cnb\nvideo:x:44: cnb\nbroken:x::cnb\n";

    fn found(user: &str) -> (u32, u32, Vec<u32>, String) {
        let account = resolve(user, PASSWD, GROUP).expect("found");
        (account.uid, account.gid, account.groups, account.home)
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(found(""), (0, 0, vec![10], "/root".to_owned()));
        assert_eq!(found("cnb"), (1000, 1001, vec![10, 44], "/home/cnb".to_owned()));
        assert_eq!(found("1000"), found("cnb"));
        assert_eq!(found("1"), (7, 7, vec![], "/seven".to_owned()), "a name first");
        assert_eq!(found("4242"), (4242, 0, vec![], "/".to_owned()));
        assert_eq!(found("bare").3, "/");
    }

    #[test]
    fn a_group_that_is_named_is_the_only_one() {
        assert_eq!(found("cnb:wheel"), (1000, 10, vec![], "/home/cnb".to_owned()));
        assert_eq!(found("cnb:77"), (1000, 77, vec![], "/home/cnb".to_owned()));
        assert_eq!(found(":wheel").1, 10);
        assert_eq!(found("cnb:"), found("cnb"));
    }

    #[test]
    fn unknown_names_are_errors() {
        let said = |user| resolve(user, PASSWD, GROUP).expect_err("unknown").to_string();
        assert_eq!(said("nobody"), "no user `nobody` in the image's /etc/passwd");
        assert_eq!(said("cnb:nogroup"), "no group `nogroup` in the image's /etc/group");
        assert_eq!(said("-1"), "no user `-1` in the image's /etc/passwd");
    }

    #[test]
    fn numbers_need_no_files() {
        let account = resolve("1000:1000", "", "").expect("numbers");
        assert_eq!((account.uid, account.gid), (1000, 1000));
    }
}
