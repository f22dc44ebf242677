//! Fetches an image from a registry into the store.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;

use super::failure::{Failure, Message};
use super::project::machine_architecture;
use crate::oci::{
    BlobStream, DiffId, Digest, RawManifest, Reference, TagOrDigest, find_image, is_foreign, parse_diff_ids,
    refuse_artifact, refuse_other_platform,
};
use crate::port::{Blob, Direction, Events, How, Layer, StoreError};
use crate::registry::{Access, Client, PullError, Remote, Transfers};
use crate::store::Store;

/// An image whose blobs are in the store.
pub(crate) struct Fetched<L> {
    /// The digest of the document that the reference names: an index for several platforms, or the
    /// manifest itself.
    pub(crate) digest: Digest,
    /// The image's manifest.
    pub(crate) manifest: RawManifest,
    /// Its config, byte for byte.
    pub(crate) config: Vec<u8>,
    /// Its layers, lowest first, in the blobs that the manifest names.
    pub(crate) layers: Vec<L>,
}

/// Fetches images.
pub(crate) struct Fetch<'a> {
    pub(crate) client: &'a Client,
    pub(crate) store: &'a Store,
    pub(crate) events: &'a dyn Events,
}

/// The purpose of a fetch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To push it unchanged.
    Copy,
    /// To build on its layers.
    Base,
}

/// The source of an image's blobs.
struct Source<'a> {
    remote: &'a Remote,
    transfers: Transfers<'a>,
}

impl Fetch<'_> {
    /// Fetches the blobs of an image that the store lacks, and verifies their digests. The DiffIDs
    /// of the layers are verified at their first use.
    pub(crate) fn image(&self, reference: &Reference) -> Result<Fetched<()>, Failure> {
        self.fetch(reference, Purpose::Copy, |source, _, blob| self.blob(source, blob))
    }

    /// Fetches the layers of an image that the store lacks, to build on them.
    pub(crate) fn base(&self, reference: &Reference) -> Result<Fetched<Layer>, Failure> {
        self.fetch(reference, Purpose::Base, |source, diff_id, blob| self.layer(source, diff_id, blob))
    }

    fn fetch<L: Clone + Send>(
        &self,
        reference: &Reference,
        purpose: Purpose,
        take: impl Fn(&Source<'_>, &DiffId, &Blob) -> Result<L, PullError<StoreError>> + Sync,
    ) -> Result<Fetched<L>, Failure> {
        let remote = self.client.remote(&reference.repository, Access::Pull);
        let named = manifest(&remote, &reference.target())?;
        // Before an index is followed: a base that is pinned to the index can be fetched again on a
        // host of another architecture.
        let digest = named.digest();
        let manifest = self.resolve(&remote, named)?;
        let parsed: ImageManifest = parse(&remote, &manifest)?;
        if purpose == Purpose::Base {
            refuse_artifact(&parsed).map_err(|error| unusable(&remote, error))?;
        }
        // By digest, so that a blob named twice is transferred and counted once.
        let blobs = [parsed.config()].into_iter().chain(parsed.layers());
        let sizes: BTreeMap<_, _> = blobs.map(|blob| (blob.digest().to_string(), blob.size())).collect();
        let transfers =
            Transfers::start(self.events, remote.repository(), Direction::Pull, sizes.into_values());
        let source = Source { remote: &remote, transfers };
        let config = self.config(&source, &parsed)?;
        // A copy may be for any machine, but hooks run only in an image for this one.
        if purpose == Purpose::Base {
            let (architecture, _) = machine_architecture()?.oci();
            refuse_other_platform(&config, architecture).map_err(|error| unusable(&remote, error))?;
        }
        let layers = source.layers(&parsed, &config)?;
        // An image may name a layer many times; empty layers were common once. The largest layer
        // starts first, because otherwise all would wait for it at the end.
        let mut distinct: Vec<_> = layers.iter().collect::<BTreeSet<_>>().into_iter().collect();
        distinct.sort_by_key(|(_, blob)| Reverse(blob.bytes));
        let take = |layer: &&(DiffId, Blob)| take(&source, &layer.0, &layer.1).map(|taken| (**layer, taken));
        let taken = source.transfers.each(remote.jobs(), &distinct, take)?;
        source.transfers.finish();
        self.store.blobs().put(&config)?;
        let taken: BTreeMap<_, _> = taken.into_iter().collect();
        let layers = layers.iter().map(|layer| taken[layer].clone()).collect();
        Ok(Fetched { digest, manifest, config, layers })
    }

    /// Returns an image's config, from the store if possible.
    fn config(&self, source: &Source<'_>, manifest: &ImageManifest) -> Result<Vec<u8>, Failure> {
        let config = blob_of(source.remote, manifest.config())?;
        // An unreadable copy is no error, because the registry has another one.
        if self.store.blobs().contains(&config)
            && let Ok(bytes) = self.store.blobs().get(&config.digest)
        {
            source.transfers.blob(&config.digest, config.bytes).finish(How::There);
            return Ok(bytes);
        }
        Ok(source.remote.read_blob(&config.digest, config.bytes, &source.transfers)?)
    }

    /// Follows indexes to the image for this architecture.
    fn resolve(&self, remote: &Remote, manifest: RawManifest) -> Result<RawManifest, Failure> {
        if !manifest.is_index() {
            return Ok(manifest);
        }
        let index: ImageIndex = parse(remote, &manifest)?;
        let mut read = |nested: &Descriptor| -> Result<_, Failure> {
            let index: ImageIndex = parse(remote, &named(remote, nested)?)?;
            Ok(index.manifests().clone())
        };
        let found = find_image(index.manifests(), machine_architecture()?.oci().0, &mut read)?;
        named(remote, &found.map_err(|error| unusable(remote, error.to_string()))?)
    }

    fn blob(&self, source: &Source<'_>, blob: &Blob) -> Result<(), PullError<StoreError>> {
        if self.store.blobs().contains(blob) {
            source.transfers.blob(&blob.digest, blob.bytes).finish(How::There);
            return Ok(());
        }
        source.pull(blob, |stream| self.store.blobs().import(stream))
    }

    fn layer(
        &self,
        source: &Source<'_>,
        diff_id: &DiffId,
        blob: &Blob,
    ) -> Result<Layer, PullError<StoreError>> {
        if let Some(layer) = self.store.layers().find(diff_id, blob).map_err(PullError::Taking)? {
            source.transfers.blob(&blob.digest, blob.bytes).finish(How::There);
            return Ok(layer);
        }
        let name = format!("{}@{}", source.remote.repository(), blob.digest);
        source.pull(blob, |stream| self.store.layers().import(stream, Path::new(&name), diff_id))
    }
}

