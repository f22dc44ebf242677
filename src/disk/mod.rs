//! Disk layouts as values.

/// A disk: partitions and file systems.
#[derive(Debug, Clone)]
pub struct Layout;
