//! Keeps the state after a failed hook for inspection: `failed/<image>/upper`, and beside it
//! `step.json`.
//!
//! Each image has at most one state, from its last failure. It never becomes part of a layer.

use std::path::{Path, PathBuf};

use super::Store;
use super::census::{list_files, used};
use super::file::{create_private, failed as io_failed, read_if_there, remove_path, write_whole};
use crate::port::{FailedStep, StoreError};

/// The kept states of failed hooks.
#[derive(Debug, Clone, Copy)]
pub struct Failures<'a> {
    pub(super) store: &'a Store,
}

impl Failures<'_> {
    /// Returns the kept state of the last failure of `image`: the failed step and the upper
    /// directory. `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get(&self, image: &str) -> Result<Option<(FailedStep, PathBuf)>, StoreError> {
        let place = self.store.layout().failed().join(image);
        let Some(bytes) = read_if_there(&place.join(STEP))? else { return Ok(None) };
        // An unreadable document, such as one of another version, counts as missing.
        Ok(serde_json::from_slice(&bytes).ok().map(|step| (step, place.join(UPPER))))
    }

    /// Moves the directory `upper` into the store and keeps it.
    pub(super) fn put(&self, step: &FailedStep, upper: &Path) -> Result<(), StoreError> {
        create_private(&self.store.layout().failed())?;
        let place = self.store.layout().failed().join(&step.image);
        remove_path(&place)?;
        create_private(&place)?;
        let kept = place.join(UPPER);
        std::fs::rename(upper, &kept).map_err(io_failed("move a failed step to", &kept))?;
        // Last, because a state without this file counts as missing. After a crash in between, the
        // next failure replaces the state.
        let bytes = serde_json::to_vec_pretty(step).unwrap_or_default();
        write_whole(&place.join(STEP), &self.store.temporary()?, &bytes)
    }

    /// Removes the kept state of `image`, if any.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self, image: &str) -> Result<(), StoreError> {
        match self.store.layout().failed().is_dir() {
            true => remove_path(&self.store.layout().failed().join(image)),
            false => Ok(()),
        }
    }

    /// Removes states from before a time, in seconds since 1970.
    pub(super) fn remove_older(&self, before: u64) -> Result<(), StoreError> {
        if !self.store.layout().failed().is_dir() {
            return Ok(());
        }
        let places = list_files(&self.store.layout().failed())?;
        places
            .iter()
            .filter(|place| used(&place.join(STEP)) < before)
            .try_for_each(|place| remove_path(place))
    }
}

const STEP: &str = "step.json";
const UPPER: &str = "upper";
