//! The commands that every job finds first in its `PATH`, besides those of its root.

/// A command: its name, and its text for a POSIX shell.
pub(super) type Tool = (&'static str, &'static str);

/// The commands of [`crate::distro::TOOLS`].
pub(super) const TOOLS: [Tool; 0] = [];

/// Forbids maintainer scripts to start services.
///
/// Source: Debian's policy-rc.d specification, `/usr/share/doc/init-system-helpers/README.policy-rc.d.gz`: 101 is
/// "action not allowed".
pub(super) const SERVICE_POLICY: &str = "#!/bin/sh\nexit 101\n";
