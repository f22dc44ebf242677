//! The phases of a build.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A phase: a directory of hooks, in diskimage-builder's spelling. Phases are ordered as they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Creates the root file system in an empty directory.
    Root,
    /// Copies files of the build host into the target or the hooks directory.
    ExtraData,
    /// Runs in the target before packages are installed.
    PreInstall,
    Install,
    /// Configures the installed packages.
    PostInstall,
    /// The last phase before the size of the tree is measured.
    PostRoot,
    /// Creates the disk.
    BlockDevice,
    /// Runs with the disk's file systems mounted.
    PreFinalise,
    /// Runs in the target on the final file systems.
    Finalise,
    /// Cleans up the target from the host.
    Cleanup,
}

/// Whether the hooks of a phase run on the host or in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the build host. The target is at `TMP_MOUNT_PATH`.
    Host,
    /// In the target, with its root directory.
    Target,
}

/// The kind of result of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseClass {
    /// Part of an element's layer.
    Layer,
    /// The disk. Files of the target do not change.
    Disk,
    /// Part of the final stage: on the mounted disk, or in the container's top layer.
    Final,
}

impl Phase {
    /// All phases, in order.
    pub const ALL: [Phase; 10] = [
        Phase::Root,
        Phase::ExtraData,
        Phase::PreInstall,
        Phase::Install,
        Phase::PostInstall,
        Phase::PostRoot,
        Phase::BlockDevice,
        Phase::PreFinalise,
        Phase::Finalise,
        Phase::Cleanup,
    ];

    /// Returns the name of its directory.
    pub const fn dir(self) -> &'static str {
        match self {
            Phase::Root => "root.d",
            Phase::ExtraData => "extra-data.d",
            Phase::PreInstall => "pre-install.d",
            Phase::Install => "install.d",
            Phase::PostInstall => "post-install.d",
            Phase::PostRoot => "post-root.d",
            Phase::BlockDevice => "block-device.d",
            Phase::PreFinalise => "pre-finalise.d",
            Phase::Finalise => "finalise.d",
            Phase::Cleanup => "cleanup.d",
        }
    }

    /// Returns whether its hooks run on the host or in the target.
    pub const fn place(self) -> Place {
        match self {
            Phase::PreInstall | Phase::Install | Phase::PostInstall | Phase::Finalise => Place::Target,
            _ => Place::Host,
        }
    }

    /// Returns the kind of its result.
    pub const fn class(self) -> PhaseClass {
        match self {
            Phase::BlockDevice => PhaseClass::Disk,
            Phase::PreFinalise | Phase::Finalise | Phase::Cleanup => PhaseClass::Final,
            _ => PhaseClass::Layer,
        }
    }

    /// Returns the phases of a class, in order.
    pub fn of_class(class: PhaseClass) -> impl Iterator<Item = Phase> {
        Phase::ALL.into_iter().filter(move |phase| phase.class() == class)
    }
}

/// A text that is not a phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a phase")]
pub struct PhaseError(String);

impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(dir: &str) -> Result<Self, PhaseError> {
        Phase::ALL.into_iter().find(|phase| phase.dir() == dir).ok_or_else(|| PhaseError(dir.to_owned()))
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.dir())
    }
}

impl Serialize for Phase {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_run_where_diskimage_builder_runs_them() {
        let in_target: Vec<_> =
            Phase::ALL.into_iter().filter(|phase| phase.place() == Place::Target).map(Phase::dir).collect();
        assert_eq!(in_target, ["pre-install.d", "install.d", "post-install.d", "finalise.d"]);
        let last: Vec<_> = Phase::of_class(PhaseClass::Final).map(Phase::dir).collect();
        assert_eq!(last, ["pre-finalise.d", "finalise.d", "cleanup.d"]);
    }

    #[test]
    fn names_round_trip_and_the_order_is_that_of_the_list() {
        assert!(Phase::ALL.is_sorted());
        for phase in Phase::ALL {
            assert_eq!(phase.dir().parse(), Ok(phase));
        }
        assert_eq!("finalize.d".parse::<Phase>(), Err(PhaseError("finalize.d".into())));
    }
}
