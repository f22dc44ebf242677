//! The bytes of layers, for whoever writes them somewhere else.

use std::io::Read;

use super::{Layer, StoreError};
use crate::layer::Encoding;
use crate::oci::DiffId;

/// Gives out layers in the encoding that a reader wants.
pub trait LayerBlobs {
    /// Returns the layer with a blob of this encoding; makes that blob, once and for all, if it is not there.
    fn encoded(&self, diff_id: &DiffId, encoding: Encoding) -> Result<Layer, StoreError>;

    /// Opens the blob of a layer. Reading its end fails if the bytes are not those that its digest names.
    fn open(&self, layer: &Layer) -> Result<Box<dyn Read + '_>, StoreError>;

    /// Opens the uncompressed archive of a layer, and says how many bytes it has. Reading its end fails if the blob that it is
    /// decoded from is damaged.
    fn open_archive(&self, diff_id: &DiffId) -> Result<(u64, Box<dyn Read + '_>), StoreError>;
}
