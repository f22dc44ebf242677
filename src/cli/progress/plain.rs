//! Lines of text.

use std::sync::Mutex;

use super::Detail;
use super::text::Narrator;
use crate::cli::answer::tell;
use crate::cli::report::printable;
use crate::port::{Event, Events};

/// Writes lines to standard error.
pub(super) struct Plain {
    detail: Detail,
    narrator: Mutex<Narrator>,
}

impl Plain {
    /// Starts with no image.
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, narrator: Mutex::default() }
    }

    fn text(&self, event: &Event<'_>) -> Option<String> {
        match (self.detail, event) {
            (Detail::Verbose, Event::TaskOutput { step, task, line, .. }) => {
                Some(printable(&format!("{step} {task} | {line}")))
            }
            _ => {
                let line = self.narrator.lock().unwrap_or_else(|held| held.into_inner()).line(event);
                line.filter(|_| match self.detail {
                    Detail::Quiet => false,
                    Detail::Warnings => matches!(event, Event::Warning { .. }),
                    Detail::Normal | Detail::Verbose => true,
                })
            }
        }
    }
}

impl Events for Plain {
    fn emit(&self, event: Event<'_>) {
        if let Some(line) = self.text(&event) {
            tell(&format!("{line}\n"));
        }
    }
}
