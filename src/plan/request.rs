//! The input of planning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::input::InputFile;
use super::{ResolvedSource, Seal};
use crate::distro::{Architecture, BaseDefinition, BaseName};
use crate::element::{Element, ElementName, HookOrder, NativeProvider};

/// An image with all resolved inputs of its steps.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The image's name.
    pub image: &'a str,
    pub architecture: Architecture,
    /// Latest modification time in any layer, in seconds since 1970.
    pub source_date_epoch: i64,
    /// A text for the state of the package repositories. A different text gives different keys.
    pub packages_revision: &'a str,
    pub foundation: &'a Foundation,
    pub order: HookOrder,
    /// All elements, in the order of their layers.
    pub elements: &'a [Arc<Element>],
    /// The variables of the image definition and the base.
    pub variables: &'a BTreeMap<String, String>,
    /// Those variables after environment.d of all elements was sourced on the build host: install
    /// types depend on them.
    pub settings: &'a BTreeMap<String, String>,
    /// The sources of each element.
    pub sources: &'a BTreeMap<ElementName, Vec<ResolvedSource>>,
    /// The requested elements and dependencies that plywood replaces.
    pub native: &'a BTreeSet<NativeProvider>,
    /// Input files by name.
    pub files: &'a BTreeMap<String, InputFile>,
    /// Files of the build host that hooks on the host may read.
    pub machine: &'a [MachineFile],
    /// Packages in addition to those of the elements.
    pub packages: &'a [String],
    /// Converts secrets to key fields.
    pub seal: &'a Seal,
}

/// A file or directory of the build host that hooks on the host may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFile {
    /// The path at which hooks see it: its own path, or for files in the caller's home, the path in
    /// root's home.
    pub place: String,
    /// The text of a hook that reads it contains this: the name of the variable with its path, or
    /// `.ssh`.
    pub mention: String,
    pub content: MachineContent,
}

/// The use of a host file by hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineContent {
    /// Hooks read it. Keys contain its digest.
    Input(InputFile),
    /// Hooks may write to it while others do the same, such as a log. No key contains it.
    Written(PathBuf),
}

/// The lowest layers of an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Foundation {
    Base {
        /// A file of `layers/`. Not part of any key.
        name: BaseName,
        definition: Box<BaseDefinition>,
    },
    /// No base: hooks of `root.d` build the root file system.
    Elements {
        /// The element that provides `operating-system`.
        operating_system: ElementName,
    },
}

impl Foundation {
    /// Returns the base, if there is one.
    pub fn base(&self) -> Option<&BaseDefinition> {
        match self {
            Foundation::Base { definition, .. } => Some(definition),
            Foundation::Elements { .. } => None,
        }
    }
}
