//! `plywood layers`: the layers of an image.

use std::process::ExitCode;

use super::answer::{json, say};
use super::args::{Global, Layers, Progress};
use super::progress::{Detail, renderer, size};
use super::report::Failure;
use crate::build::{LayerLine, LayersDocument, stored_steps};
use crate::engine::{Context, Session, not_built, open_store_to_read};
use crate::load::HostFileSystem;
use crate::oci::DiffId;
use crate::store::Store;

/// Prints index, step, DiffID, digest, sizes and number of entries of each layer.
pub(super) fn run(global: &Global, args: &Layers, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let context = Context::load(session)?.in_order(args.order);
    let (name, image) = context.image(&args.image)?;
    let store =
        open_store_to_read(session, renderer(Progress::Plain, Detail::beside_answer(global)).as_ref())?;
    let plan = context.plan(name, image, &store)?;
    let mut lines = Vec::new();
    let steps = stored_steps(&plan, &store, &HostFileSystem::default())?;
    if let Some(step) = plan.steps.get(steps.len()) {
        return Err(not_built(name, &step.name));
    }
    for step in steps.iter().take(plan.steps.len()) {
        for diff_id in &step.diff_ids {
            lines.push(line(&store, lines.len(), &step.name, *diff_id)?);
        }
    }
    if args.json {
        json(&LayersDocument::new(name.to_string(), lines))?;
    } else {
        print(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(store: &Store, index: usize, step: &str, diff_id: DiffId) -> Result<LayerLine, Failure> {
    let layer = store.layer(&diff_id)?.ok_or(crate::port::StoreError::MissingLayer { diff_id })?;
    Ok(LayerLine {
        index,
        step: step.to_owned(),
        diff_id,
        digest: layer.blob,
        blob_bytes: layer.blob_bytes,
        tar_bytes: layer.tar_bytes,
        entries: layer.entries,
    })
}

fn print(lines: &[LayerLine]) -> Result<(), Failure> {
    let width = lines.iter().map(|line| line.step.len()).max().unwrap_or_default();
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
