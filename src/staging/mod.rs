//! Stages the files that hooks see, and carries the files that they leave from step to step.
//!
//! | module | what it does |
//! |---|---|
//! | `hooks` | lays out the directories of a step from its tasks: hooks, elements, inputs |
//! | `copy`, `input` | copy elements and inputs, and refuse those that changed since the plan was made |
//! | `handover` | keeps what hooks leave in the layer, and gives it to the hooks of later steps and to the caller |
//!
//! Everything here runs as root on the build host, beside files that hooks and strangers' layers
//! wrote: no symlink of theirs is followed.

mod copy;
mod handover;
mod hooks;
mod input;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub use handover::{LeftFile, left_files};
pub use hooks::HookLayout;

use rustix::fs::{Mode, OFlags, open};

use crate::port::{HookFilesError, IoError};

/// Returns a function that adds to an error what was tried with `path`.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HookFilesError {
    move |error| IoError::new(action, path)(error).into()
}

/// Opens the regular file `path`, which was one when the plan was made, to read.
fn open_planned(path: &Path) -> Result<File, HookFilesError> {
    // NONBLOCK: the opening of a FIFO that has replaced the file would wait for its other end.
    let opened =
        open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    let file = opened.map(File::from).map_err(|error| io_error("read", path)(error.into()))?;
    match file.metadata().map_err(io_error("read", path))?.is_file() {
        true => Ok(file),
        false => Err(HookFilesError::Changed { path: path.to_owned() }),
    }
}

/// Sets a mode, whatever the umask.
fn set_mode(path: &Path, bits: u32) -> Result<(), HookFilesError> {
    fs::set_permissions(path, Permissions::from_mode(bits)).map_err(io_error("set the mode of", path))
}
