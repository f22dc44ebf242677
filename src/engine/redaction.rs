//! Secrets that the trace must not show.
//!
//! They are kept for the whole process, because the process has one trace: an edge that traces a
//! request does not know the image of the request.

use std::sync::RwLock;

use tracing::level_filters::LevelFilter;

use crate::build::Redactor;
use crate::element::Environment;

/// The list grows while images are read.
static REDACTORS: RwLock<Vec<Redactor>> = RwLock::new(Vec::new());

/// Redacts the secrets in these variables in the trace from now on. Costs nothing without a trace.
pub(crate) fn redact(variables: &Environment) {
    if LevelFilter::current() != LevelFilter::OFF {
        REDACTORS.write().unwrap_or_else(|held| held.into_inner()).push(Redactor::of(variables));
    }
}

/// Returns a line of the trace with all known secrets redacted.
pub(crate) fn redacted(line: &str) -> String {
    // A panic elsewhere leaves the list intact, and a trace without it would show secrets.
    let redactors = REDACTORS.read().unwrap_or_else(|held| held.into_inner());
    redactors.iter().fold(line.to_owned(), |line, redactor| redactor.text(&line))
}
