//! What is done for an element, in order.
//!
//! diskimage-builder's provider elements act on the data of all elements in one go. Here their work is done in each
//! element's own step, on its own data, at the place that the provider's hook has by its number:
//!
//! | phase | name | does |
//! |---|---|---|
//! | pre-install.d | 01-install-bin | `bin/` to `/usr/local/bin` |
//! | pre-install.d | 10-package-installs | packages with `phase: pre-install.d` |
//! | install.d | 01-package-installs | packages |
//! | install.d | 10-install-static | `static/` onto `/` |
//! | install.d | 20-install-init-scripts | `init-scripts/<init system>/` |
//! | post-install.d | 00-package-installs | packages with `phase: post-install.d` |
//!
//! Package indices are fetched before the first task that may install something, and again after the element's own
//! pre-install hooks, which may have added package sources.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::PlanError;
use super::compose::Request;
use super::step::{Action, CopyModes, Task};
use crate::element::{
    Distribution, Element, Mapping, PackageAction, PackageList, Phase, PhaseClass, ServiceMap,
    run_parts_order,
};

/// Returns the tasks of an element's own step.
pub(super) fn element_tasks(element: &Element, request: &Request<'_>) -> Result<Vec<Task>, PlanError> {
    let mut tasks = Vec::new();
    for phase in [Phase::ExtraData, Phase::PreInstall, Phase::Install, Phase::PostInstall, Phase::PostRoot] {
        let mut in_phase = hook_tasks(element, phase);
        in_phase.extend(provider_tasks(element, phase, request)?);
        in_phase.sort_by(|a, b| run_parts_order(&a.name, &b.name));
        tasks.extend(in_phase);
    }
    Ok(with_index_refresh(element, tasks))
}

fn hook_tasks(element: &Element, phase: Phase) -> Vec<Task> {
    let hooks = element.hooks(phase);
    hooks.into_iter().map(|hook| task(phase, hook.name, Action::Hook)).collect()
}

fn provider_tasks(element: &Element, phase: Phase, request: &Request<'_>) -> Result<Vec<Task>, PlanError> {
    let mut tasks = Vec::new();
    if package_list(element)?
        .0
        .iter()
        .any(|entry| entry.phase == phase && entry.action != PackageAction::Uninstall)
    {
        let name = match phase {
            Phase::PreInstall => "10-package-installs",
            Phase::Install => "01-package-installs",
            _ => "00-package-installs",
        };
        tasks.push(task(phase, name, Action::InstallRequested));
    }
    if phase == Phase::PreInstall && element.has_dir("bin") {
        tasks.push(task(phase, "01-install-bin", copy("bin", "/usr/local/bin", CopyModes::Executable)));
    }
    if phase == Phase::Install {
        tasks.extend(tree_tasks(element, request));
    }
    Ok(tasks)
}

fn package_list(element: &Element) -> Result<PackageList, PlanError> {
    element
        .package_list()
        .map_err(|error| PlanError::Packages { element: element.name.clone(), source: error.into() })
}

fn tree_tasks(element: &Element, request: &Request<'_>) -> impl Iterator<Item = Task> {
    let statics = element
        .has_dir("static")
        .then(|| task(Phase::Install, "10-install-static", copy("static", "/", CopyModes::Keep)));
    let init = request.variables.get("DIB_INIT_SYSTEM").map(String::as_str).unwrap_or_default();
    let scripts = format!("init-scripts/{init}");
    let init_scripts = (!init.is_empty() && element.has_dir(&scripts)).then(|| {
        let (to, modes) = init_directory(init);
        task(Phase::Install, "20-install-init-scripts", copy(&scripts, to, modes))
    });
    statics.into_iter().chain(init_scripts)
}

/// Where init scripts go. Source: diskimage-builder, element dib-init-system.
fn init_directory(init: &str) -> (&'static str, CopyModes) {
    match init {
        "systemd" => ("/usr/lib/systemd/system", CopyModes::Keep),
        "upstart" => ("/etc/init", CopyModes::Keep),
        _ => ("/etc/init.d", CopyModes::Executable),
    }
}

