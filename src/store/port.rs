//! Implements the port [`LayerStore`], which builds use, with the views of the store.

use std::path::{Path, PathBuf};

use super::Store;
use super::file::create_directories;
use super::observe::Observed;
use super::workspace::LayerWorkspace;
use crate::distro::{Architecture, BaseSource};
use crate::oci::{BlobStream, DiffId};
use crate::plan::{ContentKey, InputKey, Record};
use crate::port::{BaseImage, Layer, LayerStore, ObservedTree, StoreError, Workspace};

impl LayerStore for Store {
    fn by_input(&self, key: InputKey) -> Result<Option<Record>, StoreError> {
        self.records().by_input(key)
    }

    fn by_content(&self, key: ContentKey) -> Result<Option<Record>, StoreError> {
        self.records().by_content(key)
    }

    fn all_records(&self) -> Result<Vec<Record>, StoreError> {
        let files = self.records().files_by_input()?;
        Ok(files.into_iter().map(|(_, record, _)| record).collect())
    }

    fn save(&self, record: &Record) -> Result<(), StoreError> {
        self.records().put(record)
    }

    fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        self.layers().get(diff_id)
    }

    fn receive(&self, layer: &Layer, blob: &mut BlobStream<'_>) -> Result<(), StoreError> {
        self.layers().import_recorded(layer, blob)
    }

    fn prove(&self, stack: &[DiffId]) -> Result<(), StoreError> {
        self.snapshots().prove(stack)
    }

    fn base_image(&self, source: &BaseSource, architecture: Architecture) -> Result<BaseImage, StoreError> {
        self.bases().get(source, architecture)
    }

    fn keep_base(&self, source: &BaseSource, base: &BaseImage) -> Result<(), StoreError> {
        self.bases().put_as(source, base)
    }

    fn workspace(&self, stack: &[DiffId]) -> Result<Box<dyn Workspace>, StoreError> {
        Ok(Box::new(LayerWorkspace::create(self.clone(), stack)?))
    }

    fn observe(&self, root: &Path) -> Result<Box<dyn ObservedTree>, StoreError> {
        Ok(Box::new(Observed::start(root)))
    }

    fn cache(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.layout().cache(name);
        create_directories(&path)?;
        Ok(path)
    }
}
