//! Explains why a step has to be built, by comparing its fields with the most similar earlier step.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::key::published;
use super::{ContentKey, HostChange, KeyFields, Record, Step};

/// A reason why no layer was found for a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "reason", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Miss {
    NeverBuilt,
    /// A field differs from the nearest record.
    Changed {
        /// Its label: `file install.d/50-nginx`.
        field: String,
        /// The value in the nearest record.
        old: String,
        /// The current value.
        new: String,
    },
    /// The nearest record lacks this field.
    Added {
        /// Its label.
        field: String,
        /// The current value.
        new: String,
    },
    /// The nearest record has a field that the step lacks.
    Removed {
        /// Its label.
        field: String,
        /// The value in the nearest record.
        old: String,
    },
    /// The step itself is unchanged, but the layers below changed.
    Below,
    /// The store has a record, but lacks one of its layers.
    LayerGone,
    /// The part of the build host that a hook read has changed.
    Host(HostChange),
    /// The evidence of the build host is incomplete.
    HostUnknown {
        why: String,
    },
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Miss::NeverBuilt => f.write_str("not built yet"),
            Miss::Host(change) => write!(f, "{change}"),
            Miss::HostUnknown { why } => {
                write!(f, "the evidence of host files that its hooks read is incomplete: {why}")
            }
            Miss::Below => f.write_str("a layer below changed"),
            Miss::LayerGone => f.write_str("its layer is no longer in the store"),
            Miss::Changed { field, old, new } => {
                write!(f, "{field} changed: {} -> {}", brief(old), brief(new))
            }
            Miss::Added { field, new } => write!(f, "{field} is new: {}", brief(new)),
            Miss::Removed { field, old } => write!(f, "{field} is gone: {}", brief(old)),
        }
    }
}

/// Shortens digests for display. Leaves other values whole.
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

/// Explains a miss of `step` by the records of a store. `content_key` is `None` if the layers below
/// are unknown.
///
/// The nearest record is the one of the same name with the fewest different fields. The result is
/// never empty.
pub fn explain_miss(step: &Step, content_key: Option<ContentKey>, records: &[Record]) -> Vec<Miss> {
    let stood_on_the_same = |record: &Record| Some(record.content_key) == content_key;
    let nearest = records
        .iter()
        .filter(|record| record.step == step.name)
        .map(|record| (differences(&record.fields, &step.fields), record))
        // Records are in no particular order, so the key decides between equals.
        .min_by_key(|(misses, record)| (misses.len(), !stood_on_the_same(record), record.input_key));
    match nearest {
        None => vec![Miss::NeverBuilt],
        Some((misses, _)) if !misses.is_empty() => misses,
        Some((_, record)) if stood_on_the_same(record) => vec![Miss::LayerGone],
        Some(_) => vec![Miss::Below],
    }
}

/// Returns the differences: changed and new fields first, then removed ones, each sorted by label.
/// The values of `old` may be [published](KeyFields::published) ones.
fn differences(old: &KeyFields, new: &KeyFields) -> Vec<Miss> {
    let mut old: BTreeMap<_, _> = pairs(old).collect();
    let mut misses = Vec::new();
    for (label, value) in pairs(new) {
        let (field, new) = (label.to_owned(), value.to_owned());
        match old.remove(label) {
            Some(before) if before == value || before == published(label, value) => {}
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
    use crate::oci::{ChainId, Digest};
    use crate::plan::Plan;
    use crate::plan::fixture::Image;

    /// Returns the record of a step that was built on the layers `below`.
    fn record(step: &Step, below: Option<ChainId>) -> Record {
        Record {
            step: step.name.clone(),
            image: "vm".to_owned(),
            input_key: step.input_key,
            content_key: step.content_key(below),
            parent: step.parent,
            fields: step.fields.clone(),
            diff_ids: Vec::new(),
            evidence: None,
        }
    }

    fn chain(text: &str) -> Option<ChainId> {
        Some(ChainId::new(Digest::of(text)))
    }

    fn web(plan: &Plan) -> &Step {
        plan.steps.iter().find(|step| step.name == "web").unwrap()
    }

    #[test]
    fn a_miss_is_explained_by_the_nearest_record() {
        let image = Image::full();
        let mut far = image.clone();
        far.set(&[("DIB_WEB_FILES", ""), ("DIB_TOOL", "x"), ("DIB_RELEASE", "sid")]);
        let (near, far) = (image.plan(), far.plan());
        let mut records: Vec<_> =
            far.steps.iter().chain(&near.steps).map(|step| record(step, chain("old"))).collect();
        type Case = (&'static str, fn(&mut Image), &'static [&'static str]);
        let table: [Case; 4] = [
            ("the same", |_| (), &["a layer below changed"]),
            ("a variable", |i| i.set(&[("DIB_TOOL", "u")]), &["variable DIB_TOOL changed: t -> u"]),
            (
                "a variable emptied",
                |i| i.set(&[("DIB_TOOL", "")]),
                &["variable DIB_TOOL changed: t -> (empty)"],
            ),
            (
                "a variable more, another less",
                |i| {
                    i.variables.remove("DIB_TOOL");
                    i.set(&[("DIB_SHARED", "s")]);
                },
                &["variable DIB_SHARED is new: s", "variable DIB_TOOL is gone: t"],
            ),
        ];
        for (case, change, expected) in table {
            let mut image = image.clone();
            change(&mut image);
            let plan = image.plan();
            let content_key = Some(web(&plan).content_key(chain("new")));
            for _ in 0..2 {
                let misses = explain_miss(web(&plan), content_key, &records);
                assert_eq!(misses.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{case}");
                records.reverse();
            }
        }
        assert_eq!(explain_miss(web(&near), None, &[]), [Miss::NeverBuilt]);
        assert_eq!(explain_miss(web(&near), None, &[record(&near.steps[0], None)]), [Miss::NeverBuilt]);
    }

    #[test]
    fn of_two_equally_near_records_the_one_on_the_same_layers_wins() {
        let plan = Image::full().plan();
        let step = web(&plan);
        let (here, elsewhere) = (record(step, chain("here")), record(step, chain("elsewhere")));
        let key = Some(here.content_key);
        for records in [[here.clone(), elsewhere.clone()], [elsewhere.clone(), here]] {
            assert_eq!(explain_miss(step, key, &records), [Miss::LayerGone]);
            assert_eq!(explain_miss(step, None, &records), [Miss::Below], "what is below is not known");
        }
        assert_eq!(explain_miss(step, key, &[elsewhere]), [Miss::Below]);
    }

    #[test]
    fn digests_are_shortened_and_other_values_are_not() {
        let digest = Digest::of("x").to_string();
        for (value, text) in [
            (format!("0755 {digest}"), format!("0755 {}", &digest[7..19])),
            ("sha256:short".to_owned(), "sha256:short".to_owned()),
            ("a  b".to_owned(), "a  b".to_owned()),
        ] {
            assert_eq!(brief(&value), text);
        }
    }
}
