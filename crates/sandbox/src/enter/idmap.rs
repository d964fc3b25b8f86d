//! Id ranges as text: `/etc/subuid`, `/etc/subgid`, `/etc/passwd` and `/proc/*/uid_map`. Only parsing; no system call
//! but the read of a map.

/// One line of a map: `count` ids from `inside` on are those from `outside` on in the parent namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// A range of subordinate ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub start: u32,
    pub count: u32,
}

/// The name of `uid` in the text of `/etc/passwd`.
pub(crate) fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

/// The ranges that `/etc/subuid` or `/etc/subgid` gives to a user, who is named there by name or by number.
/// Lines that are not `owner:start:count` are skipped, as shadow-utils does.
pub(crate) fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (owner, start, count) = (fields.next()?, fields.next()?, fields.next()?);
            if fields.next().is_some() || !(Some(owner) == name || owner.parse() == Ok(uid)) {
                return None;
            }
            let range = Range { start: start.trim().parse().ok()?, count: count.trim().parse().ok()? };
            (range.count > 0 && range.start.checked_add(range.count).is_some()).then_some(range)
        })
        .collect()
}

/// The map that makes `own` 0 and gives 1 upwards to `ranges`, in their order.
pub(crate) fn map(own: u32, ranges: &[Range]) -> Vec<Extent> {
    let mut extents = vec![Extent { inside: 0, outside: own, count: 1 }];
    let mut next = 1u32;
    for range in ranges {
        // Ids past the last one cannot be named; a map that overflowed would be refused as a whole.
        let count = range.count.min(u32::MAX - next);
        if count == 0 {
            break;
        }
        extents.push(Extent { inside: next, outside: range.start, count });
        next += count;
    }
    extents
}

/// A map file of `/proc`; empty when it is missing or was not written yet.
pub(crate) fn read_map(path: &str) -> Vec<Extent> {
    parse_map(&fs_err::read_to_string(path).unwrap_or_default())
}

fn parse_map(text: &str) -> Vec<Extent> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|field| field.parse().ok());
            Some(Extent { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:165536:65536\n1001:300000:10\n# no line\nalice:400000:5\n";
        assert_eq!(
            ranges(text, Some("alice"), 1001),
            [
                Range { start: 100_000, count: 65536 },
                Range { start: 300_000, count: 10 },
                Range { start: 400_000, count: 5 }
            ]
        );
        assert_eq!(ranges(text, Some("bob"), 1002), [Range { start: 165_536, count: 65536 }]);
        assert_eq!(ranges(text, None, 1003), []);
    }

    #[test]
    fn broken_range_lines_are_skipped() {
        for line in ["", "a", "a:1", "a:x:1", "a:1:0", "a:1:2:3", "a:-1:2", "a:4294967295:2"] {
            assert_eq!(ranges(line, Some("a"), 1), [], "{line}");
        }
        assert_eq!(ranges(" a:1: 2", Some("a"), 1), [Range { start: 1, count: 2 }]);
    }

    #[test]
    fn a_map_starts_with_oneself() {
        let ranges = [Range { start: 100_000, count: 10 }, Range { start: 5000, count: 1 }];
        assert_eq!(
            map(1000, &ranges),
            [
                Extent { inside: 0, outside: 1000, count: 1 },
                Extent { inside: 1, outside: 100_000, count: 10 },
                Extent { inside: 11, outside: 5000, count: 1 }
            ]
        );
    }

    #[test]
    fn a_map_never_overflows() {
        let ranges = [Range { start: 1, count: u32::MAX - 1 }, Range { start: 1, count: 7 }];
        let extents = map(0, &ranges);
        assert_eq!(extents.len(), 2);
        assert_eq!(extents[1].inside.checked_add(extents[1].count), Some(u32::MAX));
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:100:Me:/home/me:/bin/sh\nbroken\n";
        assert_eq!(user_name(passwd, 1000), Some("me"));
        assert_eq!(user_name(passwd, 0), Some("root"));
        assert_eq!(user_name(passwd, 1), None);
    }

    #[test]
    fn kernel_maps_are_read() {
        assert_eq!(
            parse_map("         0          0 4294967295\n"),
            [Extent { inside: 0, outside: 0, count: u32::MAX }]
        );
        assert_eq!(parse_map(""), []);
    }
}
