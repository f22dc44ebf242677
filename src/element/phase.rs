//! The phases of a build.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// A phase: a directory of hooks, in diskimage-builder's spelling. Ordered as they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Makes the root file system out of nothing.
    Root,
    /// Brings files of the machine into the target or the hooks directory.
    ExtraData,
    /// Runs in the target before packages are installed.
    PreInstall,
    Install,
    /// Configures what was installed.
    PostInstall,
    /// Last look at the tree before its size is taken.
    PostRoot,
    /// Makes the disk.
    BlockDevice,
    /// Runs with the disk's file systems mounted.
    PreFinalise,
    /// Runs in the target on the final file systems.
    Finalise,
    /// Tidies up from outside.
    Cleanup,
}

/// Where the hooks of a phase run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Beside the target, which is at `TMP_MOUNT_PATH`.
    Host,
    /// With the target as root directory.
    Target,
}

/// What the result of a phase becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseClass {
    /// A part of an element's layer.
    Layer,
    /// The disk, and no file of the target.
    Disk,
    /// A part of the final stage: on the mounted disk, or in the container's top layer.
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

    /// Returns where its hooks run.
    pub const fn place(self) -> Place {
        match self {
            Phase::PreInstall | Phase::Install | Phase::PostInstall | Phase::Finalise => Place::Target,
            _ => Place::Host,
        }
    }

    /// Returns what its result becomes.
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

/// A text that is no phase.
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
