//! `--chmod`: permissions in octal, or what to change of them as chmod(1) has it.

/// What `--chmod` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chmod {
    /// These.
    Mode(u32),
    /// What is there, changed.
    Changes(Vec<Change>),
}

/// `u+x` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The bits of those it is about: user, group, others.
    who: u32,
    operator: char,
    permissions: String,
}

impl Chmod {
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is no mode: expected octal digits, or changes like `u+x,go-w`");
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Self::Mode(mode)),
                _ => Err(invalid()),
            };
        }
        let changes: Option<Vec<_>> = text.split(',').map(change).collect();
        changes.map(Self::Changes).ok_or_else(invalid)
    }

    /// The permissions of something that has `mode` so far.
    pub fn of(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Mode(mode) => *mode,
            Self::Changes(changes) => changes.iter().fold(mode, |mode, change| change.of(mode, is_dir)),
        }
    }
}

fn change(text: &str) -> Option<Change> {
    let at = text.find(['+', '-', '='])?;
    let (who, rest) = text.split_at(at);
    let mut bits = 0;
    for letter in who.chars() {
        bits |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let operator = rest.chars().next()?;
    let permissions = rest[1..].to_owned();
    let known = permissions.chars().all(|letter| "rwxXst".contains(letter));
    known.then_some(Change { who: if who.is_empty() { 0o7777 } else { bits }, operator, permissions })
}

impl Change {
    fn of(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        for letter in self.permissions.chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                _ => 0,
            };
        }
        // The sticky bit is everybody's.
        let who = if self.permissions.contains('t') { self.who | 0o1000 } else { self.who };
        let bits = bits & who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !(self.who & 0o777) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_changes() {
        let of = |text: &str, mode: u32| Chmod::parse(text).unwrap().of(mode, false);
        assert_eq!(of("755", 0o600), 0o755);
        assert_eq!(of("0644", 0o777), 0o644);
        assert_eq!(of("4755", 0), 0o4755);
        assert_eq!(of("u+x", 0o644), 0o744);
        assert_eq!(of("+x", 0o644), 0o755);
        assert_eq!(of("go-rwx", 0o755), 0o700);
        assert_eq!(of("u=rw,go=r", 0o777), 0o644);
        assert_eq!(of("a+X", 0o644), 0o644);
        assert_eq!(of("a+X", 0o744), 0o755);
        assert_eq!(of("u+s", 0o755), 0o4755);
        assert_eq!(of("g+s", 0o755), 0o2755);
        assert_eq!(of("+t", 0o777), 0o1777);
        assert_eq!(Chmod::parse("a+X").unwrap().of(0o644, true), 0o755);
        for bad in ["", "8", "17777", "u", "x+u", "u+z", "u+x,", "0o755"] {
            assert!(Chmod::parse(bad).is_err(), "{bad}");
        }
    }
}
