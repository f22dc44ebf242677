//! Which published steps may go.

use std::collections::{BTreeMap, BTreeSet};

use super::SharedStep;
use crate::oci::Digest;

/// What of a cache repository is kept beside the last published build of each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrunePolicy {
    /// What was published at this time or later, in seconds since 1970.
    pub since: i64,
    /// So many of each image's step, the newest, however old they are.
    pub keep_last: usize,
}

impl PrunePolicy {
    /// Returns the manifests of `published` that may go. `spared` are those that the images' last builds consist of.
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
            // The newest first. The digest decides between steps of the same second, so that every
            // run selects the same.
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
    fn what_is_old_goes_but_for_the_newest_and_what_is_spared() {
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
