//! The package manager of an image.

use super::{BaseDefinition, apt, dnf};
use crate::element::Family;

/// The package manager by which plywood installs packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageManager {
    /// apt, with plywood's choices.
    Apt,
    /// The image's own dnf.
    Dnf,
    /// Any, with the choices of the image's own elements: they all provide `install-packages`.
    OfElements,
}

impl PackageManager {
    /// Returns the package manager of images on a base, or of images without a base.
    pub fn of(base: Option<&BaseDefinition>) -> Self {
        match base.map(|base| base.family) {
            None => Self::OfElements,
            Some(Family::Redhat) => Self::Dnf,
            Some(Family::Debian | Family::Gentoo | Family::Suse) => Self::Apt,
        }
    }

    /// Returns the command that installs packages and their dependencies.
    pub fn install(self, names: &[String]) -> Vec<String> {
        match self {
            Self::Apt => apt::install(names),
            Self::Dnf => dnf::install(names),
            Self::OfElements => words(&["install-packages"], names),
        }
    }

    /// Returns the command that removes packages.
    pub fn remove(self, names: &[String]) -> Vec<String> {
        match self {
            Self::Apt => apt::remove(names),
            Self::Dnf => dnf::remove(names),
            Self::OfElements => words(&["install-packages", "-e"], names),
        }
    }
}

fn words(command: &[&str], names: &[String]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).chain(names.iter().cloned()).collect()
}
