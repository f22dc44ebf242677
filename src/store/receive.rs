//! Layers from other stores.

use std::io::Read;
use std::path::Path;

use super::Store;
use super::import::Claims;
use crate::port::{Layer, StoreError};

impl Store {
    /// Takes in a layer from elsewhere: reads all of `source`, the bytes of its blob. Nothing is believed of `layer`: the digest of
    /// the blob and the DiffID of the archive in it are computed, and a layer that differs is not stored. An archive that goes on
    /// after its end is read no further.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::WrongLayer`], [`StoreError::LargerThanSaid`], [`StoreError::Layer`] if it is
    /// not that layer; [`StoreError::NoRoom`],
    /// [`StoreError::Io`].
    pub fn receive(&self, layer: &Layer, source: &mut dyn Read) -> Result<(), StoreError> {
        // One byte more than there should be is enough to see that there are too many.
        let source = source.take(layer.blob_bytes.saturating_add(1));
        let name = format!("blob {}", layer.blob);
        let Layer { blob, diff_id, tar_bytes, .. } = layer;
        let claims = Claims { blob: Some(blob), diff_id: Some(diff_id), tar_bytes: Some(*tar_bytes) };
        self.ingest(source, Path::new(&name), &claims).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Encoder, Encoding, Entry, Kind, Meta};
    use crate::oci::{DiffId, Digest};

    fn blob(name: &str) -> (Layer, Vec<u8>) {
        let mut encoder = Encoder::new(Vec::new());
        let entry = Entry { path: name.into(), kind: Kind::Directory, meta: Meta::IMPLIED_DIRECTORY };
        encoder.append(&entry).unwrap();
        let bytes = encoder.finish().unwrap().0;
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let layer = Layer {
            diff_id: DiffId::new(digest),
            tar_bytes: size,
            entries: 1,
            blob: digest,
            blob_bytes: size,
            encoding: Encoding::None,
        };
        (layer, bytes)
    }

    #[test]
    fn a_layer_is_stored_if_it_is_what_it_is_said_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (layer, bytes) = blob("a");
        let (other, other_bytes) = blob("b");
        let longer = [bytes.as_slice(), b"more"].concat();
        for wrong in [&other_bytes, &bytes[..512], &longer] {
            assert!(matches!(store.receive(&layer, &mut &*wrong), Err(StoreError::Damaged { .. })));
        }
        // The blob is right, but it does not hold the layer that the record says.
        let lie = Layer { diff_id: other.diff_id, ..layer.clone() };
        assert!(matches!(store.receive(&lie, &mut &*bytes), Err(StoreError::WrongLayer { .. })));
        let shorter = Layer { tar_bytes: layer.tar_bytes - 1, ..layer.clone() };
        let refused = store.receive(&shorter, &mut &*bytes).unwrap_err();
        assert!(matches!(refused, StoreError::LargerThanSaid { said, .. } if said == shorter.tar_bytes));
        assert_eq!(
            (store.layer(&layer.diff_id).unwrap(), store.layer(&other.diff_id).unwrap()),
            (None, None)
        );
        store.receive(&layer, &mut &*bytes).unwrap();
        assert_eq!(store.layer(&layer.diff_id).unwrap(), Some(layer));
    }
}
