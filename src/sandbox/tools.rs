//! The commands that every job finds first in its `PATH`, besides those of its root.
//!
//! They need a POSIX shell, coreutils and awk.

/// A command: its name, and its text.
pub(super) type Tool = (&'static str, &'static str);

macro_rules! tools {
    ($($name:literal from $file:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("bin/", $file)))),*]
    };
}

/// The commands of [`crate::distro::TOOLS`].
pub(super) const TOOLS: [Tool; 13] = tools![
    "apt" from "apt-get",
    "apt-cache" from "apt-get",
    "apt-get" from "apt-get",
    "apt-sources" from "apt-sources",
    "bootstrap-finish" from "bootstrap-finish",
    "bootstrap-setup" from "bootstrap-setup",
    "dib-init-system" from "dib-init-system",
    "install-packages" from "install-packages",
    "make-initramfs" from "make-initramfs",
    "pkg-map" from "pkg-map",
    "start-stop-daemon" from "start-stop-daemon",
    "svc-map" from "svc-map",
    "update-initramfs" from "update-initramfs",
];

/// Forbids maintainer scripts to start services.
///
/// Source: Debian's policy-rc.d specification, `/usr/share/doc/init-system-helpers/README.policy-rc.d.gz`: 101 is
/// "action not allowed".
pub(super) const SERVICE_POLICY: &str = "#!/bin/sh\nexit 101\n";
