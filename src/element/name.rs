//! Names of elements.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of an element, or a name that an element provides (`operating-system`).
///
/// Letters, digits and `-_.+@`, starting with a letter, a digit or `_`. Such a name is a valid
/// directory name, and one word in the lists that hooks read (`IMAGE_ELEMENT`, the pairs of
/// `get_image_element_array`), which bash evaluates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9A-Za-z_][0-9A-Za-z_.+@-]*$"))]
pub struct ElementName(String);

/// A text that is not a valid element name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElementNameError {
    #[error("an element name is empty")]
    Empty,
    #[error("element name `{name}` starts with {start:?}: expected a letter, a digit or `_`")]
    Start { name: String, start: char },
    #[error("element name `{name}` contains {found:?}: expected letters, digits, `-`, `_`, `.`, `+` and `@`")]
    Character { name: String, found: char },
}

impl ElementName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name as it is used in names of variables (`DIB_INSTALLTYPE_<name>`), with `-`
    /// replaced by `_`.
    pub fn in_variable(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl FromStr for ElementName {
    type Err = ElementNameError;

    fn from_str(name: &str) -> Result<Self, ElementNameError> {
        let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let allowed = |c: char| first(c) || "-.+@".contains(c);
        let start = name.chars().next().ok_or(ElementNameError::Empty)?;
        if let Some(found) = name.chars().find(|&c| !allowed(c)) {
            return Err(ElementNameError::Character { name: name.to_owned(), found });
        }
        if !first(start) {
            return Err(ElementNameError::Start { name: name.to_owned(), start });
        }
        Ok(Self(name.to_owned()))
    }
}

crate::serde_by_text!(ElementName);

impl AsRef<str> for ElementName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ElementName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ElementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_names_are_accepted() {
        for name in ["base", "debian-minimal", "provides_virtual", "9p", "_x", "python3.11", "g++", "a@b"] {
            assert_eq!(name.parse::<ElementName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn invalid_names_are_rejected_with_a_reason() {
        let table = [
            ("", "an element name is empty"),
            ("-x", "element name `-x` starts with '-': expected a letter, a digit or `_`"),
            (".git", "element name `.git` starts with '.': expected a letter, a digit or `_`"),
            (
                "../x",
                "element name `../x` contains '/': expected letters, digits, `-`, `_`, `.`, `+` and `@`",
            ),
            ("a b", "element name `a b` contains ' ': expected letters, digits, `-`, `_`, `.`, `+` and `@`"),
        ];
        for (name, message) in table {
            assert_eq!(name.parse::<ElementName>().unwrap_err().to_string(), message);
        }
    }
}
