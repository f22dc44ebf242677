//! A shell on an image's root file system.

use super::stack::overlay;
use super::{BuildError, Builder};
use crate::element::Phase;
use crate::plan::{Plan, Step, Work};
use crate::port::Exit;

impl Builder<'_> {
    /// Runs `command` (a login shell if empty) on the caller's terminal, on the layers below `step` of `plan` (its final
    /// stage stands on all layers), with what that step's hooks see. What it changes is thrown away.
    ///
    /// # Errors
    /// [`BuildError::Miss`] if a layer below is not in the store, [`BuildError::NothingBelow`] for the base.
    pub fn shell(&self, plan: &Plan, step: &Step, command: &[String]) -> Result<Exit, BuildError> {
        let Work::Tasks(tasks) = &step.work else {
            return Err(BuildError::NothingBelow { step: step.name.clone() });
        };
        let count = plan.steps.iter().take_while(|below| below.name != step.name).count();
        let below = self.steps(plan, &plan.steps[..count], &[])?;
        let stack: Vec<_> = below.into_iter().flat_map(|step| step.diff_ids).collect();
        let workspace = self.ports.store.workspace(&stack)?;
        let root = self.ports.sandbox.open(&overlay(workspace.as_ref()))?;
        let run = self.prepare(plan, step, tasks, workspace.as_ref(), root.as_ref())?;
        let argv = match command {
            [] => vec!["bash".to_owned(), "-l".to_owned()],
            command => command.to_vec(),
        };
        let exit = run.interactive(root.as_ref(), Phase::Install, argv)?;
        run.close()?;
        root.close()?;
        Ok(exit)
    }
}
