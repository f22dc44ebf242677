//! All elements of a search path.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Element, ElementName};

/// The elements of a search path.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    elements: BTreeMap<ElementName, Arc<Element>>,
    unusable: BTreeMap<ElementName, Unusable>,
    hidden: Vec<(ElementName, PathBuf)>,
}

/// A directory of a search path with an entry that no element may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unusable {
    pub root: PathBuf,
    /// The reason, with the path of the entry.
    pub reason: String,
}

impl Catalog {
    /// Collects elements in the order of the search path. The first of two elements with the same
    /// name hides the second completely.
    pub fn new(elements: impl IntoIterator<Item = Element>) -> Self {
        let mut catalog = Self::default();
        for element in elements {
            catalog.add(element);
        }
        catalog
    }

    /// Adds an element, unless the catalog has one of the same name.
    pub fn add(&mut self, element: Element) {
        match self.elements.entry(element.name.clone()) {
            Entry::Vacant(free) if !self.unusable.contains_key(free.key()) => {
                free.insert(Arc::new(element));
            }
            _ => self.hidden.push((element.name, element.root)),
        }
    }

    /// Records an unusable directory for `name`, unless the catalog has an element of that name. It
    /// is reported only if an image requests `name`, because a search path may contain other
    /// directories and unfinished elements.
    pub fn add_unusable(&mut self, name: ElementName, unusable: Unusable) {
        match self.elements.contains_key(&name) || self.unusable.contains_key(&name) {
            true => self.hidden.push((name, unusable.root)),
            false => drop(self.unusable.insert(name, unusable)),
        }
    }

    /// Returns the element with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Element>> {
        self.elements.get(name)
    }

    /// Returns the elements by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Element>> {
        self.elements.values()
    }

    /// Returns the hidden elements: name, directory.
    pub fn hidden(&self) -> &[(ElementName, PathBuf)] {
        &self.hidden
    }

    /// Returns the unusable directories by element name.
    pub fn unusable(&self) -> &BTreeMap<ElementName, Unusable> {
        &self.unusable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture;

    #[test]
    fn the_first_of_two_elements_with_one_name_hides_the_second() {
        let first = fixture::element("base").file("pkg-map", "{}").build();
        let mut second = fixture::element("base").file("svc-map", "{}").build();
        second.root = "/elsewhere/base".into();
        let catalog = Catalog::new([first.clone(), second]);
        assert_eq!(catalog.get("base").map(Arc::as_ref), Some(&first));
        assert_eq!(catalog.hidden(), [("base".parse().unwrap(), "/elsewhere/base".into())]);
    }

    #[test]
    fn an_unusable_directory_also_hides_later_elements() {
        let mut catalog = Catalog::default();
        let unusable =
            Unusable { root: "/first/base".into(), reason: "`/first/base/x` is a socket".to_owned() };
        catalog.add_unusable("base".parse().unwrap(), unusable.clone());
        catalog.add(fixture::element("base").build());
        assert!(catalog.get("base").is_none());
        assert_eq!(catalog.unusable()["base"], unusable);
        assert_eq!(catalog.hidden().len(), 1);
    }
}
