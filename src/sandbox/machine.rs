//! The root of the build host as hooks see it, mounted so that plywood can watch which files they
//! open.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags;

use super::ROOTS;
use super::mount::{self, Mount};
use super::mountinfo::Line;
use super::watch::Watch;
use crate::plan::NOT_OF_HOST;

/// Mounts at `target` a read-only view of each mount of the build host, nested as on the host.
/// Leaves out mounts that the sandbox covers. Returns the root directory of the view, and `watch`,
/// which watches all of them.
pub(super) fn attach(mut watch: Box<Watch>, target: &Path) -> io::Result<(OwnedFd, Box<Watch>)> {
    // Before anything is mounted: otherwise the list would contain the view itself.
    let mounts = machine_mounts(Line::of_process()?);
    let nothing = Path::new(ROOTS).join("empty");
    fs::create_dir_all(&nothing)?;
    for (path, attributes) in mounts {
        let within = target.join(path.strip_prefix("/").unwrap_or(&path));
        match attach_one(&mut watch, &path, &nothing, attributes, &within) {
            Err(error) if path == Path::new("/") => return Err(error),
            // Another mount covers its mount point, so no path leads to it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => watch.lose(format!("`{}` cannot be watched: {error}", path.display())),
            Ok(()) => {}
        }
    }
    Ok((mount::place(target)?, watch))
}

fn attach_one(
    watch: &mut Watch,
    path: &Path,
    nothing: &Path,
    attributes: MountAttrFlags,
    target: &Path,
) -> io::Result<()> {
    let place = mount::place(target)?;
    let as_it_is = || Mount::alone(path)?.read_only();
    match fs::metadata(path) {
        // A user's FUSE file system. Root can neither read nor mark it, but a hook that becomes
        // this user could read it without a trace. So hooks see the empty directory beneath
        // instead.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        // A file bound over another one. An overlay can only show directories.
        Ok(found) if !found.is_dir() => {
            as_it_is()?.attach(place.as_fd())?;
            watch.assume(path)
        }
        found => {
            found?;
            // Some file systems cannot be a lower layer of an overlay, and overlays stack at most
            // two deep. They are marked themselves.
            let view = Mount::view_of(path, nothing, attributes).or_else(|_| as_it_is())?;
            view.attach(place.as_fd())?;
            watch.add(view.as_fd(), path)
        }
    }
}

/// Returns the mounts that hooks can see and their restrictions; parents come before the mounts
/// below them. If several are at one path, the last one counts: it covers the others.
fn machine_mounts(mounts: impl IntoIterator<Item = Line>) -> BTreeMap<PathBuf, MountAttrFlags> {
    let is_covered = |path: &Path| NOT_OF_HOST.iter().any(|place| path.starts_with(place));
    let places = mounts.into_iter().map(|line| (line.place, attributes(&line.options)));
    places.filter(|(path, _)| !is_covered(path)).collect()
}

/// Parses the options of a mount into its restrictions, which the view keeps.
fn attributes(options: &str) -> MountAttrFlags {
    let flag = |option: &str| match option {
        "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
        "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
        "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
        _ => MountAttrFlags::empty(),
    };
    options.split(',').map(flag).fold(MountAttrFlags::empty(), |all, one| all | one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_the_sandbox_covers_are_left_out_and_parents_come_first() {
        let mountinfo = "\
            9 1 8:1 / /srv/data rw,nosuid - ext4 /dev/sda1 rw\n\
            2 1 0:5 / /proc/sys/fs rw - proc proc rw\n\
            3 1 8:2 / /srv rw - ext4 /dev/sda2 rw\n\
            4 1 8:3 / /home/x rw - ext4 /dev/sda3 rw\n\
            5 1 8:3 / /homes rw,nodev,noexec - ext4 /dev/sda3 rw\n\
            6 3 8:2 / /srv rw,nodev - ext4 /dev/sda2 rw\n\
            1 0 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let mounts = machine_mounts(Line::all(mountinfo.as_bytes()));
        let mounts: Vec<_> = mounts.iter().map(|(path, flags)| (path.to_str().unwrap(), *flags)).collect();
        let no_programs = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let none = MountAttrFlags::empty();
        let expected = [
            ("/", none),
            ("/homes", no_programs),
            ("/srv", MountAttrFlags::MOUNT_ATTR_NODEV),
            ("/srv/data", MountAttrFlags::MOUNT_ATTR_NOSUID),
        ];
        assert_eq!(mounts, expected);
    }
}
