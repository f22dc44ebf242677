//! Documents of images in the store, besides layers and records: containers, last builds, states of
//! failures.

use std::path::PathBuf;

use crate::oci::DiffId;
use crate::plan::InputKey;
use crate::port::{Event, Events, Layer, LayerBlobs, StoreError};
use crate::store::Store;

/// Keeps images.
pub(crate) trait Images {
    /// Returns the source of the layers' bytes.
    fn layer_blobs(&self) -> Box<dyn LayerBlobs + '_>;

    /// Keeps the container of an image's build, for `plywood push`.
    fn save_container(&self, image: &str, config: &[u8], layers: &[Layer]) -> Result<(), StoreError>;

    /// Removes the container of an image's earlier build if that build had another stack of layers.
    fn forget_old_container(&self, image: &str, stack: &[DiffId]) -> Result<(), StoreError>;

    /// Keeps the manifest of an image's build, and with it the steps with these keys.
    fn save_build(&self, image: &str, manifest: Vec<u8>, keys: &[InputKey]) -> Result<(), StoreError>;

    /// Returns the manifest of the last build of an image, if it is kept.
    fn last_build(&self, image: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns how many records and other documents could not be read, and where they are kept now.
    fn set_aside(&self) -> (u64, PathBuf);

    /// Removes the state that a failed hook of an image left.
    fn forget_failed(&self, image: &str) -> Result<(), StoreError>;
}

/// Warns of documents of the store that could not be read. One line at the end of a command: records
/// are read one by one, and after an upgrade all of them may be unreadable.
pub(super) fn warn_of_set_aside(images: &dyn Images, events: &dyn Events) {
    let (count, place) = images.set_aside();
    if count > 0 {
        let message = format!(
            "{count} records or other documents in the store cannot be read: they are damaged, or another version of \
             plywood wrote them. They were moved to `{}`, and their steps are built again",
            place.display()
        );
        events.emit(Event::Warning { message: &message });
    }
}

impl Images for Store {
    fn layer_blobs(&self) -> Box<dyn LayerBlobs + '_> {
        Box::new(self.layers())
    }

    fn save_container(&self, image: &str, config: &[u8], layers: &[Layer]) -> Result<(), StoreError> {
        self.builds().put_container(image, config, layers).map(drop)
    }

    fn forget_old_container(&self, image: &str, stack: &[DiffId]) -> Result<(), StoreError> {
        self.builds().remove_old_container(image, stack)
    }

    fn save_build(&self, image: &str, manifest: Vec<u8>, keys: &[InputKey]) -> Result<(), StoreError> {
        self.builds().put(image, manifest, keys.iter().copied()).map(drop)
    }

    fn last_build(&self, image: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.builds().get(image)
    }

    fn forget_failed(&self, image: &str) -> Result<(), StoreError> {
        self.failures().remove(image)
    }

    fn set_aside(&self) -> (u64, PathBuf) {
        Store::set_aside(self)
    }
}
