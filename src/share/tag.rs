//! The tags of a cache repository.
//!
//! Source: OCI distribution-spec v1.1, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::oci::{Digest, Tag};
use crate::plan::{ContentKey, InputKey};

const IMAGE: &str = "i-";

/// One of a step's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKey {
    /// Covers the input key of the step below.
    Input(InputKey),
    /// Covers the ChainID of the layers below.
    Content(ContentKey),
}

impl StepKey {
    /// Returns the tag of the step with this key.
    pub fn tag(&self) -> Tag {
        let text = match self {
            StepKey::Input(key) => format!("k-{}", key.hex()),
            StepKey::Content(key) => format!("c-{}", key.hex()),
        };
        text.parse().expect("letters, digits and `-` make a tag")
    }

    /// Returns the key in a tag; `None` for other tags.
    pub fn of_tag(tag: &Tag) -> Option<Self> {
        let (kind, hex) = tag.as_str().split_once('-')?;
        let digest: Digest = format!("sha256:{hex}").parse().ok()?;
        match kind {
            "k" => Some(StepKey::Input(InputKey::new(digest))),
            "c" => Some(StepKey::Content(ContentKey::new(digest))),
            _ => None,
        }
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepKey::Input(key) => write!(f, "input key {}", key.short()),
            StepKey::Content(key) => write!(f, "content key {}", key.short()),
        }
    }
}

/// Returns the tag of the last published build of `image`.
pub fn image_tag(image: &str) -> Tag {
    // The name of an image may have spaces, or be too long for a tag.
    let named = format!("{IMAGE}{image}").parse();
    let by_digest = || format!("{IMAGE}{}", Digest::of(image).hex()).parse();
    named.or_else(|_| by_digest()).expect("letters, digits and `-` make a tag")
}

/// Returns true for the tag of an image's last published build.
pub fn is_image_tag(tag: &Tag) -> bool {
    tag.as_str().starts_with(IMAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parsed_from_its_tag() {
        let digest = Digest::of("key");
        for key in [StepKey::Input(InputKey::new(digest)), StepKey::Content(ContentKey::new(digest))] {
            assert_eq!(StepKey::of_tag(&key.tag()), Some(key));
        }
        for tag in ["latest", "k-", "x-1", &format!("i-{}", digest.hex()), &format!("k-{}0", digest.hex())] {
            assert_eq!(StepKey::of_tag(&tag.parse().unwrap()), None, "{tag}");
        }
    }

    #[test]
    fn every_image_has_a_valid_tag() {
        let long = "x".repeat(128);
        for image in ["vm", "contrail.builder_1", "my image", &long] {
            assert!(is_image_tag(&image_tag(image)), "{image}");
        }
        assert_eq!(image_tag("vm").as_str(), "i-vm");
    }
}
