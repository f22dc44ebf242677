//! Secrets that the trace must not show.
//!
//! They are kept for the whole process, because it has one trace: an edge that traces a request does not know for which image.

use std::sync::RwLock;

use tracing::level_filters::LevelFilter;

use crate::build::Redactor;
use crate::element::Environment;

/// More of them become known as images are read.
static REDACTORS: RwLock<Vec<Redactor>> = RwLock::new(Vec::new());

/// Keeps the secrets among these variables out of the trace from now on. Costs nothing where there is no trace.
pub(crate) fn redact(variables: &Environment) {
    if LevelFilter::current() != LevelFilter::OFF {
        REDACTORS.write().unwrap_or_else(|held| held.into_inner()).push(Redactor::of(variables));
    }
}

/// Returns a line of the trace without the secrets that are known by now.
pub(crate) fn redacted(line: &str) -> String {
    // A panic elsewhere leaves the list whole, and a trace without it would show secrets.
    let redactors = REDACTORS.read().unwrap_or_else(|held| held.into_inner());
    redactors.iter().fold(line.to_owned(), |line, redactor| redactor.text(&line))
}
