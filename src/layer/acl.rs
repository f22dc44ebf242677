//! Parses access control lists in the text form of GNU tar, star and bsdtar into extended
//! attributes.
//!
//! Source: POSIX.1e draft 17, "Long and Short Text Forms"; star(4), `SCHILY.acl.access`, which adds
//! the number of a named user or group as a fourth field; Linux,
//! `include/uapi/linux/posix_acl_xattr.h`.

use super::entry::Xattrs;

/// Keys of PAX records and the attributes that they become.
const LISTS: [(&[u8], &[u8]); 2] = [
    (b"SCHILY.acl.access", b"system.posix_acl_access"),
    (b"SCHILY.acl.default", b"system.posix_acl_default"),
];
/// PAX key of an NFSv4 list. No local file system of Linux can store one.
const NFS4: &[u8] = b"SCHILY.acl.ace";
/// The id in lines without a user or group (`ACL_UNDEFINED_ID`).
const NOBODY: u32 = u32::MAX;

/// Adds the lists among these records to `xattrs`. An attribute that is present wins: it is the
/// same list with numbers in place of names.
///
/// # Errors
/// The rest of a sentence that begins with the path of the entry and "is".
pub(super) fn add_lists<'r>(
    get: impl Fn(&[u8]) -> Option<&'r Vec<u8>>,
    xattrs: &mut Xattrs,
) -> Result<(), String> {
    if get(NFS4).is_some() {
        return Err("an entry with an NFSv4 access control list".to_owned());
    }
    for (key, attribute) in LISTS {
        if let Some(text) = get(key).filter(|_| !xattrs.contains_key(attribute)) {
            xattrs.insert(attribute.to_vec(), parse(text)?);
        }
    }
    Ok(())
}

/// Tag, permissions, and id of a user or group.
type Line = (u16, u16, u32);

fn parse(text: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(text).map_err(|_| malformed("a byte that is not UTF-8"))?;
    let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
    let mut lines: Vec<Line> = lines.map(parse_line).collect::<Result<_, _>>()?;
    // The kernel refuses a list in another order.
    lines.sort_unstable_by_key(|(tag, _, number)| (*tag, *number));
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in lines {
        bytes.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()).chain(id.to_le_bytes()));
    }
    Ok(bytes)
}

/// Parses `user:bob:rwx:1001`. Refuses a name without a number, because only the machine that wrote
/// the archive knows the number.
fn parse_line(line: &str) -> Result<Line, String> {
    let bad = || malformed(line);
    let fields: Vec<&str> = line.strip_prefix("default:").unwrap_or(line).split(':').collect();
    let [tag, name, permissions, rest @ ..] = fields.as_slice() else { return Err(bad()) };
    let tag = match (*tag, name.is_empty()) {
        ("user" | "u", true) => 0x01,
        ("user" | "u", false) => 0x02,
        ("group" | "g", true) => 0x04,
        ("group" | "g", false) => 0x08,
        ("mask" | "m", true) => 0x10,
        ("other" | "o", true) => 0x20,
        _ => return Err(bad()),
    };
    let number = match (name.is_empty(), rest) {
        (true, []) => NOBODY,
        (false, [number]) => number.parse().map_err(|_| bad())?,
        (false, []) => name.parse().map_err(|_| unknown(line))?,
        _ => return Err(bad()),
    };
    Ok((tag, parse_permissions(permissions).ok_or_else(bad)?, number))
}

/// Parses `r-x`.
fn parse_permissions(text: &str) -> Option<u16> {
    text.chars().try_fold(0, |permissions, letter| match letter {
        'r' => Some(permissions | 4),
        'w' => Some(permissions | 2),
        'x' => Some(permissions | 1),
        '-' => Some(permissions),
        _ => None,
    })
}

fn malformed(what: &str) -> String {
    format!("an entry whose access control list has a malformed line `{}`", what.escape_debug())
}

fn unknown(line: &str) -> String {
    format!(
        "an entry whose access control list names a user or group without a number (`{}`; `tar --xattrs --xattrs-include=*` \
         and bsdtar write numbers)",
        line.escape_debug()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Line>, String> {
        let bytes = parse(text.as_bytes())?;
        assert_eq!(bytes[..4], [2, 0, 0, 0]);
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| (number << 8) | u32::from(*byte));
        let line = |line: &[u8]| (number(&line[..2]) as u16, number(&line[2..4]) as u16, number(&line[4..]));
        Ok(bytes[4..].chunks(8).map(line).collect())
    }

    #[test]
    fn lists_of_gnu_tar_and_bsdtar_are_parsed() {
        let gnu = "user::rw-\nuser:1001:rwx\ngroup::r--\ngroup:20:r--\nmask::rwx\nother::---\n";
        let bsdtar = "user::rw-,group::r--,other::---,user:bob:rwx:1001,group:dialout:r--:20,mask::rwx";
        let expected =
            [(1, 6, NOBODY), (2, 7, 1001), (4, 4, NOBODY), (8, 4, 20), (16, 7, NOBODY), (32, 0, NOBODY)];
        assert_eq!(parsed(gnu).unwrap(), expected);
        assert_eq!(parsed(bsdtar).unwrap(), expected);
        assert_eq!(parsed("default:user::r-x,default:group::---,o::x").unwrap().len(), 3);
    }

    #[test]
    fn lists_that_cannot_be_applied_are_refused() {
        assert!(parsed("user::rw-\nuser:bob:rwx").unwrap_err().contains("without a number (`user:bob:rwx`"));
        for line in [
            "user",
            "user::q",
            "mask:7:rwx",
            "user::rwx:5",
            "user:bob:rwx:x",
            "user:1:rwx:1:2",
            "everyone::r",
        ] {
            assert!(parsed(line).unwrap_err().contains(&format!("`{line}`")), "{line}");
        }
        let ace = b"owner@:rwx::allow".to_vec();
        let nfs4 = add_lists(|key| (key == NFS4).then_some(&ace), &mut Xattrs::new());
        assert!(nfs4.unwrap_err().contains("NFSv4"));
    }

    #[test]
    fn the_attribute_wins_over_the_text() {
        let text = b"user::rw-\nuser:bob:rwx".to_vec();
        let mut xattrs = Xattrs::from([(LISTS[0].1.to_vec(), vec![2])]);
        add_lists(|key| (key == LISTS[0].0).then_some(&text), &mut xattrs).unwrap();
        assert_eq!(xattrs[LISTS[0].1], [2]);
    }
}
