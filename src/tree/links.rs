//! Files with several names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustix::fs::Stat;

use super::file_id;
use crate::layer::FileId;

/// A note for the first name of each file that has several names. Files with one name take no
/// memory.
#[derive(Debug)]
pub struct Links<T>(HashMap<FileId, T>);

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Links<T> {
    /// Returns the note for the first name of this file. If this is the first name, stores
    /// `of_this` as its note and returns `None`.
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
