//! Ends a command that the user asks to stop.
//!
//! Loops over data check the flag and end in order within a moment. Some calls cannot check it: a
//! file system that syncs, a resolver, the removal of a large tree. A thread therefore ends the
//! process when the time is over. That is as safe as SIGKILL: the kernel releases mounts, loop
//! devices and jobs, a file gets its name only when it is complete, and the next command cleans the
//! store.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::answer;
use super::args::Progress;
use super::report::{self, Failure, Message};
use super::{Program, signal_status};
use crate::engine::{BuildError, Process};

/// The time for a command to end in order. More than one second, because a program on the terminal
/// gets one second to end.
const GRACE: Duration = Duration::from_millis(1300);
/// The interval at which the signal is checked.
const LOOK: Duration = Duration::from_millis(50);
/// The time for the last message. The three durations add up to less than two seconds, the limit
/// that the documentation promises.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Ends the process soon after the user asked it to stop, whatever the process is doing.
pub(super) fn end_in_time(program: &Program, progress: Progress) {
    let (interrupted, caught) = (Arc::clone(&program.process.interrupted), Arc::clone(&program.caught));
    thread::spawn(move || {
        while !interrupted.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        // The main thread usually returns from `main` within this time, which also ends this
        // thread.
        thread::sleep(GRACE);
        let (sender, told) = channel();
        // A thread of its own prints the message. If standard error is a full pipe, the thread that
        // writes to it holds its lock, and this thread would wait forever.
        thread::spawn(move || {
            tell(&Message::plain("interrupted"), progress, "plywood");
            sender.send(())
        });
        let _ = told.recv_timeout(LAST_WORDS);
        std::process::exit(signal_status(&caught).map_or(128, i32::from));
    });
}

/// Returns the reason of a failure. If the user asked the command to stop, that is the cause of
/// every other error.
pub(super) fn reason(process: &Process, failure: Failure) -> Failure {
    match process.interrupted.load(Ordering::Relaxed) && !names_hook(failure.as_ref()) {
        true => Message::plain("interrupted"),
        false => failure,
    }
}

/// Returns true if an error names the hook that was running.
fn names_hook(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(BuildError::Interrupted { .. }))
}

/// Shows a failure on standard error.
pub(super) fn tell(failure: &Failure, progress: Progress, plywood: &str) {
    let text = match progress {
        Progress::Json => report::render_json(failure, plywood),
        Progress::Auto | Progress::Plain => report::render(failure, plywood),
    };
    answer::tell(&text);
}
