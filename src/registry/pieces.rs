//! Which registries take blobs in pieces only: learned on the way.

use std::collections::HashMap;
use std::sync::Mutex;

/// By host, how large they are.
#[derive(Default)]
pub(super) struct Pieces(Mutex<HashMap<String, u64>>);

impl Pieces {
    /// Returns how large pieces for `host` have to be, in bytes. `None` if it takes blobs whole, or nobody has tried.
    pub(super) fn of(&self, host: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(|held| held.into_inner()).get(host).copied()
    }

    /// Notes that `host` takes pieces of `bytes` at most.
    pub(super) fn need(&self, host: &str, bytes: u64) {
        self.0.lock().unwrap_or_else(|held| held.into_inner()).insert(host.to_owned(), bytes);
    }
}
