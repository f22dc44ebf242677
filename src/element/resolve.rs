//! The elements of an image.
//!
//! The expansion follows diskimage-builder: breadth first from the requested elements. A name that
//! an element provides is not searched for. Each name has at most one provider, and
//! `operating-system` has exactly one. diskimage-builder leaves the order open; see
//! [`order`](super::order).
//!
//! Source: diskimage-builder, `element_dependencies.py`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::native::repeated_hook;
use super::order::{CycleError, HookOrder, order};
use super::provider::{OPERATING_SYSTEM, Provider};
use super::{Catalog, Element, ElementName, NativeProvider, Unusable, nearest};

/// The names that the base of an image provides.
#[derive(Debug, Clone, Copy)]
pub struct BaseNames<'a> {
    /// The base's name, for messages.
    pub base: &'a str,
    /// `operating-system`, and the elements that are built into the base.
    pub provides: &'a BTreeSet<ElementName>,
}

/// The elements of an image.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// All elements, without duplicates, in the order of their layers.
    pub elements: Vec<Arc<Element>>,
    /// The requested elements and dependencies that plywood replaces.
    pub native: BTreeSet<NativeProvider>,
    /// The provider of each provided name.
    pub provided: BTreeMap<ElementName, Provider>,
}

/// A list of elements that cannot form an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("element `{name}` not found{}", needed_by_text(needed_by.as_ref()))]
    Unknown {
        name: ElementName,
        /// The element that depends on it; `None` if the image requests it.
        needed_by: Option<ElementName>,
        /// The known element with the most similar name.
        nearest: Option<ElementName>,
    },
    /// The search path has a directory of this name with an entry that no element may have.
    #[error("element `{name}`{} cannot be used", needed_by_text(needed_by.as_ref()))]
    Unusable {
        name: ElementName,
        /// The element that depends on it; `None` if the image requests it.
        needed_by: Option<ElementName>,
        source: Unusable,
    },
    #[error("`{name}` is provided by {first} and by element `{second}`")]
    TwoProviders { name: ElementName, first: Provider, second: ElementName },
    #[error("the image requests element `{name}`, but {provider} already provides it")]
    AlreadyProvided { name: ElementName, provider: Provider },
    #[error("no element provides `operating-system`, and the image has no base")]
    NoOperatingSystem,
    #[error(transparent)]
    Cycle(#[from] CycleError),
}

fn needed_by_text(element: Option<&ElementName>) -> String {
    element.map(|by| format!(", which element `{by}` depends on")).unwrap_or_default()
}

/// Returns the elements of an image that requests `requested`, on `base` if there is one, for a
/// build in this order.
///
/// # Errors
/// [`ResolveError`]: the first one in breadth-first order.
pub fn resolve(
    catalog: &Catalog,
    requested: &[ElementName],
    base: Option<BaseNames<'_>>,
    order_of_build: HookOrder,
) -> Result<Resolution, ResolveError> {
    let mut expansion = Expansion::new(catalog, base);
    expansion.run(requested)?;
    let Expansion { members, native, provided, .. } = expansion;
    let members: BTreeMap<_, _> =
        members.into_iter().filter(|(name, _)| !provided.contains_key(name)).collect();
    let elements = order(&without_repeated(members), requested, &provided, order_of_build)?;
    Ok(Resolution { elements, native, provided })
}

/// Removes hooks that repeat a hook of another element.
fn without_repeated(mut members: BTreeMap<ElementName, Arc<Element>>) -> BTreeMap<ElementName, Arc<Element>> {
    let names: BTreeSet<_> = members.keys().cloned().collect();
    for (name, element) in &mut members {
        if let Some(hook) = repeated_hook(name, |other| names.iter().any(|name| name.as_str() == other)) {
            Arc::make_mut(element).files.remove(hook);
        }
    }
    members
}

struct Expansion<'a> {
    catalog: &'a Catalog,
    has_base: bool,
    /// All visited elements, including provided ones that were visited before their provider.
    members: BTreeMap<ElementName, Arc<Element>>,
    native: BTreeSet<NativeProvider>,
    provided: BTreeMap<ElementName, Provider>,
}

