//! Mounts as values: made detached, given their attributes, then attached to a path. So no process
//! ever sees a mount without its attributes.
//!
//! All of these calls are in Linux 5.10 except for mount_setattr(2), which is in 5.12.
//! [`Mount::read_only`] has a replacement for it.
//!
//! Source: fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2), mount(2).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use tracing::debug;

use super::ROOTS;
use super::mountinfo::Line;
use super::shape::Shape;
use crate::port::SandboxError;

/// A mount that is attached nowhere yet.
pub(super) struct Mount(OwnedFd);

impl Mount {
    /// Makes a file system that needs no device.
    pub(super) fn filesystem(kind: &str, options: &[(&str, &str)]) -> io::Result<Self> {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
        Self::create(context)
    }

    /// Makes a read-only view of the directory `lower` without the mounts below it: an overlay, so
    /// a file system of its own. Files keep their inode numbers and times. `nothing` is an empty
    /// directory.
    pub(super) fn view_of(lower: &Path, nothing: &Path, attributes: MountAttrFlags) -> io::Result<Self> {
        let lowers = [place(lower)?, place(nothing)?];
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        // By descriptors, because colons and commas in a path are separators in the option. And
        // overlayfs requires two lower directories if there is no upper one.
        let lowers = lowers.each_ref().map(|lower| path_of(lower).display().to_string()).join(":");
        // Without `xino`, files would have other device numbers than their directories;
        // `tar --one-file-system` and `find -xdev` would skip them.
        let options =
            [("lowerdir", lowers.as_str()), ("xino", "on"), ("redirect_dir", "off"), ("metacopy", "off")];
        debug!(lower = %lower.display(), ?options, ?attributes, "mounts a read-only view");
        for (key, value) in options {
            fsconfig_set_string(context.as_fd(), key, value)?;
        }
        fsconfig_create(context.as_fd())?;
        let attributes = attributes | MountAttrFlags::MOUNT_ATTR_RDONLY;
        Ok(Self(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    /// Copies the mount at `path` without those below it.
    pub(super) fn alone(path: &Path) -> io::Result<Self> {
        Ok(Self(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?))
    }

    fn create(context: OwnedFd) -> io::Result<Self> {
        fsconfig_create(context.as_fd())?;
        let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(Self(mount))
    }

    /// Copies the mount at `path`, from that path down, with all mounts below it.
    pub(super) fn tree(path: &Path) -> io::Result<Self> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        Ok(Self(open_tree(CWD, path, flags)?))
    }

    /// Makes this mount and all below it read-only.
    pub(super) fn read_only(self) -> io::Result<Self> {
        match self.set(MountAttrFlags::MOUNT_ATTR_RDONLY) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => self.remounted_read_only(),
            result => result.map(|()| self),
        }
    }

    fn set(&self, attributes: MountAttrFlags) -> io::Result<()> {
        let change = libc::mount_attr {
            attr_set: u64::from(attributes.bits()),
            attr_clr: 0,
            propagation: 0,
            userns_fd: 0,
        };
        let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
        // SAFETY: the path is a terminated string, `change` lives through the call and its size is
        // given.
        let status = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const change,
                size_of::<libc::mount_attr>(),
            )
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The replacement for [`Mount::read_only`] on kernels without mount_setattr(2). mount(2)
    /// changes the attributes of attached mounts only, and of one mount at a time.
    fn remounted_read_only(&self) -> io::Result<Self> {
        let place = TemporaryPlace::new(self.shape()?)?;
        self.attach_at(&place.0)?;
        for mount in Line::of_process()?.iter().filter(|mount| mount.place.starts_with(&place.0)) {
            let flags = MountFlags::BIND | MountFlags::RDONLY | flags_of(&mount.options);
            match mount_remount(&mount.place, flags, c"") {
                // Another mount covers its mount point, so no path leads to it.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Self::tree(&place.0)
    }

    /// Returns the mount's root directory or file.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Returns a path to the mounted directory or file, valid for this process while `self` exists.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.0)
    }

    /// Returns the shape that a mount point for this mount needs.
    pub(super) fn shape(&self) -> io::Result<Shape> {
        Shape::of(&self.path())
    }

    /// Attaches the mount on top of `place`, a directory or file.
    pub(super) fn attach(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(self.0.as_fd(), "", place, "", flags)?)
    }

    /// Attaches the mount on top of `path`, a directory or file of this process' view.
    pub(super) fn attach_at(&self, path: &Path) -> io::Result<()> {
        self.attach(place(path)?.as_fd())
    }
}

/// Parses the options in a line of mountinfo into the flags that a remount must repeat, because it
/// clears those that are missing. The kernel keeps the ones about access times by itself.
fn flags_of(options: &str) -> MountFlags {
    let flag = |option: &str| match option {
        "ro" => MountFlags::RDONLY,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        _ => MountFlags::empty(),
    };
    options.split(',').map(flag).fold(MountFlags::empty(), |all, one| all | one)
}

/// A temporary mount point below [`ROOTS`]. Dropping it unmounts and removes it.
pub(super) struct TemporaryPlace(PathBuf);

impl TemporaryPlace {
    pub(super) fn new(shape: Shape) -> io::Result<Self> {
        let path = make_unused(|path| match shape {
            Shape::File => File::create_new(path).map(drop),
            Shape::Directory => fs::create_dir(path),
        })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryPlace {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        // On the tmpfs of this process: a leftover costs one name and ends with the process.
        let _ = fs::remove_dir(&self.0).or_else(|_| fs::remove_file(&self.0));
    }
}

/// Calls `make` with unused paths below [`ROOTS`] until it makes one, and returns that path. `make`
/// must fail with `AlreadyExists` if the path is in use: sandboxes that are just starting see the
/// same directory and count from the same number.
pub(super) fn make_unused(make: impl Fn(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let path = Path::new(ROOTS).join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
}

/// Separates the mounts at and below `path` from the mounts that they were copied from. Changes
/// made here reach only the copies that are made from now on.
pub(super) fn part_from_original(path: &Path) -> io::Result<()> {
    // Downstream (MS_SLAVE) leaves the peer group of the original; shared then begins a new group.
    for propagation in [MountPropagationFlags::DOWNSTREAM, MountPropagationFlags::SHARED] {
        mount_change(path, propagation | MountPropagationFlags::REC)?;
    }
    Ok(())
}

/// Makes the root directory of this process a mount. In a chroot, it may be a plain directory. The
/// current directory stays the same.
pub(super) fn make_root_a_mount() -> io::Result<()> {
    let current = std::env::current_dir();
    let root = Mount::tree("/".as_ref())?;
    root.attach_at("/".as_ref())?;
    // By the descriptor: the path `/` still leads to the directory beneath the mount.
    rustix::process::fchdir(root.as_fd())?;
    rustix::process::chroot(".")?;
    // By its name: the directory that was the current one lies beneath the new mount.
    std::env::set_current_dir(current.unwrap_or_else(|_| "/".into()))
}

/// Opens a directory or file as a mount point.
pub(super) fn place(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Returns a path to an open file or directory, valid for this process while it is open.
pub(super) fn path_of(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// Returns a function for `map_err` that adds the source and the target of a mount.
pub(super) fn error<E: Into<io::Error>>(
    what: impl ToString,
    target: impl AsRef<Path>,
) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Mount {
        what: what.to_string(),
        target: target.as_ref().to_owned(),
        source: error.into(),
    }
}
