//! What a plan is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::step::InputFile;
use super::{ResolvedSource, Seal};
use crate::distro::{Architecture, BaseDefinition, BaseName};
use crate::element::{Element, ElementName, HookOrder, NativeProvider};

/// An image, with everything resolved that its steps depend on.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The image's name.
    pub image: &'a str,
    pub architecture: Architecture,
    /// Latest modification time in any layer, in seconds since 1970.
    pub source_date_epoch: i64,
    /// The user's word for the state of the package repositories: another word, other layers.
    pub packages_revision: &'a str,
    /// What it stands on.
    pub foundation: &'a Foundation,
    /// In which order its hooks run.
    pub order: HookOrder,
    /// In the order of their layers.
    pub elements: &'a [Arc<Element>],
    /// What the image definition and the base set.
    pub variables: &'a BTreeMap<String, String>,
    /// Those variables as environment.d of all elements leaves them on the machine: install types depend on them.
    pub settings: &'a BTreeMap<String, String>,
    /// What elements want to have fetched.
    pub sources: &'a BTreeMap<ElementName, Vec<ResolvedSource>>,
    /// The elements among the requested and the dependencies whose work plywood does.
    pub native: &'a BTreeSet<NativeProvider>,
    /// Input files by name.
    pub files: &'a BTreeMap<String, InputFile>,
    /// Files of the machine that hooks on the host may read.
    pub machine: &'a [MachineFile],
    /// Packages that no element asks for.
    pub packages: &'a [String],
    /// Turns secrets into key fields.
    pub seal: &'a Seal,
}

/// A file or directory of the machine that hooks on the host may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFile {
    /// Where they find it: where it is, but for the caller's home, which is root's there.
    pub place: String,
    /// The text of a hook that reads it says this: the name of the variable that names it, or `.ssh`.
    pub mention: String,
    /// What it is to them.
    pub content: MachineContent,
}

/// What a file of the machine is to hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineContent {
    /// They read it: keys have its digest.
    Input(InputFile),
    /// They may write to it, as others do while an image is built: a log. No key has it.
    Written(PathBuf),
}

/// What an image stands on.
#[derive(Debug, Clone, PartialEq)]
pub enum Foundation {
    Base {
        /// A file of `layers/`. No part of any key.
        name: BaseName,
        definition: Box<BaseDefinition>,
    },
    /// Nothing: the elements' own hooks of `root.d` make the root file system.
    Elements {
        /// The one that provides `operating-system`.
        operating_system: ElementName,
    },
}

impl Foundation {
    /// Returns the base, if it is one.
    pub fn base(&self) -> Option<&BaseDefinition> {
        match self {
            Foundation::Base { definition, .. } => Some(definition),
            Foundation::Elements { .. } => None,
        }
    }
}
