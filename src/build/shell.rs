//! A shell on an image's root file system.

use std::path::Path;

use super::BuildError;
use super::builder::{Builder, overlay};
use crate::element::Phase;
use crate::oci::DiffId;
use crate::plan::{Plan, Step, Work};
use crate::port::{Exit, FailedStep, RootSpec};

/// The state of an image that a shell shows.
#[derive(Debug, Clone, Copy)]
pub enum ShellAt<'a> {
    /// As the first hook of this step finds it: the layers below. The final stage stands on all
    /// layers.
    Step(&'a Step),
    /// As this hook of a step finds it: the step's hooks before it are run.
    Hook(&'a Step, Phase, &'a str),
    /// As a hook of this step left it when it failed, in this upper directory.
    Failed(&'a Step, &'a FailedStep, &'a Path),
}

impl<'a> ShellAt<'a> {
    fn step(&self) -> &'a Step {
        match self {
            ShellAt::Step(step) | ShellAt::Hook(step, ..) | ShellAt::Failed(step, ..) => step,
        }
    }

    /// Returns the phase where whose hooks run the shell runs, with their environment.
    fn phase(&self) -> Phase {
        match self {
            ShellAt::Step(_) => Phase::Install,
            ShellAt::Hook(_, phase, _) => *phase,
            ShellAt::Failed(_, failed, _) => failed.phase.parse().unwrap_or(Phase::Install),
        }
    }
}

impl Builder<'_> {
    /// Runs `command` (a login shell if empty) on the caller's terminal, on a state of `plan`'s
    /// image, with the files that hooks see there. Its changes are discarded.
    ///
    /// # Errors
    /// [`BuildError::Miss`] if a layer below is not in the store, [`BuildError::NothingBelow`] for
    /// the base, [`BuildError::NoSuchHook`], and the failure of a hook that precedes the requested
    /// one.
    pub fn shell(&self, plan: &Plan, at: ShellAt<'_>, command: &[String]) -> Result<Exit, BuildError> {
        let step = at.step();
        let Work::Tasks(tasks) = &step.work else {
            return Err(BuildError::NothingBelow { step: step.name.clone() });
        };
        let workspace = self.workspace(&self.stack_below(plan, &at)?)?;
        let mut spec = overlay(workspace.as_ref());
        if let (ShellAt::Failed(.., upper), RootSpec::Overlay { lowers, .. }) = (&at, &mut spec) {
            lowers.push(upper.to_path_buf());
        }
        let root = self.ports.sandbox.open(&spec)?;
        let run = self.prepare(plan, step, tasks, workspace.as_ref(), root.as_ref())?;
        if let ShellAt::Hook(_, phase, hook) = at {
            run.run_before(root.as_ref(), phase, hook)?;
        }
        let argv = match command {
            [] => vec!["bash".to_owned(), "-l".to_owned()],
            command => command.to_vec(),
        };
        let exit = run.interactive(root.as_ref(), at.phase(), argv)?;
        run.close()?;
        root.close()?;
        Ok(exit)
    }

    fn stack_below(&self, plan: &Plan, at: &ShellAt<'_>) -> Result<Vec<DiffId>, BuildError> {
        if let ShellAt::Failed(_, failed, _) = at {
            return Ok(failed.stack.clone());
        }
        let count = plan.steps.iter().take_while(|below| below.name != at.step().name).count();
        let below = self.steps(plan, &plan.steps[..count], &[])?;
        Ok(below.into_iter().flat_map(|step| step.diff_ids).collect())
    }
}
