//! Stages the files that hooks see, and carries the files that they leave from step to step.
//!
//! | module | what it does |
//! |---|---|
//! | `hooks` | lays out the directories of a step from its tasks: hooks, elements, inputs |
//! | `copy`, `input` | copy elements and inputs, and refuse files that changed since the plan was
//! made | | `handover` | keeps files that hooks leave in the layer, for the hooks of later steps
//! and for the caller |
//!
//! This module runs as root on the build host, among files that hooks or foreign layers wrote. It
//! follows none of their symlinks.

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

use crate::directory::open_regular;
use crate::port::{HookFilesError, IoError};

/// Returns a function that adds `action` and `path` to an error.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HookFilesError {
    move |error| IoError::new(action, path)(error).into()
}

/// Opens `path`, which was a regular file when the plan was made, for reading.
fn open_planned(path: &Path) -> Result<File, HookFilesError> {
    match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            Err(HookFilesError::Changed { path: path.to_owned() })
        }
        opened => opened.map_err(io_error("read", path)),
    }
}

/// Sets a mode, whatever the umask.
fn set_mode(path: &Path, bits: u32) -> Result<(), HookFilesError> {
    fs::set_permissions(path, Permissions::from_mode(bits)).map_err(io_error("set the mode of", path))
}
