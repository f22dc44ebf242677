//! Errors of programs.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// A program that could not be run, or failed. Texts have secrets replaced by `***`.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is not installed.
    #[error("program `{program}` not found (it is in the Debian package `{package}`)")]
    Missing { program: String, package: &'static str },
    /// It is not installed, and settings of the user name it, so plywood does not know its package.
    #[error("program `{program}` not found in PATH")]
    NotFound { program: String },
    /// It could not be started, or its pipes failed.
    #[error("cannot run `{command}`")]
    Start { command: String, source: io::Error },
    /// It did not answer in time.
    #[error("`{command}` has not answered within {} s", limit.as_secs())]
    TimedOut { command: String, limit: Duration },
    /// The user has interrupted it.
    #[error("`{command}` was interrupted")]
    Interrupted { command: String },
    /// It ended with another status than 0.
    #[error("`{command}` failed with {exit}{}", quoted(stderr))]
    Failed {
        command: String,
        exit: ExitStatus,
        /// The end of its standard error.
        stderr: String,
    },
}

fn quoted(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}
