//! One file of a layer, without unpacking the layer: for whoever may not give files to other users.

use std::io::{BufReader, Read};

use super::Store;
use crate::layer::{Decoder, Kind, LayerError};
use crate::oci::DiffId;
use crate::port::StoreError;

impl Store {
    /// Returns the first `limit` bytes of the regular file at one of these paths (relative to the root) in a layer, of the
    /// first path that is one. `None` if the layer has none of them. Reads the layer's archive as far as needed.
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`], [`StoreError::Layer`] if the archive cannot be read.
    pub fn peek(&self, diff_id: &DiffId, paths: &[&str], limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let layer = self.layer(diff_id)?.ok_or(StoreError::MissingLayer { diff_id: *diff_id })?;
        let mut decoder = Decoder::new(BufReader::new(self.decoded(&layer)?));
        let mut best: Option<(usize, Vec<u8>)> = None;
        while let Some((entry, content)) = decoder.next_entry()? {
            let place = paths.iter().position(|path| path.as_bytes() == entry.path);
            let (Some(place), Kind::File(_)) = (place, &entry.kind) else { continue };
            if best.as_ref().is_none_or(|(known, _)| place <= *known) {
                let mut bytes = Vec::new();
                content.take(limit).read_to_end(&mut bytes).map_err(LayerError::Read)?;
                best = Some((place, bytes));
            }
            if place == 0 {
                break;
            }
        }
        Ok(best.map(|(_, bytes)| bytes))
    }
}
