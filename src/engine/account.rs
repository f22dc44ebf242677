//! The user and group that a container runs as.

use std::path::Path;

use super::failure::{Failure, Message};
use crate::image::ContainerSettings;
use crate::load::wrong_setting;
use crate::oci::container_user;
use crate::port::{Root, SandboxError};

/// Real files are kilobytes.
const LIMIT_BYTES: u64 = 16 << 20;

/// The user that a container runs as, by a name that only the root file system can explain.
pub(super) struct ContainerUser<'a> {
    image: &'a str,
    /// A user, or user and group.
    account: String,
    /// The directory of the project that names it; `None` if the config of the base does.
    project: Option<&'a Path>,
}

impl<'a> ContainerUser<'a> {
    /// Returns the user in `config`, the config of a container of the image `image`. Returns `None`
    /// if the config has only numbers, which need no entry.
    ///
    /// `settings` are those of the definition of the image, which is in the directory `project`.
    pub(super) fn of(
        image: &'a str,
        config: &[u8],
        settings: &ContainerSettings,
        project: &'a Path,
    ) -> Option<Self> {
        let account = container_user(config).filter(|user| !user.split(':').all(is_number))?;
        Some(Self { image, account, project: settings.user.is_some().then_some(project) })
    }

    /// Refuses a user that the root file system `root` does not have: engines would not start the
    /// container.
    pub(super) fn check(&self, root: &dyn Root) -> Result<(), Failure> {
        let (name, group) = self.account.split_once(':').unwrap_or((&self.account, "0"));
        for (what, name, file) in [("user", name, "/etc/passwd"), ("group", group, "/etc/group")] {
            if !is_known(name, file, root)? {
                return Err(self.unknown(what, name, file));
            }
        }
        Ok(())
    }

    fn unknown(&self, what: &str, name: &str, file: &str) -> Failure {
        let Self { image, project, .. } = self;
        let origin = if project.is_none() { ", by the config of its base," } else { "" };
        let message = format!(
            "image `{image}`: its container would not start, as it runs{origin} as {what} `{name}`, which \
             `{file}` of the image does not have"
        );
        let hint = format!(
            "set `user` in `[image.{image}.container]` to a {what} that the base or an element makes, or to a number"
        );
        let placed = project.and_then(|project| {
            wrong_setting(project, &["image", image, "container", "user"], (message.clone(), hint.clone()))
        });
        match placed {
            Some(error) => error.into(),
            // Without a project file, as in a call of diskimage-builder's commands.
            None => Message::with_hint(message, hint),
        }
    }
}

/// Returns true for a number, and for no name: engines then take the default.
fn is_number(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for numbers, and for names that begin a line of `file`.
fn is_known(name: &str, file: &str, root: &dyn Root) -> Result<bool, SandboxError> {
    if is_number(name) {
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
            ("m", Some("runs as user `m`, which `/etc/passwd`")),
            ("x:0", Some("runs as user `x`, which `/etc/passwd`")),
            ("me:staff", Some("runs as group `staff`, which `/etc/group`")),
            (":0", None),
        ] {
            let config = format!("{{\"config\": {{\"User\": \"{user}\"}}}}");
            for (settings, origin) in [
                (ContainerSettings { user: Some(user.to_owned()), ..Default::default() }, ""),
                (ContainerSettings::default(), ", by the config of its base,"),
            ] {
                let found = ContainerUser::of("web", config.as_bytes(), &settings, Path::new("/nowhere"));
                let found = found.and_then(|user| user.check(root.as_ref()).err());
                let found = found.map(|failure| failure.to_string());
                assert_eq!(found.is_some(), missing.is_some(), "{user}: {found:?}");
                let missing = missing.map(|text| text.replace("runs", &format!("runs{origin}")));
                assert!(missing.is_none_or(|text| found.as_ref().unwrap().contains(&text)), "{found:?}");
            }
        }
    }
}
