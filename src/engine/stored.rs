//! The verbs of `store`: list, remove and verify its content.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::{Failure, Hint, Message};
use super::session::{Session, open_store, open_store_to_read};
use crate::distro::BaseSource;
use crate::load;
use crate::oci::Digest;
use crate::port::Events;
use crate::store::{Bases, CheckReport, GcPolicy, GcReport, ListedImage, ListedRecord, Store};

/// Images that were removed.
pub(crate) struct Removed {
    pub(crate) names: BTreeSet<String>,
    pub(crate) freed_bytes: u64,
}

/// Lists the built steps.
pub(crate) fn list_records(session: &Session<'_>, events: &dyn Events) -> Result<Vec<ListedRecord>, Failure> {
    Ok(open_store_to_read(session, events)?.records().list()?)
}

/// Lists the images.
pub(crate) fn list_images(session: &Session<'_>, events: &dyn Events) -> Result<Vec<ListedImage>, Failure> {
    Ok(open_store_to_read(session, events)?.images().list()?)
}

/// Removes the records that `policy` selects, and everything that no remaining record or name
/// needs.
pub(crate) fn collect(session: &Session<'_>, policy: &GcPolicy) -> Result<GcReport, Failure> {
    Ok(open_store(session)?.gc(policy)?)
}

/// Verifies every blob.
pub(crate) fn verify(session: &Session<'_>) -> Result<CheckReport, Failure> {
    Ok(open_store(session)?.check()?)
}

/// Removes images, and the blobs that nothing else needs. Checks all names before it removes the
/// first image.
///
/// # Errors
/// For a base below cached steps, unless `force` is true.
pub(crate) fn remove_images(
    session: &Session<'_>,
    words: &[String],
    force: bool,
) -> Result<Removed, Failure> {
    let store = open_store(session)?;
    let known = store.images().list()?;
    let mut chosen: BTreeMap<&str, &ListedImage> = BTreeMap::new();
    for word in words {
        let found = find(session, &store, &known, word)?;
        chosen.insert(&found.name, found);
    }
    if let Some(used) = chosen.values().find(|image| !force && !image.used_by.is_empty()) {
        return Err(in_use(used));
    }
    for name in chosen.keys() {
        store.images().remove(name)?;
    }
    // Without age and size, a collection removes only blobs that no record and no name needs.
    let GcReport { freed_bytes, .. } = store.gc(&GcPolicy::default())?;
    Ok(Removed { names: chosen.into_keys().map(str::to_owned).collect(), freed_bytes })
}

fn in_use(image: &ListedImage) -> Failure {
    let users: Vec<_> = image.used_by.iter().map(|name| format!("`{name}`")).collect();
    let message =
        format!("`{}` is the base of {}, whose steps are in the store", image.name, users.join(", "));
    let hint = Hint::from("to remove it anyway: ").then_call(["store", "rm", "--force", &image.name]);
    let hint = hint.then("; steps that no recent build used go with ").then_call(["store", "gc"]);
    Message::with_hint(message, hint)
}

/// Returns the image with this name, this digest, or this name of an imported base in the project.
fn find<'i>(
    session: &Session<'_>,
    store: &Store,
    known: &'i [ListedImage],
    word: &str,
) -> Result<&'i ListedImage, Failure> {
    let base = base_of_project(session, word);
    let is_named = |image: &&ListedImage| image.name == word || base.as_ref() == Some(&image.name);
    if let Some(named) = known.iter().find(is_named) {
        return Ok(named);
    }
    let digest = word.parse::<Digest>().ok();
    let found: Vec<_> = known.iter().filter(|image| Some(image.manifest) == digest).collect();
    match found[..] {
        [] => {
            let message = format!("store `{}` has no image `{word}`", store.path().display());
            Err(Message::with_hint(
                message,
                Hint::from("to list its images: ").then_call(["store", "images"]),
            ))
        }
        [image] => Ok(image),
        _ => {
            let all: Vec<_> = found.iter().map(|image| format!("`{}`", image.name)).collect();
            Err(Message::with_hint(
                format!("the image `{word}` has several names: {}", all.join(", ")),
                "to remove one of them: plywood store rm NAME",
            ))
        }
    }
}

/// Returns the name in the store of the imported base that the project calls `word`.
fn base_of_project(session: &Session<'_>, word: &str) -> Option<String> {
    let base = load::load_base(&word.parse().ok()?, &[session.project.join("layers")]).ok()?;
    match base.source {
        BaseSource::Stored { digest, .. } => Some(Bases::name(&digest)),
        _ => None,
    }
}
