//! One step's tasks on an open root.
//!
//! For each phase, a shell of its own sources the environment.d files in the view of the phase.
//! Then each task runs as one job with the resulting environment. dib-run-parts does the same,
//! without a sandbox around each hook.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::boot_menu::menu_argv;
use super::command::{Command, command};
use super::disk_under_hooks::DiskUnderHooks;
use super::error::{HookFailure, Outcome};
use super::evidence::{Language, Witness};
use super::facts::{HOOKS_IN_TARGET, HOOKS_ON_HOST, facts};
use super::job::JobRun;
use super::places::Places;
use super::{BuildError, added};
use crate::disk::Layout;
use crate::distro::{PackageManager, apt, base_environment};
use crate::element::{
    Environment, PROVIDER_DATA, Phase, PhaseClass, Place, environment_argv, environment_order, is_pure_shell,
    is_source_list, run_parts_order,
};
use crate::plan::{Action, Evidence, INSTALL_TYPE_FRAGMENT, StepName, Task, Tasks};
use crate::port::{
    CacheMount, Event, Exit, IndexState, Job, LeftState, Moment, Network, PackageError, PackageSession,
    Refresh, Root, View,
};

/// The name of the job that sources the fragments of `environment.d`.
const ENVIRONMENT: &str = Event::ENVIRONMENT;

/// The default install type, which [`INSTALL_TYPE_FRAGMENT`] sets.
const INSTALL_TYPE: &str = "DIB_DEFAULT_INSTALLTYPE";

/// apt's exit status if it fails.
const APT_FAILED: i32 = 100;

/// Runs on the build host, because an image may have no program.
const FIRST_BOOT: &str = include_str!("first-boot.sh");

/// Runs the tasks of one step.
pub(super) struct StepRun<'a> {
    pub(super) jobs: JobRun<'a>,
    pub(super) tasks: &'a Tasks,
    pub(super) source_date_epoch: i64,
    /// Installs packages that are requested in lists.
    pub(super) manager: PackageManager,
    pub(super) places: Places,
    /// The caches that hooks of lower steps have mounted.
    pub(super) below: Vec<CacheMount>,
    pub(super) packages: Box<dyn PackageSession + 'a>,
    pub(super) witness: Witness<'a>,
    /// The disk with `/`, in the final stage of a disk.
    pub(super) disk: Option<DiskUnderHooks<'a>>,
}

