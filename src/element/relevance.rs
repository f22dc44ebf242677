//! Which fragments of `environment.d` have a say in a layer.
//!
//! Every fragment of every element is sourced before each phase. If all of them were in each layer's key, one line in a
//! leaf's fragment would rebuild the whole image. A fragment matters to a layer if
//!
//! - it belongs to the layer's element; or
//! - it may set a variable that the layer's hooks read, or that another fragment that matters reads; or
//! - it may set a variable that programs read by themselves (`PATH`), or any variable at all.

use std::collections::BTreeSet;

use super::{Assignments, ElementName, Mentions};

/// A fragment of `environment.d`, as far as relevance goes.
#[derive(Debug, Clone)]
pub struct Fragment<'a> {
    /// Whose it is.
    pub element: &'a ElementName,
    /// Its name in `environment.d`.
    pub name: &'a str,
    /// What it may read.
    pub mentions: Mentions,
    /// What it may set.
    pub assignments: Assignments,
}

impl<'a> Fragment<'a> {
    /// Reads a fragment's text.
    pub fn new(element: &'a ElementName, name: &'a str, text: &[u8]) -> Self {
        Self { element, name, mentions: Mentions::of(text), assignments: Assignments::of(text) }
    }

    fn sets_any_of(&self, wanted: &Mentions) -> bool {
        let Assignments { names, ambient, computed } = &self.assignments;
        *computed || *ambient || names.iter().any(|name| wanted.includes(name))
    }
}

/// Returns the places in `fragments` (in their order) of those that matter to a layer of `element` whose hooks and
/// providers read `hooks`.
pub fn relevant_fragments(
    element: &ElementName,
    hooks: &Mentions,
    fragments: &[Fragment<'_>],
) -> BTreeSet<usize> {
    let mut wanted = hooks.clone();
    let mut relevant = BTreeSet::new();
    loop {
        let found = fragments.iter().enumerate().find(|(place, fragment)| {
            let matters = || fragment.element == element || fragment.sets_any_of(&wanted);
            !relevant.contains(place) && matters()
        });
        let Some((place, fragment)) = found else { return relevant };
        relevant.insert(place);
        wanted.merge(fragment.mentions.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::names;

    #[test]
    fn a_fragment_matters_by_what_it_sets_and_what_that_depends_on() {
        let elements = names(&["os", "own", "leaf"]);
        let fragment =
            |element: usize, text: &str| Fragment::new(&elements[element], "10-x", text.as_bytes());
        let table: [(&str, Vec<Fragment>, &[usize]); 7] = [
            ("nothing shared", vec![fragment(2, "DIB_X=1")], &[]),
            ("own", vec![fragment(1, "DIB_X=1")], &[0]),
            ("read by the hooks", vec![fragment(2, "DIB_READ=1")], &[0]),
            (
                "through another",
                vec![fragment(2, "DIB_X=1"), fragment(0, "DIB_Y=$DIB_X"), fragment(0, "DIB_READ=$DIB_Y")],
                &[0, 1, 2],
            ),
            ("ambient", vec![fragment(2, "PATH=/opt/bin:$PATH")], &[0]),
            ("any variable", vec![fragment(2, "source /etc/os-release"), fragment(2, "DIB_X=1")], &[0]),
            ("reads any variable", vec![fragment(1, "DIB_Y=${!name}"), fragment(2, "DIB_X=1")], &[0, 1]),
        ];
        let hooks = Mentions::of(b"echo $DIB_READ");
        for (case, fragments, expected) in table {
            let found = relevant_fragments(&elements[1], &hooks, &fragments);
            assert_eq!(found, expected.iter().copied().collect(), "{case}");
        }
    }
}
