//! Failures of verbs. Front ends decide how to show them.

use std::error::Error;

use crate::element::shell_line;

/// An error for the user. Front ends search its causes for errors with a hint or an exit status of
/// their own.
pub type Failure = Box<dyn Error>;

/// A message of this module or of a front end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Message {
    message: String,
    hint: Option<Hint>,
}

/// The next action after an error: text, and calls of plywood on the same project and store.
#[derive(Debug, Default)]
pub struct Hint(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Call(Vec<String>),
}

impl Hint {
    /// Returns a hint that is a call of plywood with these arguments.
    pub fn call<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::default().then_call(words)
    }

    /// Adds a call.
    pub fn then_call<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.0.push(Part::Call(words.into_iter().map(Into::into).collect()));
        self
    }

    /// Adds text.
    pub fn then(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Returns the text. `plywood` begins each call, with the options for this project and store.
    fn text(&self, plywood: &str) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            // Quoted, so that the user can paste a call whose names contain spaces.
            Part::Call(words) => format!("{plywood} {}", shell_line(words)),
        };
        self.0.iter().map(text).collect()
    }
}

impl From<&str> for Hint {
    fn from(text: &str) -> Self {
        Self::default().then(text)
    }
}

impl From<String> for Hint {
    fn from(text: String) -> Self {
        Self::default().then(text)
    }
}

impl Message {
    /// Returns an error with a hint.
    pub fn with_hint(message: impl Into<String>, hint: impl Into<Hint>) -> Failure {
        Box::new(Self { message: message.into(), hint: Some(hint.into()) })
    }

    /// Returns an error that needs no hint.
    pub fn plain(message: impl Into<String>) -> Failure {
        Box::new(Self { message: message.into(), hint: None })
    }

    /// Returns the hint, if the message has one. `plywood` begins the commands in it.
    pub fn hint(&self, plywood: &str) -> Option<String> {
        self.hint.as_ref().map(|hint| hint.text(plywood))
    }
}

/// Returns an error, its cause, the cause of that cause, and so on.
pub(crate) fn causes_from<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns an error with its chain of causes as one line.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    causes_from(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
