//! A root file system as one tar archive, by GNU tar: the same tree gives the same bytes.

use std::path::Path;

use super::convert::publish;
use super::pending::Pending;
use super::{OutputError, Written};
use crate::exec::{Program, Run};

const TAR: Program = Program { name: "tar", package: "tar" };

/// Whether an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarCompression {
    /// As it is.
    None,
    /// gzip, without name and time in its header.
    Gzip,
}

/// Writes everything below `root` to the archive `target`, and `<target>.sha256`, in place of files that are there.
pub fn write_tar(root: &Path, target: &Path, compression: TarCompression) -> Result<Written, OutputError> {
    let pending = Pending::new(target)?;
    Run::new(TAR)
        .args(arguments(compression))
        .arg("-f")
        .arg(pending.path())
        .arg("-C")
        .arg(root)
        .arg(".")
        .run()?;
    publish(pending, target)
}

/// Source: GNU tar manual, "Making tar Archives More Reproducible".
fn arguments(compression: TarCompression) -> Vec<&'static str> {
    let mut words = vec![
        "--create",
        "--format=posix",
        "--sort=name",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--no-selinux",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
    ];
    if compression == TarCompression::Gzip {
        words.push("--use-compress-program=gzip -n -6");
    }
    words
}
