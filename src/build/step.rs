//! One step's tasks on an open root.
//!
//! Per phase: the environment.d files are sourced, where the phase runs, by a shell of its own; then each task runs as
//! one job with the environment they left. That is what dib-run-parts does, with a sandbox around every hook.

use std::path::{Path, PathBuf};

use super::BuildError;
use super::command::{Command, command};
use super::error::{HookFailure, Outcome};
use super::facts::{HOOKS_ON_HOST, IMAGE_DIR_ON_HOST, facts};
use super::job::JobRun;
use crate::distro::{apt, apt::Choices, base_environment};
use crate::element::{Environment, Phase, Place, environment_argv};
use crate::plan::{Action, ELEMENTS_ON_HOST, Task, Tasks};
use crate::port::{Access, Bind, Exit, Job, Network, PackageSession, Root, View};

/// Where hooks in the target find the hooks directory.
pub(super) const HOOKS_IN_TARGET: &str = View::Target.hooks();

/// Runs the tasks of one step.
pub(super) struct StepRun<'a> {
    pub(super) jobs: JobRun<'a>,
    pub(super) tasks: &'a Tasks,
    pub(super) source_date_epoch: i64,
    /// Whose choices hold for packages.
    pub(super) choices: Choices,
    pub(super) places: Places,
    pub(super) packages: Box<dyn PackageSession + 'a>,
}

/// Directories of the machine that hooks see.
pub(super) struct Places {
    /// The hooks directory, and below `elements` whole elements; filled by [`crate::port::HookFiles`].
    pub(super) hooks: PathBuf,
    pub(super) elements: PathBuf,
    /// For what hooks on the host leave beside the image.
    pub(super) image: PathBuf,
    /// Kept between builds.
    pub(super) cache: PathBuf,
}

impl Places {
    fn binds(&self, view: View) -> Vec<Bind> {
        let bind = |source: &PathBuf, target: &str, access| Bind {
            source: source.clone(),
            target: target.to_owned(),
            access,
        };
        match view {
            View::Target => vec![bind(&self.hooks, HOOKS_IN_TARGET, Access::ReadOnly)],
            // Hooks on the host leave files in the hooks directory for those in the target.
            View::Host | View::HostBare => vec![
                bind(&self.hooks, HOOKS_ON_HOST, Access::ReadWrite),
                bind(&self.elements, ELEMENTS_ON_HOST, Access::ReadOnly),
                bind(&self.image, IMAGE_DIR_ON_HOST, Access::ReadWrite),
                bind(&self.cache, View::CACHE, Access::ReadWrite),
            ],
        }
    }
}

