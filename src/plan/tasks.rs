//! The tasks of a step, in order.
//!
//! diskimage-builder's provider elements process the data of all elements together. Here their work
//! is done in the step of each element, on its own data, at the position of the provider's hook by
//! its number:
//!
//! | phase | name | does |
//! |---|---|---|
//! | extra-data.d | 10-pkg-map-… | `pkg-map` to `/usr/share/pkg-map/<element>` |
//! | extra-data.d | 11-svc-map | the services of `svc-map` into `/usr/share/svc-map/services` |
//! | extra-data.d | 50-modprobe, 50-dracut-conf | `modprobe.d/`, `dracut.conf.d/` to `/etc` |
//! | extra-data.d | 98-source-… | the sources of `source-repository-<name>` |
//! | pre-install.d | 01-install-bin | `bin/` to `/usr/local/bin` |
//! | pre-install.d | 10-package-installs | packages with `phase: pre-install.d` |
//! | install.d | 01-package-installs | packages |
//! | install.d | 10-install-static | `static/` onto `/` |
//! | install.d | 20-install-init-scripts | `init-scripts/<init system>/` |
//! | install.d | 50-bootloader-packages | GRUB, which diskimage-builder installs on the finished disk |
//! | post-install.d | 00-package-installs | packages with `phase: post-install.d` |
//!
//! Package indices are fetched before the first task that may install something, and again after
//! the step's own pre-install hooks, which may have added package sources.

use std::sync::Arc;

use super::step::{Action, CopyModes, Task};
use super::{PlanError, Request};
use crate::element::{
    BOOT_LOADER_HOOK, Distribution, Element, Hook, PACKAGE_PHASES, PackageAction, PackageDataError,
    PackageList, Phase, ServiceMap, is_boot_loader, is_done_natively, run_parts_order,
};

/// Settings of kernel modules and of initramfs builders: task, directory, and element.
const MODULE_SETTINGS: [(&str, &str, &str); 2] =
    [("50-modprobe", "modprobe.d", "modprobe"), ("50-dracut-conf", "dracut.conf.d", "dracut-regenerate")];

/// Name of the task that fetches package indices.
const REFRESH: &str = "refresh-package-index";

/// The work of a step: in each of `phases` the hooks of `elements` for which `takes` is true, and
/// the providers' work for `served`, in order of their numbers.
pub(super) struct Share<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) phases: &'a [Phase],
    pub(super) elements: &'a [Arc<Element>],
    pub(super) takes: &'a dyn Fn(&Element, Phase, &str) -> bool,
    pub(super) served: &'a [Arc<Element>],
    pub(super) removals: Removals,
}

/// When to remove packages that a list removes, or needs for the build only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removals {
    /// In another step.
    Elsewhere,
    /// At the end of each phase, as in diskimage-builder.
    InEachPhase,
    /// All together, after all elements: a package that one element needs for its build may also be
    /// needed by another.
    AtOnce,
}

