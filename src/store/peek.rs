//! Reads one file of a layer without unpacking the layer. Unpacking sets owners of files, which
//! needs root.

use std::io::{BufReader, Read};

use super::Layers;
use crate::layer::{Decoder, Kind, LayerError};
use crate::oci::DiffId;
use crate::port::StoreError;

impl Layers<'_> {
    /// Returns the first `limit` bytes of the first of these paths (relative to the root) that is a
    /// regular file in the layer; `None` if the layer has none of them. Reads the archive as far as
    /// needed.
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`], [`StoreError::Layer`] if the archive cannot be read.
    pub fn read_file(
        &self,
        diff_id: &DiffId,
        paths: &[&str],
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let layer = self.require(diff_id)?;
        let mut decoder = Decoder::new(BufReader::new(self.archive(&layer)?));
        let mut best: Option<(usize, Vec<u8>)> = None;
        while let Some((entry, content)) = decoder.next_entry()? {
            let place = paths.iter().position(|path| path.as_bytes() == entry.path);
            let (Some(place), Kind::File(_)) = (place, &entry.kind) else { continue };
            // Entries have no fixed order, so an earlier path of the list may come later.
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
