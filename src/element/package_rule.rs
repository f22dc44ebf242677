//! One rule of a package: its phase, its action, and its conditions.
//!
//! Source: diskimage-builder, element `package-installs`.

use std::fmt;

use super::Phase;

/// The phases in which packages are installed.
pub const PACKAGE_PHASES: [Phase; 3] = [Phase::PreInstall, Phase::Install, Phase::PostInstall];

/// One rule of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) phase: Phase,
    pub(super) action: PackageAction,
    pub(super) conditions: Vec<Condition>,
}

/// The action of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageAction {
    Install,
    /// Remove the package, unless another element installs it.
    Uninstall,
    /// Install the package, and remove it at the end, unless another element installs it.
    BuildOnly,
}

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The element has this install type.
    InstallType(String),
    /// This variable chooses this install type.
    ChosenType(String, String),
    /// `ARCH` is one of these. The names are not trimmed, as in diskimage-builder.
    Architecture(Vec<String>),
    /// `ARCH` is none of these.
    NotArchitecture(Vec<String>),
    /// `DIB_PYTHON_VERSION` is this.
    PythonVersion(String),
    Equal(String, String),
    NotEqual(String, String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::InstallType(kind) => write!(f, "the install type is {kind}"),
            Condition::ChosenType(variable, kind) => write!(f, "{variable} is {kind}"),
            Condition::Architecture(names) => write!(f, "ARCH is {}", names.join(" or ")),
            Condition::NotArchitecture(names) => write!(f, "ARCH is not {}", names.join(" or ")),
            Condition::PythonVersion(version) => write!(f, "DIB_PYTHON_VERSION is {version}"),
            Condition::Equal(variable, value) => write!(f, "{variable} = {value}"),
            Condition::NotEqual(variable, value) => write!(f, "{variable} != {value}"),
        }
    }
}
