//! `plywood store`: what it holds, what it can do without, whether it is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use super::answer::{self, say};
use super::args::{Global, Progress, Store as Command};
use super::progress::{Detail, renderer, size};
use super::report::{Failure, Message};
use crate::distro::BaseSource;
use crate::engine::Session;
use crate::engine::{open_store, open_store_to_read};
use crate::load;
use crate::oci::Digest;
use crate::store::{
    CheckReport, GcPolicy, GcReport, ImagesDocument, ListedImage, RemovedDocument, StepsDocument, Store,
};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// Lists, collects or checks.
pub(super) fn run(global: &Global, command: &Command, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let to_read =
        || open_store_to_read(session, renderer(Progress::Plain, Detail::beside_answer(global)).as_ref());
    match command {
        Command::List { json } => list(&to_read()?, *json),
        Command::Images { json } => list_images(&to_read()?, *json),
        Command::Rm { images, force, json } => remove(global, &open_store(session)?, images, *force, *json),
        Command::Gc { older_than, max_size } => {
            let unused_for = Some(Duration::from_secs(older_than.saturating_mul(DAY)));
            let policy = GcPolicy { unused_for, max_bytes: max_size.map(|size| size.bytes()) };
            report_gc(&open_store(session)?.gc(&policy)?)
        }
        Command::Check => report_check(&open_store(session)?.check()?),
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
        answer::json(&StepsDocument::new(records))?;
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

fn list_images(store: &Store, json: bool) -> Result<ExitCode, Failure> {
    let images = store.list_images()?;
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

/// Removes images. All names are checked before the first one is removed.
fn remove(
    global: &Global,
    store: &Store,
    images: &[String],
    force: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    let known = store.list_images()?;
    let mut chosen: BTreeMap<&str, &ListedImage> = BTreeMap::new();
    for image in images {
        let found = find(global, &known, image);
        if found.is_empty() {
            let message = format!("store `{}` has no image `{image}`", store.path().display());
            return Err(Message::with_hint(message, "to see which it has: plywood store images"));
        }
        chosen.extend(found.into_iter().map(|image| (image.name.as_str(), image)));
    }
    if let Some(used) = chosen.values().find(|image| !force && !image.used_by.is_empty()) {
        let message =
            format!("`{}` is the base of {}, whose steps are in the store", used.name, names(&used.used_by));
        let hint = "to remove it all the same: plywood store rm --force; steps that no recent build used go with \
                    plywood store gc";
        return Err(Message::with_hint(message, hint));
    }
    for name in chosen.keys() {
        store.remove_image(name)?;
    }
    // Without age and size, a collection removes only what no record and no name needs.
    let GcReport { freed_bytes, .. } = store.gc(&GcPolicy::default())?;
    if json {
        let removed = chosen.keys().map(|name| (*name).to_owned()).collect();
        answer::json(&RemovedDocument::new(removed, freed_bytes))?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in chosen.keys() {
        say!("removed {name}")?;
    }
    say!("freed {}", size(freed_bytes))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the images that a word names: by their name, their digest, or the name that the project gives an imported base.
fn find<'i>(global: &Global, known: &'i [ListedImage], word: &str) -> Vec<&'i ListedImage> {
    let named: Vec<_> = known.iter().filter(|image| image.name == word).collect();
    if !named.is_empty() {
        return named;
    }
    let of_project = || {
        let base = load::load_base(&word.parse().ok()?, &[global.project.join("layers")]).ok()?;
        match base.source {
            BaseSource::Stored { digest, .. } => Some(digest),
            _ => None,
        }
    };
    let digest = word.parse::<Digest>().ok().or_else(of_project);
    known.iter().filter(|image| Some(image.manifest) == digest).collect()
}

fn report_check(report: &CheckReport) -> Result<ExitCode, Failure> {
    say!("read {} blobs ({})", report.blobs, size(report.bytes))?;
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
            "{}: cannot be read, set aside; import the bases and pull the images again that are needed, before \
             `plywood store gc` removes their layers",
            path.display()
        )?;
    }
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
