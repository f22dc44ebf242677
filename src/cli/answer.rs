//! The answer of a command: text on standard output.

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

/// Writes one line.
pub(super) fn line(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    // Flushed here, where an error can be reported: what is written at exit may be lost in silence.
    writeln!(output, "{}", printable(&text.to_string()))
        .and_then(|()| output.flush())
        .map_err(|error| NotTaken(error).into())
}

/// Writes a document for programs.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    say!("{}", serde_json::to_string_pretty(document)?)
}

/// Returns true if the reader of standard output has closed it, as `head` does when it has enough. The command has succeeded.
pub(super) fn is_enough(failure: &Failure) -> bool {
    let error = failure.downcast_ref::<NotTaken>();
    error.is_some_and(|NotTaken(error)| error.kind() == ErrorKind::BrokenPipe)
}
