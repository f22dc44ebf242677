//! Converts errors of system calls and programs to errors of the port.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use crate::exec::ExecError;
use crate::port::{DiskError, Exit, IoError};

/// Returns a function that adds `action` and `path` to an error.
pub(super) fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(E) -> DiskError {
    move |error| IoError::new(action, path)(error).into()
}

impl From<ExecError> for DiskError {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Missing { program, package } => DiskError::ToolMissing { program, package },
            ExecError::NotFound { program } => not_run(&program, io::ErrorKind::NotFound.into()),
            ExecError::Start { command, source } => not_run(&command, source),
            ExecError::TimedOut { command, .. } => not_run(&command, io::ErrorKind::TimedOut.into()),
            ExecError::Interrupted { .. } => DiskError::Interrupted,
            ExecError::Failed { command, exit, stderr } => {
                DiskError::ToolFailed { command, exit: exit_of(exit), stderr }
            }
        }
    }
}

/// Returns how a program ended: with a status, or by a signal.
fn exit_of(status: ExitStatus) -> Exit {
    match status.signal() {
        Some(signal) => Exit::Signal(signal),
        None => Exit::Status(status.code().unwrap_or_default()),
    }
}

fn not_run(command: &str, why: io::Error) -> DiskError {
    failed("run", Path::new(command))(why)
}
