//! Errors of programs.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// A program that could not be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is not installed.
    #[error("program `{program}` not found (it is in the Debian package `{package}`)")]
    Missing {
        /// Its name.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It is not installed, and settings of the user name it, so plywood does not know its package.
    #[error("program `{program}` not found in PATH")]
    NotFound {
        /// Its name.
        program: String,
    },
    /// It could not be started, or its pipes failed.
    #[error("cannot run `{command}`")]
    Start {
        /// The command line, secrets hidden.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("`{command}` has not answered within {} s", limit.as_secs())]
    TimedOut {
        /// The command line, secrets hidden.
        command: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The user asked to stop while it ran.
    #[error("`{command}` was interrupted")]
    Interrupted {
        /// The command line, secrets hidden.
        command: String,
    },
    /// It ran and failed.
    #[error("`{command}` failed with {exit}{}", quoted(stderr))]
    Failed {
        /// The command line, secrets hidden.
        command: String,
        /// How it ended: `exit status: 1`, `signal: 9 (SIGKILL)`.
        exit: ExitStatus,
        /// The end of its standard error, secrets hidden.
        stderr: String,
    },
}

fn quoted(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}
