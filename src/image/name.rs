//! Names of images.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The maximum length in bytes. The name must fit into a file name together with extensions, and
/// into a container's tag.
const MAX_BYTES: usize = 128;

/// The name of an image. The files of its outputs begin with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9A-Za-z][0-9A-Za-z._-]*$", "maxLength" = 128))]
pub struct ImageName(String);

/// A text that is not a valid image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageNameError {
    #[error("image name `{0}` has a `/`: name the output directory with `-o` instead")]
    Slash(String),
    #[error("image name `{0}` must start with a letter or digit")]
    Start(String),
    #[error("image name `{name}` contains {found:?}: expected letters, digits, `.`, `-` and `_`")]
    Character { name: String, found: char },
    #[error("image name `{0}` is longer than {MAX_BYTES} characters")]
    TooLong(String),
}

impl ImageName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(name: &str) -> Result<Self, ImageNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let owned = || name.to_owned();
        match name.chars().find(|&c| !allowed(c)) {
            Some('/') => Err(ImageNameError::Slash(owned())),
            Some(found) => Err(ImageNameError::Character { name: owned(), found }),
            None if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
                Err(ImageNameError::Start(owned()))
            }
            None if name.len() > MAX_BYTES => Err(ImageNameError::TooLong(owned())),
            None => Ok(Self(owned())),
        }
    }
}

crate::serde_by_text!(ImageName);

impl std::borrow::Borrow<str> for ImageName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_valid_file_names_and_tags() {
        let long = "x".repeat(129);
        let table = [
            ("builder", None),
            ("debian-12.5_x", None),
            (
                "a/b",
                Some("image name `a/b` has a `/`: name the output directory with `-o` instead".to_owned()),
            ),
            (".hidden", Some("image name `.hidden` must start with a letter or digit".to_owned())),
            ("-o", Some("image name `-o` must start with a letter or digit".to_owned())),
            ("", Some("image name `` must start with a letter or digit".to_owned())),
            ("ä", Some("image name `ä` contains 'ä': expected letters, digits, `.`, `-` and `_`".to_owned())),
            (&long, Some(format!("image name `{long}` is longer than 128 characters"))),
        ];
        for (name, message) in table {
            assert_eq!(name.parse::<ImageName>().err().map(|error| error.to_string()), message);
        }
    }
}
