//! One JSON object per line, for programs.

use crate::cli::answer::tell;
use crate::cli::report::bounded;
use crate::port::{Event, Events};

/// Writes each event as a line of JSON to standard error.
pub(super) struct Json;

impl Events for Json {
    fn emit(&self, event: Event<'_>) {
        // Only warnings can be long: lines of output are already cut where they are read.
        let message = match event {
            Event::Warning { message } => bounded(message.to_owned()),
            _ => String::new(),
        };
        let event = if message.is_empty() { event } else { Event::Warning { message: &message } };
        let Ok(line) = serde_json::to_string(&event) else { return };
        tell(&format!("{line}\n"));
    }
}
