//! Break points of a step, at which the root is still open.

use crate::element::Phase;

use super::{Job, Root, SandboxError};

/// A point in a step at which a build can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the tasks of this phase.
    Before(Phase),
    After(Phase),
    /// After a task of this phase failed. The build ends here.
    Failed(Phase),
}

impl Moment {
    /// Returns the phase of the moment.
    pub const fn phase(self) -> Phase {
        match self {
            Moment::Before(phase) | Moment::After(phase) | Moment::Failed(phase) => phase,
        }
    }
}

/// Receives the moments of each step that is built.
pub trait Breaks: Sync {
    /// Returns true if a break point is set in this phase. Steps with tasks of the phase are then
    /// built even if their layers are cached.
    fn await_phase(&self, phase: Phase) -> bool;

    /// Handles one moment. `root` is open and visible to this process and its children. `job` is a
    /// shell in the target with the environment of the phase; the implementation may run it,
    /// replace its command, or skip it. `failure` describes the failure in [`Moment::Failed`].
    fn reached(
        &self,
        moment: Moment,
        root: &dyn Root,
        job: Job,
        failure: Option<&str>,
    ) -> Result<(), SandboxError>;
}
