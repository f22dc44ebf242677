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
use super::request::Request;
use super::step::{Action, CopyModes, Task};
use crate::element::{
    Distribution, Element, Mapping, PackageAction, PackageDataError, PackageList, Phase, PhaseClass,
    ServiceMap, run_parts_order,
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
    element.package_list().map_err(unusable(element))
}

fn unusable<E: Into<PackageDataError>>(element: &Element) -> impl Fn(E) -> PlanError {
    move |error| PlanError::Packages { element: element.name.clone(), source: error.into() }
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
    let distribution = Distribution::new(&request.base.distro, &request.base.release);
    let mut tables = BTreeMap::new();
    if let Some(map) = element.package_map().map_err(unusable(element))? {
        let mut table = String::new();
        for name in map.names() {
            if let Mapping::To(names) = map.look_up(name, distribution) {
                let _ = writeln!(table, "{name}\t{}", names.join(" "));
            }
        }
        tables.insert(format!("{}.tsv", element.name), table);
    }
    let mut services = ServiceMap::default();
    if let Some(names) = element.service_names().map_err(unusable(element))? {
        services.add(&element.name, &names, distribution).map_err(unusable(element))?;
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

#[cfg(test)]
mod tests {
    use crate::element::fixture::{Builder, element};
    use crate::plan::fixture::{Image, tasks};
    use crate::plan::{Plan, Step};

    fn plan(elements: Vec<Builder>) -> Plan {
        let elements = elements.into_iter().map(Builder::build).collect();
        Image { elements, ..Image::bare() }.plan()
    }

    fn lines(plan: &Plan, step: &str) -> Vec<String> {
        tasks(plan, step).list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn providers_stand_among_hooks_by_their_numbers() {
        let table: [(&str, Builder, &[&str]); 6] = [
            (
                "pre-install",
                element("e")
                    .file("bin/tool", "")
                    .file("package-installs.yaml", "curl: { phase: pre-install.d }\n")
                    .hook("pre-install.d/00-first", "")
                    .hook("pre-install.d/05-between", "")
                    .hook("pre-install.d/99-last", ""),
                &[
                    "pre-install.d/00-first hook",
                    "pre-install.d/01-install-bin copy bin to /usr/local/bin as programs",
                    "pre-install.d/05-between hook",
                    "pre-install.d/refresh-package-index refresh package indices",
                    "pre-install.d/10-package-installs install requested packages",
                    "pre-install.d/99-last hook",
                ],
            ),
            (
                "install",
                element("e")
                    .file("static/etc/motd", "")
                    .file("init-scripts/systemd/e.service", "")
                    .file("init-scripts/upstart/e.conf", "")
                    .file("package-installs.yaml", "nginx:\n")
                    .hook("install.d/00-first", "")
                    .hook("install.d/09-before", "")
                    .hook("install.d/15-between", "")
                    .hook("install.d/20-same", ""),
                &[
                    "install.d/00-first hook",
                    "install.d/refresh-package-index refresh package indices",
                    "install.d/01-package-installs install requested packages",
                    "install.d/09-before hook",
                    "install.d/10-install-static copy static to /",
                    "install.d/15-between hook",
                    "install.d/20-install-init-scripts copy init-scripts/systemd to /usr/lib/systemd/system",
                    "install.d/20-same hook",
                ],
            ),
            (
                "phases in order",
                element("e")
                    .hook("post-root.d/10-e", "")
                    .hook("post-install.d/10-e", "")
                    .hook("install.d/50-e", "")
                    .hook("pre-install.d/50-e", "")
                    .hook("extra-data.d/90-e", ""),
                &[
                    "extra-data.d/90-e hook",
                    "pre-install.d/50-e hook",
                    "install.d/50-e hook",
                    "post-install.d/10-e hook",
                    "post-root.d/10-e hook",
                ],
            ),
            (
                "indices again after the element's own pre-install hooks",
                element("e")
                    .hook("pre-install.d/50-e", "apt-get -y install gnupg")
                    .hook("install.d/50-e", "install-packages web")
                    .hook("post-install.d/50-e", "apt-get clean"),
                &[
                    "pre-install.d/refresh-package-index refresh package indices",
                    "pre-install.d/50-e hook",
                    "install.d/refresh-package-index refresh package indices",
                    "install.d/50-e hook",
                    "post-install.d/50-e hook",
                ],
            ),
            (
                "no indices for hooks that install nothing",
                element("e").hook("install.d/50-e", "echo e >/etc/e"),
                &["install.d/50-e hook"],
            ),
            (
                "packages of the last phase",
                element("e")
                    .file("package-installs.yaml", "a: { phase: post-install.d }\nb: { uninstall: true }\n"),
                &[
                    "post-install.d/refresh-package-index refresh package indices",
                    "post-install.d/00-package-installs install requested packages",
                ],
            ),
        ];
        for (case, element, expected) in table {
            assert_eq!(lines(&plan(vec![element]), "e"), expected, "{case}");
        }
    }

    #[test]
    fn init_scripts_go_where_the_init_system_looks() {
        for (init, expected) in [
            ("systemd", Some("copy init-scripts/systemd to /usr/lib/systemd/system")),
            ("upstart", Some("copy init-scripts/upstart to /etc/init")),
            ("sysv", Some("copy init-scripts/sysv to /etc/init.d as programs")),
            ("openrc", None),
            ("", None),
        ] {
            let mut image = Image::bare();
            let scripts = ["systemd", "upstart", "sysv"].map(|name| format!("init-scripts/{name}/e"));
            let element = scripts.iter().fold(element("e"), |element, path| element.file(path, ""));
            image.elements = vec![element.hook("install.d/00-e", "").build()];
            image.set(&[("DIB_INIT_SYSTEM", init)]);
            let found = lines(&image.plan(), "e").into_iter().find(|line| line.contains("copy"));
            let expected = expected.map(|copy| format!("install.d/20-install-init-scripts {copy}"));
            assert_eq!(found, expected, "{init}");
        }
    }

    #[test]
    fn an_element_that_does_nothing_has_no_step() {
        let plan = plan(vec![element("empty").file("environment.d/10-x", "export DIB_X=1")]);
        assert_eq!(plan.steps.len(), 1);
    }

    #[test]
    fn packages_are_removed_late_and_only_where_a_list_says_so() {
        for (list, expected) in [
            ("a:\n", None),
            (
                "a: { build-only: true }\n",
                Some("post-install.d/95-package-uninstalls remove unwanted packages"),
            ),
            (
                "a: { uninstall: true }\n",
                Some("post-install.d/95-package-uninstalls remove unwanted packages"),
            ),
        ] {
            let listing = element("listing").file("package-installs.yaml", list);
            let above = element("above").hook("install.d/10-x", "");
            let plan = plan(vec![listing, above]);
            let last = plan.steps.last().unwrap();
            assert_eq!(last.name == Step::LATE, expected.is_some(), "{list}");
            if let Some(expected) = expected {
                assert_eq!(lines(&plan, Step::LATE), [expected]);
            }
        }
    }

    #[test]
    fn packages_of_the_image_come_after_those_of_elements() {
        let plan = Image { packages: vec!["vim".to_owned(), "git".to_owned()], ..Image::bare() }.plan();
        assert_eq!(
            lines(&plan, Step::PACKAGES),
            ["install.d/refresh-package-index refresh package indices", "install.d/packages install vim git",]
        );
    }

    #[test]
    fn hooks_of_the_final_stage_are_sorted_over_all_elements() {
        let plan = plan(vec![
            element("a").hook("finalise.d/90-a", "").hook("cleanup.d/10-a", ""),
            element("b").hook("finalise.d/9-b", "").hook("pre-finalise.d/10-b", ""),
        ]);
        assert_eq!(
            lines(&plan, Step::FINAL),
            [
                "pre-finalise.d/10-b hook",
                "finalise.d/9-b hook",
                "finalise.d/90-a hook",
                "cleanup.d/10-a hook",
                "cleanup.d/clean-up clean up",
            ]
        );
    }
}
