//! Hooks of one element that were probably meant to run around a hook of another element.
//!
//! In phase order, an element can run hooks before and after a hook of an element that it depends
//! on, according to their numbers. In element order, all hooks of the dependency come first.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::hook::number_order;
use super::{Element, ElementName, NativeProvider, Phase, Slot};

/// Hooks of an element on both sides of a hook of one of its dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandwich {
    pub phase: Phase,
    /// The element with hooks on both sides.
    pub outer: ElementName,
    /// The last hook before, and the first hook after.
    pub around: [String; 2],
    /// The element with the hook in between.
    pub inner: ElementName,
    /// The hook in between.
    pub between: String,
}

impl fmt::Display for Sandwich {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phase, outer, around: [before, after], inner, between } = self;
        write!(
            f,
            "hooks `{before}` and `{after}` of element `{outer}` may be meant to run around `{between}` of element \
             `{inner}` in `{phase}`; in element order both come after it"
        )
    }
}

/// Returns the first such case for each pair of elements in each phase.
pub fn sandwiches(elements: &[Arc<Element>]) -> Vec<Sandwich> {
    const PHASES: [Phase; 4] = [Phase::ExtraData, Phase::PreInstall, Phase::Install, Phase::PostInstall];
    let mut found = Vec::new();
    for outer in elements {
        for inner in elements.iter().filter(|inner| outer.deps.contains(&inner.name)) {
            found.extend(PHASES.into_iter().filter_map(|phase| sandwich(outer, inner, phase)));
        }
    }
    found
}

fn sandwich(outer: &Element, inner: &Element, phase: Phase) -> Option<Sandwich> {
    let own = |element: &Element| -> Vec<String> {
        if NativeProvider::of(&element.name).is_some() {
            return Vec::new();
        }
        let hooks = element.hooks(phase).into_iter().map(|hook| hook.name.to_owned());
        hooks.filter(|name| element.slot(phase, name) == Slot::Own).collect()
    };
    let outer_hooks = own(outer);
    own(inner).into_iter().find_map(|between| {
        // Hooks with equal numbers have no intended order.
        let before = outer_hooks.iter().rfind(|hook| number_order(hook, &between) == Ordering::Less)?;
        let after = outer_hooks.iter().find(|hook| number_order(hook, &between) == Ordering::Greater)?;
        let around = [before.clone(), after.clone()];
        let (outer, inner) = (outer.name.clone(), inner.name.clone());
        Some(Sandwich { phase, outer, around, inner, between })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn hooks_around_those_of_a_dependency_are_found_by_their_numbers() {
        let inner = || element("stow").hook("install.d/70-stow", "");
        let outer = |hooks: &[&str]| {
            let depending = element("test").deps(&["stow"]);
            hooks.iter().fold(depending, |element, hook| element.hook(hook, ""))
        };
        for (hooks, expected) in [
            (&["install.d/69-before", "install.d/71-after"][..], Some("69-before 71-after")),
            (&["install.d/1-a", "install.d/9-b", "install.d/100-c"], Some("9-b 100-c")),
            (&["install.d/71-a", "install.d/72-b"], None),
            (&["install.d/70-a", "install.d/72-b"], None),
            (&["install.d/60-a", "post-install.d/80-b"], None),
            (&[], None),
        ] {
            let elements = [inner().build(), outer(hooks).build()].map(Arc::new);
            let found = sandwiches(&elements).pop().map(|sandwich| sandwich.around.join(" "));
            assert_eq!(found.as_deref(), expected);
        }
        let strangers =
            [inner().build(), element("x").hook("install.d/1-x", "").hook("install.d/99-x", "").build()];
        assert_eq!(sandwiches(&strangers.map(Arc::new)), []);
    }
}
