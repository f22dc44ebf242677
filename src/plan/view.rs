//! The view of a step's hooks: files, fragments of `environment.d`, variables, input files.
//!
//! A view is [`Tasks`] without a list of tasks. All of it goes into the step's key, so it is kept
//! as narrow as the hooks' texts allow. A lookup by a computed name makes the view wider, never
//! wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PlanError;
use super::dib_manifests::manifest_variables;
use super::hooks::{Hooks, phase_of};
use super::named::add_named;
use super::request::{MachineContent, MachineFile, Request};
use super::step::Tasks;
use super::variables::{mentioned_name, mentions_variable};
use crate::element::{
    DuplicateHook, Element, Fragment, Mentions, PROVIDER_DATA, Phase, PhaseClass, Place, Relevance, Slot,
    environment_order, is_done_natively, is_never_called, is_source_variable, library_variables,
    provider_variables, relevant_fragments,
};

/// Returns the view of hooks of these phases that share a step: the files of `elements`, without
/// those of other phases.
pub(super) fn view_of(request: &Request<'_>, elements: &[Arc<Element>], phases: &[Phase]) -> Tasks {
    let mut hooks = hooks_of(elements, phases);
    let links = links_of(request, elements, phases, &|_, _| true, &mut hooks);
    Tasks { requesting: elements.to_vec(), links, ..view(request, elements, hooks) }
}

/// Returns the links that place hooks of the chosen install types in their phase, if `takes` is true
/// for the element and the name of the hook. Removes the hooks that they replace.
fn links_of(
    request: &Request<'_>,
    elements: &[Arc<Element>],
    phases: &[Phase],
    takes: &dyn Fn(&Element, &str) -> bool,
    hooks: &mut Hooks,
) -> BTreeMap<String, String> {
    let mut links = BTreeMap::new();
    for element in elements.iter().filter(|_| phases.contains(&Phase::Install)) {
        let entries = element.typed_entries(request.settings);
        for (name, dir) in entries.into_iter().filter(|(name, _)| takes(element, name)) {
            let path = format!("{}/{name}", Phase::Install);
            hooks.remove(&path);
            links.insert(path, format!("{dir}/{name}"));
        }
    }
    links
}

/// Returns the view of hooks of `elements` in the late step: their own files, and the package lists
/// of all elements.
pub(super) fn late_view(request: &Request<'_>, elements: &[Arc<Element>], phases: &[Phase]) -> Tasks {
    let mut hooks = hooks_of(elements, phases);
    let is_late = |element: &Element, name: &str| element.slot(Phase::Install, name) == Slot::Late;
    let links = links_of(request, elements, phases, &is_late, &mut hooks);
    Tasks { requesting: request.elements.to_vec(), links, ..view(request, request.elements, hooks) }
}

fn hooks_of(elements: &[Arc<Element>], phases: &[Phase]) -> Hooks {
    let files = elements.iter().flat_map(|element| {
        let seen = element.files.keys().filter(|path| is_seen(element, path, phases));
        seen.map(|path| (path.clone(), element.clone()))
    });
    files.collect()
}

/// Returns the view of hooks of `root.d`: their own files, and all files of the operating system's
/// elements that may be needed to build a root file system.
pub(super) fn root_view(request: &Request<'_>, system: &[Arc<Element>]) -> Tasks {
    let mut hooks = Hooks::new();
    let mut owners = Vec::new();
    for element in request.elements {
        let belongs = system.contains(element);
        let seen =
            |path: &&String| is_seen(element, path, &[Phase::Root]) && (belongs || phase_of(path).is_some());
        let before = hooks.len();
        hooks.extend(element.files.keys().filter(seen).map(|path| (path.clone(), element.clone())));
        if hooks.len() > before {
            owners.push(element.clone());
        }
    }
    view(request, &owners, hooks)
}

/// Returns the view of hooks of the final stage, including deferred hooks of other phases (`late`,
/// by path): the files of their own phases, the tools and top-level files that they share with
/// other phases, and the fragments of all elements. Of top-level files with one name, the last
/// element's wins, as in diskimage-builder.
///
/// # Errors
/// [`PlanError::DuplicateHook`] if two elements have different files of one name in a directory,
/// because a hook would find the wrong one.
pub(super) fn final_view(request: &Request<'_>, late: &[String]) -> Result<Tasks, PlanError> {
    let is_shared = |path: &str| !path.contains('/') && !PROVIDER_DATA.contains(&path);
    let seen =
        |path: &String| is_final(path) || path.starts_with("bin/") || is_shared(path) || late.contains(path);
    let mut hooks = Hooks::new();
    for element in request.elements {
        for path in element.files.keys().filter(|path| seen(path)) {
            if is_shared(path) {
                hooks.insert(path.clone(), element.clone());
                continue;
            }
            let first = hooks.entry(path.clone()).or_insert_with(|| element.clone());
            if first.files[path] != element.files[path] {
                return Err(duplicate(path, first, element));
            }
        }
    }
    Ok(view_with(request, request.elements, hooks, manifest_variables(request)))
}

