//! What failed hooks left, kept for whoever wants to look: `failed/<image>/upper`, beside it `step.json`.
//!
//! One state for each image, that of its last failure. It is part of no layer and is never built on.

use std::path::{Path, PathBuf};

use super::Store;
use super::census::{list_files, used};
use super::file::{create_private, failed as io_failed, read_if_there, remove_path};

use crate::port::{FailedStep, StoreError};

impl Store {
    /// Returns the state that was kept of the last failure of `image`: what failed, and the upper directory. `None` if none
    /// was kept.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn failed(&self, image: &str) -> Result<Option<(FailedStep, PathBuf)>, StoreError> {
        let place = self.layout().failed().join(image);
        let Some(bytes) = read_if_there(&place.join(STEP))? else { return Ok(None) };
        // Written by another version, it is of no use.
        Ok(serde_json::from_slice(&bytes).ok().map(|step| (step, place.join(UPPER))))
    }

    /// Keeps the directory `upper`, which is moved.
    pub(super) fn keep_failed(&self, step: &FailedStep, upper: &Path) -> Result<(), StoreError> {
        create_private(&self.layout().failed())?;
        let place = self.layout().failed().join(&step.image);
        remove_path(&place)?;
        create_private(&place)?;
        let kept = place.join(UPPER);
        std::fs::rename(upper, &kept).map_err(io_failed("move a failed step to", &kept))?;
        // Last: a state is there once this file is.
        let bytes = serde_json::to_vec_pretty(step).unwrap_or_default();
        super::file::write_whole(&place.join(STEP), &self.temporary()?, &bytes)
    }

    /// Forgets the state that was kept of `image`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn forget_failed(&self, image: &str) -> Result<(), StoreError> {
        match self.layout().failed().is_dir() {
            true => remove_path(&self.layout().failed().join(image)),
            false => Ok(()),
        }
    }

    /// Forgets states that were kept before a time, in seconds since 1970.
    pub(super) fn forget_old_failures(&self, before: u64) -> Result<(), StoreError> {
        if !self.layout().failed().is_dir() {
            return Ok(());
        }
        let places = list_files(&self.layout().failed())?;
        places
            .iter()
            .filter(|place| used(&place.join(STEP)) < before)
            .try_for_each(|place| remove_path(place))
    }
}

const STEP: &str = "step.json";
const UPPER: &str = "upper";
