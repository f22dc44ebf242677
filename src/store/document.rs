//! Parses documents of images: JSON, digests, DiffIDs, names.

use std::path::Path;

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor};
use serde::de::DeserializeOwned;

use crate::oci::{DiffId, Digest, DigestError, parse_diff_ids};
use crate::port::StoreError;

/// Parses the JSON document at `path`.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| invalid(path, error.to_string()))
}

/// Returns the digest of a descriptor in the document at `path`.
pub(super) fn parse_digest(path: &Path, blob: &Descriptor) -> Result<Digest, StoreError> {
    blob.digest().to_string().parse().map_err(|error: DigestError| invalid(path, error.to_string()))
}

/// Returns the DiffIDs of a config. Fails unless there is one for each layer.
pub(super) fn expected_diff_ids(
    path: &Path,
    config: &[u8],
    layers: usize,
) -> Result<Vec<DiffId>, StoreError> {
    let diff_ids = parse_diff_ids(config).map_err(|error| invalid(path, chain(&error)))?;
    if diff_ids.len() != layers {
        let reason = format!("the config names {} layers, the manifest {layers}", diff_ids.len());
        return Err(invalid(path, reason));
    }
    Ok(diff_ids)
}

/// Fails unless the archive has the expected DiffID.
pub(super) fn verify_diff_id(expected: &DiffId, found: Digest) -> Result<(), StoreError> {
    match DiffId::new(found) {
        found if found == *expected => Ok(()),
        found => Err(StoreError::WrongLayer { expected: *expected, found }),
    }
}

/// Returns the error for an invalid document at `path`.
pub(super) fn invalid(path: &Path, reason: String) -> StoreError {
    StoreError::Invalid { path: path.to_owned(), reason }
}

/// Returns an error and its causes as one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Returns the name that an index gives a manifest.
pub(super) fn name_of(manifest: &Descriptor) -> Option<&str> {
    manifest.annotations().as_ref()?.get(ANNOTATION_REF_NAME).map(String::as_str)
}
