//! Whole images on their way to a registry.

use super::error::RegistryError;
use super::meter::Transfers;
use super::remote::Remote;
use super::upload::Upload;
use crate::oci::{Digest, RawManifest, TagOrDigest};
use crate::port::{Direction, Events};

impl Remote {
    /// Sends an image: the blobs that the repository lacks, several at a time, then the manifest, unless `target` names it
    /// already. Where all is there, that is one question for the manifest and one for each blob. Idempotent.
    ///
    /// # Errors
    /// As [`Remote::push_blobs`] and [`Remote::put_manifest`]; `target` is as it was then.
    pub fn push_image(
        &self,
        target: &TagOrDigest,
        manifest: &RawManifest,
        blobs: &[Upload<'_>],
        events: &dyn Events,
    ) -> Result<Digest, RegistryError> {
        // Alone, and first: the answer says how to authenticate, for all that follow.
        let known = self.head_manifest(target)?;
        let sizes = blobs.iter().map(|blob| blob.bytes);
        let transfers = Transfers::start(events, self.repository(), Direction::Push, sizes);
        self.push_blobs(blobs, &transfers)?;
        transfers.finish();
        match known {
            Some(digest) if digest == manifest.digest() => Ok(digest),
            _ => self.put_manifest(target, manifest),
        }
    }
}
