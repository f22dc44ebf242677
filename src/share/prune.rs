//! Selects the published steps that may be deleted.

use std::collections::{BTreeMap, BTreeSet};

use super::SharedStep;
use crate::oci::Digest;

/// The steps of a cache repository to keep, in addition to those of the last published build of
/// each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunePolicy {
    /// Steps that were published at this time or later, in seconds since 1970, are kept.
    pub since: i64,
    /// This many of the newest versions of each step of each image are kept, whatever their age.
    pub keep_last: usize,
}

impl PrunePolicy {
    /// Returns the manifests of `published` that may be deleted. Those in `spared`, the last builds
    /// of the images, never are.
    pub fn select(
        &self,
        published: &BTreeMap<Digest, SharedStep>,
        spared: &BTreeSet<Digest>,
    ) -> BTreeSet<Digest> {
        let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (digest, step) in published {
            kinds.entry((&step.record.image, &step.record.step)).or_default().push((step.created, *digest));
        }
        let mut gone = BTreeSet::new();
        for mut same in kinds.into_values() {
            // The newest first. Between steps of the same second the digest decides, so that all
            // runs select the same steps.
            same.sort_by(|a, b| b.cmp(a));
            let old = same.into_iter().skip(self.keep_last).filter(|(created, _)| *created < self.since);
            gone.extend(old.map(|(_, digest)| digest).filter(|digest| !spared.contains(digest)));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{InputKey, KeyFields, Record};

    fn step(name: &str, created: i64) -> (Digest, SharedStep) {
        let digest = Digest::of(format!("{name} {created}"));
        let fields = KeyFields::default();
        let (input_key, content_key) = (InputKey::new(digest), fields.content_key(None));
        let (step, image) = (name.parse().unwrap(), "vm".to_owned());
        let (parent, diff_ids) = (None, Vec::new());
        let record = Record { step, image, input_key, content_key, parent, fields, diff_ids, evidence: None };
        (digest, SharedStep { record, layers: Vec::new(), config: None, created })
    }

    #[test]
    fn old_steps_are_selected_except_for_the_newest_and_the_spared() {
        let published = [step("a", 10), step("a", 20), step("a", 30), step("b", 10)];
        let spared = BTreeSet::from([published[0].0]);
        let published = BTreeMap::from(published);
        let gone = |since, keep_last, spared: &BTreeSet<Digest>| -> Vec<(String, i64)> {
            let gone = PrunePolicy { since, keep_last }.select(&published, spared);
            let mut gone: Vec<_> = gone
                .iter()
                .map(|digest| (published[digest].record.step.to_string(), published[digest].created))
                .collect();
            gone.sort();
            gone
        };
        let named = |steps: &[(&str, i64)]| -> Vec<(String, i64)> {
            steps.iter().map(|(name, created)| ((*name).to_owned(), *created)).collect()
        };
        let none = BTreeSet::new();
        assert_eq!(gone(0, 0, &none), []);
        assert_eq!(gone(25, 0, &none), named(&[("a", 10), ("a", 20), ("b", 10)]));
        assert_eq!(gone(25, 1, &none), named(&[("a", 10), ("a", 20)]));
        assert_eq!(gone(99, 1, &spared), named(&[("a", 20)]));
        assert_eq!(gone(99, 3, &none), []);
    }
}
