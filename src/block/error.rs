//! The errors of system calls and programs, in the words of the port.

use std::io;
use std::path::Path;

use crate::exec::ExecError;
use crate::port::{DiskError, IoError};

/// Says what was tried, and where.
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
                DiskError::ToolFailed { command, exit: exit.to_string(), stderr }
            }
        }
    }
}

fn not_run(command: &str, why: io::Error) -> DiskError {
    failed("run", Path::new(command))(why)
}
