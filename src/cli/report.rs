//! Errors as the user sees them: what failed, because of what, and what to type next.

use std::error::Error;
use std::fmt::Write as _;

/// An error on its way to the user. Opaque: nobody but the user looks into it.
pub type Failure = Box<dyn Error>;

/// A message made in this room.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Message {
    message: String,
    hint: Option<String>,
}

impl Message {
    /// Makes an error with a hint: something to type.
    pub fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Box::new(Self { message: message.into(), hint: Some(hint.into()) })
    }

    /// Makes an error that needs no hint.
    pub fn plain(message: impl Into<String>) -> Failure {
        Box::new(Self { message: message.into(), hint: None })
    }
}

/// Returns the text for an error: its chain of causes, then the output it has, then a hint.
pub fn render(error: &Failure) -> String {
    let mut text = format!("error: {error}\n");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = writeln!(text, "  Caused by: {error}");
        cause = error.source();
    }
    for line in super::hint::details(error.as_ref()) {
        let _ = writeln!(text, "{line}");
    }
    if let Some(hint) = hint_of(error.as_ref()) {
        let _ = write!(text, "\nhint: {hint}\n");
    }
    text
}

fn hint_of(error: &(dyn Error + 'static)) -> Option<String> {
    let mut current = Some(error);
    while let Some(error) = current {
        let own = error.downcast_ref::<Message>().and_then(|message| message.hint.clone());
        if let Some(hint) = own.or_else(|| super::hint::for_error(error)) {
            return Some(hint);
        }
        current = error.source();
    }
    None
}
