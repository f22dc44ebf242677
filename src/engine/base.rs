//! A base that this store lacks, from the registry that it was imported from.

use super::failure::Failure;
use super::fetch::Fetch;
use super::registry::client;
use super::session::Session;
use crate::build::BuildError;
use crate::distro::BaseSource;
use crate::oci::Reference;
use crate::plan::{Plan, Step};
use crate::port::{BaseImage, Event, Events, LayerStore, StoreError};
use crate::store::Store;

/// Fetches the base of a plan if that is what it failed for.
///
/// # Errors
/// `failure` itself if it has another reason, or nobody knows where the base is to be had.
pub(crate) fn fetch_missing(
    failure: Failure,
    session: &Session<'_>,
    store: &Store,
    plan: &Plan,
    events: &dyn Events,
) -> Result<(), Failure> {
    let source = plan.steps.iter().find_map(Step::imported_base);
    let Some(source @ BaseSource::Stored { reference: Some(reference), .. }) = source else {
        return Err(failure);
    };
    if !is_lack_of_base(&failure) {
        return Err(failure);
    }
    let message = format!("the store does not have the base: fetching `{reference}`");
    events.emit(Event::Warning { message: &message });
    let client = client(session)?;
    let fetched = Fetch { client: &client, store, events }.base(&reference.parse::<Reference>()?)?;
    store.keep_base(source, &BaseImage { layers: fetched.layers, config: fetched.config })?;
    Ok(())
}

fn is_lack_of_base(failure: &Failure) -> bool {
    let is_it = |error: Option<&StoreError>| matches!(error, Some(StoreError::NoBase { .. }));
    match failure.downcast_ref() {
        Some(BuildError::Store(error)) => is_it(Some(error)),
        _ => is_it(failure.downcast_ref()),
    }
}
