//! An image from a registry, into the store.

use std::io::Read;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;

use super::context::machine_architecture;
use super::report::{Failure, Message};
use crate::oci::{
    DiffId, Digest, RawManifest, Reference, TagOrDigest, choose_platform, is_foreign, parse_diff_ids,
};
use crate::port::{Direction, Events, How, Layer, StoreError};
use crate::registry::{Access, Client, PullError, Remote, Transfers, each};
use crate::store::Store;

/// Indexes that name each other have no end.
const MAX_DEPTH: usize = 4;

/// An image whose layers are in the store now.
pub(super) struct Fetched {
    /// Of what the reference names: an index for several platforms, or the manifest itself.
    pub(super) digest: Digest,
    /// The image's manifest.
    pub(super) manifest: RawManifest,
    /// Its config, byte for byte.
    pub(super) config: Vec<u8>,
    /// Its layers, lowest first, in the blobs that the manifest names.
    pub(super) layers: Vec<Layer>,
}

/// Fetches images.
pub(super) struct Fetch<'a> {
    pub(super) client: &'a Client,
    pub(super) store: &'a Store,
    pub(super) events: &'a dyn Events,
}

impl Fetch<'_> {
    /// Fetches what the store does not have of an image.
    pub(super) fn image(&self, reference: &Reference) -> Result<Fetched, Failure> {
        let remote = self.client.remote(&reference.repository, Access::Pull);
        let named = manifest(&remote, &reference.target())?;
        let digest = named.digest();
        let manifest = self.resolve(&remote, named)?;
        let (config, layers) = self.layers(&remote, &manifest)?;
        Ok(Fetched { digest, manifest, config, layers })
    }

    /// Follows indexes to the image for this machine.
    fn resolve(&self, remote: &Remote, mut manifest: RawManifest) -> Result<RawManifest, Failure> {
        for _ in 0..MAX_DEPTH {
            if !manifest.is_index() {
                return Ok(manifest);
            }
            let index: ImageIndex = parse(remote, &manifest)?;
            let chosen = choose_platform(index.manifests(), machine_architecture()?.oci().0);
            let chosen = chosen.map_err(|error| unusable(remote, error.to_string()))?;
            manifest = self::manifest(remote, &digest_of(remote, chosen)?.into())?;
        }
        Err(unusable(remote, "its indexes have no end"))
    }

    fn layers(&self, remote: &Remote, manifest: &RawManifest) -> Result<(Vec<u8>, Vec<Layer>), Failure> {
        let parsed: ImageManifest = parse(remote, manifest)?;
        parsed
            .layers()
            .iter()
            .filter(|layer| is_foreign(layer))
            .try_for_each(|layer| is_there(remote, layer))?;
        let sizes = [parsed.config()].into_iter().chain(parsed.layers()).map(Descriptor::size);
        let transfers = Transfers::start(self.events, remote.repository(), Direction::Pull, sizes);
        let config =
            remote.read_blob(&digest_of(remote, parsed.config())?, parsed.config().size(), &transfers)?;
        let diff_ids = parse_diff_ids(&config).map_err(|_| no_image(remote, &parsed))?;
        if diff_ids.len() != parsed.layers().len() {
            let reason =
                format!("its config names {} layers, its manifest {}", diff_ids.len(), parsed.layers().len());
            return Err(unusable(remote, reason));
        }
        let blobs = parsed.layers().iter().map(|layer| Ok((digest_of(remote, layer)?, layer.size())));
        let blobs = blobs.collect::<Result<Vec<_>, Failure>>()?;
        let pairs: Vec<_> = diff_ids.iter().zip(blobs).collect();
        let layers = each(remote.jobs(), &pairs, |(diff_id, (blob, bytes))| {
            self.layer(remote, &transfers, diff_id, blob, *bytes)
        })?;
        transfers.finish();
        self.store.put_blob(&config)?;
        Ok((config, layers))
    }

    fn layer(
        &self,
        remote: &Remote,
        transfers: &Transfers<'_>,
        diff_id: &DiffId,
        blob: &Digest,
        bytes: u64,
    ) -> Result<Layer, PullError<StoreError>> {
        if let Some(layer) = self.store.layer_in(diff_id, blob).map_err(PullError::Taking)? {
            transfers.blob(blob, bytes).finish(How::There);
            return Ok(layer);
        }
        let name = format!("{}@{blob}", remote.repository());
        let take = |source: &mut dyn Read| self.store.import_layer(source, Path::new(&name), blob, diff_id);
        remote.pull_blob(blob, bytes, transfers, take)
    }
}

/// Reads a manifest that has to be there.
pub(super) fn manifest(remote: &Remote, target: &TagOrDigest) -> Result<RawManifest, Failure> {
    remote
        .get_manifest(target)?
        .ok_or_else(|| Message::plain(format!("`{}` has no image `{target}`", remote.repository())))
}

pub(super) fn parse<T: DeserializeOwned>(remote: &Remote, manifest: &RawManifest) -> Result<T, Failure> {
    serde_json::from_slice(&manifest.bytes).map_err(|error| unusable(remote, error.to_string()))
}

pub(super) fn digest_of(remote: &Remote, blob: &Descriptor) -> Result<Digest, Failure> {
    let text = blob.digest().to_string();
    text.parse()
        .map_err(|_| unusable(remote, format!("it names a blob by `{text}`, which is no SHA-256 digest")))
}

/// Fails for a layer whose bytes are elsewhere only.
fn is_there(remote: &Remote, layer: &Descriptor) -> Result<(), Failure> {
    let digest = digest_of(remote, layer)?;
    match remote.head_blob(&digest)? {
        Some(_) => Ok(()),
        None => {
            let reason = format!("its layer {digest} is to be fetched from elsewhere, which is not done");
            Err(unusable(remote, reason))
        }
    }
}

fn no_image(remote: &Remote, manifest: &ImageManifest) -> Failure {
    let kind = manifest.artifact_type().as_ref().unwrap_or(manifest.config().media_type());
    Message::with_hint(
        format!("`{}` holds no image there but an artifact of type `{kind}`", remote.repository()),
        "to write the files of an artifact into a directory: plywood pull -o DIR REF",
    )
}

pub(super) fn unusable(remote: &Remote, reason: impl std::fmt::Display) -> Failure {
    Message::plain(format!("what `{}` holds cannot be used: {reason}", remote.repository()))
}
