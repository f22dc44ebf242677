//! The kinds of nodes.

/// The plugin of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plugin {
    LocalLoop,
    Partitioning,
    /// Physical volumes, groups, logical volumes.
    Lvm,
    /// A file system.
    Mkfs,
    /// A mount point.
    Mount,
    /// A line of `/etc/fstab`.
    Fstab,
}

impl Plugin {
    pub(super) const ALL: [Plugin; 6] =
        [Plugin::LocalLoop, Plugin::Partitioning, Plugin::Lvm, Plugin::Mkfs, Plugin::Mount, Plugin::Fstab];

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Plugin::LocalLoop => "local_loop",
            Plugin::Partitioning => "partitioning",
            Plugin::Lvm => "lvm",
            Plugin::Mkfs => "mkfs",
            Plugin::Mount => "mount",
            Plugin::Fstab => "fstab",
        }
    }
}
