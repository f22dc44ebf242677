//! Why a step has to be built: its fields against those of the most similar step that was built before.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Record, Step};

/// Why no layer was found for a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Miss {
    /// No step of this name was ever built in this store.
    NeverBuilt,
    /// A field differs from the nearest record.
    Changed {
        /// Its label: `file install.d/50-nginx`.
        field: String,
        /// In the nearest record; `None` if it had no such field.
        old: Option<String>,
        /// Now; `None` if it has no such field any more.
        new: Option<String>,
    },
    /// The step is the same as one that was built, but on other layers.
    Below,
    /// A record is there, but a layer it names is not.
    LayerGone,
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Miss::NeverBuilt => f.write_str("never built before"),
            Miss::Below => f.write_str("a layer below is another one"),
            Miss::LayerGone => f.write_str("built before, but its layer is no longer in the store"),
            Miss::Changed { field, old: Some(old), new: Some(new) } => {
                write!(f, "{field} changed: {} -> {}", brief(old), brief(new))
            }
            Miss::Changed { field, old: None, new: Some(new) } => write!(f, "{field} is new: {}", brief(new)),
            Miss::Changed { field, old: Some(old), new: None } => {
                write!(f, "{field} is gone: {}", brief(old))
            }
            Miss::Changed { field, old: None, new: None } => write!(f, "{field} changed"),
        }
    }
}

/// Shortens digests, which nobody compares by eye, and leaves other values whole.
fn brief(value: &str) -> String {
    let shorten = |word: &str| match word.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 => hex[..12].to_owned(),
        _ => word.to_owned(),
    };
    if value.is_empty() {
        "(empty)".to_owned()
    } else {
        value.split(' ').map(shorten).collect::<Vec<_>>().join(" ")
    }
}

/// Explains a miss of `step` by the records of a store.
///
/// The nearest record is the one of the same name with the fewest fields that differ. Never empty.
pub fn explain_miss(step: &Step, records: &[Record]) -> Vec<Miss> {
    let nearest = records
        .iter()
        .filter(|record| record.step == step.name)
        .map(|record| (differences(step, record), record))
        .min_by_key(|(differences, record)| (differences.len(), record.parent != step.parent));
    match nearest {
        None => vec![Miss::NeverBuilt],
        Some((differences, _)) if !differences.is_empty() => differences,
        Some((_, record)) if record.parent == step.parent => vec![Miss::LayerGone],
        Some(_) => vec![Miss::Below],
    }
}

fn differences(step: &Step, record: &Record) -> Vec<Miss> {
    let as_map = |fields: &super::KeyFields| -> BTreeMap<String, String> {
        fields.fields().iter().map(|field| (field.label.clone(), field.value.clone())).collect()
    };
    let (mut old, new) = (as_map(&record.fields), as_map(&step.fields));
    let mut misses = Vec::new();
    for (field, value) in new {
        let before = old.remove(&field);
        if before.as_ref() != Some(&value) {
            misses.push(Miss::Changed { field, old: before, new: Some(value) });
        }
    }
    misses.extend(old.into_iter().map(|(field, value)| Miss::Changed { field, old: Some(value), new: None }));
    misses
}
