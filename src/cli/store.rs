//! `plywood store`: lists, removes and verifies the content of the store.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use super::answer::{self, say};
use super::args::{Global, Progress, Store as Command};
use super::progress::{Detail, count, renderer, size};
use super::report::{Failure, Message};
use crate::engine::{
    self, CheckReport, GcPolicy, GcReport, ImagesDocument, ListedImage, ListedRecord, Removed,
    RemovedDocument, Session, StepsDocument, list_records, remove_images,
};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Lists, collects or checks.
pub(super) fn run(global: &Global, command: &Command, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let events = &*renderer(Progress::Plain, Detail::beside_answer(global));
    match command {
        Command::List { json } => list(list_records(session, events)?, *json),
        Command::Images { json } => list_images(engine::list_images(session, events)?, *json),
        Command::Rm { images, force, json } => report_removal(remove_images(session, images, *force)?, *json),
        Command::Gc { older_than, max_size } => {
            let unused_for = Some(Duration::from_secs(older_than.saturating_mul(DAY)));
            let policy = GcPolicy { unused_for, max_bytes: max_size.map(|size| size.bytes()) };
            report_gc(&engine::collect(session, &policy)?, policy.max_bytes)
        }
        Command::Check => report_check(&engine::verify(session)?),
    }
}

fn report_gc(report: &GcReport, max_bytes: Option<u64>) -> Result<ExitCode, Failure> {
    let GcReport { records, layers, blobs, freed_bytes, kept_bytes, .. } = report;
    say!(
        "removed {}, {} and {} ({}); layers and images take {} now",
        count(*records, "record"),
        count(*layers, "layer"),
        count(*blobs, "blob"),
        size(*freed_bytes),
        size(*kept_bytes),
    )?;
    // Images stay whatever the limit, so the user has to solve this error. The next collection
    // removes layers that running commands use.
    match max_bytes {
        Some(limit) if report.image_bytes > limit => Err(over_limit(report, limit)),
        Some(limit) if *kept_bytes > limit => {
            say!("this is more than {}: commands that are running use layers", size(limit))?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Returns the error for images that take more than `limit`.
fn over_limit(report: &GcReport, limit: u64) -> Failure {
    let images = report.images.iter().map(|(name, bytes)| format!("`{name}` ({})", size(*bytes)));
    Message::with_hint(
        format!(
            "the limit of {} is less than the size of imported and pulled images, which `store gc` keeps: {}",
            size(limit),
            images.collect::<Vec<_>>().join(", ")
        ),
        "to remove an image that you do not need any more: plywood store rm NAME",
    )
}

fn list(records: Vec<ListedRecord>, json: bool) -> Result<ExitCode, Failure> {
    if json {
        answer::json(&StepsDocument::new(records))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = records.iter().map(|listed| listed.record.step.to_string().len()).max().unwrap_or_default();
    for listed in &records {
        let (record, blobs, unpacked) = (&listed.record, listed.blob_bytes, listed.unpacked_bytes);
        say!(
            "{}  {:width$}  {:>10} stored  {:>10} unpacked  first for {}",
            record.input_key.short(),
            record.step,
            size(blobs),
            size(unpacked),
            record.image,
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list_images(images: Vec<ListedImage>, json: bool) -> Result<ExitCode, Failure> {
    if json {
        answer::json(&ImagesDocument::new(images))?;
        return Ok(ExitCode::SUCCESS);
    }
    for image in &images {
        let ListedImage { name, manifest, blob_bytes, used_by } = image;
        let users = if used_by.is_empty() { String::new() } else { format!("  used by {}", names(used_by)) };
        say!("{name}  {manifest}  {:>10}{users}", size(*blob_bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn names(images: &BTreeSet<String>) -> String {
    images.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn report_removal(removed: Removed, json: bool) -> Result<ExitCode, Failure> {
    let Removed { names, freed_bytes } = removed;
    if json {
        answer::json(&RemovedDocument::new(names.into_iter().collect(), freed_bytes))?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in names {
        say!("removed {name}")?;
    }
    say!("freed {}", size(freed_bytes))?;
    Ok(ExitCode::SUCCESS)
}

fn report_check(report: &CheckReport) -> Result<ExitCode, Failure> {
    say!("read {} ({})", count(report.blobs, "blob"), size(report.bytes))?;
    let CheckReport {
        damaged_blobs,
        dropped_layers,
        dropped_records,
        dropped_images,
        dropped_snapshots,
        damaged_index,
        ..
    } = report;
    if let Some(path) = damaged_index {
        say!(
            "{}: unreadable, set aside; import bases and pull images that you need again, before \
             `plywood store gc` removes their layers",
            path.display()
        )?;
    }
    for path in damaged_blobs {
        say!("damaged: {} (set aside; steps that need it are built again)", path.display())?;
    }
    for diff_id in dropped_snapshots {
        say!("unpacked layer {diff_id}: differs from its blob, dropped")?;
    }
    // After the blobs and snapshots above: their damage is the cause.
    for diff_id in dropped_layers {
        say!("layer {diff_id}: dropped, all its blobs are damaged")?;
    }
    for name in dropped_images {
        say!("image {name}: dropped")?;
    }
    match dropped_records.len() {
        0 => {}
        1 => say!("dropped 1 record of a step: the step is built again")?,
        count => say!("dropped {count} records of steps: the steps are built again")?,
    }
    if report.is_sound() {
        say!("sound")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
