//! The elements with which diskimage-builder and plywood are compared: a cloud image of Debian.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// diskimage-builder's own elements of every class (an operating system, tools, elements with
/// dependencies, one that lists the image), and the two of [`write_own_elements`].
pub(crate) const ELEMENTS: [&str; 12] = [
    "base",
    "debian-minimal",
    "openssh-server",
    "cloud-init",
    "cloud-init-datasources",
    "growroot",
    "dhcp-all-interfaces",
    "devuser",
    "element-manifest",
    "journal-to-console",
    "early",
    "leaf",
];

/// Variables of the caller, besides the mirrors of the build host.
pub(crate) const VARIABLES: [(&str, &str); 5] = [
    ("DIB_RELEASE", "bookworm"),
    ("DIB_CLOUD_INIT_DATASOURCES", "ConfigDrive, NoCloud"),
    ("DIB_DEV_USER_USERNAME", "dev"),
    ("DIB_DEV_USER_PWDLESS_SUDO", "yes"),
    ("DIB_PYTHON_VERSION", "3"),
];

/// Writes `early`, with one file, and `leaf`, with two packages and one file.
pub(crate) fn write_own_elements(directory: &Path) {
    write_hook(&directory.join("early/install.d/05-early"), "echo early >/etc/early");
    for (file, text) in [("element-deps", "package-installs\n"), ("package-installs.yaml", "jq:\ngit:\n")] {
        fs::create_dir_all(directory.join("leaf")).unwrap();
        fs::write(directory.join("leaf").join(file), text).unwrap();
    }
    write_leaf(directory, 0);
}

/// Changes a line of `leaf`.
pub(crate) fn write_leaf(directory: &Path, number: u32) {
    write_hook(&directory.join("leaf/install.d/70-leaf"), &format!("echo {number} >/etc/leaf"));
}

fn write_hook(path: &Path, command: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/bash\n{command}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}