impl StepRun<'_> {
    /// Runs all tasks on `root`, in order, and the hooks that other hooks have added. Then updates
    /// the initramfs if any of them requested it.
    pub(super) fn run(&self, root: &dyn Root) -> Result<(), BuildError> {
        if *self.jobs.step == StepName::Final {
            // Before the tasks: they empty `/tmp`, which has the files to warn about.
            self.warn_of_ignored(root)?;
        }
        for phase in self.phases() {
            let added = self.added_hooks(phase)?;
            let tasks = with_added(&self.tasks.list, phase, &added);
            if !tasks.is_empty() || self.has_added_data(root, phase)? {
                self.run_phase(root, phase, &tasks)?;
                self.jobs.ports.hooks.forget_hooks(phase, &added, root.path())?;
            }
        }
        if *self.jobs.step != StepName::Final {
            self.warn_of_ignored(root)?;
        }
        self.make_initramfs(root)?;
        if *self.jobs.step == StepName::Final { self.prepare_first_boot(root) } else { Ok(()) }
    }

    /// Runs all tasks that precede a hook. The root then has the state that the hook starts from.
    ///
    /// # Errors
    /// [`BuildError::NoSuchHook`] if the step has no such hook.
    pub(super) fn run_before(&self, root: &dyn Root, phase: Phase, hook: &str) -> Result<(), BuildError> {
        for earlier in self.phases().into_iter().filter(|earlier| *earlier <= phase) {
            let added = self.added_hooks(earlier)?;
            let tasks = with_added(&self.tasks.list, earlier, &added);
            if earlier == phase {
                let place = tasks.iter().position(|task| task.name == hook);
                let place = place.ok_or_else(|| self.no_such_hook(phase, hook))?;
                return match &tasks[..place] {
                    [] => Ok(()),
                    before => self.run_phase(root, phase, before),
                };
            }
            if !tasks.is_empty() || self.has_added_data(root, earlier)? {
                self.run_phase(root, earlier, &tasks)?;
                self.jobs.ports.hooks.forget_hooks(earlier, &added, root.path())?;
            }
        }
        Err(self.no_such_hook(phase, hook))
    }

    fn no_such_hook(&self, phase: Phase, hook: &str) -> BuildError {
        BuildError::NoSuchHook {
            step: self.jobs.step.to_owned(),
            hook: format!("{phase}/{hook}"),
            known: self.tasks.list.iter().map(|task| format!("{}/{}", task.phase, task.name)).collect(),
        }
    }

    /// Returns the phases that have something to do, in their order.
    fn phases(&self) -> BTreeSet<Phase> {
        let planned = self.tasks.list.iter().map(|task| task.phase);
        planned.chain(self.tasks.phases.iter().copied()).collect()
    }

    /// Adds the units that create, at first boot, the files that capture rules keep out of images:
    /// see `docs/normalization.md`.
    fn prepare_first_boot(&self, root: &dyn Root) -> Result<(), BuildError> {
        const TASK: &str = "first-boot";
        let argv = ["sh", "-euc", FIRST_BOOT, TASK].map(str::to_owned).to_vec();
        self.capture(root, View::HostBare, TASK, argv).map(drop)
    }

    fn added_hooks(&self, phase: Phase) -> Result<Vec<String>, BuildError> {
        if !self.tasks.phases.contains(&phase) {
            return Ok(Vec::new());
        }
        Ok(self.jobs.ports.hooks.added_hooks(self.tasks, phase, self.places.left().hooks)?)
    }

    fn has_added_data(&self, root: &dyn Root, phase: Phase) -> Result<bool, BuildError> {
        if !self.tasks.phases.contains(&phase) {
            return Ok(false);
        }
        let is_for_phase = |path: &String| match phase {
            Phase::ExtraData => is_source_list(path),
            _ => added::is_for(phase, path),
        };
        Ok(self.added_data(root)?.iter().any(is_for_phase))
    }

    fn run_phase(&self, root: &dyn Root, phase: Phase, tasks: &[Task]) -> Result<(), BuildError> {
        let environment = self.environment(root, phase)?;
        self.pause(root, Moment::Before(phase), &environment, None)?;
        let done = self.run_tasks(root, phase, tasks, &environment);
        let moment = if done.is_ok() { Moment::After(phase) } else { Moment::Failed(phase) };
        let failure = done.as_ref().err().map(ToString::to_string);
        self.pause(root, moment, &environment, failure.as_deref())?;
        done?;
        // No step follows the final stage that could use files of its hooks.
        let is_taken_over = phase.place() == Place::Host && phase.class() == PhaseClass::Layer;
        if is_taken_over && tasks.iter().any(|task| task.action == Action::Hook) {
            let mounts = self.mounts(root);
            self.jobs.ports.hooks.hand_over(self.tasks, &mounts, self.places.left(), root.path())?;
        }
        Ok(())
    }

    /// Runs the tasks of a phase, and plywood's own tasks for data that hooks have added, ordered
    /// by their numbers.
    fn run_tasks(
        &self,
        root: &dyn Root,
        phase: Phase,
        tasks: &[Task],
        environment: &Environment,
    ) -> Result<(), BuildError> {
        let mut all = tasks.to_vec();
        if self.tasks.phases.contains(&phase) {
            let data = self.added_data(root)?;
            added::tasks(phase, tasks, &data, environment)
                .into_iter()
                .rev()
                .for_each(|task| insert(&mut all, task));
        }
        let after_sources = |task: &Task| run_parts_order(&task.name, added::SOURCES) == Ordering::Greater;
        let sources = all.iter().position(after_sources).unwrap_or(all.len());
        for (place, task) in all.iter().enumerate() {
            if place == sources && phase == Phase::ExtraData {
                self.place_added(root, environment)?;
            }
            self.run_task(root, task, environment)?;
        }
        if sources == all.len() && phase == Phase::ExtraData {
            self.place_added(root, environment)?;
        }
        self.note_acted(root, phase)
    }

    /// Fetches the sources that hooks have requested in this phase or before, and puts them into
    /// the image.
    fn place_added(&self, root: &dyn Root, environment: &Environment) -> Result<(), BuildError> {
        let data = self.added_data(root)?;
        let lists: Vec<_> = data.into_iter().filter(|path| is_source_list(path)).collect();
        for list in &lists {
            let path = self.places.left().hooks.join(list);
            for source in self.jobs.ports.sources.fetch(&path, environment)? {
                let name = format!("98-source-{}", source.request.name.replace('/', "_"));
                let action = Action::Place(Box::new(source));
                self.run_task(root, &Task { phase: Phase::ExtraData, name, action }, environment)?;
            }
        }
        Ok(self.jobs.ports.hooks.note_acted(&lists, root.path())?)
    }

    /// Returns the files in the hooks directory that plywood has not processed yet.
    fn added_data(&self, root: &dyn Root) -> Result<Vec<String>, BuildError> {
        Ok(self.jobs.ports.hooks.added_data(self.tasks, self.places.left().hooks, root.path())?)
    }

    /// Records that plywood has processed the files that hooks have added for this phase.
    fn note_acted(&self, root: &dyn Root, phase: Phase) -> Result<(), BuildError> {
        let acted: Vec<_> =
            self.added_data(root)?.into_iter().filter(|path| added::is_for(phase, path)).collect();
        Ok(self.jobs.ports.hooks.note_acted(&acted, root.path())?)
    }

    /// Warns about files in the hooks directory that have no effect. Warns once, in the step in
    /// which that is certain.
    fn warn_of_ignored(&self, root: &dyn Root) -> Result<(), BuildError> {
        let is_final = *self.jobs.step == StepName::Final;
        let mut ignored = self.added_data(root)?;
        ignored.retain(|path| is_final || PROVIDER_DATA.contains(&path.as_str()));
        for path in &ignored {
            let reason = match PROVIDER_DATA.contains(&path.as_str()) {
                true => "such files count in elements alone, as with diskimage-builder",
                false => "the phase that would act on it was over, or the image has no hooks in it",
            };
            let message =
                format!("step `{}`: a hook put `{path}` into the hooks directory: {reason}", self.jobs.step);
            self.jobs.ports.events.emit(Event::Warning { message: &message });
        }
        match is_final {
            true => Ok(()),
            false => Ok(self.jobs.ports.hooks.note_acted(&ignored, root.path())?),
        }
    }

    fn pause(
        &self,
        root: &dyn Root,
        moment: Moment,
        environment: &Environment,
        failure: Option<&str>,
    ) -> Result<(), BuildError> {
        let Some(breaks) = self.jobs.ports.breaks else { return Ok(()) };
        let job = self.job(root, View::Target, vec!["bash".to_owned()], environment.clone())?;
        Ok(breaks.reached(moment, root, job, failure)?)
    }

    /// Returns the caches that hooks have mounted into the target, in lower steps and in this one,
    /// without those that package operations replace by their own mounts.
    fn mounts(&self, root: &dyn Root) -> Vec<CacheMount> {
        let mut mounts = self.below.clone();
        mounts.extend(root.cache_mounts().into_iter().filter(|mount| !self.below.contains(mount)));
        mounts.retain(|mount| !self.packages.serves(&mount.target));
        mounts
    }

    /// Updates the initramfs if any task requested it. In diskimage-builder, each package updates
    /// it again.
    fn make_initramfs(&self, root: &dyn Root) -> Result<(), BuildError> {
        const TASK: &str = "make-initramfs";
        if !self.packages.take_initramfs_request() {
            return Ok(());
        }
        let phase = Phase::PostInstall;
        let argv = apt::make_initramfs();
        let job = self.job(root, View::Target, argv, self.start_environment(phase))?;
        let outcome = self.jobs.perform(root, &job, phase.dir(), TASK)?;
        outcome.success().map_err(|outcome| self.jobs.task_failed(TASK, outcome))
    }

    /// Runs one of plywood's own commands and returns its output.
    pub(super) fn capture(
        &self,
        root: &dyn Root,
        view: View,
        task: &str,
        argv: Vec<String>,
    ) -> Result<Vec<u8>, BuildError> {
        let phase = Phase::Finalise;
        // Without the caches that hooks have mounted: their mount points would stay in the image.
        let job = self.job_without_mounts(root, view, argv, self.start_environment(phase))?;
        self.jobs.capture(root, &job, phase, task)
    }

    /// Runs a command on the caller's terminal, in the view and the environment of the hooks of
    /// `phase`.
    pub(super) fn interactive(
        &self,
        root: &dyn Root,
        phase: Phase,
        argv: Vec<String>,
    ) -> Result<Exit, BuildError> {
        let environment = self.environment(root, phase)?;
        let job = self.job(root, view_of(phase), argv, environment)?;
        Ok(root.run_interactive(&job)?)
    }

    /// Shares new downloads with later builds. Returns the evidence of the host files that hooks
    /// read; `None` if no hook ran on the host.
    pub(super) fn close(self) -> Result<Option<Evidence>, BuildError> {
        self.packages.close()?;
        Ok(self.witness.conclude())
    }

    fn run_task(&self, root: &dyn Root, task: &Task, environment: &Environment) -> Result<(), BuildError> {
        if task.action == Action::Hook {
            return self.run_hook(root, task, environment);
        }
        if task.action == Action::InstallBootLoader {
            let disk = self.disk.as_ref();
            return disk.map_or(Ok(()), |disk| self.write_boot_menu(root, task, disk.layout, environment));
        }
        if task.action == Action::RefreshIndex {
            return self.refresh_index(root, task, environment);
        }
        let Some(Command { argv, view, bind }) = command(task, self.tasks, environment, self.manager)? else {
            return Ok(());
        };
        let mut job = match task.phase {
            // What hooks of the final stage have mounted is nothing to clean up.
            Phase::Cleanup => self.job_without_mounts(root, view, argv, environment.clone())?,
            _ => self.job(root, view, argv, environment.clone())?,
        };
        job.binds.extend(bind);
        self.require_downloads(root, &job, task)?;
        let outcome = self.jobs.perform(root, &job, task.phase.dir(), &task.name)?;
        outcome.success().map_err(|outcome| self.jobs.task_failed(&task.name, outcome))
    }

    /// Fetches the package indices if they are stale. The job has no mounts of hooks, because files
    /// of hooks must not get into the indices that builds share.
    fn refresh_index(
        &self,
        root: &dyn Root,
        task: &Task,
        environment: &Environment,
    ) -> Result<(), BuildError> {
        match self.packages.prepare_index(root.path())? {
            IndexState::Fresh => return Ok(()),
            IndexState::Kept => {
                self.tell_of_kept_indices();
                return Ok(());
            }
            IndexState::Stale => {}
        }
        let mut env = environment.clone();
        env.extend(self.packages.environment(task.phase.place()));
        let Refresh { argv, mut binds } = self.packages.refresh(root.path())?;
        // The files of an element may include package sources.
        binds.extend(self.places.binds(View::Target));
        let job = Job {
            argv,
            env,
            cwd: "/".to_owned(),
            view: View::Target,
            binds,
            network: Network::Host,
            traced: false,
            tools: None,
        };
        let mut outcome = self.jobs.perform(root, &job, task.phase.dir(), &task.name)?;
        // In images without a base, elements choose the settings of apt.
        if self.manager == PackageManager::Apt && apt::left_old_indices(&outcome.tail) {
            outcome.exit = Exit::Status(APT_FAILED);
        }
        match outcome.success() {
            Ok(()) => Ok(self.packages.index_refreshed(root.path())?),
            Err(_) if self.packages.use_kept_indices(root.path())? => {
                self.tell_of_kept_indices();
                Ok(())
            }
            Err(outcome) => Err(self.jobs.task_failed(&task.name, outcome)),
        }
    }

    fn tell_of_kept_indices(&self) {
        let message = format!(
            "step `{}`: package indices are those of an earlier build, as this build or machine is offline",
            self.jobs.step
        );
        self.jobs.ports.events.emit(Event::Warning { message: &message });
    }

    /// Fails with the names of the packages that a run of apt would have to download, if this build
    /// is offline.
    fn require_downloads(&self, root: &dyn Root, job: &Job, task: &Task) -> Result<(), BuildError> {
        if !self.packages.is_offline() || job.argv.first().is_none_or(|program| program != "apt-get") {
            return Ok(());
        }
        let mut job = job.clone();
        job.argv.extend(["--print-uris", "--quiet=2"].map(str::to_owned));
        let printed = self.jobs.capture(root, &job, task.phase, &task.name)?;
        let files = apt::files_to_download(&String::from_utf8_lossy(&printed));
        if files.is_empty() { Ok(()) } else { Err(PackageError::NotDownloaded { files }.into()) }
    }

    fn write_boot_menu(
        &self,
        root: &dyn Root,
        task: &Task,
        layout: &Layout,
        environment: &Environment,
    ) -> Result<(), BuildError> {
        let job = self.job(root, View::Target, menu_argv(layout), environment.clone())?;
        let outcome = self.jobs.perform(root, &job, task.phase.dir(), &task.name)?;
        outcome.success().map_err(|outcome| self.jobs.task_failed(&task.name, outcome))
    }

    fn run_hook(&self, root: &dyn Root, task: &Task, environment: &Environment) -> Result<(), BuildError> {
        let hook = format!("{}/{}/{}", hooks_path(task.phase.place()), task.phase, task.name);
        let path = format!("{}/{}", task.phase, task.name);
        let mut job = self.job(root, view_of(task.phase), vec![hook], environment.clone())?;
        let texts: Vec<_> = self.tasks.texts_around(&path).collect();
        self.trace(&mut job, &path, &texts, Language::Any);
        let before = self.unclaimed();
        let outcome = self.jobs.perform(root, &job, task.phase.dir(), &task.name)?;
        self.witness.end(&path, root.take_host_opens());
        self.warn_of_lost(&path, &before);
        outcome.success().map_err(|outcome| self.hook_failed(task, outcome))
    }

    fn unclaimed(&self) -> BTreeSet<LeftState> {
        match self.places.lost() {
            Some(left) if matches!(self.jobs.step, StepName::Final) => {
                self.jobs.ports.hooks.left_states(left)
            }
            // Layers keep the files of all other steps.
            _ => BTreeSet::new(),
        }
    }

    /// Warns about files that a hook of the final stage has left beside the image. They get neither
    /// into a layer nor into a directory of the caller.
    fn warn_of_lost(&self, hook: &str, before: &BTreeSet<LeftState>) {
        let after = self.unclaimed();
        let lost: Vec<_> =
            after.difference(before).map(|left| format!("`{}`", left.path.display())).collect();
        if !lost.is_empty() {
            let message = format!(
                "hook `{hook}` left {} beside the image, which `plywood build` does not keep: hooks up to \
                 `post-root.d` can leave files there, and with `disk-image-create` all can",
                lost.join(", ")
            );
            self.jobs.ports.events.emit(Event::Warning { message: &message });
        }
    }

    /// Returns the environment of a phase's tasks: the variables after sourcing the environment.d
    /// files.
    pub(super) fn environment(&self, root: &dyn Root, phase: Phase) -> Result<Environment, BuildError> {
        let mut start = self.start_environment(phase);
        let added = self.jobs.ports.hooks.added_fragments(self.tasks, self.places.left().hooks)?;
        if self.tasks.fragments.is_empty() && added.is_empty() {
            if phase != Phase::Root {
                start.entry(INSTALL_TYPE.to_owned()).or_insert_with(|| "source".to_owned());
            }
            return Ok(start);
        }
        // Fragments that hooks have added are not among the texts below, and may hold anything that
        // these hooks have read.
        let is_known = added.is_empty();
        let hooks = hooks_path(phase.place());
        let fragments = self.fragments(phase, added).map(|name| format!("{hooks}/environment.d/{name}"));
        let mut job = self.job(root, view_of(phase), environment_argv(fragments), start)?;
        let paths = self.tasks.hooks.iter().filter(|(path, _)| path.starts_with("environment.d/"));
        let texts: Vec<_> = paths.filter_map(|(path, element)| element.text(path)).collect();
        let is_pure = |text: &&[u8]| is_pure_shell(&String::from_utf8_lossy(text));
        let language =
            if is_known && texts.iter().all(is_pure) { Language::PureShell } else { Language::Any };
        self.trace(&mut job, ENVIRONMENT, &texts, language);
        let environment = self.jobs.source_environment(root, &job, phase);
        self.witness.end(ENVIRONMENT, root.take_host_opens());
        environment
    }

    /// Records the host files that `job` reads if it runs on the host. It is the job of `hook`,
    /// with these texts. Jobs on a disk are not traced, because no record describes a disk.
    fn trace(&self, job: &mut Job, hook: &str, texts: &[&[u8]], language: Language) {
        if job.view != View::Target && self.disk.is_none() {
            job.traced = true;
            self.witness.begin(hook, texts, language);
        }
    }

    /// Returns the names of the fragments that are sourced before a phase, in order.
    fn fragments(&self, phase: Phase, added: Vec<String>) -> impl Iterator<Item = String> {
        let install_type = (phase != Phase::Root).then(|| INSTALL_TYPE_FRAGMENT.to_owned());
        let mut names: Vec<_> =
            self.tasks.fragments.iter().cloned().chain(added).chain(install_type).collect();
        names.sort_by(|a, b| environment_order(a, b));
        names.into_iter()
    }

    fn start_environment(&self, phase: Phase) -> Environment {
        let mut environment = base_environment(self.source_date_epoch);
        environment.extend(facts(phase, self.manager));
        environment.extend(self.packages.environment(phase.place()));
        environment.extend(self.tasks.environment.clone());
        // As in diskimage-builder, which makes the disk before its final phases.
        let disk = self.disk.as_ref().filter(|_| phase.class() == PhaseClass::Final);
        environment.extend(disk.map(DiskUnderHooks::variables).unwrap_or_default());
        environment
    }

    fn job(
        &self,
        root: &dyn Root,
        view: View,
        argv: Vec<String>,
        env: Environment,
    ) -> Result<Job, BuildError> {
        let mut job = self.job_without_mounts(root, view, argv, env)?;
        job.binds.extend(self.mounts(root).iter().map(|mount| self.places.cache_bind(mount, view)));
        Ok(job)
    }

    /// Returns a job that does not see the caches that hooks have mounted.
    fn job_without_mounts(
        &self,
        root: &dyn Root,
        view: View,
        argv: Vec<String>,
        env: Environment,
    ) -> Result<Job, BuildError> {
        let mut binds = match view {
            View::Target => self.packages.binds(root.path())?,
            View::Host | View::HostBare => self.packages.network_binds(),
        };
        binds.extend(self.places.binds(view));
        binds.extend(self.disk.iter().flat_map(DiskUnderHooks::binds));
        if view != View::Target {
            binds.extend(self.places.machine_binds(self.tasks));
        }
        let cwd = self.places.working_directory(view);
        Ok(Job { argv, env, cwd, view, binds, network: Network::Host, traced: false, tools: None })
    }

    fn hook_failed(&self, task: &Task, outcome: Outcome) -> BuildError {
        let path = format!("{}/{}", task.phase, task.name);
        let owner = self.tasks.hooks.get(&path);
        BuildError::HookFailed(Box::new(HookFailure {
            image: self.jobs.image.to_owned(),
            step: self.jobs.step.to_owned(),
            element: owner.map_or_else(|| self.jobs.step.to_string(), |element| element.name.to_string()),
            phase: task.phase,
            hook: task.name.clone(),
            outcome,
        }))
    }
}

