//! `plywood import`: imports a root file system as a base.

use std::process::ExitCode;

use super::answer::say;
use super::args::{Global, Import};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::distro::BaseName;
use crate::engine::{self, ImportedBase, Session, import};

/// Imports the base, and prints the path of its definition.
pub(super) fn run(global: &Global, args: &Import, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let name: BaseName = args.name.parse()?;
    let request = engine::Import {
        source: &args.source,
        name: &name,
        distro: args.distro.as_deref(),
        release: args.release.as_deref(),
    };
    let events = renderer(args.progress, Detail::of(global));
    let ImportedBase { layers, path } = import(session, &request, events.as_ref())?;
    // Clear a live display first, or it would draw over the answer.
    drop(events);
    let noun = if layers == 1 { "layer" } else { "layers" };
    say!("imported {layers} {noun} as base `{name}`: {}", path.display())?;
    Ok(ExitCode::SUCCESS)
}
