//! Stopping on the way, with the root still open.

use crate::element::Phase;

use super::{Job, Root, SandboxError};

/// A moment of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The tasks of this phase come next.
    Before(Phase),
    /// They are done.
    After(Phase),
    /// One of them failed; the build ends here.
    Failed(Phase),
}

/// Is told of the moments of each step that is built.
pub trait Breaks: Sync {
    /// Takes one moment. `root` is open, and seen by this process and its children. `job` is a shell in the target with the
    /// environment of the phase, to be run as it is, or with another command; or not at all.
    fn reached(&self, moment: Moment, root: &dyn Root, job: Job) -> Result<(), SandboxError>;
}
