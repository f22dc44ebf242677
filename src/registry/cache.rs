//! A repository as a cache of built steps.

use std::convert::Infallible;
use std::io::{self, Read};

use super::download::PullError;
use super::error::RegistryError;
use super::manifest::Deletion;
use super::meter::Transfers;
use super::parallel::each;
use super::remote::Remote;
use super::upload::Upload;
use crate::oci::{Digest, RawManifest, Tag, TagOrDigest};
use crate::port::{Blob, BlobSource, Direction, Events, Open, RemoteCache, RemoteError, Tagged, Take};

/// Number of concurrent transfers of manifests. They are small, so most of the time is the round
/// trip.
const DOCUMENTS_AT_A_TIME: usize = 8;

/// A repository through which build hosts share steps.
pub struct CacheRepository<'a> {
    remote: Remote,
    name: String,
    events: &'a dyn Events,
}

impl<'a> CacheRepository<'a> {
    /// Reports transfers to `events`.
    pub fn new(remote: Remote, events: &'a dyn Events) -> Self {
        Self { name: remote.repository().to_string(), remote, events }
    }

    fn failed(&self, action: &'static str) -> impl Fn(RegistryError) -> RemoteError {
        move |error| match error {
            RegistryError::Interrupted => RemoteError::Interrupted,
            error => RemoteError::Failed { action, repository: self.name.clone(), source: error.into() },
        }
    }

    fn manifest(&self, target: &TagOrDigest) -> Result<Option<Vec<u8>>, RemoteError> {
        let manifest = self.remote.get_manifest(target).map_err(self.failed("look up steps in"))?;
        Ok(manifest.map(|manifest| manifest.bytes))
    }

    fn not_asked(&self) -> RemoteError {
        let source = "the request before failed".into();
        RemoteError::Failed { action: "look up steps in", repository: self.name.clone(), source }
    }

    fn pull(&self, blob: &Blob, transfers: &Transfers<'_>, take: &Take<'_>) -> Result<(), RemoteError> {
        let pulled = self.remote.pull_blob(&blob.digest, blob.bytes, transfers, |source| take(blob, source));
        pulled.map_err(|error| match error {
            PullError::Registry(error) if error.is_damage() => RemoteError::Damaged {
                repository: self.name.clone(),
                digest: blob.digest,
                source: error.into(),
            },
            PullError::Registry(error) => self.failed("fetch a layer from")(error),
            PullError::Taking(error) => RemoteError::Store(error),
        })
    }
}

impl RemoteCache for CacheRepository<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn exists(&self) -> Result<bool, RemoteError> {
        self.remote.exists().map_err(self.failed("look for"))
    }

    fn manifests(&self, references: &[TagOrDigest]) -> Vec<Result<Option<Vec<u8>>, RemoteError>> {
        let Some((first, rest)) = references.split_first() else { return Vec::new() };
        // The first goes alone. It gets the token for all. And if the registry is down, only one
        // request waits for it.
        let first = self.manifest(first);
        let rest = match &first {
            Ok(_) => each(DOCUMENTS_AT_A_TIME, rest, |reference| infallible(self.manifest(reference))),
            Err(_) => Ok(rest.iter().map(|_| Err(self.not_asked())).collect()),
        };
        [first].into_iter().chain(certain(rest)).collect()
    }

    fn fetch(&self, blobs: &[Blob], take: &Take<'_>) -> Vec<Result<(), RemoteError>> {
        let sizes = blobs.iter().map(|blob| blob.bytes);
        let transfers = Transfers::start(self.events, self.remote.repository(), Direction::Pull, sizes);
        let pull = |blob: &Blob| infallible(self.pull(blob, &transfers, take));
        let pulled = certain(each(self.remote.jobs(), blobs, pull));
        transfers.finish();
        pulled
    }

    fn send(&self, blobs: &[Blob], open: &Open<'_>) -> Result<(), RemoteError> {
        let sources: Vec<_> = blobs.iter().map(|blob| Opened { blob, open }).collect();
        let uploads: Vec<_> = sources
            .iter()
            .map(|source| Upload {
                digest: source.blob.digest,
                bytes: source.blob.bytes,
                source,
                mount_from: None,
            })
            .collect();
        let sizes = blobs.iter().map(|blob| blob.bytes);
        let transfers = Transfers::start(self.events, self.remote.repository(), Direction::Push, sizes);
        self.remote.push_blobs(&uploads, &transfers).map_err(self.failed("send layers to"))?;
        transfers.finish();
        Ok(())
    }

    fn publish(&self, manifests: &[Tagged]) -> Result<(), RemoteError> {
        let publish = |Tagged { tag, media_type, bytes }: &Tagged| {
            let manifest = RawManifest { media_type: (*media_type).to_owned(), bytes: bytes.clone() };
            self.remote.put_manifest(&tag.clone().into(), &manifest)
        };
        let published = each(DOCUMENTS_AT_A_TIME, manifests, publish);
        published.map(drop).map_err(self.failed("publish steps in"))
    }

    fn tags(&self) -> Result<Vec<Tag>, RemoteError> {
        self.remote.tags().map_err(self.failed("list the tags of"))
    }

    fn delete(&self, manifest: &Digest) -> Result<(), RemoteError> {
        match self.remote.delete_manifest(manifest).map_err(self.failed("delete steps from"))? {
            Deletion::Deleted | Deletion::Missing => Ok(()),
            Deletion::Unsupported => Err(RemoteError::KeepsAll { repository: self.name.clone() }),
        }
    }
}

fn infallible<T>(value: T) -> Result<T, Infallible> {
    Ok(value)
}

fn certain<T>(result: Result<T, Infallible>) -> T {
    let Ok(value) = result;
    value
}

/// A blob that is opened again for each attempt.
struct Opened<'a, 'o> {
    blob: &'a Blob,
    open: &'a Open<'o>,
}

impl BlobSource for Opened<'_, '_> {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + '_>> {
        let mut source = (self.open)(self.blob).map_err(io::Error::other)?;
        // The store opens blobs only at their start.
        io::copy(&mut (&mut source).take(offset), &mut io::sink())?;
        Ok(source)
    }
}
