//! Mounts as values: made detached, given their attributes, then attached to a place.
//!
//! Source: fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2); the kernel's
//! `Documentation/filesystems/overlayfs.rst`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::target::Shape;
use crate::port::SandboxError;

/// What makes a layer depend on nothing but itself and the names below it: no renames that point into a lower layer,
/// no files that are only half copied, no index beside the layer.
const SELF_CONTAINED: [(&str, &str); 3] = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

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

    /// Makes the merged view of `lowers`, lowest first; with a writable top if `top` names its upper and work directory.
    ///
    /// The top is volatile: nothing waits for the disk, since a layer that is not committed is worth nothing.
    pub(super) fn overlay(lowers: &[PathBuf], top: Option<(&Path, &Path)>) -> io::Result<Self> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for lower in lowers.iter().rev() {
            fsconfig_set_string(context.as_fd(), "lowerdir+", lower)?;
        }
        for (key, value) in SELF_CONTAINED {
            fsconfig_set_string(context.as_fd(), key, value)?;
        }
        if let Some((upper, work)) = top {
            fsconfig_set_string(context.as_fd(), "upperdir", upper)?;
            fsconfig_set_string(context.as_fd(), "workdir", work)?;
            fsconfig_set_flag(context.as_fd(), "volatile")?;
        }
        Self::create(context)
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

    /// Sets attributes on this mount and all below it.
    pub(super) fn with(self, attributes: MountAttrFlags) -> io::Result<Self> {
        let change = libc::mount_attr {
            attr_set: u64::from(attributes.bits()),
            attr_clr: 0,
            propagation: 0,
            userns_fd: 0,
        };
        let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
        // SAFETY: the path is a terminated string, `change` lives through the call and its size is given.
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
        if status == 0 { Ok(self) } else { Err(io::Error::last_os_error()) }
    }

    /// Returns a path to what is mounted, valid for this process while the mount is held.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.0)
    }

    /// Returns the shape that a mount point for this mount has to have.
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

/// Opens a directory or file as a place to mount on.
pub(super) fn place(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Returns a path to an open file or directory, valid for this process while it is open.
pub(super) fn path_of(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// Says what could not be mounted where, for `map_err`.
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
