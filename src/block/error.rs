//! Errors of this room's helpers in the words of the port.

use std::io;
use std::path::Path;

use crate::exec::ExecError;
use crate::port::DiskError;

/// Says what was tried, and where.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> DiskError {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}

/// As [`io_error`], for system calls by rustix.
pub(super) fn os_error(action: &'static str, path: &Path) -> impl Fn(rustix::io::Errno) -> DiskError {
    move |errno| DiskError::Io { action, path: path.to_owned(), source: errno.into() }
}

impl From<ExecError> for DiskError {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Missing { program, package } => DiskError::ToolMissing { program, package },
            ExecError::NotFound { program } => {
                DiskError::Io { action: "run", path: program.into(), source: io::ErrorKind::NotFound.into() }
            }
            ExecError::Start { command, source } => {
                DiskError::Io { action: "run", path: command.into(), source }
            }
            ExecError::TimedOut { command, .. } => {
                DiskError::Io { action: "run", path: command.into(), source: io::ErrorKind::TimedOut.into() }
            }
            ExecError::Interrupted { .. } => DiskError::Interrupted,
            ExecError::Failed { command, exit, stderr } => {
                DiskError::ToolFailed { command, exit: exit.to_string(), stderr }
            }
        }
    }
}
