//! What can be wrong with a layer.

/// A layer that cannot be encoded, decoded or applied.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A real file has a name that the format reserves for whiteouts.
    #[error("`{path}` starts with `.wh.`, which the layer format reserves for removals")]
    ReservedName {
        /// The file.
        path: String,
    },
}
