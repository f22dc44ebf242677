//! Files with several names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustix::fs::Stat;

use super::file_id;
use crate::layer::FileId;

/// What was noted for the first name of each file that has several. Takes memory for these alone.
#[derive(Debug)]
pub struct Links<T>(HashMap<FileId, T>);

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Links<T> {
    /// Returns what was noted for the first name of this file. If this is the first one, notes
    /// `of_this` and returns `None`.
    pub fn first(&mut self, stat: &Stat, of_this: impl FnOnce() -> T) -> Option<&T> {
        match self.0.entry(file_id(stat)?) {
            Entry::Occupied(first) => Some(first.into_mut()),
            Entry::Vacant(free) => {
                free.insert(of_this());
                None
            }
        }
    }
}
