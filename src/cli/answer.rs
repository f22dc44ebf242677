//! The answer of a command: text on standard output. What it says about its work goes to standard error.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::report::{Failure, printable};

/// Standard output does not take what was to be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct NotTaken(#[source] io::Error);

/// Writes a line to standard output: takes what `println!` takes, and returns an error where that panics.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::answer::line(format_args!($($text)*)) };
}
pub(super) use say;

/// Writes one line. If the reader of standard output has closed it, as `head` does when it has enough, the command goes on: its
/// work and its exit status do not depend on who reads.
pub(super) fn line(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    // Flushed here, where an error can be reported: what is written at exit may be lost in silence.
    match writeln!(output, "{}", printable(&text.to_string())).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(NotTaken(error).into()),
        _ => Ok(()),
    }
}

/// Writes a line to standard error: takes what `eprintln!` takes. If standard error is closed, nobody can be told, and the
/// command goes on, where `eprintln!` panics.
macro_rules! remark {
    ($($text:tt)*) => {
        $crate::cli::answer::tell(&format!("{}\n", $crate::cli::report::printable(&format!($($text)*))))
    };
}
pub(super) use remark;

/// Writes text to standard error, as [`remark!`] does, unchanged.
pub(super) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes a document for programs.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    say!("{}", serde_json::to_string_pretty(document)?)
}
