//! `plywood store`: what it holds, what it can do without, whether it is sound.

use std::process::ExitCode;
use std::time::Duration;

use super::Process;
use super::answer::{self, say};
use super::args::{Global, Store as Command};
use super::context::{open_store, open_store_to_read};
use super::progress::size;
use super::report::Failure;
use crate::store::{CheckReport, GcPolicy, GcReport, Store};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Lists, collects or checks.
pub(super) fn run(global: &Global, command: &Command, process: &Process) -> Result<ExitCode, Failure> {
    match command {
        Command::List { json } => list(&open_store_to_read(global)?, *json),
        Command::Gc { older_than, max_size } => {
            let unused_for = Some(Duration::from_secs(older_than.saturating_mul(DAY)));
            let policy = GcPolicy { unused_for, max_bytes: max_size.map(|size| size.bytes()) };
            report_gc(&open_store(global, process)?.gc(&policy)?)
        }
        Command::Check => report_check(&open_store(global, process)?.check()?),
    }
}

fn report_gc(report: &GcReport) -> Result<ExitCode, Failure> {
    let GcReport { records, layers, blobs, freed_bytes, kept_bytes } = report;
    say!(
        "removed {records} records, {layers} layers and {blobs} blobs ({}); layers take {} now",
        size(*freed_bytes),
        size(*kept_bytes),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn list(store: &Store, json: bool) -> Result<ExitCode, Failure> {
    let records = store.list()?;
    if json {
        let lines: Vec<_> = records
            .iter()
            .map(|listed| {
                serde_json::json!({
                    "image": listed.record.image,
                    "step": listed.record.step,
                    "input-key": listed.record.input_key,
                    "diff-ids": listed.record.diff_ids,
                    "last-used": listed.used,
                    "blob-bytes": listed.blob_bytes,
                    "unpacked-bytes": listed.unpacked_bytes,
                })
            })
            .collect();
        answer::json(&lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = records.iter().map(|listed| listed.record.step.len()).max().unwrap_or_default();
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

fn report_check(report: &CheckReport) -> Result<ExitCode, Failure> {
    say!("read {} blobs ({})", report.blobs, size(report.bytes))?;
    let CheckReport {
        damaged_blobs, dropped_layers, dropped_records, dropped_images, dropped_snapshots, ..
    } = report;
    for path in damaged_blobs {
        say!("damaged: {} (set aside; steps that need it are built again)", path.display())?;
    }
    for diff_id in dropped_layers {
        say!("layer {diff_id}: no good blob is left of it")?;
    }
    for path in dropped_records {
        say!("record {}: dropped", path.display())?;
    }
    for name in dropped_images {
        say!("image {name}: dropped")?;
    }
    for diff_id in dropped_snapshots {
        say!("unpacked layer {diff_id}: was not what its blob says, dropped")?;
    }
    if report.is_sound() {
        say!("sound")?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}
