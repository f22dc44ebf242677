//! What is said of one package: in which phase, what happens to it, and under which conditions.
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

/// What happens to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageAction {
    Install,
    /// It is removed, unless another element wants it.
    Uninstall,
    /// It is installed, and removed in the end, unless another element wants it.
    BuildOnly,
}

/// Something that has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The element is installed in this way.
    InstallType(String),
    /// What this variable chooses the install type of is installed in this way.
    ChosenType(String, String),
    /// `ARCH` is one of these. They are not trimmed, as diskimage-builder does not trim them.
    Architecture(Vec<String>),
    /// `ARCH` is none of these.
    NotArchitecture(Vec<String>),
    /// `DIB_PYTHON_VERSION` is this.
    PythonVersion(String),
    /// The variable has this value.
    Equal(String, String),
    /// The variable has another value than this.
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
