//! `plywood layers`: the layers of an image.

use std::process::ExitCode;

use super::answer::{json, say};
use super::args::{Global, Layers, Progress};
use super::progress::{Detail, renderer, size};
use super::report::Failure;
use crate::engine::{LayerLine, Look, Project, Session};

/// Prints index, step, DiffID, digest, sizes and number of entries of each layer.
pub(super) fn run(global: &Global, args: &Layers, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let project = &Project::load(session)?.in_order(args.order);
    let events = &*renderer(Progress::Plain, Detail::beside_answer(global));
    let document = Look { session, project, cache_from: &[], events }.layers(&args.image)?;
    if args.json {
        json(&document)?;
    } else {
        print(&document.layers)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(lines: &[LayerLine]) -> Result<(), Failure> {
    let width = lines.iter().map(|line| line.step.to_string().len()).max().unwrap_or_default();
    for line in lines {
        say!(
            "{:>3}  {:width$}  {}  {:>10}  {:>10}  {:>7} entries",
            line.index,
            line.step,
            line.diff_id,
            size(line.tar_bytes),
            size(line.blob_bytes),
            line.entries,
        )?;
    }
    Ok(())
}
