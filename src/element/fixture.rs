//! Elements in memory, for tests.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Element, ElementFile, ElementName, FileKind, Mode, SlotRule};
use crate::oci::Digest;

/// Collects the parts of an element.
pub(crate) struct Builder(Element);

/// Starts an element without files.
pub(crate) fn element(name: &str) -> Builder {
    Builder(Element {
        name: name.parse().unwrap(),
        root: PathBuf::from("elements").join(name),
        deps: BTreeSet::new(),
        provides: BTreeSet::new(),
        files: Default::default(),
        readme: None,
        restricted: BTreeSet::new(),
        slots: Vec::new(),
    })
}

/// Returns names of elements.
pub(crate) fn names(names: &[&str]) -> Vec<ElementName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

impl Builder {
    pub(crate) fn deps(mut self, deps: &[&str]) -> Self {
        self.0.deps = names(deps).into_iter().collect();
        self
    }

    pub(crate) fn provides(mut self, provides: &[&str]) -> Self {
        self.0.provides = names(provides).into_iter().collect();
        self
    }

    pub(crate) fn readme(mut self, text: &str) -> Self {
        self.0.readme = Some(text.to_owned());
        self
    }

    /// Gives it a file `plywood-slots`.
    pub(crate) fn slots(mut self, text: &str) -> Self {
        let rules = text.lines().enumerate().map(|(index, line)| SlotRule::parse(index + 1, line).unwrap());
        self.0.slots = rules.flatten().collect();
        self
    }

    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.add(path, text, Mode::Plain)
    }

    pub(crate) fn hook(self, path: &str, text: &str) -> Self {
        self.add(path, text, Mode::Executable)
    }

    pub(crate) fn build(self) -> Element {
        self.0
    }

    fn add(mut self, path: &str, text: &str, mode: Mode) -> Self {
        let kind = FileKind::File { digest: Digest::of(text), bytes: text.len() as u64 };
        let text: Option<Arc<[u8]>> = Some(text.as_bytes().into());
        self.0.files.insert(path.to_owned(), ElementFile { kind, mode, text });
        self
    }
}
