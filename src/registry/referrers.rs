//! Referrers of a manifest: signatures, records, attestations.
//!
//! Registries with version 1.1 of the specification keep the list themselves. Older ones answer
//! 404. For them, the list is an index under a tag made of the subject's digest, and the writer of
//! a referrer updates it. Two concurrent writers overwrite each other's list, so each reads the
//! list again a little later.
//!
//! Source: OCI distribution-spec v1.1, "Listing Referrers", "Unavailable Referrers API", "Referrers
//! Tag Schema".

use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType};
use ureq::http::Method;

use super::auth::encode;
use super::error::RegistryError;
use super::manifest::{Pages, read_json};
use super::remote::Remote;
use crate::oci::{Digest, RawManifest, TagOrDigest, canonical_json, descriptor};

/// Limit of attempts to write a list that other clients write at the same time.
const MAX_ROUNDS: u32 = 8;

impl Remote {
    /// Returns the descriptors of the referrers of a manifest, only those of `artifact_type` if it
    /// is given. The list is empty for a registry without referrers.
    ///
    /// # Errors
    /// All errors of a request.
    pub fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let filter = artifact_type.map(|kind| format!("?artifactType={}", encode(kind))).unwrap_or_default();
        let request = self.request(Method::GET, &format!("referrers/{subject}{filter}"));
        let mut answer = self.ask(format_args!("listing referrers of {subject}"), &request, &[200, 404])?;
        let mut found = Vec::new();
        if answer.status == 404 {
            found = self.tagged_referrers(subject)?.map_or_else(Vec::new, |index| index.manifests().clone());
        } else {
            let mut pages = Pages::default();
            loop {
                let next = self.next_page(&answer, &mut pages)?;
                found.extend(read_json::<ImageIndex>(answer)?.manifests().iter().cloned());
                let Some(next) = next else { break };
                answer = self.ask(format_args!("listing referrers of {subject}"), &next, &[200])?;
            }
        }
        // The specification lets registries ignore the filter.
        let wanted = artifact_type.map(MediaType::from);
        found.retain(|one| wanted.is_none() || *one.artifact_type() == wanted);
        Ok(found)
    }

    /// Adds a manifest to the tagged list of its subject, and checks that no other writer has
    /// removed it.
    pub(super) fn add_referrer(
        &self,
        subject: &Descriptor,
        referrer: &RawManifest,
    ) -> Result<(), RegistryError> {
        let unreadable = |reason: String| RegistryError::Unexpected {
            request: format!("referrers of {}", subject.digest()),
            reason,
        };
        let subject: Digest = subject
            .digest()
            .to_string()
            .parse()
            .map_err(|_| unreadable("the digest of the subject is not SHA-256".to_owned()))?;
        let new = describe(referrer).map_err(|error| unreadable(error.to_string()))?;
        // Threads of this process take turns by the lock. The rounds below are for other processes.
        let _turn = self.list_of_referrers();
        for round in 1..=MAX_ROUNDS {
            let listed = self.tagged_referrers(&subject)?;
            let mut manifests = listed.map_or_else(Vec::new, |index| index.manifests().clone());
            if manifests.iter().any(|known| known.digest() == new.digest()) {
                return Ok(());
            }
            // No return here: another writer may have read the list before this write, and may
            // overwrite it afterwards. The next round checks that.
            manifests.push(new.clone());
            self.put_manifest(&list_tag(&subject), &index_of(manifests))?;
            self.attempts("listing a referrer").wait(round)?;
        }
        Err(unreadable("other clients overwrite the list again and again: try again later".to_owned()))
    }

    fn tagged_referrers(&self, subject: &Digest) -> Result<Option<ImageIndex>, RegistryError> {
        let tag = list_tag(subject);
        let Some(raw) = self.get_manifest(&tag)? else { return Ok(None) };
        serde_json::from_slice(&raw.bytes).map(Some).map_err(|error| RegistryError::Unexpected {
            request: self.request(Method::GET, &format!("manifests/{tag}")).text(),
            reason: error.to_string(),
        })
    }
}

fn index_of(manifests: Vec<Descriptor>) -> RawManifest {
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .expect("every required field is set");
    RawManifest { media_type: MediaType::ImageIndex.to_string(), bytes: canonical_json(&index) }
}

fn list_tag(subject: &Digest) -> TagOrDigest {
    let tag = format!("sha256-{}", subject.hex()).parse();
    TagOrDigest::Tag(tag.expect("letters, digits and `-` make a tag"))
}

/// Returns the descriptor of a referrer for the list: with its artifact type and annotations.
fn describe(referrer: &RawManifest) -> Result<Descriptor, serde_json::Error> {
    let mut described = descriptor(&referrer.media_type, &referrer.digest(), referrer.bytes.len() as u64);
    if referrer.is_index() {
        return Ok(described);
    }
    let manifest: ImageManifest = serde_json::from_slice(&referrer.bytes)?;
    let artifact_type = manifest.artifact_type().clone();
    described.set_artifact_type(artifact_type.or_else(|| Some(manifest.config().media_type().clone())));
    described.set_annotations(manifest.annotations().clone());
    Ok(described)
}
