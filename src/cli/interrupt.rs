//! The end of a command that the user asks to stop.
//!
//! Loops that move bytes look at the flag, and end within a moment in order. What cannot look (a file system that
//! syncs, a resolver, the removal of a large tree) must not keep the user waiting either: a thread ends the process when
//! its time is over. That is as safe as SIGKILL: mounts, loop devices and jobs are released by the kernel, and the next
//! command sweeps the store.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Process;
use super::args::Progress;
use super::report::{self, Failure, Message};
use crate::build::BuildError;

/// How long a command may take to end in order.
const GRACE: Duration = Duration::from_millis(1300);
/// How soon the signal is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// Ends the process soon after the user asked it to stop, wherever it is then.
pub(super) fn end_in_time(process: &Process, progress: Progress) {
    let (interrupted, caught) = (Arc::clone(&process.interrupted), Arc::clone(&process.caught));
    std::thread::spawn(move || {
        while !interrupted.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(GRACE);
        tell(&Message::plain("interrupted"), progress, "plywood");
        std::process::exit(128 + i32::try_from(caught.load(Ordering::Relaxed)).unwrap_or(0));
    });
}

/// Returns why a command failed: if the user asked it to stop, that is the cause of whatever else broke on the way.
pub(super) fn reason(process: &Process, failure: Failure) -> Failure {
    match process.interrupted.load(Ordering::Relaxed) && !names_hook(failure.as_ref()) {
        true => Message::plain("interrupted"),
        false => failure,
    }
}

/// Says whether an error tells which hook was running.
fn names_hook(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(BuildError::Interrupted { .. }))
}

/// Shows a failure on standard error.
pub(super) fn tell(failure: &Failure, progress: Progress, plywood: &str) {
    let text = match progress {
        Progress::Json => report::render_json(failure, plywood),
        Progress::Auto | Progress::Plain => report::render(failure, plywood),
    };
    // Nobody is left to be told if this fails.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
