//! Why a step has to be built: its fields against those of the most similar step that was built before.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{KeyFields, Record, Step};

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
        /// In the nearest record.
        old: String,
        /// Now.
        new: String,
    },
    /// The nearest record has no such field.
    Added {
        /// Its label.
        field: String,
        /// Now.
        new: String,
    },
    /// The nearest record has a field that the step has no more.
    Removed {
        /// Its label.
        field: String,
        /// In the nearest record.
        old: String,
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
            Miss::Changed { field, old, new } => {
                write!(f, "{field} changed: {} -> {}", brief(old), brief(new))
            }
            Miss::Added { field, new } => write!(f, "{field} is new: {}", brief(new)),
            Miss::Removed { field, old } => write!(f, "{field} is gone: {}", brief(old)),
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
        .map(|record| (differences(&record.fields, &step.fields), record))
        // The key decides between equals: a store gives its records in no particular order.
        .min_by_key(|(misses, record)| (misses.len(), record.parent != step.parent, record.input_key));
    match nearest {
        None => vec![Miss::NeverBuilt],
        Some((misses, _)) if !misses.is_empty() => misses,
        Some((_, record)) if record.parent == step.parent => vec![Miss::LayerGone],
        Some(_) => vec![Miss::Below],
    }
}

/// Returns what differs: first what changed or is new, then what is gone, each sorted by label.
fn differences(old: &KeyFields, new: &KeyFields) -> Vec<Miss> {
    let mut old: BTreeMap<_, _> = pairs(old).collect();
    let mut misses = Vec::new();
    for (label, value) in pairs(new) {
        let (field, new) = (label.to_owned(), value.to_owned());
        match old.remove(label) {
            Some(before) if before == value => {}
            Some(before) => misses.push(Miss::Changed { field, old: before.to_owned(), new }),
            None => misses.push(Miss::Added { field, new }),
        }
    }
    let gone = old.into_iter();
    misses
        .extend(gone.map(|(label, value)| Miss::Removed { field: label.to_owned(), old: value.to_owned() }));
    misses
}

fn pairs(fields: &KeyFields) -> impl Iterator<Item = (&str, &str)> {
    fields.fields().iter().map(|field| (field.label.as_str(), field.value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::Image;
    use crate::plan::{InputKey, Plan};

    fn record(step: &Step) -> Record {
        Record {
            step: step.name.clone(),
            image: "vm".to_owned(),
            input_key: step.input_key,
            content_key: step.content_key(None),
            parent: step.parent,
            fields: step.fields.clone(),
            diff_ids: Vec::new(),
        }
    }

    fn records(plan: &Plan) -> Vec<Record> {
        plan.steps.iter().map(record).collect()
    }

    /// Returns the reasons for the step `web` of `image`, as a user reads them.
    fn reasons(image: &Image, records: &[Record]) -> Vec<String> {
        let plan = image.plan();
        let step = plan.steps.iter().find(|step| step.name == "web").unwrap();
        explain_miss(step, records).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_miss_is_explained_by_the_nearest_record() {
        let built = Image::full();
        let mut far = Image::full();
        far.set(&[("DIB_WEB_FILES", ""), ("DIB_TOOL", "x"), ("DIB_RELEASE", "sid")]);
        let below = |image: &mut Image| image.base.release = "sid".to_owned();
        type Case = (&'static str, fn(&mut Image), &'static [&'static str]);
        let table: [Case; 5] = [
            ("nothing", |_| (), &["built before, but its layer is no longer in the store"]),
            ("below", below, &["a layer below is another one"]),
            (
                "below and here",
                |i| {
                    i.base.release = "sid".to_owned();
                    i.set(&[("DIB_TOOL", "u")])
                },
                &["variable DIB_TOOL changed: t -> u"],
            ),
            (
                "a variable more, another less",
                |i| {
                    i.variables.remove("DIB_TOOL");
                    i.set(&[("DIB_SHARED", "s")])
                },
                &["variable DIB_SHARED is new: s", "variable DIB_TOOL is gone: t"],
            ),
            ("emptied", |i| i.set(&[("DIB_TOOL", "")]), &["variable DIB_TOOL changed: t -> (empty)"]),
        ];
        let mut stored = records(&far.plan());
        stored.extend(records(&built.plan()));
        for (case, change, expected) in table {
            let mut image = built.clone();
            change(&mut image);
            assert_eq!(reasons(&image, &stored), expected, "{case}");
            stored.reverse();
            assert_eq!(reasons(&image, &stored), expected, "{case}, records reversed");
        }
        assert_eq!(reasons(&built, &[]), ["never built before"]);
        assert_eq!(reasons(&built, &stored[..1]), ["never built before"], "a record of another step");
    }

    #[test]
    fn of_two_records_as_near_the_one_on_the_same_layers_is_taken() {
        let plan = Image::full().plan();
        let step = &plan.steps[2];
        let elsewhere =
            Record { parent: None, input_key: InputKey::new(crate::oci::Digest::of("")), ..record(step) };
        assert_eq!(explain_miss(step, &[elsewhere.clone(), record(step)]), [Miss::LayerGone]);
        assert_eq!(explain_miss(step, &[elsewhere]), [Miss::Below]);
    }

    #[test]
    fn digests_are_shortened_and_other_values_are_not() {
        let digest = crate::oci::Digest::of("x").to_string();
        for (value, text) in [
            (format!("0755 {digest}"), format!("0755 {}", &digest[7..19])),
            ("sha256:short".to_owned(), "sha256:short".to_owned()),
            ("a  b".to_owned(), "a  b".to_owned()),
        ] {
            assert_eq!(brief(&value), text);
        }
    }
}
