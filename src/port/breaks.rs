//! Stopping on the way, with the root still open.

use crate::element::Phase;

use super::{Job, Root, SandboxError};

/// A moment of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The tasks of this phase come next.
    Before(Phase),
    After(Phase),
    /// One of them failed; the build ends here.
    Failed(Phase),
}

impl Moment {
    /// Returns the phase that it is a moment of.
    pub const fn phase(self) -> Phase {
        match self {
            Moment::Before(phase) | Moment::After(phase) | Moment::Failed(phase) => phase,
        }
    }
}

/// Is told of the moments of each step that is built.
pub trait Breaks: Sync {
    /// Returns true if steps with tasks of this phase have to be built even if their layers are known: a break point is set there.
    fn await_phase(&self, phase: Phase) -> bool;

    /// Takes one moment. `root` is open, and seen by this process and its children. `job` is a shell in the target with the
    /// environment of the phase, to be run as it is, or with another command; or not at all.
    /// `failure` says what failed, in a moment after a failure.
    fn reached(
        &self,
        moment: Moment,
        root: &dyn Root,
        job: Job,
        failure: Option<&str>,
    ) -> Result<(), SandboxError>;
}
