//! The order of the elements of an image.
//!
//! diskimage-builder's resolver returns a set. Layers need an order, and it must be the same on
//! every build host:
//!
//! 1. the element that provides `operating-system`, with its dependencies;
//! 2. the element `base`;
//! 3. the requested elements as they were given.
//!
//! Each element comes after its dependencies, in byte order of their names, and after the elements
//! that [`HINTS`] puts before it, if they are in the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::{OPERATING_SYSTEM, Provider};
use super::{Element, ElementName};

/// Pairs of elements that do not depend on each other, but must be in this order if both are in an
/// image. In diskimage-builder, phases and the numbers of hooks ensure this order.
const HINTS: [(&str, &str, &str); 13] = [
    (
        "cloud-init",
        "cloud-init-datasources",
        "its configuration is written only where cloud-init's directory is",
    ),
    ("cloud-init", "cloud-init-disable-resizefs", "edits cloud-init's configuration"),
    ("cloud-init", "cloud-init-growpart", "edits cloud-init's configuration"),
    ("cloud-init", "cloud-init-nocloud", "edits cloud-init's configuration"),
    ("cloud-init", "growroot", "both can grow the root; the settings of growroot shall win"),
    ("cloud-init", "hosts", "writes into cloud-init's template of /etc/hosts"),
    ("openssh-server", "devuser", "puts the user into groups that packages make"),
    ("docker", "devuser", "puts the user into groups that packages make"),
    ("devuser", "local-config", "gives that user the caller's ssh key"),
    ("ironic-python-agent", "proliant-tools", "installs into the agent's environment"),
    ("redhat-common", "disable-selinux", "edits a file of the SELinux packages"),
    ("kernel", "disable-selinux", "edits the kernel command line that comes with the kernel"),
    ("docker", "insecure-docker-registry", "edits the configuration of the engine"),
];

/// The order in which the hooks of an image run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HookOrder {
    /// Element by element, each in a layer of its own.
    #[default]
    Element,
    /// Phase by phase, each in a layer of its own: diskimage-builder's order.
    Phase,
}

/// A text that is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown order `{0}`: expected `element` or `phase`")]
pub struct HookOrderError(String);

impl FromStr for HookOrder {
    type Err = HookOrderError;

    fn from_str(name: &str) -> Result<Self, HookOrderError> {
        match name {
            "element" => Ok(HookOrder::Element),
            "phase" => Ok(HookOrder::Phase),
            other => Err(HookOrderError(other.to_owned())),
        }
    }
}

/// A circle of dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleError {
    /// Each depends on the next, the last on the first.
    pub cycle: Vec<ElementName>,
}

impl fmt::Display for CycleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("elements depend on each other: ")?;
        for name in &self.cycle {
            write!(f, "`{name}` → ")?;
        }
        match self.cycle.first() {
            Some(first) => write!(f, "`{first}`"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CycleError {}

/// Returns `members` in the order above. A circle of dependencies is legal in phase order: its
/// first visited element then comes last.
pub(super) fn order(
    members: &BTreeMap<ElementName, Arc<Element>>,
    requested: &[ElementName],
    provided: &BTreeMap<ElementName, Provider>,
    order: HookOrder,
) -> Result<Vec<Arc<Element>>, CycleError> {
    let mut graph = Graph::of(members, provided);
    if order == HookOrder::Element {
        graph.check_cycles()?;
    }
    graph.add_hints();
    let base = "base".parse().ok();
    let roots = provider_of(OPERATING_SYSTEM, provided).into_iter().chain(base.iter()).chain(requested);
    let sorted = graph.sorted(roots.chain(members.keys()));
    Ok(sorted.into_iter().map(|name| Arc::clone(&members[name])).collect())
}

/// Returns a circle among the dependencies of `elements`, if there is one. Provided names are not
/// followed, because their providers depend on the image.
pub(super) fn find_cycle<'a>(elements: impl Iterator<Item = &'a Arc<Element>>) -> Option<CycleError> {
    let members = elements.map(|element| (element.name.clone(), Arc::clone(element))).collect();
    Graph::of(&members, &BTreeMap::new()).check_cycles().err()
}

fn provider_of<'a>(name: &str, provided: &'a BTreeMap<ElementName, Provider>) -> Option<&'a ElementName> {
    match provided.get(name)? {
        Provider::Element(provider) => Some(provider),
        Provider::Base(_) => None,
    }
}

/// For each element, the elements that must come before it.
struct Graph<'a>(BTreeMap<&'a ElementName, BTreeSet<&'a ElementName>>);

