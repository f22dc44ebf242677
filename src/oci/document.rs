//! Manifests from registries, kept byte for byte.
//!
//! The identity of a manifest is the digest of its bytes. Parsing and writing it again could change
//! the bytes, so plywood passes them on unchanged.
//!
//! Source: OCI image-spec v1.1, `manifest.md`, `image-index.md`; Docker image manifest version 2,
//! schema 2.

use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;

use super::Digest;

/// Docker's form of an image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's form of an index.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The media types of manifests that plywood reads. The first two are those that it writes.
pub const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
];

/// The bytes and the media type of a manifest or index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// One of [`MANIFEST_TYPES`].
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// A document that is not a usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not a JSON object with a `schemaVersion`.
    #[error("it is not a manifest")]
    NoManifest(#[source] serde_json::Error),
    /// It has another media type, such as Docker's first schema.
    #[error("it has the media type `{found}`, which plywood does not read")]
    UnknownType { found: String },
}

/// The fields that all types share.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    #[serde(rename = "schemaVersion")]
    _schema_version: u32,
    media_type: Option<String>,
    subject: Option<Descriptor>,
}

impl RawManifest {
    /// Parses a document that was served as `content_type`. The `mediaType` in the document wins.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn new(content_type: &str, bytes: Vec<u8>) -> Result<Self, ManifestError> {
        let common: Common = serde_json::from_slice(&bytes).map_err(ManifestError::NoManifest)?;
        let served = content_type.split(';').next().unwrap_or_default().trim();
        let media_type = common.media_type.unwrap_or_else(|| served.to_owned());
        if !MANIFEST_TYPES.contains(&media_type.as_str()) {
            return Err(ManifestError::UnknownType { found: media_type });
        }
        Ok(Self { media_type, bytes })
    }

    /// Returns the digest of the bytes: the identity of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Returns true for an index, which lists one manifest for each platform.
    pub fn is_index(&self) -> bool {
        is_index_type(&self.media_type)
    }

    /// Returns the `subject`: the manifest that this one refers to, such as a signature to its
    /// image.
    pub fn subject(&self) -> Option<Descriptor> {
        serde_json::from_slice::<Common>(&self.bytes).ok()?.subject
    }
}

/// Returns true for the media type of an index.
pub fn is_index_type(media_type: &str) -> bool {
    media_type == MediaType::ImageIndex.as_ref() || media_type == DOCKER_MANIFEST_LIST
}

/// Returns true for a layer that registries need not have. Its license forbids distribution, so
/// tools are expected to fetch it from URLs in the manifest. plywood never does that.
pub fn is_foreign(layer: &Descriptor) -> bool {
    let media_type = layer.media_type().as_ref();
    layer.urls().is_some() || media_type.contains("nondistributable") || media_type.contains("foreign")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_in_the_document_wins_over_the_header() {
        let [manifest, index, docker, list] = MANIFEST_TYPES;
        let said = |media_type: &str| format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}"}}"#);
        let cases = [
            (said(manifest), "text/plain", manifest, false),
            (said(list), "application/json", list, true),
            (r#"{"schemaVersion":2}"#.to_owned(), &format!("{docker}; charset=utf-8"), docker, false),
            (r#"{ "schemaVersion": 2, "manifests": [] }"#.to_owned(), index, index, true),
        ];
        for (text, served, expected, is_index) in cases {
            let raw = RawManifest::new(served, text.clone().into_bytes()).unwrap();
            assert_eq!((raw.media_type.as_str(), raw.is_index()), (expected, is_index), "{text}");
            assert_eq!(raw.digest(), Digest::of(text));
        }
    }

    #[test]
    fn pages_and_unknown_forms_are_refused() {
        let refused = |text: &str| RawManifest::new(MANIFEST_TYPES[0], text.into()).unwrap_err();
        assert!(matches!(refused("<html>"), ManifestError::NoManifest(_)));
        assert!(matches!(refused(r#"{"errors":[]}"#), ManifestError::NoManifest(_)));
        assert!(matches!(refused("[]"), ManifestError::NoManifest(_)));
        let first =
            r#"{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}"#;
        assert!(matches!(refused(first), ManifestError::UnknownType { .. }));
        let unsaid = RawManifest::new("text/html", br#"{"schemaVersion":2}"#.to_vec());
        assert!(matches!(unsaid, Err(ManifestError::UnknownType { found }) if found == "text/html"));
    }
}
