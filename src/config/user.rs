//! Who workers run as, from /etc/passwd and /etc/group read by ourselves: the
//! C library's lookups load NSS modules, which a static program must not.

use std::path::Path;
use std::str::from_utf8;
use std::{fs, io};

use crate::sys::errno::describe;

use super::units::whole;

/// A user's and his groups' ids, as setresuid(2), setresgid(2) and
/// setgroups(2) take them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// His primary group.
    pub gid: u32,
    /// His supplementary groups: none where the group was given.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// Reads `USER[:GROUP]`, each a number or a name, as Docker does: a number
    /// needs no entry, and a user without one is in group 0 unless a group is
    /// given; where one is given, he is in no other.
    pub(super) fn parse(text: &str, root: &Path) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group == Some("") {
            return Err("accepted are UID, UID:GID, NAME and NAME:GROUP".into());
        }
        let passwd = read(root, "etc/passwd")?;
        let entry = passwd_entry(&passwd, user);
        let uid = match &entry {
            Some(entry) => entry.uid,
            None => number(user)?.ok_or("no such user in /etc/passwd")?,
        };
        if let Some(group) = group {
            let gid = match number(group)? {
                Some(gid) => gid,
                None => groups(&read(root, "etc/group")?)
                    .find(|entry| entry.name == group.as_bytes())
                    .map(|entry| entry.gid)
                    .ok_or("no such group in /etc/group")?,
            };
            let groups = Vec::new();
            return Ok(Self { uid, gid, groups });
        }
        let Some(entry) = entry else {
            let (gid, groups) = (0, Vec::new());
            return Ok(Self { uid, gid, groups });
        };
        let gid = entry.gid;
        let mut groups: Vec<u32> = groups(&read(root, "etc/group")?)
            .filter(|group| group.has(entry.name) && group.gid != gid)
            .map(|group| group.gid)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { uid, gid, groups })
    }
}

/// A line of passwd(5).
struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
}

/// A line of group(5).
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    fn has(&self, user: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|m| m == user)
    }
}

/// The first entry of this name, or of this number.
fn passwd_entry<'a>(passwd: &'a [u8], user: &str) -> Option<User<'a>> {
    let uid = number(user).ok().flatten();
    users(passwd).find(|entry| match uid {
        Some(uid) => entry.uid == uid,
        None => entry.name == user.as_bytes(),
    })
}

/// The well-formed lines; the others are nobody's.
fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|mut fields| {
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (id(fields.next()?)?, id(fields.next()?)?);
        Some(User { name, uid, gid }).filter(|_| !name.is_empty())
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|mut fields| {
        let (name, _password) = (fields.next()?, fields.next()?);
        let (gid, members) = (id(fields.next()?)?, fields.next().unwrap_or_default());
        Some(Group { name, gid, members }).filter(|_| !name.is_empty())
    })
}

/// Each line's fields.
fn lines(file: &[u8]) -> impl Iterator<Item = impl Iterator<Item = &[u8]>> {
    file.split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b':'))
}

fn id(field: &[u8]) -> Option<u32> {
    whole(from_utf8(field).ok()?).filter(|id| *id != u32::MAX)
}

/// An id written as a number; `None` where it is written as a name. The
/// highest one is refused: to the kernel it means "leave it as it is".
fn number(text: &str) -> Result<Option<u32>, String> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match id(text.as_bytes()) {
        Some(id) => Ok(Some(id)),
        None => Err("an id is at most 4294967294".into()),
    }
}

/// A file of an image; empty where the image has none.
fn read(root: &Path, path: &str) -> Result<Vec<u8>, String> {
    match fs::read(root.join(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|error| format!("cannot read /{path}: {}", describe(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        short:x:1\n\
        nobody\n\
        bad:x:ten:10::/:\n\
        :x:77:77::/:\n\
        app:x:1000:1000::/home/app:/bin/sh\n\
        app:x:1001:1001:the second of a name::\n\
        \xff:x:1002:1002::/:\n\
        last:x:1003:100";
    const GROUP: &[u8] = b"root:x:0:\n\
        app:x:1000:app\n\
        staff:x:50:other,app\n\
        nearly:x:51:apple,xapp\n\
        twice:x:50:app\n\
        bad:x:many:app\n\
        audio:x:29:app,last\n\
        bare:x:60\n";

    fn image() -> Scratch {
        let image = Scratch::new("user");
        image.write("etc/passwd", PASSWD);
        image.write("etc/group", GROUP);
        image
    }

    #[test]
    fn names_and_numbers() {
        let image = image();
        for (text, uid, gid, groups) in [
            ("0", 0, 0, &[][..]),
            ("root", 0, 0, &[]),
            ("app", 1000, 1000, &[29, 50]),
            ("1000", 1000, 1000, &[29, 50]),
            ("last", 1003, 100, &[29]),
            ("app:staff", 1000, 50, &[]),
            ("app:7", 1000, 7, &[]),
            ("1000:1000", 1000, 1000, &[]),
            ("4000:bare", 4000, 60, &[]),
            ("4000", 4000, 0, &[]),
            ("4294967294", 4_294_967_294, 0, &[]),
        ] {
            let groups = groups.to_vec();
            let expected = Credentials { uid, gid, groups };
            assert_eq!(
                Credentials::parse(text, image.path()),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn who_is_unknown_is_refused() {
        let image = image();
        for (text, reason) in [
            ("foo", "no such user in /etc/passwd"),
            ("bad", "no such user in /etc/passwd"),
            ("nobody", "no such user in /etc/passwd"),
            ("-1", "no such user in /etc/passwd"),
            ("app:foo", "no such group in /etc/group"),
            ("4294967295", "an id is at most 4294967294"),
            ("app:4294967295", "an id is at most 4294967294"),
            ("99999999999999999999", "an id is at most 4294967294"),
        ] {
            let error = Credentials::parse(text, image.path()).unwrap_err();
            assert_eq!(error, reason, "{text}");
        }
        for text in ["", ":", ":50", "app:"] {
            let error = Credentials::parse(text, image.path()).unwrap_err();
            assert!(error.starts_with("accepted are"), "{text}: {error}");
        }
    }

    #[test]
    fn an_image_without_the_files_has_numbers() {
        let empty = Scratch::new("user");
        let expected = Credentials {
            uid: 1000,
            gid: 0,
            groups: Vec::new(),
        };
        assert_eq!(Credentials::parse("1000", empty.path()), Ok(expected));
        Credentials::parse("1000:1000", empty.path()).unwrap();
        Credentials::parse("app", empty.path()).unwrap_err();
        empty.write("etc/passwd/in_its_place", b"");
        let error = Credentials::parse("1000", empty.path()).unwrap_err();
        assert!(
            error.starts_with("cannot read /etc/passwd: is a directory"),
            "{error}"
        );
    }
}
