//! Cache keys.
//!
//! A key is the SHA-256 of this encoding:
//!
//! ```text
//! "plywood step" NUL version (u32)
//! then for each field, in order:   length of label (u64)  label  length of value (u64)  value
//! ```
//!
//! Integers are little endian. With labels and lengths, two different lists of fields never have
//! the same encoding.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seal;
use crate::oci::{ChainId, Digest, Hasher};

crate::identity! {
    /// Key of a step by the keys below it. Known for the whole plan before anything runs.
    InputKey
}

crate::identity! {
    /// Key of a step by the content below it. Finds its layer again after a lower step was rebuilt
    /// with the same result.
    ContentKey
}

/// The key that found the layers of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// The input key.
    Input,
    /// The content key: a step below was built again, with the same result.
    Content,
}

/// Version of the encoding and of the way in which hooks run. Increased when a step run by this
/// plywood could produce other bytes than by the previous one. Every layer is then rebuilt.
pub const BEHAVIOUR_VERSION: u32 = 7;

/// The prefix of labels of variables.
const VARIABLE: &str = "variable ";

/// One input of a step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// The name of the input, also for users: `file install.d/50-nginx`, `variable DIB_RELEASE`.
    pub label: String,
    /// The value if it is short and not secret; otherwise a digest.
    pub value: String,
}

/// The inputs of a step, without the layers below. Sorted by label; labels are unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct KeyFields(Vec<Field>);

impl KeyFields {
    /// Collects fields, in any order.
    ///
    /// # Panics
    /// If two fields have the same label, because the key could not show which of them changed.
    pub fn new(fields: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut fields: Vec<Field> =
            fields.into_iter().map(|(label, value)| Field { label, value }).collect();
        fields.sort();
        if let Some(pair) = fields.windows(2).find(|pair| pair[0].label == pair[1].label) {
            panic!("two key fields are called `{}`", pair[0].label);
        }
        Self(fields)
    }

    /// Returns the fields, sorted by label.
    pub fn fields(&self) -> &[Field] {
        &self.0
    }

    /// Returns the key of this step above the step `parent`; `None` for the lowest.
    pub fn input_key(&self, parent: Option<InputKey>) -> InputKey {
        InputKey::new(self.digest("parent key", parent.map(|key| key.to_string())))
    }

    /// Returns the key of this step above the stack `parent`; `None` for the lowest.
    pub fn content_key(&self, parent: Option<ChainId>) -> ContentKey {
        ContentKey::new(self.digest("parent chain", parent.map(|chain| chain.to_string())))
    }

    /// Returns the fields in publishable form, with digests in place of the values of variables.
    pub fn published(&self) -> Self {
        let field = |field: &Field| Field {
            label: field.label.clone(),
            value: published(&field.label, &field.value),
        };
        Self(self.0.iter().map(field).collect())
    }

    /// Returns the names of the variables whose values are secret.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let sealed = self.0.iter().filter(|field| seal::is_sealed(&field.value));
        sealed.filter_map(|field| field.label.strip_prefix(VARIABLE))
    }

    fn digest(&self, parent_label: &str, parent: Option<String>) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update(b"plywood step\0");
        hasher.update(&BEHAVIOUR_VERSION.to_le_bytes());
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(parent_label);
        add(parent.as_deref().unwrap_or(""));
        for field in &self.0 {
            add(&field.label);
            add(&field.value);
        }
        hasher.finish()
    }
}

/// Returns the label of the field of a variable.
pub(super) fn variable_label(name: &str) -> String {
    format!("{VARIABLE}{name}")
}

/// Returns a field's value in publishable form. The digest includes the label, so that equal values
/// of two variables look different.
pub(super) fn published(label: &str, value: &str) -> String {
    match label.starts_with(VARIABLE) {
        true => Digest::of(format!("{label}={value}")).to_string(),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> KeyFields {
        KeyFields::new(pairs.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_order_of_fields_means_nothing() {
        let pairs = [("a", "1"), ("b", "2"), ("c", "3")];
        let mut reversed = pairs;
        reversed.reverse();
        assert_eq!(fields(&pairs).input_key(None), fields(&reversed).input_key(None));
    }

    /// Pairs of field lists that would have the same encoding without lengths.
    #[test]
    fn no_two_lists_of_fields_share_a_key() {
        let lists: [&[(&str, &str)]; 6] = [
            &[],
            &[("a", "bc")],
            &[("ab", "c")],
            &[("a", "b"), ("c", "")],
            &[("a", ""), ("bc", "")],
            &[("parent chain", "")],
        ];
        let keys: std::collections::BTreeSet<_> =
            lists.iter().map(|list| fields(list).input_key(None)).collect();
        assert_eq!(keys.len(), lists.len());
    }

    #[test]
    fn the_two_keys_differ_and_depend_on_the_layers_below() {
        let list = fields(&[("a", "1")]);
        let below = list.input_key(None);
        let chain = ChainId::new(*below.digest());
        assert_ne!(list.input_key(Some(below)), below);
        assert_ne!(list.content_key(Some(chain)), list.content_key(None));
        assert_ne!(list.input_key(Some(below)).digest(), list.content_key(Some(chain)).digest());
    }

    #[test]
    fn published_fields_show_no_value_of_a_variable() {
        let list = fields(&[("architecture", "amd64"), ("variable A", "x"), ("variable B", "x")]);
        let published = list.published();
        let values: Vec<_> = published.fields().iter().map(|field| field.value.as_str()).collect();
        assert_eq!(values[0], "amd64");
        assert!(values[1].starts_with("sha256:") && values[1] != values[2], "{values:?}");
    }

    #[test]
    #[should_panic = "two key fields are called `a`"]
    fn two_fields_with_one_label_panic() {
        fields(&[("a", "1"), ("a", "2")]);
    }
}
