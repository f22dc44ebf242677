//! Stops a build where its caller wants to look at it.

use crate::dropin::{BreakPlace, BreakPoints, Environment};
use crate::element::{Phase, Place};
use crate::exec::{Program, Run};
use crate::port::{Breaks, Job, Moment, Root, SandboxError};

const BASH: Program = Program { name: "bash", package: "bash" };

/// Runs the caller's command at break points.
pub(crate) struct BreakIns<'a> {
    pub(crate) breaks: &'a BreakPoints,
    pub(crate) environment: &'a Environment,
    /// Tells the user.
    pub(crate) say: &'a (dyn Fn(&str) + Sync),
}

impl Breaks for BreakIns<'_> {
    fn await_phase(&self, phase: Phase) -> bool {
        self.breaks.await_phase(phase)
    }

    fn reached(
        &self,
        moment: Moment,
        root: &dyn Root,
        job: Job,
        failure: Option<&str>,
    ) -> Result<(), SandboxError> {
        let Some(point) = self.breaks.at(moment) else { return Ok(()) };
        if let Some(failure) = failure {
            (self.say)(failure);
        }
        (self.say)("Starting debug shell. Exit to resume building.");
        (self.say)(&format!("At stage {point}"));
        let ended = match (self.breaks.place, moment.phase().place()) {
            (BreakPlace::AsHooks, Place::Target) => self.run_in_target(root, job)?,
            _ => self.run_outside(root, &job),
        };
        match ended {
            // As with diskimage-builder, whose shell stops at the first command that fails.
            Some(reason) if !matches!(moment, Moment::Failed(_)) => {
                Err(SandboxError::Break { point: point.to_owned(), reason })
            }
            Some(reason) => {
                (self.say)(&format!("The command at the break point: {reason}"));
                Ok(())
            }
            None => {
                (self.say)("Resuming");
                Ok(())
            }
        }
    }
}

impl BreakIns<'_> {
    /// Runs the command as a hook of the phase; returns how it failed, if it did.
    fn run_in_target(&self, root: &dyn Root, job: Job) -> Result<Option<String>, SandboxError> {
        let argv = ["sh", "-c", &self.breaks.command].map(str::to_owned).into();
        let exit = root.run_interactive(&Job { argv, ..job })?;
        Ok((!exit.is_success()).then(|| exit.to_string()))
    }

    /// Runs the command on the machine itself: it can take files out of the target. Returns how it failed, if it did.
    fn run_outside(&self, root: &dyn Root, job: &Job) -> Option<String> {
        let run = Run::new(BASH).args(["-c", &self.breaks.command]);
        let run = job.env.iter().filter(|(name, _)| is_the_images(name)).fold(run, with);
        let run = self.environment.iter().fold(run, with).env("TMP_MOUNT_PATH", root.path());
        run.interactive().err().map(|error| error.to_string())
    }
}

/// Says whether a variable of a job means the same on the machine.
fn is_the_images(name: &str) -> bool {
    name.starts_with("DIB_") || name.starts_with("IMAGE_") || name == "DISTRO_NAME" || name == "ARCH"
}

fn with(run: Run, (name, value): (&String, &String)) -> Run {
    run.env(name, value)
}
