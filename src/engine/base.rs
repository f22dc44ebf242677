//! Fetches a base that the store lacks from the registry that it was imported from.

use super::failure::Failure;
use super::fetch::Fetch;
use crate::distro::BaseSource;
use crate::oci::Reference;
use crate::plan::{Plan, Step};
use crate::port::{BaseImage, Event, Events, LayerStore, StoreError};
use crate::registry::Client;
use crate::store::Store;

/// Fetches bases.
pub(crate) trait Bases {
    /// Fetches the layers of an image into the store, and returns the image.
    fn fetch(&self, reference: &Reference) -> Result<BaseImage, Failure>;
}

/// Fetches them from registries.
pub(crate) struct RegistryBases<'a> {
    pub(crate) client: &'a Client,
    pub(crate) store: &'a Store,
    pub(crate) events: &'a dyn Events,
}

impl Bases for RegistryBases<'_> {
    fn fetch(&self, reference: &Reference) -> Result<BaseImage, Failure> {
        let Self { client, store, events } = *self;
        let fetched = Fetch { client, store, events }.base(reference)?;
        Ok(BaseImage { layers: fetched.layers, config: fetched.config })
    }
}

/// Fetches the base of a plan if `store` lacks it and its definition names a registry. Without a
/// registry, the build reports the missing base when it reaches that step.
pub(crate) fn fetch_missing(
    plan: &Plan,
    store: &dyn LayerStore,
    bases: &dyn Bases,
    events: &dyn Events,
) -> Result<(), Failure> {
    let source = plan.steps.iter().find_map(Step::imported_base);
    let Some(source @ BaseSource::Stored { reference: Some(reference), .. }) = source else { return Ok(()) };
    match store.base_image(source, plan.architecture) {
        // Only a missing base is fetched. A damaged one is an error that the user must see.
        Err(StoreError::NoBase { .. }) => {}
        there => return Ok(there.map(drop)?),
    }
    let message = format!("the store does not have the base: fetching `{reference}`");
    events.emit(Event::Warning { message: &message });
    let base = bases.fetch(&reference.parse::<Reference>()?)?;
    // Named only when all layers are stored: an interrupted fetch leaves blobs without a name, and
    // garbage collection removes them.
    Ok(store.keep_base(source, &base)?)
}