/// A requested name, and the element that depends on it.
type Wanted = (ElementName, Option<ElementName>);

impl<'a> Expansion<'a> {
    fn new(catalog: &'a Catalog, base: Option<BaseNames<'_>>) -> Self {
        let by_base = base.into_iter().flat_map(|base| {
            let provider = Provider::Base(base.base.to_owned());
            base.provides.iter().map(move |name| (name.clone(), provider.clone()))
        });
        Self {
            catalog,
            has_base: base.is_some(),
            members: BTreeMap::new(),
            native: BTreeSet::new(),
            provided: by_base.collect(),
        }
    }

    fn run(&mut self, requested: &[ElementName]) -> Result<(), ResolveError> {
        let mut queue: VecDeque<Wanted> = requested.iter().map(|name| (name.clone(), None)).collect();
        while let Some(wanted) = queue.pop_front() {
            queue.extend(self.visit(wanted)?);
        }
        self.check_requested(requested)?;
        match self.provided.contains_key(OPERATING_SYSTEM) {
            true => Ok(()),
            false => Err(ResolveError::NoOperatingSystem),
        }
    }

    /// Adds one name and returns its dependencies.
    fn visit(&mut self, (name, needed_by): Wanted) -> Result<Vec<Wanted>, ResolveError> {
        if self.provided.contains_key(&name) || self.members.contains_key(&name) {
            return Ok(Vec::new());
        }
        if let Some(provider) = NativeProvider::of(&name) {
            self.native.insert(provider);
            // Without a base, their tools, packages and variables are part of the image, as in
            // diskimage-builder.
            if self.has_base || self.catalog.get(name.as_str()).is_none() {
                return Ok(Vec::new());
            }
        }
        let Some(element) = self.catalog.get(name.as_str()) else {
            return Err(self.missing(name, needed_by));
        };
        self.provide(element)?;
        self.members.insert(name, Arc::clone(element));
        Ok(element.deps.iter().map(|dep| (dep.clone(), Some(element.name.clone()))).collect())
    }

    fn provide(&mut self, element: &Element) -> Result<(), ResolveError> {
        for name in &element.provides {
            if let Some(first) = self.provided.get(name) {
                let (name, first, second) = (name.clone(), first.clone(), element.name.clone());
                return Err(ResolveError::TwoProviders { name, first, second });
            }
            self.provided.insert(name.clone(), Provider::Element(element.name.clone()));
        }
        Ok(())
    }

    fn check_requested(&self, requested: &[ElementName]) -> Result<(), ResolveError> {
        let conflict = requested.iter().find_map(|name| Some((name, self.provided.get(name)?)));
        conflict.map_or(Ok(()), |(name, provider)| {
            Err(ResolveError::AlreadyProvided { name: name.clone(), provider: provider.clone() })
        })
    }

