//! One JSON object a line, for programs.

use std::io::Write;

use crate::cli::report::bounded;
use crate::port::{Event, Events};

/// Writes each event as a line of JSON to standard error.
pub(super) struct Json;

impl Events for Json {
    fn emit(&self, event: Event<'_>) {
        // Only warnings have texts of any length: lines of output are cut where they are read.
        let message = match event {
            Event::Warning { message } => bounded(message.to_owned()),
            _ => String::new(),
        };
        let event = if message.is_empty() { event } else { Event::Warning { message: &message } };
        let Ok(mut line) = serde_json::to_vec(&event) else { return };
        line.push(b'\n');
        // The reader may have closed standard error. The build goes on.
        let _ = std::io::stderr().lock().write_all(&line);
    }
}
