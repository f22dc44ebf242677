//! The end of a command that the user asks to stop.
//!
//! Loops that move bytes look at the flag and end in order within a moment. Some calls cannot look: a file system that
//! syncs, a resolver, the removal of a large tree. They must not keep the user waiting, so a thread ends the process when
//! the time is over. That is as safe as SIGKILL: the kernel releases mounts, loop devices and jobs, a file gets its name
//! only when it is complete, and the next command sweeps the store.

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

/// How long a command may take to end in order. Longer than a second: a program on the terminal has that long to end.
const GRACE: Duration = Duration::from_millis(1300);
/// How soon the signal is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// How long the last message may take. The three together are less than two seconds, which is what users are promised.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Ends the process soon after the user asked it to stop, wherever it is then.
pub(super) fn end_in_time(program: &Program, progress: Progress) {
    let (interrupted, caught) = (Arc::clone(&program.process.interrupted), Arc::clone(&program.caught));
    thread::spawn(move || {
        while !interrupted.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        // The main thread usually returns from `main` within this time, which ends this thread,
        // too.
        thread::sleep(GRACE);
        let (sender, told) = channel();
        // On a thread of its own: where standard error is a full pipe, the thread that writes there
        // holds its lock, and this message would wait for it without end.
        thread::spawn(move || {
            tell(&Message::plain("interrupted"), progress, "plywood");
            sender.send(())
        });
        let _ = told.recv_timeout(LAST_WORDS);
        std::process::exit(signal_status(&caught).map_or(128, i32::from));
    });
}

/// Returns why a command failed: if the user asked it to stop, that is the cause of whatever else broke on the way.
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
