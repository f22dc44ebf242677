//! A repository in memory.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::oci::{Digest, Tag, TagOrDigest, VerifyingReader};
use crate::port::*;

/// A repository of a registry. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<State>);

#[derive(Default)]
struct State {
    tags: Mutex<BTreeMap<String, Digest>>,
    manifests: Mutex<BTreeMap<Digest, Vec<u8>>>,
    blobs: Mutex<BTreeMap<Digest, Vec<u8>>>,
    is_down: Mutex<bool>,
    is_absent: Mutex<bool>,
    requests: Mutex<Vec<String>>,
}

impl Shelf {
    /// From now on, the registry answers that the repository does not exist.
    pub(crate) fn be_absent(&self) {
        *self.0.is_absent.lock().unwrap() = true;
    }

    /// From now on, every request fails.
    pub(crate) fn go_down(&self) {
        *self.0.is_down.lock().unwrap() = true;
    }

    /// Returns the requests since the last call: `get k`, `put c`, `fetch`, `send`, with the first
    /// letter of a tag.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.requests.lock().unwrap())
    }

    /// Changes the manifests of all tags that start with `kind`.
    pub(crate) fn change(&self, kind: &str, change: impl Fn(&mut Value)) {
        let tags: Vec<_> = self.all_tags().into_iter().filter(|tag| tag.starts_with(kind)).collect();
        for tag in tags {
            let mut manifest: Value = serde_json::from_slice(&self.manifest(&tag).unwrap()).unwrap();
            change(&mut manifest);
            self.put(&tag, serde_json::to_vec(&manifest).unwrap());
        }
    }

    /// Changes the content of a blob.
    pub(crate) fn damage(&self, blob: &Digest) {
        self.0.blobs.lock().unwrap().insert(*blob, b"damaged".to_vec());
    }

    /// Removes a blob.
    pub(crate) fn lose(&self, blob: &Digest) {
        self.0.blobs.lock().unwrap().remove(blob);
    }

    /// Returns all manifests and blobs, as text.
    pub(crate) fn text(&self) -> String {
        let (manifests, blobs) = (self.0.manifests.lock().unwrap(), self.0.blobs.lock().unwrap());
        manifests
            .values()
            .chain(blobs.values())
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }

    /// Returns the manifest of a tag or digest.
    pub(crate) fn manifest(&self, reference: &str) -> Option<Vec<u8>> {
        let digest =
            self.0.tags.lock().unwrap().get(reference).copied().or_else(|| reference.parse().ok())?;
        self.0.manifests.lock().unwrap().get(&digest).cloned()
    }

    /// Stores a manifest under a tag.
    pub(crate) fn put(&self, tag: &str, manifest: Vec<u8>) {
        let digest = Digest::of(&manifest);
        self.0.manifests.lock().unwrap().insert(digest, manifest);
        self.0.tags.lock().unwrap().insert(tag.to_owned(), digest);
    }

    /// Removes a tag.
    pub(crate) fn untag(&self, tag: &str) {
        self.0.tags.lock().unwrap().remove(tag);
    }

    pub(crate) fn all_tags(&self) -> Vec<String> {
        self.0.tags.lock().unwrap().keys().cloned().collect()
    }

    fn request(&self, request: String) -> Result<(), RemoteError> {
        self.0.requests.lock().unwrap().push(request);
        match *self.0.is_down.lock().unwrap() {
            false => Ok(()),
            true => Err(RemoteError::Failed {
                action: "reach",
                repository: self.name().to_owned(),
                source: "connection refused".into(),
            }),
        }
    }

    fn fetch_one(&self, blob: &Blob, take: &Take<'_>) -> Result<(), RemoteError> {
        self.request("fetch".to_owned())?;
        let bytes = self.0.blobs.lock().unwrap().get(&blob.digest).cloned();
        let bytes = bytes.ok_or_else(|| RemoteError::Failed {
            action: "fetch a layer from",
            repository: self.name().to_owned(),
            source: "404".into(),
        })?;
        let mut bytes = bytes.as_slice();
        Ok(take(blob, &mut VerifyingReader::new(&mut bytes as &mut dyn Read, blob.digest))?)
    }
}

impl RemoteCache for Shelf {
    fn name(&self) -> &str {
        "shelf/cache"
    }

    fn exists(&self) -> Result<bool, RemoteError> {
        Ok(!*self.0.is_absent.lock().unwrap())
    }

    fn manifests(&self, references: &[TagOrDigest]) -> Vec<Result<Option<Vec<u8>>, RemoteError>> {
        let get = |reference: &TagOrDigest| {
            let reference = reference.to_string();
            self.request(format!("get {}", &reference[..1]))?;
            Ok(self.manifest(&reference))
        };
        references.iter().map(get).collect()
    }

    fn fetch(&self, blobs: &[Blob], take: &Take<'_>) -> Vec<Result<(), RemoteError>> {
        blobs.iter().map(|blob| self.fetch_one(blob, take)).collect()
    }

    fn send(&self, blobs: &[Blob], open: &Open<'_>) -> Result<(), RemoteError> {
        for blob in blobs {
            self.request("send".to_owned())?;
            let mut bytes = Vec::new();
            open(blob)?.read_to_end(&mut bytes).unwrap();
            assert_eq!(Blob::of(&bytes), *blob);
            self.0.blobs.lock().unwrap().insert(blob.digest, bytes);
        }
        Ok(())
    }

    fn publish(&self, manifests: &[Tagged]) -> Result<(), RemoteError> {
        for Tagged { tag, bytes, .. } in manifests {
            self.request(format!("put {}", &tag.as_str()[..1]))?;
            self.put(tag.as_str(), bytes.clone());
        }
        Ok(())
    }

    fn tags(&self) -> Result<Vec<Tag>, RemoteError> {
        self.request("tags".to_owned())?;
        Ok(self.all_tags().iter().map(|tag| tag.parse().unwrap()).collect())
    }

    fn delete(&self, manifest: &Digest) -> Result<(), RemoteError> {
        self.request("delete".to_owned())?;
        self.0.manifests.lock().unwrap().remove(manifest);
        self.0.tags.lock().unwrap().retain(|_, tagged| tagged != manifest);
        Ok(())
    }
}