    fn missing(&self, name: ElementName, needed_by: Option<ElementName>) -> ResolveError {
        if let Some(unusable) = self.catalog.unusable().get(&name) {
            return ResolveError::Unusable { name, needed_by, source: unusable.clone() };
        }
        let known = self.catalog.iter().map(|element| element.name.as_str());
        let nearest = nearest(name.as_str(), known)
            .and_then(|found| self.catalog.get(found))
            .map(|element| element.name.clone());
        ResolveError::Unknown { name, needed_by, nearest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::{element, names};

    /// The elements of diskimage-builder's own resolver tests.
    fn catalog() -> Catalog {
        let os = &["operating-system"];
        Catalog::new([
            element("requires-foo").deps(&["foo"]).build(),
            element("foo").provides(os).build(),
            element("requires-requires-foo").deps(&["requires-foo"]).build(),
            element("self").deps(&["self"]).build(),
            element("provides_virtual").provides(&["virtual"]).build(),
            element("also_provides_virtual").provides(&["virtual"]).build(),
            element("requires_virtual").deps(&["virtual"]).provides(os).build(),
            element("virtual").deps(&["extra_dependency"]).build(),
            element("extra_dependency").build(),
            element("circular1").deps(&["circular2"]).provides(os).build(),
            element("circular2").deps(&["circular1"]).build(),
            element("provides_new_virtual").provides(&["new_virtual", "operating-system"]).build(),
            element("requires_new_virtual").deps(&["new_virtual"]).build(),
            element("needs-packages").deps(&["package-installs", "pkg-map"]).build(),
        ])
    }

    fn resolved(requested: &[&str]) -> Result<Vec<String>, ResolveError> {
        let resolution = resolve(&catalog(), &names(requested), None, HookOrder::Element)?;
        Ok(resolution.elements.iter().map(|element| element.name.to_string()).collect())
    }

    /// Source: diskimage-builder, `tests/test_elementdeps.py`; the order is ours.
    #[test]
    fn expansion_gives_the_sets_of_diskimage_builder() {
        let table: [(&[&str], &[&str]); 6] = [
            (&["requires-foo"], &["foo", "requires-foo"]),
            (&["requires-requires-foo"], &["foo", "requires-foo", "requires-requires-foo"]),
            (&["foo"], &["foo"]),
            (&["self", "foo"], &["foo", "self"]),
            (&["provides_virtual", "requires_virtual"], &["provides_virtual", "requires_virtual"]),
            (
                &["requires_new_virtual", "provides_new_virtual"],
                &["provides_new_virtual", "requires_new_virtual"],
            ),
        ];
        for (requested, expected) in table {
            assert_eq!(resolved(requested).unwrap(), expected, "{requested:?}");
        }
    }

    /// Source: diskimage-builder, `tests/test_elementdeps.py`. It accepts circles, which are an
    /// error here.
    #[test]
    fn invalid_lists_of_elements_are_errors() {
        let table: [(&[&str], &str); 8] = [
            (&["fake"], "element `fake` not found"),
            (
                &["virtual", "provides_virtual"],
                "the image requests element `virtual`, but element `provides_virtual` already provides it",
            ),
            (
                &["provides_virtual", "also_provides_virtual"],
                "`virtual` is provided by element `provides_virtual` and by element `also_provides_virtual`",
            ),
            (&["provides_virtual"], "no element provides `operating-system`, and the image has no base"),
            (
                &["foo", "operating-system"],
                "the image requests element `operating-system`, but element `foo` already provides it",
            ),
            (&["circular1"], "elements depend on each other: `circular1` → `circular2` → `circular1`"),
            (
                &["foo", "circular1"],
                "`operating-system` is provided by element `foo` and by element `circular1`",
            ),
            (&[], "no element provides `operating-system`, and the image has no base"),
        ];
        for (requested, message) in table {
            assert_eq!(resolved(requested).unwrap_err().to_string(), message, "{requested:?}");
        }
    }

    #[test]
    fn an_unknown_element_is_reported_with_its_dependent_and_a_suggestion() {
        let catalog = Catalog::new([
            element("web").deps(&["openssh_server"]).build(),
            element("openssh-server").build(),
        ]);
        let error = resolve(&catalog, &names(&["web"]), None, HookOrder::Element).unwrap_err();
        assert_eq!(error.to_string(), "element `openssh_server` not found, which element `web` depends on");
        let ResolveError::Unknown { nearest, .. } = error else { panic!("{error}") };
        assert_eq!(nearest.unwrap().as_str(), "openssh-server");
    }

    #[test]
    fn a_base_provides_an_operating_system_and_native_providers_need_no_directory() {
        let provides = BTreeSet::from_iter(names(&["operating-system", "dpkg"]));
        let base = BaseNames { base: "debian-bookworm", provides: &provides };
        let catalog = catalog();
        let resolution =
            resolve(&catalog, &names(&["needs-packages"]), Some(base), HookOrder::Element).unwrap();
        assert_eq!(resolution.elements.len(), 1);
        assert_eq!(resolution.native, [NativeProvider::PackageInstalls, NativeProvider::PackageMap].into());
        assert!(resolve(&catalog, &[], Some(base), HookOrder::Element).unwrap().elements.is_empty());
        let error = resolve(&catalog, &names(&["foo"]), Some(base), HookOrder::Element).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`operating-system` is provided by base `debian-bookworm` and by element `foo`"
        );
        let error = resolve(&catalog, &names(&["dpkg"]), Some(base), HookOrder::Element).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the image requests element `dpkg`, but base `debian-bookworm` already provides it"
        );
    }
}
