//! Times of a build.

/// The times that a rewrite depends on, in seconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The source date epoch: later times are clamped to it.
    pub epoch: i64,
    /// When the first captured hook started.
    pub started: i64,
    /// When the last captured hook ended.
    pub ended: i64,
}