/// Reads a manifest that an index names.
fn named(remote: &Remote, image: &Descriptor) -> Result<RawManifest, Failure> {
    let blob = blob_of(remote, image)?;
    let manifest = manifest(remote, &blob.digest.into())?;
    // The digest is verified already. A wrong size means that the index does not match this image.
    match manifest.bytes.len() as u64 {
        found if found == blob.bytes => Ok(manifest),
        found => {
            let reason =
                format!("its index says {} bytes of manifest {}, which has {found}", blob.bytes, blob.digest);
            Err(unusable(remote, reason))
        }
    }
}

impl Source<'_> {
    /// Returns the layers that a manifest and its config name, lowest first.
    fn layers(&self, manifest: &ImageManifest, config: &[u8]) -> Result<Vec<(DiffId, Blob)>, Failure> {
        let mut foreign = manifest.layers().iter().filter(|layer| is_foreign(layer));
        foreign.try_for_each(|layer| is_there(self.remote, layer))?;
        let diff_ids = parse_diff_ids(config).map_err(|_| no_image(self.remote, manifest))?;
        let (named, blobs) = (diff_ids.len(), manifest.layers().len());
        if named != blobs {
            let reason = format!("its config names {named} layers, its manifest {blobs}");
            return Err(unusable(self.remote, reason));
        }
        let blobs = manifest.layers().iter().map(|layer| blob_of(self.remote, layer));
        diff_ids.into_iter().zip(blobs).map(|(diff_id, blob)| Ok((diff_id, blob?))).collect()
    }

    fn pull<T>(
        &self,
        blob: &Blob,
        take: impl FnMut(&mut BlobStream<'_>) -> Result<T, StoreError>,
    ) -> Result<T, PullError<StoreError>> {
        self.remote.pull_blob(&blob.digest, blob.bytes, &self.transfers, take)
    }
}

/// Reads a manifest that must exist.
pub(crate) fn manifest(remote: &Remote, target: &TagOrDigest) -> Result<RawManifest, Failure> {
    remote
        .get_manifest(target)?
        .ok_or_else(|| Message::plain(format!("`{}` has no image `{target}`", remote.repository())))
}

/// Parses the JSON of a manifest or index. An error names the repository.
pub(crate) fn parse<T: DeserializeOwned>(remote: &Remote, manifest: &RawManifest) -> Result<T, Failure> {
    serde_json::from_slice(&manifest.bytes).map_err(|error| unusable(remote, error.to_string()))
}

/// Returns the blob that a descriptor names.
pub(crate) fn blob_of(remote: &Remote, blob: &Descriptor) -> Result<Blob, Failure> {
    let text = blob.digest().to_string();
    let digest = text.parse().map_err(|_| {
        unusable(remote, format!("it names a blob by `{text}`, which is not a SHA-256 digest"))
    })?;
    Ok(Blob { digest, bytes: blob.size() })
}

/// Fails for a layer that this repository names but does not hold.
fn is_there(remote: &Remote, layer: &Descriptor) -> Result<(), Failure> {
    let Blob { digest, .. } = blob_of(remote, layer)?;
    match remote.head_blob(&digest)? {
        Some(_) => Ok(()),
        None => {
            let reason = format!(
                "its layer {digest} is stored outside of the registry, and plywood does not fetch such layers"
            );
            Err(unusable(remote, reason))
        }
    }
}

fn no_image(remote: &Remote, manifest: &ImageManifest) -> Failure {
    let kind = manifest.artifact_type().as_ref().unwrap_or(manifest.config().media_type());
    Message::with_hint(
        format!("`{}` has an artifact of type `{kind}` there, and not an image", remote.repository()),
        "to write the files of an artifact into a directory: plywood pull -o DIR REF",
    )
}

/// Returns the failure of a repository whose content plywood cannot use.
pub(crate) fn unusable(remote: &Remote, reason: impl std::fmt::Display) -> Failure {
    Message::plain(format!("cannot use the content of `{}`: {reason}", remote.repository()))
}
