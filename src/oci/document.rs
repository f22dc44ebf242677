//! Manifests of others, kept byte for byte.
//!
//! A manifest is named by the digest of its bytes. Parsed and written again it would be another one, so what a registry
//! gave is passed on as it came.
//!
//! Source: OCI image-spec v1.1, `manifest.md`, `image-index.md`; Docker image manifest version 2, schema 2.

use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;

use super::Digest;

/// Docker's form of an image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's form of an index.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Every form of manifest that plywood reads, the ones it writes first.
pub const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
];

/// A manifest or index: its bytes, and what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// One of [`MANIFEST_TYPES`].
    pub media_type: String,
    /// The document.
    pub bytes: Vec<u8>,
}

/// A document that is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no JSON object with a `schemaVersion`.
    #[error("it is no manifest")]
    NoManifest(#[source] serde_json::Error),
    /// It has a form that plywood does not read, such as Docker's first schema.
    #[error("it has the media type `{found}`, which plywood does not read")]
    UnknownType {
        /// Its media type.
        found: String,
    },
}

/// The fields that all forms share.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Common {
    #[serde(rename = "schemaVersion")]
    _schema_version: u32,
    media_type: Option<String>,
    subject: Option<Descriptor>,
}

impl RawManifest {
    /// Takes a document that was served as `content_type`. What the document says of itself counts more.
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

    /// Returns the digest of its bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Returns whether it lists manifests, one for each platform.
    pub fn is_index(&self) -> bool {
        is_index_type(&self.media_type)
    }

    /// Returns the manifest that this one says something about.
    pub fn subject(&self) -> Option<Descriptor> {
        serde_json::from_slice::<Common>(&self.bytes).ok()?.subject
    }
}

/// Returns whether documents of this media type list manifests.
pub fn is_index_type(media_type: &str) -> bool {
    media_type == MediaType::ImageIndex.as_ref() || media_type == DOCKER_MANIFEST_LIST
}

/// Returns whether a layer's bytes need not be where its manifest is: they may not be passed on, and are to be fetched from URLs
/// that the manifest names, which plywood does not do.
pub fn is_foreign(layer: &Descriptor) -> bool {
    let media_type = layer.media_type().as_ref();
    layer.urls().is_some() || media_type.contains("nondistributable") || media_type.contains("foreign")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_itself_what_it_is_and_else_the_header_does() {
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
