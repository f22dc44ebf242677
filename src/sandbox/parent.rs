//! Processes that end with the one that started them.

use std::io;

use rustix::process::{Pid, set_parent_process_death_signal};

/// Asks the kernel to kill this process when its parent dies.
///
/// # Errors
/// If the parent is already dead: the kernel sends the signal only for deaths after the request.
pub(super) fn die_with(owner: &str) -> io::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let parent = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if parent.is_some_and(|parent| parent.to_string() == owner) {
        Ok(())
    } else {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}
