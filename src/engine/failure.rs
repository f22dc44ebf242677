//! Why a verb failed. How that is shown is the front ends' business.

use std::error::Error;

/// An error on its way to the user. Opaque: nobody but the user looks into it.
pub type Failure = Box<dyn Error>;

/// A message of this module or of a front end.
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

    /// Returns what to type next, if the message knows.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Returns an error, its cause, the cause of that, and so on.
pub(crate) fn causes_from<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns an error with its chain of causes as one line.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    causes_from(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
