//! Fetches the layers of found steps that the store lacks.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;

use super::registries::{Offer, chain};
use super::{BuildError, Builder};
use crate::distro::BaseSource;
use crate::oci::{BlobStream, DiffId, Digest};
use crate::plan::{Plan, Step};
use crate::port::{BaseImage, Blob, IoError, Layer, RemoteError, StoreError};
use crate::share::Refusal;

/// The largest image config that is read.
const CONFIG_LIMIT_BYTES: u64 = 16 << 20;

/// The layers of offers that could not be fetched.
pub(super) type Unavailable = BTreeMap<DiffId, Refusal>;

impl Builder<'_> {
    /// Fetches the layers of `offers` that the store lacks, those of one registry at the same time.
    ///
    /// # Errors
    /// If the store cannot take them. A layer that a registry does not have, or has wrong, is no
    /// error.
    pub(super) fn receive(&self, plan: &Plan, offers: &[&Offer]) -> Result<Unavailable, BuildError> {
        let mut lacking: BTreeMap<usize, BTreeMap<Blob, &Layer>> = BTreeMap::new();
        for offer in offers {
            for layer in &offer.step.layers {
                if self.ports.store.layer(&layer.diff_id)?.is_none() {
                    lacking.entry(offer.registry).or_default().insert(layer.into(), layer);
                }
            }
        }
        let mut unavailable = Unavailable::new();
        for (registry, layers) in lacking {
            unavailable.extend(self.fetch(registry, &layers)?);
        }
        let lowest = offers.iter().find(|offer| offer.step.record.parent.is_none());
        if let (Some(base), Some(source)) = (lowest, plan.steps.first().and_then(Step::imported_base))
            && !base.diff_ids().iter().any(|layer| unavailable.contains_key(layer))
            && let Err(why) = self.receive_base(source, base)?
        {
            unavailable.extend(base.diff_ids().into_iter().map(|layer| (layer, why.clone())));
        }
        Ok(unavailable)
    }

    /// Keeps a base whose layers are here, with its config, so that containers can continue it.
    fn receive_base(&self, source: &BaseSource, offer: &Offer) -> Result<Result<(), Refusal>, BuildError> {
        let Some(config) = &offer.step.config else {
            return Ok(Err(Refusal::Layer { reason: "the config of the base is missing".to_owned() }));
        };
        let document = Mutex::new(Vec::new());
        if config.bytes > CONFIG_LIMIT_BYTES {
            let reason = format!("the config of the base has {} bytes", config.bytes);
            return Ok(Err(Refusal::Layer { reason }));
        }
        let take = |_: &Blob, source: &mut BlobStream<'_>| {
            let mut bytes = Vec::new();
            let read = source.read_to_end(&mut bytes);
            source.damage().map_or(Ok(()), |damage| Err(StoreError::from(damage)))?;
            read.map_err(unreadable(config.digest))?;
            *document.lock().unwrap_or_else(|held| held.into_inner()) = bytes;
            Ok(())
        };
        let fetched = self.registries.registry(offer.registry).fetch(&[*config], &take);
        if let Some(Err(error)) = fetched.into_iter().next() {
            return Ok(Err(refusal(error)?));
        }
        let config = document.into_inner().unwrap_or_else(|held| held.into_inner());
        let base = BaseImage { layers: offer.step.layers.clone(), config };
        match self.ports.store.keep_base(source, &base) {
            Ok(()) => Ok(Ok(())),
            Err(error) => Ok(Err(refusal(error.into())?)),
        }
    }

    fn fetch(&self, registry: usize, layers: &BTreeMap<Blob, &Layer>) -> Result<Unavailable, BuildError> {
        let blobs: Vec<_> = layers.keys().copied().collect();
        let take = |blob: &Blob, source: &mut BlobStream<'_>| self.ports.store.receive(layers[blob], source);
        let fetched = self.registries.registry(registry).fetch(&blobs, &take);
        let mut unavailable = Unavailable::new();
        for (layer, result) in layers.values().zip(fetched) {
            if let Err(error) = result {
                // This build makes the layer again. A publisher has to know that the registry would
                // keep its damaged blob.
                if let Some(digest) = error.damaged_blob() {
                    self.registries.note_damage(registry, digest);
                }
                unavailable.insert(layer.diff_id, refusal(error)?);
            }
        }
        Ok(unavailable)
    }
}

fn unreadable(digest: Digest) -> impl FnOnce(std::io::Error) -> StoreError {
    move |error| IoError::new("read", format!("blob {digest}").as_ref())(error).into()
}

/// Distinguishes a wrong layer from a failure of the store.
pub(super) fn refusal(error: RemoteError) -> Result<Refusal, BuildError> {
    match error {
        RemoteError::Store(
            wrong @ (StoreError::Damaged { .. }
            | StoreError::WrongLayer { .. }
            | StoreError::LargerThanSaid { .. }
            | StoreError::NoRoom { .. }
            | StoreError::Layer(_)
            | StoreError::Invalid { .. }),
        ) => Ok(Refusal::Layer { reason: chain(&wrong) }),
        RemoteError::Store(error) => Err(error.into()),
        other => Ok(Refusal::Layer { reason: chain(&other) }),
    }
}
