//! One step's tasks on an open root.
//!
//! Per phase: the environment.d files are sourced, where the phase runs, by a shell of its own; then each task runs as
//! one job with the environment they left. That is what dib-run-parts does, with a sandbox around every hook.

use std::path::{Path, PathBuf};

use super::BuildError;
use super::error::{HookFailure, Outcome};
use super::job::JobRun;
use super::packages::{requested, unwanted};
use crate::distro::{apt, base_environment};
use crate::element::{Environment, Phase, Place, environment_argv};
use crate::plan::{Action, CopyModes, Task, Tasks};
use crate::port::{Access, Bind, Exit, Job, Network, PackageSession, Root, View};

/// Where hooks in the target find the hooks directory.
pub(super) const HOOKS_IN_TARGET: &str = View::Target.hooks();
/// Where hooks on the host find it: `TMP_HOOKS_PATH`.
const HOOKS_ON_HOST: &str = View::Host.hooks();

/// Runs the tasks of one step.
pub(super) struct StepRun<'a> {
    pub(super) jobs: JobRun<'a>,
    pub(super) tasks: &'a Tasks,
    pub(super) source_date_epoch: i64,
    /// Filled by [`crate::port::HookFiles`].
    pub(super) hooks: PathBuf,
    pub(super) packages: Box<dyn PackageSession + 'a>,
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
        let job = self.job(root.path(), Place::Target, argv, self.start_environment(phase))?;
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
        let job = self.job(root.path(), Place::Target, argv, self.start_environment(phase))?;
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
        let job = self.job(root.path(), Place::Target, argv, environment)?;
        Ok(root.run_interactive(&job)?)
    }

    /// Hands new downloads to later builds.
    pub(super) fn close(self) -> Result<(), BuildError> {
        Ok(self.packages.close()?)
    }

    fn run_task(&self, root: &dyn Root, task: &Task, environment: &Environment) -> Result<(), BuildError> {
        match &task.action {
            Action::Hook => {
                let hook = format!("{}/{}/{}", hooks_path(task.phase.place()), task.phase, task.name);
                let outcome = self.perform(root, task, vec![hook], environment)?;
                outcome.success().map_err(|outcome| self.hook_failed(task, outcome))
            }
            Action::RefreshIndex if !self.packages.is_index_stale(root.path())? => Ok(()),
            Action::RefreshIndex => {
                self.perform_native(root, task, apt::update(), environment)?;
                Ok(self.packages.index_refreshed(root.path())?)
            }
            Action::Copy { from, to, modes } => {
                self.perform_native(root, task, copy_argv(from, to, *modes), environment)
            }
            Action::CleanUp => self.perform_native(root, task, clean_up_argv(), environment),
            Action::Install(names) => self.perform_native(root, task, apt::install(names), environment),
            Action::InstallRequested => match requested(&self.tasks.requesting, task.phase, environment)? {
                names if names.is_empty() => Ok(()),
                names => self.perform_native(root, task, apt::install(&names), environment),
            },
            Action::RemoveUnwanted => match unwanted(&self.tasks.requesting, environment)? {
                names if names.is_empty() => Ok(()),
                names => self.perform_native(root, task, apt::remove(&names), environment),
            },
        }
    }

    fn perform_native(
        &self,
        root: &dyn Root,
        task: &Task,
        argv: Vec<String>,
        environment: &Environment,
    ) -> Result<(), BuildError> {
        let outcome = self.perform(root, task, argv, environment)?;
        outcome.success().map_err(|outcome| self.jobs.task_failed(&task.name, outcome))
    }

    fn perform(
        &self,
        root: &dyn Root,
        task: &Task,
        argv: Vec<String>,
        environment: &Environment,
    ) -> Result<Outcome, BuildError> {
        // What plywood does for elements it does in the target, whatever the phase.
        let place = if task.action == Action::Hook { task.phase.place() } else { Place::Target };
        let job = self.job(root.path(), place, argv, environment.clone())?;
        self.jobs.perform(root, &job, task.phase.dir(), &task.name)
    }

    /// Returns the environment that a phase's tasks have: what is left after sourcing the environment.d files.
    pub(super) fn environment(&self, root: &dyn Root, phase: Phase) -> Result<Environment, BuildError> {
        let start = self.start_environment(phase);
        if self.tasks.fragments.is_empty() {
            return Ok(start);
        }
        let hooks = hooks_path(phase.place());
        let fragments = self.tasks.fragments.iter().map(|f| format!("{hooks}/environment.d/{f}"));
        let job = self.job(root.path(), phase.place(), environment_argv(fragments), start)?;
        self.jobs.source_environment(root, &job, phase)
    }

    fn start_environment(&self, phase: Phase) -> Environment {
        let mut environment = base_environment(self.source_date_epoch);
        environment.extend(self.packages.environment());
        environment.extend(self.tasks.environment.clone());
        if phase.place() == Place::Host {
            environment.insert("TMP_HOOKS_PATH".to_owned(), HOOKS_ON_HOST.to_owned());
            environment.insert("TMP_MOUNT_PATH".to_owned(), View::HOST_MOUNT.to_owned());
        }
        if matches!(phase, Phase::Root | Phase::Cleanup) {
            environment.insert("TARGET_ROOT".to_owned(), View::HOST_MOUNT.to_owned());
        }
        environment
    }

    fn job(&self, root: &Path, place: Place, argv: Vec<String>, env: Environment) -> Result<Job, BuildError> {
        let mut binds = match place {
            Place::Target => self.packages.binds(root)?,
            Place::Host => self.packages.network_binds(),
        };
        binds.push(Bind {
            source: self.hooks.clone(),
            target: hooks_path(place).to_owned(),
            access: Access::ReadOnly,
        });
        let view = match place {
            Place::Target => View::Target,
            Place::Host => View::Host,
        };
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

const fn hooks_path(place: Place) -> &'static str {
    match place {
        Place::Host => HOOKS_ON_HOST,
        Place::Target => HOOKS_IN_TARGET,
    }
}

/// What diskimage-builder does after the hooks of cleanup.d.
///
/// Source: diskimage-builder, `lib/img-functions`, `finalise_base`.
fn clean_up_argv() -> Vec<String> {
    const SCRIPT: &str = "find /tmp -xdev -mindepth 1 -not -path '/tmp/in_target.d*' -delete
        [ ! -d /root ] || find /root -xdev -maxdepth 1 -type f -name '*.log' -delete";
    ["sh", "-euc", SCRIPT].map(str::to_owned).into()
}

/// Copies a directory of the hooks directory onto one of the target, through symlinks such as `/lib -> usr/lib`, which
/// rsync and cp would replace or refuse. Owners are root; directories that exist keep theirs.
fn copy_argv(from: &str, to: &str, modes: CopyModes) -> Vec<String> {
    const SCRIPT: &str = r#"tar -C "$1" --owner=0 --group=0 --mode="$3" -cf - . |
        tar -C "$2" -xpf - --keep-directory-symlink --no-overwrite-dir"#;
    let mode = match modes {
        CopyModes::Keep => "u+rwX,go+rX",
        CopyModes::Executable => "0755",
    };
    let from = format!("{HOOKS_IN_TARGET}/{from}");
    ["bash", "-euo", "pipefail", "-c", SCRIPT, "copy", &from, to, mode].map(str::to_owned).into()
}
