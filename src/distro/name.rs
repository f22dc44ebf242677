//! Names of bases.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a base. Its file is `layers/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9A-Za-z][0-9A-Za-z._-]*$"))]
pub struct BaseName(String);

/// A text that is not a valid name of a base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot name a base: expected letters, digits, `.`, `-` and `_`, starting with a letter or digit"
)]
pub struct BaseNameError(String);

impl BaseName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseName {
    type Err = BaseNameError;

    fn from_str(name: &str) -> Result<Self, BaseNameError> {
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        match starts && name.chars().all(allowed) {
            true => Ok(Self(name.to_owned())),
            false => Err(BaseNameError(name.to_owned())),
        }
    }
}

crate::serde_by_text!(BaseName);

impl fmt::Display for BaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_file_name_without_directories() {
        for (name, valid) in
            [("debian-bookworm", true), ("ubuntu-24.04", true), ("../x", false), (".x", false), ("", false)]
        {
            assert_eq!(name.parse::<BaseName>().is_ok(), valid, "{name}");
        }
    }
}
