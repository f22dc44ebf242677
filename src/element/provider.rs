//! Providers of names: `element-provides`, and the names that a base provides.

use std::fmt;

use super::ElementName;

/// Every image needs one provider of this name.
pub const OPERATING_SYSTEM: &str = "operating-system";

/// Files at the top of elements that are data for providers and never run.
pub const PROVIDER_DATA: [&str; 4] = ["package-installs.json", "package-installs.yaml", "pkg-map", "svc-map"];

/// A provider of a name.
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
