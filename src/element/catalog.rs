//! All elements that can be had.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Element, ElementName, ElementNameError};

/// The elements of a search path.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    elements: BTreeMap<ElementName, Arc<Element>>,
    hidden: Vec<(ElementName, PathBuf)>,
    misnamed: Vec<(PathBuf, ElementNameError)>,
}

impl Catalog {
    /// Collects elements in the order of the search path: of two with one name, the first hides the second completely.
    pub fn new(elements: impl IntoIterator<Item = Element>) -> Self {
        let mut catalog = Self::default();
        for element in elements {
            catalog.add(element);
        }
        catalog
    }

    /// Adds an element, unless one of its name is there.
    pub fn add(&mut self, element: Element) {
        match self.elements.entry(element.name.clone()) {
            Entry::Vacant(free) => drop(free.insert(Arc::new(element))),
            Entry::Occupied(_) => self.hidden.push((element.name, element.root)),
        }
    }

    /// Remembers a directory that cannot be an element because of its name.
    pub fn add_misnamed(&mut self, root: PathBuf, error: ElementNameError) {
        self.misnamed.push((root, error));
    }

    /// Returns the element called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Element>> {
        self.elements.get(name)
    }

    /// Returns the elements by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Element>> {
        self.elements.values()
    }

    /// Returns the elements that another one of the same name hides: name, directory.
    pub fn hidden(&self) -> &[(ElementName, PathBuf)] {
        &self.hidden
    }

    /// Returns the directories that cannot be elements because of their names, and why.
    pub fn misnamed(&self) -> &[(PathBuf, ElementNameError)] {
        &self.misnamed
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
}