/// Returns true if hooks of `phases` may read the file at `path`. They read neither another phase's
/// hooks nor those of replaced providers. Files that are copied onto the root are read by the
/// copying task.
fn is_seen(element: &Element, path: &str, phases: &[Phase]) -> bool {
    match (path.split('/').next().unwrap_or_default(), phase_of(path)) {
        (_, Some(phase)) => phases.contains(&phase) && !is_done_natively(&element.name, phase),
        ("environment.d", _) => false,
        ("static" | "init-scripts", _) => phases.contains(&Phase::Install),
        _ => true,
    }
}

fn duplicate(path: &str, first: &Element, second: &Element) -> PlanError {
    let (first, second) = (first.name.clone(), second.name.clone());
    DuplicateHook { path: path.to_owned(), first, second }.into()
}

fn is_final(path: &str) -> bool {
    phase_of(path).is_some_and(|phase| phase.class() == PhaseClass::Final)
}

/// Returns a view of these files, the relevant fragments, and the variables that any of them
/// mentions.
fn view(request: &Request<'_>, owners: &[Arc<Element>], hooks: Hooks) -> Tasks {
    view_with(request, owners, hooks, &[])
}

/// Like [`view`], for work of plywood that also reads `variables`.
fn view_with(request: &Request<'_>, owners: &[Arc<Element>], mut hooks: Hooks, variables: &[&str]) -> Tasks {
    add_tools(request, &mut hooks);
    add_named(request.elements, &mut hooks);
    let mut mentions = mentions(request, owners, &hooks);
    mentions.names.extend(variables.iter().map(|&name| name.to_owned()));
    if texts_on_host(&hooks).any(|text| String::from_utf8_lossy(text).contains("init-scripts")) {
        // A hook that adds init scripts need not mention the init system.
        mentions.names.insert("DIB_INIT_SYSTEM".to_owned());
    }
    let mut relevance = BTreeMap::new();
    loop {
        add_fragments(request, owners, &mut hooks, &mut mentions, &mut relevance);
        // Fragments may also source files, which may read variables of further fragments.
        let named = add_named(request.elements, &mut hooks);
        if named.is_empty() {
            break;
        }
        let texts = named.iter().filter_map(|(path, element)| element.text(path));
        mentions.merge(texts.map(Mentions::of).collect());
    }
    let mut fragments: Vec<_> = relevance.keys().cloned().collect();
    fragments.sort_by(|a, b| environment_order(a, b));
    let asks_for_sources = texts_on_host(&hooks).any(asks_for_sources);
    let environment = only(request.variables, |name| {
        mentions.includes(mentioned_name(name)) || (asks_for_sources && is_source_variable(name))
    });
    let files = only(request.files, |name| environment.values().any(|value| names_file(value, name)));
    let shown = if looks_into_elements(&hooks) { request.elements.to_vec() } else { Vec::new() };
    let mut tasks = Tasks { hooks, fragments, relevance, environment, files, shown, ..Tasks::default() };
    add_machine_files(request, &mut tasks);
    tasks
}

/// Returns true if a hook may write a list of sources.
fn asks_for_sources(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains("source-repository-")
}

/// Adds the tools of all elements that hooks on the host mention. Hooks find them in the hooks
/// directory.
fn add_tools(request: &Request<'_>, hooks: &mut Hooks) {
    let texts: Vec<_> = texts_on_host(hooks).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    for element in request.elements {
        for (tool, _) in element.files_in("bin") {
            if texts.iter().any(|text| text.contains(&format!("/bin/{tool}"))) {
                hooks.entry(format!("bin/{tool}")).or_insert_with(|| element.clone());
            }
        }
    }
}

/// Returns true if a hook on the host asks for the directories of elements.
fn looks_into_elements(hooks: &Hooks) -> bool {
    const ASKING: [&str; 5] = [
        "get_image_element_array",
        "IMAGE_ELEMENT_YAML",
        "ELEMENTS_PATH",
        "element_dependencies",
        "element-info",
    ];
    texts_on_host(hooks).any(|text| {
        let text = String::from_utf8_lossy(text);
        ASKING.iter().any(|word| text.contains(word))
    })
}

