//! Who stands for a name: `element-provides`, and what a base brings.

use std::fmt;

use super::ElementName;

/// What every image needs one provider of.
pub const OPERATING_SYSTEM: &str = "operating-system";

/// Somebody who provides a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// The base of this name.
    Base(String),
    Element(ElementName),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Base(name) => write!(f, "base `{name}`"),
            Provider::Element(name) => write!(f, "element `{name}`"),
        }
    }
}