/// Adds a refresh of the package indices where one is needed.
fn with_index_refresh(element: &Element, tasks: Vec<Task>) -> Vec<Task> {
    let mut refreshed = false;
    let mut result = Vec::with_capacity(tasks.len() + 2);
    for task in tasks {
        // Pre-install hooks may have changed the package sources.
        refreshed &= result
            .last()
            .is_none_or(|before: &Task| before.phase == task.phase || before.phase != Phase::PreInstall);
        if !refreshed && needs_index(element, &task) {
            result.push(self::task(task.phase, "refresh-package-index", Action::RefreshIndex));
            refreshed = true;
        }
        result.push(task);
    }
    result
}

fn needs_index(element: &Element, task: &Task) -> bool {
    match &task.action {
        Action::Install(_) | Action::InstallRequested => true,
        Action::Hook => {
            element.text(&format!("{}/{}", task.phase, task.name)).is_some_and(mentions_package_manager)
        }
        Action::CleanUp | Action::Copy { .. } | Action::RefreshIndex | Action::RemoveUnwanted => false,
    }
}

fn mentions_package_manager(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    ["apt", "install-packages"].iter().any(|word| text.contains(word))
}

/// Returns the tasks that install the packages of the image definition.
pub(super) fn extra_packages(names: &[String]) -> Vec<Task> {
    if names.is_empty() {
        return Vec::new();
    }
    vec![
        task(Phase::Install, "refresh-package-index", Action::RefreshIndex),
        task(Phase::Install, "packages", Action::Install(names.to_vec())),
    ]
}

/// Returns the task that removes packages, if any list may want one removed. It comes after all elements: a package that
/// one element needs for its build alone, another may need, too.
pub(super) fn removals(elements: &[Arc<Element>]) -> Result<Vec<Task>, PlanError> {
    for element in elements {
        if package_list(element)?.0.iter().any(|entry| entry.action != PackageAction::Install) {
            return Ok(vec![task(Phase::PostInstall, "95-package-uninstalls", Action::RemoveUnwanted)]);
        }
    }
    Ok(Vec::new())
}

/// Returns the tables that `pkg-map` and `svc-map` look names up in.
pub(super) fn translation_tables(
    element: &Element,
    request: &Request<'_>,
) -> Result<BTreeMap<String, String>, PlanError> {
    let error = |error: crate::element::PackageDataError| PlanError::Packages {
        element: element.name.clone(),
        source: error,
    };
    let distribution = Distribution::new(&request.base.distro, &request.base.release);
    let mut tables = BTreeMap::new();
    if let Some(map) = element.package_map().map_err(|e| error(e.into()))? {
        let mut table = String::new();
        for name in map.names() {
            if let Mapping::To(names) = map.look_up(name, distribution) {
                let _ = writeln!(table, "{name}\t{}", names.join(" "));
            }
        }
        tables.insert(format!("{}.tsv", element.name), table);
    }
    let mut services = ServiceMap::default();
    if let Some(names) = element.service_names().map_err(|e| error(e.into()))? {
        services.add(&element.name, &names, distribution).map_err(|e| error(e.into()))?;
        let table = services.iter().map(|(service, name)| format!("{service}\t{name}\n")).collect();
        tables.insert("svc-map.tsv".to_owned(), table);
    }
    Ok(tables)
}

/// Returns the tasks of the final stage, in order.
pub(super) fn final_tasks(elements: &[Arc<Element>]) -> Vec<Task> {
    let mut tasks = Vec::new();
    for phase in Phase::of_class(PhaseClass::Final) {
        let mut in_phase: Vec<_> = elements.iter().flat_map(|element| hook_tasks(element, phase)).collect();
        in_phase.sort_by(|a, b| run_parts_order(&a.name, &b.name));
        tasks.extend(in_phase);
    }
    tasks.push(task(Phase::Cleanup, "clean-up", Action::CleanUp));
    tasks
}

fn task(phase: Phase, name: &str, action: Action) -> Task {
    Task { phase, name: name.to_owned(), action }
}

fn copy(from: &str, to: &str, modes: CopyModes) -> Action {
    Action::Copy { from: from.to_owned(), to: to.to_owned(), modes }
}
