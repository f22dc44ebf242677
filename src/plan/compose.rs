//! From an image's resolved parts to its steps.
//!
//! ```text
//! base        the root file system
//! element …   one step each: pre-install, install and post-install of that element, with the work of
//!             diskimage-builder's provider elements done for it alone
//! packages    those the image definition names itself
//! late        removals, decided over all elements
//! final       pre-finalise, finalise and cleanup of all elements: see [`Plan::finish`]
//! ```
//!
//! What a step's hooks can see is exactly what is in its key: the files of [`Tasks::hooks`], the variables of
//! [`Tasks::environment`], the files of [`Tasks::files`]. Both are made from the same values here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::step::{InputFile, Plan, Step, Task, Tasks, Work};
use super::tasks::{element_tasks, extra_packages, final_tasks, removals, translation_tables};
use super::{InputKey, KeyFields, PlanError, Seal};
use crate::distro::{Architecture, BaseDefinition, BaseName};
use crate::element::{
    DuplicateHook, Element, Fragment, Mentions, Phase, PhaseClass, duplicate_hooks, environment_order,
    provider_variables, relevant_fragments,
};
use crate::oci::Digest;

/// An image, with everything resolved that its steps depend on.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The image's name.
    pub image: &'a str,
    /// For which machines.
    pub architecture: Architecture,
    /// Latest modification time in any layer, in seconds since 1970.
    pub source_date_epoch: i64,
    /// The user's word for the state of the package repositories: another word, other layers.
    pub packages_revision: &'a str,
    /// The name of what it stands on: a file of `layers/`. No part of any key.
    pub base_name: &'a BaseName,
    /// What it stands on.
    pub base: &'a BaseDefinition,
    /// In the order of their layers.
    pub elements: &'a [Arc<Element>],
    /// What the image definition and the base set.
    pub variables: &'a BTreeMap<String, String>,
    /// Input files by name.
    pub files: &'a BTreeMap<String, InputFile>,
    /// Packages that no element asks for.
    pub packages: &'a [String],
    /// Turns secrets into key fields.
    pub seal: &'a Seal,
}

/// Returns the plan of an image.
///
/// # Errors
/// [`PlanError`], if the elements cannot be put into layers on a base.
pub fn plan_image(request: &Request<'_>) -> Result<Plan, PlanError> {
    refuse_what_no_layer_can_hold(request)?;
    let mut steps = vec![base_step(request)];
    for element in request.elements {
        let tasks = element_tasks(element, request)?;
        push(&mut steps, request, element.name.as_str(), own_view(request, element)?, tasks);
    }
    push(&mut steps, request, Step::PACKAGES, View::default(), extra_packages(request.packages));
    push(&mut steps, request, Step::LATE, late_view(request), removals(request.elements)?);
    let parent = steps.last().map(|step| step.input_key);
    let finish = step(request, Step::FINAL, parent, final_view(request), final_tasks(request.elements));
    Ok(Plan {
        image: request.image.to_owned(),
        architecture: request.architecture,
        source_date_epoch: request.source_date_epoch,
        steps,
        finish,
    })
}

