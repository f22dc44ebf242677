//! A shell on an image's root file system.

use super::stack::overlay;
use super::{BuildError, Builder};
use crate::element::Phase;
use crate::plan::{Plan, Tasks, Work};
use crate::port::{Exit, Root, Workspace};

impl Builder<'_> {
    /// Runs `command` (a login shell if empty) on the caller's terminal, on the layers below the step at index `at` of
    /// `plan`, with what that step's hooks see; without `at`, on all layers. What it changes is thrown away.
    ///
    /// # Errors
    /// [`BuildError::Miss`] if a layer below is not in the store.
    pub fn shell(&self, plan: &Plan, at: Option<usize>, command: &[String]) -> Result<Exit, BuildError> {
        let below = &plan.steps[..at.unwrap_or(plan.steps.len())];
        let mut stack = Vec::new();
        for step in below {
            stack.extend(self.step(plan, step, &stack)?.diff_ids);
        }
        let workspace = self.ports.store.workspace(&stack)?;
        let root = self.ports.sandbox.open(&overlay(workspace.as_ref()))?;
        let step = at.map_or(&plan.finish, |at| &plan.steps[at]);
        let exit = match &step.work {
            Work::Tasks(tasks) => {
                self.shell_at(plan, step, tasks, workspace.as_ref(), root.as_ref(), command)?
            }
            Work::Base => return Err(BuildError::NothingBelow { step: step.name.clone() }),
        };
        root.close()?;
        Ok(exit)
    }

    fn shell_at(
        &self,
        plan: &Plan,
        step: &crate::plan::Step,
        tasks: &Tasks,
        workspace: &dyn Workspace,
        root: &dyn Root,
        command: &[String],
    ) -> Result<Exit, BuildError> {
        let run = self.prepare(plan, step, tasks, workspace)?;
        let argv = match command {
            [] => vec!["bash".to_owned(), "-l".to_owned()],
            command => command.to_vec(),
        };
        let exit = run.interactive(root, Phase::Install, argv)?;
        run.close()?;
        Ok(exit)
    }
}
