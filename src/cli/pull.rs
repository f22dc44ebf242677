//! `plywood pull`: fetches an image into the store, or the files of an artifact into a directory.

use std::process::ExitCode;

use super::answer::say;
use super::args::{Global, Pull};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::engine::{Session, pull, pull_files};
use crate::oci::Reference;
use crate::port::Events;

/// Fetches the reference, and prints the destination.
pub(super) fn run(global: &Global, args: &Pull, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let reference: Reference = args.reference.parse()?;
    let events = renderer(args.progress, Detail::of(global));
    let said = match &args.output {
        Some(directory) => {
            let paths = pull_files(session, &reference, directory, events.as_ref())?;
            paths.iter().map(|path| path.display().to_string()).collect()
        }
        None => image(session, &reference, events.as_ref())?,
    };
    // Clear a live display first, or it would draw over the answer.
    drop(events);
    said.iter().try_for_each(|line| say!("{line}"))?;
    Ok(ExitCode::SUCCESS)
}

fn image(session: &Session<'_>, reference: &Reference, events: &dyn Events) -> Result<Vec<String>, Failure> {
    let (layers, digest) = pull(session, reference, events)?;
    Ok(vec![
        format!("{reference}: {layers} layers, manifest {digest}"),
        format!(
            "it is in the store now: `plywood push {reference} REF` uploads it elsewhere, \
             `plywood import {reference} NAME` makes it a base"
        ),
    ])
}
