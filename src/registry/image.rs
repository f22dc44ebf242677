//! Uploads of whole images.

use super::error::RegistryError;
use super::meter::Transfers;
use super::remote::Remote;
use super::upload::Upload;
use crate::oci::{Digest, RawManifest, TagOrDigest};
use crate::port::{Direction, Events};

impl Remote {
    /// Uploads an image: the blobs that the repository lacks, several at a time, and then the
    /// manifest, unless `target` already names it. Idempotent. If the registry has everything, this
    /// costs one request for the manifest and one for each blob, in two round trips.
    ///
    /// # Errors
    /// As [`Remote::push_blobs`] and [`Remote::put_manifest`]. `target` is unchanged after an
    /// error.
    pub fn push_image(
        &self,
        target: &TagOrDigest,
        manifest: &RawManifest,
        blobs: &[Upload<'_>],
        events: &dyn Events,
    ) -> Result<Digest, RegistryError> {
        // Alone and first: the answer says how to authenticate for all requests that follow.
        let known = self.head_manifest(target)?;
        let sizes = blobs.iter().map(|blob| blob.bytes);
        let transfers = Transfers::start(events, self.repository(), Direction::Push, sizes);
        self.push_blobs(blobs, &transfers)?;
        transfers.finish();
        // After the blobs: a registry refuses a manifest whose blobs it lacks, and nobody may see
        // an incomplete image.
        match known {
            Some(digest) if digest == manifest.digest() => Ok(digest),
            _ => self.put_manifest(target, manifest),
        }
    }
}