impl Share<'_> {
    /// Returns the tasks, in order.
    pub(super) fn tasks(&self) -> Result<Vec<Task>, PlanError> {
        let mut tasks = Vec::new();
        for &phase in self.phases {
            let mut in_phase = self.hook_tasks(phase);
            in_phase.extend(provider_tasks(self.served, phase)?);
            in_phase.extend(self.data_tasks(phase));
            in_phase.extend(self.removal_task(phase)?);
            // A stable sort: of equal names, hooks come before tasks of providers.
            in_phase.sort_by(|a, b| run_parts_order(place_name(a), place_name(b)));
            tasks.extend(in_phase);
        }
        Ok(self.with_index_refresh(tasks))
    }

    fn hook_tasks(&self, phase: Phase) -> Vec<Task> {
        self.hooks(phase).map(|hook| task(phase, hook.name, self.action(&hook))).collect()
    }

    fn action(&self, hook: &Hook<'_>) -> Action {
        let is_native = hook.path() == BOOT_LOADER_HOOK && self.elements.iter().any(|e| is_boot_loader(e));
        if is_native { Action::InstallBootLoader } else { Action::Hook }
    }

    fn hooks(&self, phase: Phase) -> impl Iterator<Item = Hook<'_>> {
        let with_hooks = self.elements.iter().filter(move |element| !is_done_natively(&element.name, phase));
        with_hooks.flat_map(move |element| {
            let taken = move |name: &str| (self.takes)(element, phase, name);
            let hooks = element.chosen_hooks(phase, self.request.settings);
            hooks.into_iter().filter(move |hook| taken(hook.name))
        })
    }

    /// Returns the providers' tasks on data of elements on the host.
    fn data_tasks(&self, phase: Phase) -> Vec<Task> {
        if phase != Phase::ExtraData {
            return Vec::new();
        }
        let mut tasks: Vec<_> = self.served.iter().filter_map(|element| package_map_task(element)).collect();
        let has = |what: &dyn Fn(&Element) -> bool| self.served.iter().any(|element| what(element));
        if has(&|element| element.files.contains_key("svc-map")) {
            tasks.push(task(phase, "11-svc-map", Action::AddServices));
        }
        for (name, dir, provider) in MODULE_SETTINGS {
            if has(&|element| element.has_dir(dir) || element.name.as_str() == provider) {
                tasks.push(task(phase, name, Action::AddModuleSettings(dir.to_owned())));
            }
        }
        let sources = self.served.iter().filter_map(|element| self.request.sources.get(&element.name));
        tasks.extend(sources.flatten().map(|source| {
            let name = format!("98-source-{}", source.request.name.replace('/', "_"));
            task(phase, &name, Action::Place(Box::new(source.clone())))
        }));
        tasks
    }

    fn removal_task(&self, phase: Phase) -> Result<Option<Task>, PlanError> {
        let phases = match self.removals {
            Removals::InEachPhase => vec![phase],
            Removals::AtOnce if phase == Phase::PostInstall => PACKAGE_PHASES.to_vec(),
            Removals::Elsewhere | Removals::AtOnce => Vec::new(),
        };
        if !removes_packages(self.elements, &phases)? {
            return Ok(None);
        }
        let name = match phase {
            Phase::PostInstall => "95-package-uninstalls",
            _ => "99-package-uninstalls",
        };
        Ok(Some(task(phase, name, Action::RemoveUnwanted(phases))))
    }

    /// Adds a refresh of the package indices before tasks that need it.
    fn with_index_refresh(&self, tasks: Vec<Task>) -> Vec<Task> {
        let mut refreshed = false;
        let mut result = Vec::with_capacity(tasks.len() + 2);
        for task in tasks {
            // Pre-install hooks may have changed the package sources.
            refreshed &= result
                .last()
                .is_none_or(|before: &Task| before.phase == task.phase || before.phase != Phase::PreInstall);
            if !refreshed && self.needs_index(&task) {
                result.push(self::task(task.phase, REFRESH, Action::RefreshIndex));
                refreshed = true;
            }
            result.push(task);
        }
        result
    }

    fn needs_index(&self, task: &Task) -> bool {
        match &task.action {
            Action::Install(_) | Action::InstallRequested | Action::InstallBootPackages => true,
            Action::Hook => {
                // A refresh needs a mirror. Hooks that mention no package manager should also run
                // without one.
                let mut hooks = self.hooks(task.phase).filter(|hook| hook.name == task.name);
                hooks.any(|hook| hook.file.text.as_deref().is_some_and(mentions_package_manager))
            }
            _ => false,
        }
    }
}

/// Returns the name that determines the position of a task. Sources keep the order of their
/// requests, because one may go into a directory that another creates.
fn place_name(task: &Task) -> &str {
    match task.action {
        Action::Place(_) => "98-source-repositories",
        _ => &task.name,
    }
}

fn mentions_package_manager(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    ["apt", "install-packages"].iter().any(|word| text.contains(word))
}

/// Returns the providers' tasks for `elements` in a phase.
fn provider_tasks(elements: &[Arc<Element>], phase: Phase) -> Result<Vec<Task>, PlanError> {
    let mut tasks = Vec::new();
    if asks_for_packages(elements, phase)? {
        let name = match phase {
            Phase::PreInstall => "10-package-installs",
            Phase::Install => "01-package-installs",
            _ => "00-package-installs",
        };
        tasks.push(task(phase, name, Action::InstallRequested));
    }
    if phase == Phase::Install && elements.iter().any(|element| is_boot_loader(element)) {
        tasks.push(task(phase, "50-bootloader-packages", Action::InstallBootPackages));
    }
    let has_dir = |dir: &str| elements.iter().any(|element| element.has_dir(dir));
    if phase == Phase::PreInstall && has_dir("bin") {
        tasks.push(task(phase, "01-install-bin", copy("bin", "/usr/local/bin", CopyModes::Executable)));
    }
    if phase == Phase::Install && has_dir("static") {
        tasks.push(task(phase, "10-install-static", copy("static", "/", CopyModes::Keep)));
    }
    if phase == Phase::Install && has_dir("init-scripts") {
        tasks.push(task(phase, "20-install-init-scripts", Action::InstallInitScripts));
    }
    Ok(tasks)
}