impl<'a> Graph<'a> {
    fn of(
        members: &'a BTreeMap<ElementName, Arc<Element>>,
        provided: &'a BTreeMap<ElementName, Provider>,
    ) -> Self {
        let in_image = |dep: &'a ElementName| {
            let name = provider_of(dep.as_str(), provided).unwrap_or(dep);
            members.get_key_value(name).map(|(name, _)| name)
        };
        let before = |element: &'a Element| {
            // An element that depends on itself is legal in diskimage-builder, and harmless.
            element.deps.iter().filter_map(in_image).filter(|&dep| *dep != element.name).collect()
        };
        Self(members.iter().map(|(name, element)| (name, before(element))).collect())
    }

    fn add_hints(&mut self) {
        for (first, second, _) in HINTS {
            let find = |name| self.0.keys().find(|key| key.as_str() == name).copied();
            let (Some(first), Some(second)) = (find(first), find(second)) else { continue };
            // A dependency in the opposite direction outweighs the hint.
            if !self.reaches(first, second) {
                self.0.entry(second).or_default().insert(first);
            }
        }
    }

    /// Returns true if `to` must come before `from`.
    fn reaches(&self, from: &'a ElementName, to: &ElementName) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(name) = open.pop() {
            if name == to {
                return true;
            }
            if seen.insert(name) {
                open.extend(&self.0[name]);
            }
        }
        false
    }

    fn check_cycles(&self) -> Result<(), CycleError> {
        let mut done = BTreeSet::new();
        self.0.keys().try_for_each(|name| self.walk(name, &mut Vec::new(), &mut done))
    }

    fn walk(
        &self,
        name: &'a ElementName,
        path: &mut Vec<&'a ElementName>,
        done: &mut BTreeSet<&'a ElementName>,
    ) -> Result<(), CycleError> {
        if let Some(start) = path.iter().position(|&on_path| on_path == name) {
            return Err(CycleError { cycle: path[start..].iter().copied().cloned().collect() });
        }
        if done.contains(name) {
            return Ok(());
        }
        path.push(name);
        self.0[name].iter().try_for_each(|before| self.walk(before, path, done))?;
        path.pop();
        done.insert(name);
        Ok(())
    }

    /// Returns the names in `roots` that are in the image, without duplicates, each after the
    /// elements that must come before it.
    fn sorted(&self, roots: impl Iterator<Item = &'a ElementName>) -> Vec<&'a ElementName> {
        let mut sorted = Vec::new();
        let mut seen = BTreeSet::new();
        for root in roots {
            self.visit(root, &mut seen, &mut sorted);
        }
        sorted
    }

    fn visit(
        &self,
        name: &ElementName,
        seen: &mut BTreeSet<&'a ElementName>,
        sorted: &mut Vec<&'a ElementName>,
    ) {
        let Some((&name, before)) = self.0.get_key_value(name) else { return };
        if seen.insert(name) {
            before.iter().for_each(|name| self.visit(name, seen, sorted));
            sorted.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::{element, names};
    use crate::element::{Catalog, resolve};

    fn ordered(elements: Vec<Element>, requested: &[&str]) -> Vec<String> {
        let catalog = Catalog::new(elements);
        let resolution = resolve(&catalog, &names(requested), None, HookOrder::Element).unwrap();
        resolution.elements.iter().map(|element| element.name.to_string()).collect()
    }

    fn debian() -> Vec<Element> {
        vec![
            element("debian").deps(&["debootstrap", "a-tool"]).provides(&["operating-system"]).build(),
            element("debootstrap").build(),
            element("a-tool").build(),
            element("base").deps(&["z-tool"]).build(),
            element("z-tool").build(),
            element("cloud-init").build(),
            element("cloud-init-datasources").build(),
            element("web").deps(&["z-tool", "cloud-init"]).build(),
        ]
    }

    #[test]
    fn the_operating_system_comes_first_then_base_then_the_request() {
        assert_eq!(
            ordered(debian(), &["web", "base", "debian"]),
            ["a-tool", "debootstrap", "debian", "z-tool", "base", "cloud-init", "web"]
        );
    }

    #[test]
    fn a_hint_orders_elements_that_do_not_depend_on_each_other() {
        assert_eq!(
            ordered(debian(), &["debian", "cloud-init-datasources", "web"])[3..],
            ["cloud-init", "cloud-init-datasources", "z-tool", "web"]
        );
    }

    #[test]
    fn a_dependency_outweighs_a_hint() {
        let elements = vec![
            element("os").provides(&["operating-system"]).build(),
            element("cloud-init").deps(&["cloud-init-datasources"]).build(),
            element("cloud-init-datasources").build(),
        ];
        assert_eq!(ordered(elements, &["os", "cloud-init"]), ["os", "cloud-init-datasources", "cloud-init"]);
    }

    #[test]
    fn a_dependency_on_a_provided_name_puts_its_provider_first() {
        let elements = vec![
            element("os").provides(&["operating-system"]).build(),
            element("a").deps(&["mail"]).build(),
            element("z").provides(&["mail"]).build(),
        ];
        assert_eq!(ordered(elements, &["os", "z", "a"]), ["os", "z", "a"]);
    }

    #[test]
    fn a_cycle_error_starts_at_the_cycle() {
        let catalog = Catalog::new([
            element("a").deps(&["b"]).provides(&["operating-system"]).build(),
            element("b").deps(&["c"]).build(),
            element("c").deps(&["d"]).build(),
            element("d").deps(&["b"]).build(),
        ]);
        let error = resolve(&catalog, &names(&["a"]), None, HookOrder::Element).unwrap_err();
        assert_eq!(error.to_string(), "elements depend on each other: `b` → `c` → `d` → `b`");
        let resolution = resolve(&catalog, &names(&["a"]), None, HookOrder::Phase).unwrap();
        let names: Vec<_> = resolution.elements.iter().map(|element| element.name.as_str()).collect();
        assert_eq!(names, ["d", "c", "b", "a"]);
    }

    #[test]
    fn hints_have_no_contradictions() {
        let names: BTreeSet<&str> = HINTS.iter().flat_map(|(first, second, _)| [*first, *second]).collect();
        let os = element("os").provides(&["operating-system"]).build();
        let elements = names.iter().map(|name| element(name).build()).chain([os]).collect();
        let requested: Vec<&str> = names.iter().copied().chain(["os"]).collect();
        let sorted = ordered(elements, &requested);
        let place = |name: &str| sorted.iter().position(|other| other == name);
        for (first, second, why) in HINTS {
            assert!(place(first) < place(second), "{second} {why}");
        }
    }
}
