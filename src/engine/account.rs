//! The user and group that a container runs as.

use super::failure::{Failure, Message};
use crate::port::{Root, SandboxError};

/// Real files are kilobytes.
const LIMIT_BYTES: u64 = 16 << 20;

/// Refuses the `user` of a container of `image` that the root file system `root` does not have:
/// engines would not start the container. Numbers need no entry.
pub(super) fn check_user(image: &str, user: &str, root: &dyn Root) -> Result<(), Failure> {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let wanted = [("user", name, "/etc/passwd")].into_iter();
    for (what, name, file) in wanted.chain(group.map(|group| ("group", group, "/etc/group"))) {
        if !is_known(name, file, root)? {
            return Err(Message::with_hint(
                format!(
                    "image `{image}`: its container would not start, as it runs as {what} `{name}`, which \
                     `{file}` of the image does not have"
                ),
                format!(
                    "set `user` in `[image.{image}.container]` to a {what} that the base or an element makes, or to a number"
                ),
            ));
        }
    }
    Ok(())
}

/// Returns true for numbers, and for names that begin a line of `file`.
fn is_known(name: &str, file: &str, root: &dyn Root) -> Result<bool, SandboxError> {
    // Without a name, engines take the default.
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(true);
    }
    let text = root.read(file, LIMIT_BYTES)?.unwrap_or_default();
    let mut names =
        text.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b':').next());
    Ok(names.any(|known| known == name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::fake::World;
    use crate::port::{RootSpec, Sandbox};

    #[test]
    fn users_and_groups_are_numbers_or_names_of_the_image() {
        let world = World::default();
        world.merge(&[("/etc/passwd", "root:x:0:0::/root:/bin/sh\nme:x:7:7::/:/bin/sh\n")]);
        let root = world.open(&RootSpec::ReadOnly { lowers: Vec::new() }).unwrap();
        for (user, missing) in [
            ("me", None),
            ("0", None),
            ("4711:4712", None),
            ("m", Some("user `m`, which `/etc/passwd`")),
            ("x:0", Some("user `x`, which `/etc/passwd`")),
            ("me:staff", Some("group `staff`, which `/etc/group`")),
            (":0", None),
        ] {
            let found = check_user("web", user, root.as_ref()).err().map(|failure| failure.to_string());
            assert_eq!(found.is_some(), missing.is_some(), "{user}: {found:?}");
            assert!(missing.is_none_or(|text| found.as_ref().unwrap().contains(text)), "{found:?}");
        }
    }
}