/// Adds the files of the build host that are mentioned by hooks on the host, or by files that these
/// source or call.
fn add_machine_files(request: &Request<'_>, tasks: &mut Tasks) {
    if texts_on_host(&tasks.hooks).next().is_none() {
        return;
    }
    let in_target = |path: &str| phase_of(path).is_some_and(|phase| phase.place() == Place::Target);
    let texts = tasks.hooks.iter().filter(|(path, _)| !in_target(path));
    let texts: Vec<_> = texts.filter_map(|(path, element)| element.text(path)).collect();
    for MachineFile { place, mention, content } in request.machine {
        if !texts.iter().any(|text| says(text, mention)) {
            continue;
        }
        match content {
            MachineContent::Input(file) => drop(tasks.machine.insert(place.clone(), file.clone())),
            MachineContent::Written(path) => drop(tasks.written.insert(place.clone(), path.clone())),
        }
    }
}

/// Returns true if a text contains a mention: a variable, or another word.
fn says(text: &[u8], mention: &str) -> bool {
    let is_there = || text.windows(mention.len()).any(|part| part == mention.as_bytes());
    mentions_variable(text, mention) || (mention.starts_with('.') && is_there())
}

/// Returns the texts of hooks that run on the host.
fn texts_on_host(hooks: &Hooks) -> impl Iterator<Item = &[u8]> {
    let on_host = |path: &str| phase_of(path).is_some_and(|phase| phase.place() == Place::Host);
    hooks.iter().filter(move |(path, _)| on_host(path)).filter_map(|(path, element)| element.text(path))
}

/// Returns the variables that the files may read, and those that the providers read for the
/// elements `owners`.
fn mentions(request: &Request<'_>, owners: &[Arc<Element>], hooks: &Hooks) -> Mentions {
    let read = hooks.iter().filter(|(path, element)| !is_never_called(&element.name, path));
    let texts = read.filter_map(|(path, element)| element.text(path));
    let data = owners.iter().flat_map(|owner| PROVIDER_DATA.iter().filter_map(|path| owner.text(path)));
    let mut mentions: Mentions = texts.chain(data).map(Mentions::of).collect();
    // Hooks may call the tools that lower elements have installed.
    let lowest = owners.first().map(|owner| &owner.name);
    let below = request.elements.iter().take_while(|element| Some(&element.name) != lowest);
    mentions.merge(below.map(|element| element.tool_mentions()).collect());
    for owner in owners {
        mentions.names.extend(provider_variables(owner));
    }
    mentions.names.extend(library_variables(&mentions));
    mentions
}

/// Adds the fragments that are relevant to `hooks`, adds their mentions to `mentions`, and the
/// reasons to `relevance`, by name.
fn add_fragments(
    request: &Request<'_>,
    owners: &[Arc<Element>],
    hooks: &mut Hooks,
    mentions: &mut Mentions,
    relevance: &mut BTreeMap<String, Relevance>,
) {
    let (sources, fragments): (Vec<_>, Vec<_>) = request.elements.iter().flat_map(fragments_of).unzip();
    let relevant: Vec<_> =
        owners.iter().flat_map(|owner| relevant_fragments(&owner.name, mentions, &fragments)).collect();
    for (place, why) in relevant {
        let Fragment { name, mentions: own, .. } = &fragments[place];
        mentions.merge(own.clone());
        hooks.insert(format!("environment.d/{name}"), Arc::clone(sources[place]));
        // Later rounds would find reasons that only follow from the mentions of this fragment
        // itself.
        relevance.entry((*name).to_owned()).or_insert(why);
    }
}

fn fragments_of(element: &Arc<Element>) -> impl Iterator<Item = (&Arc<Element>, Fragment<'_>)> {
    element.environment_fragments().into_iter().flat_map(move |(name, file)| {
        let text = file.text.as_deref().unwrap_or_default();
        Fragment::split(&element.name, name, text).into_iter().map(move |fragment| (element, fragment))
    })
}

/// Returns true if a variable's value names the input file `name`: alone, in a list, an assignment,
/// a path or a URL.
fn names_file(value: &str, name: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | '=' | ';' | '/' | ':');
    value.split(separates).any(|word| word == name)
}

fn only<V: Clone>(all: &BTreeMap<String, V>, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, V> {
    all.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
