//! The registries that refuse whole blobs and need them in pieces. plywood learns this from their
//! answers.

use std::collections::HashMap;
use std::sync::Mutex;

/// The size of the pieces in bytes, by host.
#[derive(Default)]
pub(super) struct Pieces(Mutex<HashMap<String, u64>>);

impl Pieces {
    /// Returns the size of pieces for `host` in bytes; `None` if the host has refused no whole blob
    /// so far.
    pub(super) fn of(&self, host: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(|held| held.into_inner()).get(host).copied()
    }

    /// Records that `host` needs pieces of `bytes`.
    pub(super) fn need(&self, host: &str, bytes: u64) {
        self.0.lock().unwrap_or_else(|held| held.into_inner()).insert(host.to_owned(), bytes);
    }
}
