//! The host, as the checks before a build see it.

use std::io;
use std::path::Path;

use super::failure::{Failure, Message};
use crate::host::{Finding, Standing};

/// The host, as the checks before a build see it.
pub(crate) trait Checks {
    /// Returns the time, in seconds since 1970.
    fn now(&self) -> Result<i64, Failure>;

    /// Fails if there is no file at `path`.
    fn file(&self, path: &Path) -> io::Result<()>;

    /// Checks that the program called `name` is installed.
    fn tool(&self, name: &str) -> Finding;

    /// Checks that logical volumes can be made.
    fn device_mapper(&self) -> Finding;

    /// Fails if layers cannot be made in the store.
    fn store(&self) -> Result<(), Failure>;

    /// Checks that disks can be laid out in the store.
    fn loop_devices(&self) -> Result<Finding, Failure>;

    /// Returns the disk formats that qemu-img writes.
    fn qemu_formats(&self) -> Result<Vec<String>, Failure>;
}

/// Refuses to go on with a finding without which nothing can be built.
pub(crate) fn require(finding: Finding) -> Result<(), Failure> {
    if finding.standing == Standing::Lacking { Err(failure(finding)) } else { Ok(()) }
}

/// Returns an error for a finding that limits the current command.
pub(crate) fn require_whole(finding: Finding) -> Result<(), Failure> {
    match finding.standing {
        Standing::Lacking | Standing::Limited => Err(failure(finding)),
        Standing::Ok | Standing::Untried => Ok(()),
    }
}

/// Returns a finding as a failure.
pub(super) fn failure(finding: Finding) -> Failure {
    match finding.cure {
        Some(cure) => Message::with_hint(finding.found, cure),
        None => Message::plain(finding.found),
    }
}
