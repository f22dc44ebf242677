//! The published part of a built step.

use super::StepKey;
use crate::plan::{Evidence, Record, Step, StepName};
use crate::port::{Blob, Layer};

/// A built step in its published form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStep {
    /// The record, with key fields in [published](crate::plan::KeyFields::published) form: they
    /// explain misses.
    pub record: Record,
    /// The layers of the record and their blobs, lowest first.
    pub layers: Vec<Layer>,
    /// The image config of a base that was imported as layers.
    pub config: Option<Blob>,
    /// Time of publication, in seconds since 1970.
    pub created: i64,
}

impl SharedStep {
    /// Returns the published form of the step with this record and these layers. Removes everything
    /// that must not leave the build host, such as values of variables.
    pub fn new(record: &Record, layers: Vec<Layer>, config: Option<Blob>, created: i64) -> Self {
        let evidence = record.evidence.as_ref().map(Evidence::published);
        let record = Record { fields: record.fields.published(), evidence, ..record.clone() };
        Self { record, layers, config, created }
    }

    /// Returns true if this is the step with that key.
    pub fn answers(&self, key: &StepKey) -> bool {
        match key {
            StepKey::Input(key) => self.record.input_key == *key,
            StepKey::Content(key) => self.record.content_key == *key,
        }
    }

    /// Returns the two keys of the step.
    pub fn keys(&self) -> [StepKey; 2] {
        // The content key first. Look-ups use the input key, so they find a step only when both
        // tags exist.
        [StepKey::Content(self.record.content_key), StepKey::Input(self.record.input_key)]
    }
}

/// A step that is not published, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    pub step: StepName,
    /// The secret variables that its hooks could read.
    pub secrets: Vec<String>,
}

/// Returns how many of `steps` (lowest first) may be published, and the first step that may not.
///
/// A layer that was built with a secret may contain it, and a higher layer may contain a changed
/// copy of the same file: the hash of a password in `/etc/shadow`, where the next element adds a
/// user. So publication ends below the first step with a secret. Other build hosts could not look
/// that step up anyway, because its key depends on this store.
pub fn publishable<'a>(steps: impl IntoIterator<Item = &'a Step>) -> (usize, Option<Withheld>) {
    let mut count = 0;
    for step in steps {
        let secrets: Vec<_> = step.fields.secrets().map(str::to_owned).collect();
        if !secrets.is_empty() {
            return (count, Some(Withheld { step: step.name.clone(), secrets }));
        }
        count += 1;
    }
    (count, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::Image;

    #[test]
    fn nothing_at_or_above_a_step_with_a_secret_is_published() {
        let mut image = Image::full();
        let plan = image.plan();
        let (count, withheld) = publishable(&plan.steps);
        let names: Vec<_> = plan.steps[..count].iter().map(|step| step.name.to_string()).collect();
        assert_eq!(names, ["base:debian-bookworm", "tools"]);
        let secrets = vec!["DIB_WEB_PASSWORD".to_owned()];
        assert_eq!(withheld, Some(Withheld { step: "web".parse().unwrap(), secrets }));
        image.variables.remove("DIB_WEB_PASSWORD");
        let plan = image.plan();
        assert_eq!(publishable(&plan.steps), (plan.steps.len(), None));
    }
}
