//! Stops a build at its caller's break points.

use crate::dropin::{BreakPlace, BreakPoints, Environment};
use crate::element::{Phase, Place};
use crate::exec::{Program, Run};
use crate::port::{Breaks, Job, Moment, Root, SandboxError};

const BASH: Program = Program { name: "bash", package: "bash" };

/// The points where a build stops, and the way to show messages about them.
#[derive(Clone, Copy)]
pub(crate) struct Pauses<'a> {
    pub(crate) points: &'a BreakPoints,
    pub(crate) say: &'a (dyn Fn(&str) + Sync),
}

/// Runs the caller's command at break points.
pub(super) struct BreakIns<'a> {
    pub(super) pauses: Pauses<'a>,
    pub(super) environment: &'a Environment,
}

impl Breaks for BreakIns<'_> {
    fn await_phase(&self, phase: Phase) -> bool {
        self.pauses.points.await_phase(phase)
    }

    fn reached(
        &self,
        moment: Moment,
        root: &dyn Root,
        job: Job,
        failure: Option<&str>,
    ) -> Result<(), SandboxError> {
        let Some(point) = self.pauses.points.at(moment) else { return Ok(()) };
        if let Some(failure) = failure {
            (self.pauses.say)(failure);
        }
        (self.pauses.say)("Starting debug shell. Exit to resume building.");
        (self.pauses.say)(&format!("At stage {point}"));
        let ended = match (self.pauses.points.place, moment.phase().place()) {
            (BreakPlace::AsHooks, Place::Target) => self.run_in_target(root, job)?,
            _ => self.run_outside(root, &job),
        };
        match ended {
            // As in diskimage-builder, whose shell stops at the first command that fails.
            Some(reason) if !matches!(moment, Moment::Failed(_)) => {
                Err(SandboxError::Break { point: point.to_owned(), reason })
            }
            Some(reason) => {
                (self.pauses.say)(&format!("The command at the break point: {reason}"));
                Ok(())
            }
            None => {
                (self.pauses.say)("Resuming");
                Ok(())
            }
        }
    }
}

impl BreakIns<'_> {
    /// Runs the command as a hook of the phase; returns the reason if it failed.
    fn run_in_target(&self, root: &dyn Root, job: Job) -> Result<Option<String>, SandboxError> {
        let argv = ["sh", "-c", &self.pauses.points.command].map(str::to_owned).into();
        let exit = root.run_interactive(&Job { argv, ..job })?;
        Ok((!exit.is_success()).then(|| exit.to_string()))
    }

    /// Runs the command on the build host itself, where it can copy files out of the target.
    /// Returns the reason if it failed.
    fn run_outside(&self, root: &dyn Root, job: &Job) -> Option<String> {
        let run = Run::new(BASH).args(["-c", &self.pauses.points.command]);
        // The caller's variables come last, because the last value of a name counts. Paths such as
        // `HOME` in the job's environment are valid in the target only.
        let run = job.env.iter().filter(|(name, _)| is_the_images(name)).fold(run, with);
        let run = self.environment.iter().fold(run, with).env("TMP_MOUNT_PATH", root.path());
        run.interactive().err().map(|error| error.to_string())
    }
}

/// Returns true if a variable of a job has the same meaning on the build host.
fn is_the_images(name: &str) -> bool {
    name.starts_with("DIB_") || name.starts_with("IMAGE_") || name == "DISTRO_NAME" || name == "ARCH"
}

fn with(run: Run, (name, value): (&String, &String)) -> Run {
    run.env(name, value)
}
