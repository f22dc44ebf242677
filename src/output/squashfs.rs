//! Writes a root file system as a SquashFS with mksquashfs.

use std::ffi::OsString;
use std::path::Path;

use super::{Destination, OutputError, Written};
use crate::exec::{Program, Run};

const MKSQUASHFS: Program = Program { name: "mksquashfs", package: "squashfs-tools" };

/// Writes everything below the directory `root` to the SquashFS `destination`. The same tree and
/// time always give the same bytes.
///
/// `time` is the time of the file system itself, in seconds since 1970.
pub fn write_squashfs(root: &Path, destination: &Destination, time: i64) -> Result<Written, OutputError> {
    let pending = destination.pending()?;
    let run = Run::new(MKSQUASHFS).args(arguments(root, &pending.path_for_programs(), time));
    run.run().map_err(|error| OutputError::from(error).of_result(pending.target()))?;
    destination.publish(pending)
}

/// Returns the arguments of mksquashfs. The content of `proc` and `sys` is left out, because it
/// comes from the kernel.
fn arguments(root: &Path, target: &Path, time: i64) -> Vec<OsString> {
    let time = time.to_string();
    let options = ["-comp", "xz", "-noappend", "-no-recovery", "-no-progress", "-quiet", "-mkfs-time", &time];
    let left_out = ["-wildcards", "-e", "proc/*", "sys/*"];
    let files = [root.into(), target.into()];
    files.into_iter().chain(options.into_iter().chain(left_out).map(OsString::from)).collect()
}