/// Refuses elements with hooks of phases that have no place above a base.
fn refuse_what_no_layer_can_hold(request: &Request<'_>) -> Result<(), PlanError> {
    if let Some(DuplicateHook { path, first, second }) =
        duplicate_hooks(request.elements.iter().map(Arc::as_ref)).into_iter().next()
    {
        return Err(PlanError::DuplicateHook { path, first, second });
    }
    for element in request.elements {
        for phase in [Phase::Root, Phase::BlockDevice] {
            if let Some(hook) = element.hooks(phase).first() {
                return Err(PlanError::Unplaceable {
                    element: element.name.clone(),
                    phase,
                    hook: hook.name.to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn base_step(request: &Request<'_>) -> Step {
    let fields = common_fields(request, "base")
        .chain([("definition".to_owned(), request.base.identity().to_string())])
        .collect::<Vec<_>>();
    Step::new(
        format!("base:{}", request.base_name),
        KeyFields::new(fields),
        None,
        Work::Base(Box::new(request.base.clone())),
    )
}

/// Adds a step, unless it has nothing to do.
fn push(steps: &mut Vec<Step>, request: &Request<'_>, name: &str, view: View, tasks: Vec<Task>) {
    if !tasks.is_empty() {
        let parent = steps.last().map(|step| step.input_key);
        steps.push(step(request, name, parent, view, tasks));
    }
}

fn step(request: &Request<'_>, name: &str, parent: Option<InputKey>, view: View, list: Vec<Task>) -> Step {
    let View { hooks, fragments, environment, files, maps, requesting } = view;
    let tasks = Tasks { hooks, fragments, environment, files, maps, requesting, list };
    let fields = common_fields(request, "tasks").chain(task_fields(request.seal, &tasks));
    Step::new(name, KeyFields::new(fields), parent, Work::Tasks(tasks))
}

fn common_fields(request: &Request<'_>, kind: &str) -> impl Iterator<Item = (String, String)> {
    [
        ("kind", kind.to_owned()),
        ("architecture", request.architecture.debian().to_owned()),
        ("source-date-epoch", request.source_date_epoch.to_string()),
        ("packages revision", request.packages_revision.to_owned()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into_iter()
}

/// Returns the fields that say what tasks do and see. Takes the value apart so that nothing added to it is forgotten.
fn task_fields(seal: &Seal, tasks: &Tasks) -> Vec<(String, String)> {
    let Tasks { hooks, fragments, environment, files, maps, requesting, list } = tasks;
    let hooks = hooks.iter().map(|(path, element)| (format!("file {path}"), element.files[path].identity()));
    let variables =
        environment.iter().map(|(name, value)| (format!("variable {name}"), seal.field_value(name, value)));
    let files = files.iter().map(|(name, file)| (format!("input file {name}"), file.digest.to_string()));
    let maps = maps.iter().map(|(name, text)| (format!("map {name}"), Digest::of(text).to_string()));
    let requests =
        requesting.iter().map(|element| (format!("packages of {}", element.name), package_data(element)));
    let order = [("environment.d".to_owned(), fragments.join(" "))];
    let tasks = list.iter().enumerate().map(|(place, task)| (format!("task {place:03}"), task.to_string()));
    hooks.chain(variables).chain(files).chain(maps).chain(requests).chain(order).chain(tasks).collect()
}

/// Files that package names are read from.
const PACKAGE_DATA: [&str; 3] = ["package-installs.json", "package-installs.yaml", "pkg-map"];

/// Files at the top of elements that providers read, and no hook.
const PROVIDER_DATA: [&str; 4] = ["package-installs.json", "package-installs.yaml", "pkg-map", "svc-map"];

fn package_data(element: &Element) -> String {
    let plain = format!("package-installs-{}", element.name);
    let holds_names = |path: &str| PACKAGE_DATA.contains(&path) || path.ends_with(&plain);
    let files = element.identity().filter(|(path, _)| holds_names(path));
    files.map(|(path, identity)| format!("{path} {identity}")).collect::<Vec<_>>().join(", ")
}

/// What the hooks of a step can see.
#[derive(Debug, Clone, Default)]
struct View {
    hooks: BTreeMap<String, Arc<Element>>,
    fragments: Vec<String>,
    environment: BTreeMap<String, String>,
    files: BTreeMap<String, InputFile>,
    maps: BTreeMap<String, String>,
    requesting: Vec<Arc<Element>>,
}

impl View {
    /// Returns a view of these files, the fragments that matter to them, and the variables that any of them names.
    fn new(request: &Request<'_>, owners: &[&Arc<Element>], hooks: BTreeMap<String, Arc<Element>>) -> Self {
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
        let mut view = View { hooks, ..View::default() };
        view.add_fragments(request, owners, &mut mentions);
        view.environment = only(request.variables, |name| mentions.includes(name));
        view.files = only(request.files, |name| {
            view.environment
                .values()
                .any(|value| value.split([' ', ',', '\n', '=', ';']).any(|word| word == name))
        });
        view
    }

    fn add_fragments(&mut self, request: &Request<'_>, owners: &[&Arc<Element>], mentions: &mut Mentions) {
        let all: Vec<_> = request
            .elements
            .iter()
            .flat_map(|element| {
                element.environment_fragments().into_iter().map(move |(name, file)| (element, name, file))
            })
            .collect();
        let fragments: Vec<_> = all
            .iter()
            .map(|(element, name, file)| {
                Fragment::new(&element.name, name, file.text.as_deref().unwrap_or_default())
            })
            .collect();
        let mut relevant = BTreeSet::new();
        for owner in owners {
            relevant.extend(relevant_fragments(&owner.name, mentions, &fragments));
        }
        for place in relevant {
            let (element, name, _) = all[place];
            mentions.merge(fragments[place].mentions.clone());
            self.hooks.insert(format!("environment.d/{name}"), element.clone());
            self.fragments.push(name.to_owned());
        }
        self.fragments.sort_by(|a, b| environment_order(a, b));
    }
}

fn only<V: Clone>(all: &BTreeMap<String, V>, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, V> {
    all.iter().filter(|(name, _)| wanted(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What the hooks of an element's own step see: its files, but for those of the final stage.
fn own_view(request: &Request<'_>, element: &Arc<Element>) -> Result<View, PlanError> {
    let seen = |path: &str| !is_final(path) && !path.starts_with("environment.d/");
    let hooks = element.files.keys().filter(|path| seen(path)).map(|path| (path.clone(), element.clone()));
    let view = View::new(request, &[element], hooks.collect());
    Ok(View { maps: translation_tables(element, request)?, requesting: vec![element.clone()], ..view })
}

/// What the removal of packages goes by: the package lists of all elements.
fn late_view(request: &Request<'_>) -> View {
    let owners: Vec<_> = request.elements.iter().collect();
    View { requesting: request.elements.to_vec(), ..View::new(request, &owners, BTreeMap::new()) }
}

/// What the hooks of the final stage see: their own phases' files, the tools and top-level files that they share with
/// other phases, and the fragments of all elements.
fn final_view(request: &Request<'_>) -> View {
    let owners: Vec<_> = request.elements.iter().collect();
    let is_shared = |path: &str| !path.contains('/') && !PROVIDER_DATA.contains(&path);
    let seen = |path: &str| is_final(path) || path.starts_with("bin/") || is_shared(path);
    let hooks = owners.iter().flat_map(|element| {
        element.files.keys().filter(|path| seen(path)).map(|path| (path.clone(), Arc::clone(element)))
    });
    View::new(request, &owners, hooks.collect())
}

fn is_final(path: &str) -> bool {
    let phase = path.split('/').next().and_then(|dir| dir.parse::<Phase>().ok());
    phase.is_some_and(|phase| phase.class() == PhaseClass::Final)
}
