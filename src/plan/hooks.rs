//! Hooks directories and their paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::element::{Element, PROVIDER_DATA, Phase};

/// The files of a hooks directory: path, and the element they come from.
pub(super) type Hooks = BTreeMap<String, Arc<Element>>;

/// Returns true if providers read the file at `path`.
pub(super) fn is_provider_data(element: &Element, path: &str) -> bool {
    PROVIDER_DATA.contains(&path) || path.ends_with(&format!("package-installs-{}", element.name))
}

/// Returns the phase in whose directory the file at `path` is.
pub(super) fn phase_of(path: &str) -> Option<Phase> {
    path.split('/').next()?.parse().ok()
}
