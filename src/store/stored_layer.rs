//! The form of layers on disk.

use serde::{Deserialize, Serialize};

use crate::layer::Encoding;
use crate::oci::{DiffId, Digest};
use crate::port::Layer;

/// A layer and its blobs, one for each encoding: `layers/<DiffID>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredLayer {
    pub diff_id: DiffId,
    pub tar_bytes: u64,
    pub entries: u64,
    /// Sorted by encoding.
    pub blobs: Vec<LayerBlob>,
}

/// One blob of a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerBlob {
    pub encoding: Encoding,
    pub digest: Digest,
    pub bytes: u64,
}

impl StoredLayer {
    /// Returns the layer with one of its blobs.
    pub(super) fn with(&self, blob: &LayerBlob) -> Layer {
        let LayerBlob { encoding, digest, bytes } = blob.clone();
        let Self { diff_id, tar_bytes, entries, blobs: _ } = *self;
        Layer { diff_id, tar_bytes, entries, blob: digest, blob_bytes: bytes, encoding }
    }
}