fn package_map_task(element: &Element) -> Option<Task> {
    let text = String::from_utf8_lossy(element.text("pkg-map")?).into_owned();
    let to = format!("/usr/share/pkg-map/{}", element.name);
    Some(task(Phase::ExtraData, &format!("10-pkg-map-{}", element.name), Action::Write { to, text }))
}

fn asks_for_packages(elements: &[Arc<Element>], phase: Phase) -> Result<bool, PlanError> {
    let mut asks = false;
    for element in elements {
        let list = package_list(element)?;
        asks |= list.0.iter().any(|entry| entry.phase == phase && entry.action != PackageAction::Uninstall);
    }
    Ok(asks)
}

fn removes_packages(elements: &[Arc<Element>], phases: &[Phase]) -> Result<bool, PlanError> {
    let mut removes = false;
    for element in elements {
        let list = package_list(element)?;
        removes |= list
            .0
            .iter()
            .any(|entry| phases.contains(&entry.phase) && entry.action != PackageAction::Install);
    }
    Ok(removes)
}

fn package_list(element: &Element) -> Result<PackageList, PlanError> {
    element.package_list().map_err(unusable(element))
}

fn unusable<E: Into<PackageDataError>>(element: &Element) -> impl Fn(E) -> PlanError {
    move |error| PlanError::Packages { element: element.name.clone(), source: error.into() }
}

/// Parses the data of elements that providers read during the build.
///
/// # Errors
/// [`PlanError::Packages`], before anything is built.
pub(super) fn check_data(elements: &[Arc<Element>]) -> Result<(), PlanError> {
    let mut services = ServiceMap::default();
    for element in elements {
        package_list(element)?;
        element.package_map().map_err(unusable(element))?;
        if let Some(names) = element.service_names().map_err(unusable(element))? {
            services.add(&element.name, &names, Distribution::new("", "")).map_err(unusable(element))?;
        }
    }
    Ok(())
}

/// Returns the tasks that install the packages of the image definition.
pub(super) fn extra_packages(names: &[String]) -> Vec<Task> {
    if names.is_empty() {
        return Vec::new();
    }
    vec![
        task(Phase::Install, REFRESH, Action::RefreshIndex),
        task(Phase::Install, "packages", Action::Install(names.to_vec())),
    ]
}

pub(super) fn task(phase: Phase, name: &str, action: Action) -> Task {
    Task { phase, name: name.to_owned(), action }
}

fn copy(from: &str, to: &str, modes: CopyModes) -> Action {
    Action::Copy { from: from.to_owned(), to: to.to_owned(), modes }
}

#[cfg(test)]
mod tests {
    use crate::element::fixture::{Builder, element};
    use crate::plan::Plan;
    use crate::plan::fixture::{Image, tasks};

    fn plan(elements: Vec<Builder>) -> Plan {
        let elements = elements.into_iter().map(Builder::build).collect();
        Image { elements, ..Image::bare() }.plan()
    }

    fn lines(plan: &Plan, step: &str) -> Vec<String> {
        tasks(plan, step).list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn provider_tasks_are_ordered_among_hooks_by_number() {
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
                    "install.d/20-install-init-scripts install init scripts",
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
    fn an_element_that_does_nothing_has_no_step() {
        let plan = plan(vec![element("empty").file("environment.d/10-x", "export DIB_X=1")]);
        assert_eq!(plan.steps.len(), 1);
    }

    #[test]
    fn packages_are_removed_late_and_only_if_a_list_says_so() {
        let removal = "post-install.d/95-package-uninstalls remove unwanted packages of pre-install.d install.d post-install.d";
        for (list, expected) in [
            ("a:\n", None),
            ("a: { build-only: true }\n", Some(removal)),
            ("a: { uninstall: true }\n", Some(removal)),
        ] {
            let listing = element("listing").file("package-installs.yaml", list);
            let above = element("above").hook("install.d/10-x", "");
            let plan = plan(vec![listing, above]);
            let last = plan.steps.last().unwrap();
            assert_eq!(last.name == "image:late", expected.is_some(), "{list}");
            if let Some(expected) = expected {
                assert_eq!(lines(&plan, "image:late"), [expected]);
            }
        }
    }

    #[test]
    fn packages_of_the_image_come_after_those_of_elements() {
        let plan = Image { packages: vec!["vim".to_owned(), "git".to_owned()], ..Image::bare() }.plan();
        assert_eq!(
            lines(&plan, "image:packages"),
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
            lines(&plan, "image:final"),
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
