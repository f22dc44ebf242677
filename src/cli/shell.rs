//! `plywood shell`: opens a shell on an image's root file system; its changes are discarded.

use std::process::ExitCode;

use super::args::{Global, Progress, Shell};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::engine::{Project, Session, State, shell};

/// Opens the shell; returns its exit status.
pub(super) fn run(global: &Global, args: &Shell, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let project = Project::load(session)?.in_order(args.order);
    let state = match args.at.as_deref() {
        _ if args.failed => State::Failed,
        Some(at) => State::At(at),
        None => State::Finished,
    };
    // Hooks may have to run first. That takes time, so show their progress.
    let detail = if args.at.is_some() { Detail::of(global) } else { Detail::beside_answer(global) };
    let events = renderer(Progress::Plain, detail);
    let exit = shell(session, &project, (&args.image, state), &args.command, events.as_ref())?;
    Ok(ExitCode::from(u8::try_from(exit.shell_status()).unwrap_or(u8::MAX)))
}
