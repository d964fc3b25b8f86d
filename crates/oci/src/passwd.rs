//! Who a program runs as: `user[:group]` of an image, looked up in the image's own `/etc/passwd` and `/etc/group`
//! (OCI image configuration, `User`).

use std::path::PathBuf;

use layer::{PathError, Root};

/// No such file is longer.
const LIMIT: u64 = 16 * 1024 * 1024;

/// A user, as an image knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub uid: u32,
    /// Its group's id.
    pub gid: u32,
    /// Further groups that list it. None where a group was named, as Docker has it.
    pub groups: Vec<u32>,
    /// Its name, where the image has one.
    pub name: Option<String>,
    /// Its home directory, where the image has one.
    pub home: Option<PathBuf>,
}

/// A user cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is no such name.
    #[error("no {kind} `{name}` in {file} of the image")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl User {
    /// Looks up `text`, which is `user`, `uid`, `user:group` and so on; empty is root. A number that no line has
    /// is taken as it is, with group 0.
    pub fn find(root: &Root, text: &str) -> Result<Self, UserError> {
        let passwd = read(root, "etc/passwd")?;
        let group_file = read(root, "etc/group")?;
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let mut found = match (by_name(&passwd, user), user.parse()) {
            (Some(line), _) => line,
            (None, Ok(uid)) => Self::from_id(&passwd, uid),
            (None, Err(_)) => {
                return Err(UserError::Unknown { kind: "user", name: user.to_owned(), file: "/etc/passwd" });
            }
        };
        match group {
            Some(group) => found.gid = group_id(&group_file, group)?,
            None => found.groups = groups_of(&group_file, &found),
        }
        Ok(found)
    }

    /// The user with this id, whether the image knows it or not.
    pub fn with_id(root: &Root, uid: u32) -> Result<Self, UserError> {
        Ok(Self::from_id(&read(root, "etc/passwd")?, uid))
    }

    fn from_id(passwd: &str, uid: u32) -> Self {
        let unknown = Self { uid, gid: 0, groups: Vec::new(), name: None, home: None };
        passwd.lines().filter_map(line).find(|user| user.uid == uid).unwrap_or(unknown)
    }
}

/// A file of the image, empty where there is none: a distroless image need not have it.
fn read(root: &Root, path: &str) -> Result<String, UserError> {
    if !root.is_file(path) {
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&root.read(path, LIMIT)?).into_owned())
}

fn by_name(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().filter_map(line).find(|user| user.name.as_deref() == Some(name))
}

/// `name:password:uid:gid:comment:home:shell`.
fn line(text: &str) -> Option<User> {
    let mut fields = text.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty()).map(PathBuf::from);
    Some(User { uid, gid, groups: Vec::new(), name: Some(name.to_owned()), home })
}

/// `name:password:gid:members`, of which the name, the id and the members matter.
fn groups(file: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    file.lines().filter_map(|text| {
        let mut fields = text.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn group_id(file: &str, group: &str) -> Result<u32, UserError> {
    let named = groups(file).find(|(name, ..)| *name == group).map(|(_, gid, _)| gid);
    named.or_else(|| group.parse().ok()).ok_or_else(|| UserError::Unknown {
        kind: "group",
        name: group.to_owned(),
        file: "/etc/group",
    })
}

fn groups_of(file: &str, user: &User) -> Vec<u32> {
    let Some(name) = &user.name else { return Vec::new() };
    let member = |members: &str| members.split(',').any(|member| member == name);
    groups(file)
        .filter(|(_, gid, members)| *gid != user.gid && member(members))
        .map(|(_, gid, _)| gid)
        .collect()
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nbad line\ncnb:x:1000:1001::/home/cnb:\n",
        )
        .unwrap();
        fs::write(dir.path().join("etc/group"), "root:x:0:\ncnb:x:1001:\naudio:x:29:a,cnb\n").unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn names_and_numbers() {
        let (_dir, root) = root();
        let cnb = User::find(&root, "cnb").unwrap();
        assert_eq!((cnb.uid, cnb.gid, cnb.groups.as_slice()), (1000, 1001, [29].as_slice()));
        assert_eq!(cnb.home, Some(PathBuf::from("/home/cnb")));
        assert_eq!(User::find(&root, "1000").unwrap(), cnb);
        let other = User::find(&root, "1000:audio").unwrap();
        assert_eq!((other.gid, other.groups.len()), (29, 0));
        assert_eq!(User::find(&root, "5:6").unwrap().gid, 6);
        assert_eq!(User::find(&root, "").unwrap().uid, 0);
        assert_eq!(User::find(&root, "77").unwrap().gid, 0);
    }

    #[test]
    fn unknown_names_are_errors() {
        let (_dir, root) = root();
        assert_eq!(
            User::find(&root, "nobody").unwrap_err().to_string(),
            "no user `nobody` in /etc/passwd of the image"
        );
        assert!(User::find(&root, "cnb:nobody").is_err());
    }

    #[test]
    fn an_image_without_files_has_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(User::find(&root, "1000:1000").unwrap().uid, 1000);
    }
}