impl StepRun<'_> {
    /// Runs all tasks, in order, on `root`; then makes the initramfs again if any of them asked for it.
    pub(super) fn run(&self, root: &dyn Root) -> Result<(), BuildError> {
        for tasks in self.tasks.list.chunk_by(|a, b| a.phase == b.phase) {
            let phase = tasks[0].phase;
            let environment = self.environment(root, phase)?;
            for task in tasks {
                self.run_task(root, task, &environment)?;
            }
        }
        self.make_initramfs(root)
    }

    /// Makes the initramfs once, if any task asked for it: in diskimage-builder every package does that again.
    fn make_initramfs(&self, root: &dyn Root) -> Result<(), BuildError> {
        const TASK: &str = "make-initramfs";
        if !self.packages.take_initramfs_request() {
            return Ok(());
        }
        let phase = Phase::PostInstall;
        let argv = apt::make_initramfs();
        let job = self.job(root.path(), View::Target, argv, self.start_environment(phase))?;
        let outcome = self.jobs.perform(root, &job, phase.dir(), TASK)?;
        outcome.success().map_err(|outcome| self.jobs.task_failed(TASK, outcome))
    }

    /// Runs a command of plywood's own in the target and returns what it prints.
    pub(super) fn capture(
        &self,
        root: &dyn Root,
        task: &str,
        argv: Vec<String>,
    ) -> Result<Vec<u8>, BuildError> {
        let phase = Phase::Finalise;
        let job = self.job(root.path(), View::Target, argv, self.start_environment(phase))?;
        self.jobs.capture(root, &job, phase, task)
    }

    /// Runs a command in the target on the caller's terminal, with the environment of `phase`.
    pub(super) fn interactive(
        &self,
        root: &dyn Root,
        phase: Phase,
        argv: Vec<String>,
    ) -> Result<Exit, BuildError> {
        let environment = self.environment(root, phase)?;
        let job = self.job(root.path(), View::Target, argv, environment)?;
        Ok(root.run_interactive(&job)?)
    }

    /// Hands new downloads to later builds.
    pub(super) fn close(self) -> Result<(), BuildError> {
        Ok(self.packages.close()?)
    }

    fn run_task(&self, root: &dyn Root, task: &Task, environment: &Environment) -> Result<(), BuildError> {
        if task.action == Action::Hook {
            return self.run_hook(root, task, environment);
        }
        if task.action == Action::RefreshIndex && !self.packages.is_index_stale(root.path())? {
            return Ok(());
        }
        let Some(Command { argv, view, bind }) = command(task, self.tasks, environment, self.choices)? else {
            return Ok(());
        };
        let mut job = self.job(root.path(), view, argv, environment.clone())?;
        job.binds.extend(bind);
        let outcome = self.jobs.perform(root, &job, task.phase.dir(), &task.name)?;
        outcome.success().map_err(|outcome| self.jobs.task_failed(&task.name, outcome))?;
        if task.action == Action::RefreshIndex {
            self.packages.index_refreshed(root.path())?;
        }
        Ok(())
    }

    fn run_hook(&self, root: &dyn Root, task: &Task, environment: &Environment) -> Result<(), BuildError> {
        let hook = format!("{}/{}/{}", hooks_path(task.phase.place()), task.phase, task.name);
        let job = self.job(root.path(), view_of(task.phase), vec![hook], environment.clone())?;
        let outcome = self.jobs.perform(root, &job, task.phase.dir(), &task.name)?;
        outcome.success().map_err(|outcome| self.hook_failed(task, outcome))
    }

    /// Returns the environment that a phase's tasks have: what is left after sourcing the environment.d files.
    pub(super) fn environment(&self, root: &dyn Root, phase: Phase) -> Result<Environment, BuildError> {
        let start = self.start_environment(phase);
        if self.tasks.fragments.is_empty() {
            return Ok(start);
        }
        let hooks = hooks_path(phase.place());
        let fragments = self.tasks.fragments.iter().map(|f| format!("{hooks}/environment.d/{f}"));
        let job = self.job(root.path(), view_of(phase), environment_argv(fragments), start)?;
        self.jobs.source_environment(root, &job, phase)
    }

    fn start_environment(&self, phase: Phase) -> Environment {
        let mut environment = base_environment(self.source_date_epoch);
        environment.extend(facts(phase, self.choices));
        environment.extend(self.packages.environment(phase.place()));
        environment.extend(self.tasks.environment.clone());
        environment
    }

    fn job(&self, root: &Path, view: View, argv: Vec<String>, env: Environment) -> Result<Job, BuildError> {
        let mut binds = match view {
            View::Target => self.packages.binds(root)?,
            View::Host | View::HostBare => self.packages.network_binds(),
        };
        binds.extend(self.places.binds(view));
        Ok(Job { argv, env, cwd: "/".to_owned(), view, binds, network: Network::Host })
    }

    fn hook_failed(&self, task: &Task, outcome: Outcome) -> BuildError {
        let path = format!("{}/{}", task.phase, task.name);
        let owner = self.tasks.hooks.get(&path);
        BuildError::HookFailed(Box::new(HookFailure {
            image: self.jobs.image.to_owned(),
            step: self.jobs.step.to_owned(),
            element: owner.map_or(self.jobs.step, |element| element.name.as_str()).to_owned(),
            phase: task.phase,
            hook: task.name.clone(),
            outcome,
        }))
    }
}

/// Returns whose files hooks of a phase see.
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
