//! `plywood cache`: manages a repository through which machines share steps.

use std::process::ExitCode;

use super::answer::say;
use super::args::{Cache, Global, Progress};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::engine::{Prune, Pruned, Session, prune};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Deletes old steps.
pub(super) fn run(global: &Global, command: &Cache, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let Cache::Prune { repository, older_than, keep_last, dry_run } = command;
    let events = renderer(Progress::Plain, Detail::of(global));
    let older_than_seconds = i64::from(*older_than) * DAY;
    let request = Prune { repository, older_than_seconds, keep_last: *keep_last, dry_run: *dry_run };
    let Pruned { steps, gone } = prune(session, &request, events.as_ref())?;
    match (steps, gone) {
        (0, _) => say!("nothing to delete: {repository} holds no steps")?,
        (_, 0) => say!(
            "nothing to delete: none of the {steps} steps in {repository} is older than {older_than} days and \
             not among those to keep"
        )?,
        _ if *dry_run => say!("would delete {gone} of {steps} steps from {repository}")?,
        _ => say!(
            "deleted {gone} of {steps} steps from {repository}; the registry's own garbage collection frees the space"
        )?,
    }
    Ok(ExitCode::SUCCESS)
}
