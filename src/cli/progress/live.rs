//! A live display: finished steps scroll by, and running ones are below them with their time.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::Narrator;
use super::transfer::TransferBars;
use crate::cli::report::shown;
use crate::port::{Event, Events};

/// The interval at which the time is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// Draws on standard error.
pub(super) struct Live {
    narrator: Mutex<Narrator>,
    display: MultiProgress,
    bar: ProgressBar,
    transfers: TransferBars,
}

impl Live {
    /// Starts without running tasks.
    pub(super) fn new() -> Self {
        let display = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = display.add(ProgressBar::no_length());
        let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { narrator: Mutex::default(), display, bar, transfers: TransferBars::default() }
    }

    fn show_current(&self, image: &str, what: String) {
        let place = self.narrator.lock().unwrap_or_else(|held| held.into_inner()).place(image);
        self.bar.set_prefix(place);
        self.bar.set_message(shown(&what));
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(TICK);
    }

    fn show_transfers(&self, repository: &str) {
        self.bar.set_prefix(repository.to_owned());
        self.bar.set_message("looking up cached layers");
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(TICK);
    }
}

impl Events for Live {
    fn emit(&self, event: Event<'_>) {
        let line = self.narrator.lock().unwrap_or_else(|held| held.into_inner()).line(&event);
        if let Some(all) = self.transfers.draw(&self.display, &event) {
            self.bar.set_message(all);
        }
        match event {
            Event::TransfersStarted { repository, .. } => self.show_transfers(repository),
            // The bars show it.
            Event::TransferProgress { .. } | Event::TaskRunning { .. } => {}
            Event::TaskStarted { image, step, phase, task } => {
                self.show_current(image, format!("{step}: {phase}/{task}"));
            }
            Event::StageStarted { image, stage } => self.show_current(image, stage.to_owned()),
            Event::StepStarted { image, step } => self.show_current(image, format!("{step}: building")),
            _ => {
                if let Some(line) = line {
                    self.bar.println(line);
                }
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
