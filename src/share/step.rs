//! What is told of a built step.

use super::StepKey;
use crate::plan::{Evidence, Record, Step, StepName};
use crate::port::{Blob, Layer};

/// A built step, as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStep {
    /// What a miss can be explained by; its key fields are [published](crate::plan::KeyFields::published).
    pub record: Record,
    /// Its layers and the blobs that hold them, lowest first: those of the record.
    pub layers: Vec<Layer>,
    /// The image config of a base that came as layers.
    pub config: Option<Blob>,
    /// When it was published, in seconds since 1970.
    pub created: i64,
}

impl SharedStep {
    /// Returns what may be told of the step with the record `record`, which gave `layers`.
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

    /// Returns its two keys.
    pub fn keys(&self) -> [StepKey; 2] {
        // The content key first: look-ups ask for the input key, and find a step only when both
        // tags are there.
        [StepKey::Content(self.record.content_key), StepKey::Input(self.record.input_key)]
    }
}

/// A step that is kept from others, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// The step's name.
    pub step: StepName,
    /// The secret variables that it was made with.
    pub secrets: Vec<String>,
}

/// Returns how many of `steps` (lowest first) may be published, and what keeps the others back.
///
/// A layer that was made with a secret may hold it, and a file that a higher layer changes may bring it along: a password's
/// hash in `/etc/shadow`, where the next element adds a user. So publication ends below the first step that sees a secret. Its
/// key would find it in this store alone anyhow.
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