/// Returns the tasks of a phase, with these hooks among them by their numbers.
fn with_added(planned: &[Task], phase: Phase, added: &[String]) -> Vec<Task> {
    let mut tasks: Vec<_> = planned.iter().filter(|task| task.phase == phase).cloned().collect();
    for name in added {
        insert(&mut tasks, Task { phase, name: name.clone(), action: Action::Hook });
    }
    tasks
}

/// Puts a task among others of its phase by its number.
fn insert(tasks: &mut Vec<Task>, task: Task) {
    // Other names stand where they do for another reason.
    let is_numbered =
        |task: &Task| task.action == Action::Hook || task.name.starts_with(|c: char| c.is_ascii_digit());
    let before =
        |other: &Task| is_numbered(other) && run_parts_order(&other.name, &task.name) == Ordering::Less;
    let place = tasks.iter().rposition(before).map_or(0, |last| last + 1);
    tasks.insert(place, task);
}

/// Returns the view of the hooks of a phase.
const fn view_of(phase: Phase) -> View {
    match (phase, phase.place()) {
        (Phase::Root, _) => View::HostBare,
        (_, Place::Host) => View::Host,
        (_, Place::Target) => View::Target,
    }
}

const fn hooks_path(place: Place) -> &'static str {
    match place {
        Place::Host => HOOKS_ON_HOST,
        Place::Target => HOOKS_IN_TARGET,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_hooks_stand_among_the_others_by_their_numbers() {
        let task = |name: &str, action: Action| Task { phase: Phase::Install, name: name.to_owned(), action };
        let planned = [
            task("refresh-package-index", Action::RefreshIndex),
            task("01-package-installs", Action::InstallRequested),
            task("nonum", Action::Hook),
            task("50-web", Action::Hook),
            task("packages", Action::Install(Vec::new())),
        ];
        let added = ["00-first", "10-x", "60-x"].map(str::to_owned);
        let tasks = with_added(&planned, Phase::Install, &added);
        let names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
        let expected = ["00-first", "refresh-package-index", "01-package-installs", "nonum"];
        assert_eq!(names[..4], expected);
        assert_eq!(names[4..], ["10-x", "50-web", "60-x", "packages"]);
        assert!(with_added(&planned, Phase::PostInstall, &[]).is_empty());
    }
}
