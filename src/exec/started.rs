//! A running program. Its end is logged once.

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::{Child, ExitStatus};
use std::time::Instant;

use tracing::debug;

/// A child and the time of its start. Waiting for it logs how it ended.
pub(super) struct Started {
    child: Child,
    since: Instant,
    is_told: bool,
}

impl Started {
    pub(super) fn new(child: Child) -> Self {
        Self { child, since: Instant::now(), is_told: false }
    }

    /// See [`Child::wait`].
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        let exit = self.child.wait()?;
        self.tell(exit);
        Ok(exit)
    }

    /// See [`Child::try_wait`].
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let exit = self.child.try_wait()?;
        exit.into_iter().for_each(|exit| self.tell(exit));
        Ok(exit)
    }

    /// Logs the end the first time.
    fn tell(&mut self, exit: ExitStatus) {
        if !std::mem::replace(&mut self.is_told, true) {
            debug!(pid = self.child.id(), %exit, after = ?self.since.elapsed(), "ended");
        }
    }
}

impl Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}
