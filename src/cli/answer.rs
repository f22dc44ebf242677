//! The answer of a command: text on standard output. Progress, remarks and errors go to standard
//! error.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::report::{Failure, printable};

/// A write to standard output that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct NotTaken(#[source] io::Error);

/// Writes a line to standard output. Takes the arguments of `println!`, and returns an error where
/// `println!` panics.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::answer::line(format_args!($($text)*)) };
}
pub(super) use say;

/// Writes one line. If the reader has closed standard output, as `head` does when it has enough,
/// the command continues: its work and its exit status do not depend on the reader.
pub(super) fn line(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    // Flush here, where an error can be reported. A write at exit may fail unnoticed.
    match writeln!(output, "{}", printable(&text.to_string())).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(NotTaken(error).into()),
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Takes the arguments of `eprintln!`. If standard error is
/// closed, the command continues, where `eprintln!` panics.
macro_rules! remark {
    ($($text:tt)*) => {
        $crate::cli::answer::tell(&format!("{}\n", $crate::cli::report::printable(&format!($($text)*))))
    };
}
pub(super) use remark;

/// Writes text to standard error unchanged. Ignores errors, as [`remark!`] does.
pub(super) fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes a JSON document to standard output.
pub(super) fn json(document: &impl Serialize) -> Result<(), Failure> {
    say!("{}", serde_json::to_string_pretty(document)?)
}
