//! A part of the output, with its time.

use std::time::Instant;

use crate::port::{Event, Events};

/// A part of the output that is under way.
pub struct Stage<'a> {
    events: &'a dyn Events,
    image: &'a str,
    name: String,
    started: Instant,
}

impl<'a> Stage<'a> {
    /// Announces that a part of the output starts.
    pub fn start(events: &'a dyn Events, image: &'a str, name: impl Into<String>) -> Self {
        let name = name.into();
        events.emit(Event::StageStarted { image, stage: &name });
        Self { events, image, name, started: Instant::now() }
    }

    /// Announces that it is done.
    pub fn end(self) {
        let milliseconds = self.started.elapsed().as_millis() as u64;
        self.events.emit(Event::StageFinished { image: self.image, stage: &self.name, milliseconds });
    }
}
