//! What the hooks of a step can see: files, fragments of `environment.d`, variables, input files.
//!
//! A view is [`Tasks`] with nothing to do yet. All of it goes into the step's key, so it is kept as narrow as can be known
//! from the hooks' texts; what a hook might look up by a name that no text says makes it wider, never wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PlanError;
use super::request::Request;
use super::step::Tasks;
use super::tasks::translation_tables;
use crate::element::{
    DuplicateHook, Element, Fragment, Mentions, Phase, PhaseClass, environment_order, provider_variables,
    relevant_fragments,
};

/// Files that package names are read from.
const PACKAGE_DATA: [&str; 3] = ["package-installs.json", "package-installs.yaml", "pkg-map"];

/// Files at the top of elements that providers read, and no hook.
const PROVIDER_DATA: [&str; 4] = ["package-installs.json", "package-installs.yaml", "pkg-map", "svc-map"];

/// The files of a hooks directory: path, and the element they come from.
type Hooks = BTreeMap<String, Arc<Element>>;

/// Says whether an element's package list or the names in it are read from the file at `path`.
pub(super) fn holds_package_names(element: &Element, path: &str) -> bool {
    PACKAGE_DATA.contains(&path) || path.ends_with(&format!("package-installs-{}", element.name))
}

/// Returns what the hooks of an element's own step see: its files, but for those of the final stage.
pub(super) fn element_view(request: &Request<'_>, element: &Arc<Element>) -> Result<Tasks, PlanError> {
    let seen = |path: &str| !is_final(path) && !path.starts_with("environment.d/");
    let hooks = element.files.keys().filter(|path| seen(path)).map(|path| (path.clone(), element.clone()));
    Ok(Tasks {
        maps: translation_tables(element, request)?,
        requesting: vec![element.clone()],
        ..view(request, &[element], hooks.collect())
    })
}

/// Returns what the removal of packages goes by: the package lists of all elements.
pub(super) fn late_view(request: &Request<'_>) -> Tasks {
    let owners: Vec<_> = request.elements.iter().collect();
    Tasks { requesting: request.elements.to_vec(), ..view(request, &owners, Hooks::new()) }
}

/// Returns what the hooks of the final stage see: their own phases' files, the tools and top-level files that they share
/// with other phases, and the fragments of all elements.
///
/// # Errors
/// [`PlanError::DuplicateHook`] if two elements have different files of one name: a hook would find the wrong one.
pub(super) fn final_view(request: &Request<'_>) -> Result<Tasks, PlanError> {
    let is_shared = |path: &str| !path.contains('/') && !PROVIDER_DATA.contains(&path);
    let seen = |path: &str| is_final(path) || path.starts_with("bin/") || is_shared(path);
    let mut hooks = Hooks::new();
    for element in request.elements {
        for path in element.files.keys().filter(|path| seen(path)) {
            let first = hooks.entry(path.clone()).or_insert_with(|| element.clone());
            if first.files[path] != element.files[path] {
                return Err(duplicate(path, first, element));
            }
        }
    }
    let owners: Vec<_> = request.elements.iter().collect();
    Ok(view(request, &owners, hooks))
}

fn duplicate(path: &str, first: &Element, second: &Element) -> PlanError {
    let (first, second) = (first.name.clone(), second.name.clone());
    DuplicateHook { path: path.to_owned(), first, second }.into()
}

fn is_final(path: &str) -> bool {
    let phase = path.split('/').next().and_then(|dir| dir.parse::<Phase>().ok());
    phase.is_some_and(|phase| phase.class() == PhaseClass::Final)
}

/// Returns a view of these files, the fragments that matter to them, and the variables that any of them names.
fn view(request: &Request<'_>, owners: &[&Arc<Element>], mut hooks: Hooks) -> Tasks {
    let mut mentions = mentions(request, owners, &hooks);
    let fragments = add_fragments(request, owners, &mut hooks, &mut mentions);
    let environment = only(request.variables, |name| mentions.includes(name));
    let files = only(request.files, |name| environment.values().any(|value| names_file(value, name)));
    Tasks { hooks, fragments, environment, files, ..Tasks::default() }
}

/// Returns what files may read, and what the providers read for the elements `owners`.
fn mentions(request: &Request<'_>, owners: &[&Arc<Element>], hooks: &Hooks) -> Mentions {
    let texts = hooks.iter().filter_map(|(path, element)| element.text(path));
    let data = owners.iter().flat_map(|owner| PACKAGE_DATA.iter().filter_map(|path| owner.text(path)));
    let mut mentions: Mentions = texts.chain(data).map(Mentions::of).collect();
    // Hooks may call the tools that elements below have installed.
    let lowest = owners.first().map(|owner| &owner.name);
    let below = request.elements.iter().take_while(|element| Some(&element.name) != lowest);
    mentions.merge(below.map(|element| element.tool_mentions()).collect());
    for owner in owners {
        mentions.names.extend(provider_variables(&owner.name));
    }
    mentions
}

/// Adds the fragments that matter to `hooks`, and what they read to `mentions`; returns their names in order.
fn add_fragments(
    request: &Request<'_>,
    owners: &[&Arc<Element>],
    hooks: &mut Hooks,
    mentions: &mut Mentions,
) -> Vec<String> {
    let (sources, fragments): (Vec<_>, Vec<_>) = request.elements.iter().flat_map(fragments_of).unzip();
    let relevant: BTreeSet<_> =
        owners.iter().flat_map(|owner| relevant_fragments(&owner.name, mentions, &fragments)).collect();
    let mut names = Vec::new();
    for place in relevant {
        let Fragment { name, mentions: own, .. } = &fragments[place];
        mentions.merge(own.clone());
        hooks.insert(format!("environment.d/{name}"), Arc::clone(sources[place]));
        names.push((*name).to_owned());
    }
    names.sort_by(|a, b| environment_order(a, b));
    names
}

fn fragments_of(element: &Arc<Element>) -> impl Iterator<Item = (&Arc<Element>, Fragment<'_>)> {
    element.environment_fragments().into_iter().map(move |(name, file)| {
        let text = file.text.as_deref().unwrap_or_default();
        (element, Fragment::new(&element.name, name, text))
    })
}

/// Says whether a variable's value names the input file `name`: alone, in a list, an assignment, a path or a URL.
fn names_file(value: &str, name: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | '=' | ';' | '/' | ':');
    value.split(separates).any(|word| word == name)
}

fn only<V: Clone>(all: &BTreeMap<String, V>, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, V> {
    all.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
