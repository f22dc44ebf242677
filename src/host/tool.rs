//! Programs of the host that outputs and bases need.

use super::{Finding, Installer, Trial};

/// A program, its Debian package, and its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// The name, looked up in `PATH`, or the absolute path of a file.
    pub name: &'static str,
    /// The Debian package that contains it.
    pub package: &'static str,
    /// The feature that needs it.
    pub purpose: &'static str,
}

const fn needed(name: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool { name, package, purpose }
}

/// Starts disks.
pub const QEMU_SYSTEM: Tool = needed("qemu-system-x86_64", "qemu-system-x86", "plywood boot");

/// The UEFI firmware of virtual machines.
pub const OVMF: Tool = needed("/usr/share/ovmf/OVMF.fd", "ovmf", "plywood boot --firmware uefi");

/// Every program that plywood calls.
pub const TOOLS: &[Tool] = &[
    needed("mmdebstrap", "mmdebstrap", "bases that are bootstrapped: Debian, Ubuntu"),
    needed("mke2fs", "e2fsprogs", "disks with ext4, the default"),
    needed("mkfs.xfs", "xfsprogs", "disks with xfs"),
    needed("mkfs.btrfs", "btrfs-progs", "disks with btrfs"),
    needed("mkswap", "util-linux", "disks with swap"),
    needed("lvm", "lvm2", "disks with logical volumes"),
    needed("qemu-img", "qemu-utils", "the formats vhd, vmdk, vdi and those of qemu-img itself"),
    needed("mksquashfs", "squashfs-tools", "the format squashfs"),
    needed("docker", "docker.io", "the format docker"),
    needed("bash", "bash", "elements with environment.d, and block-device files"),
    needed("git", "git", "elements with sources in git, and projects that are checkouts"),
    needed("curl", "curl", "elements with sources that are downloaded"),
    QEMU_SYSTEM,
    OVMF,
    needed("ssh", "openssh-client", "plywood boot --ssh"),
];

/// Returns the tool of this name, which must be one of [`TOOLS`].
pub fn tool_named(name: &str) -> Tool {
    *TOOLS.iter().find(|tool| tool.name == name).expect("every program that plywood calls is in the list")
}

/// Checks that the Docker engine answers. Only useful if its client is installed.
pub fn docker_engine(trial: &Trial) -> Finding {
    const CHECK: &str = "docker engine";
    match trial {
        Trial::Works => Finding::ok(CHECK, "answers"),
        Trial::Fails { reason, .. } => Finding::limited(
            CHECK,
            format!("no Docker engine answers (for the format docker): {reason}"),
            "systemctl start docker, or set `DOCKER_HOST` to the address of another engine",
        ),
    }
}

/// Checks that a tool is installed.
pub fn tool(tool: &Tool, is_installed: bool, installer: Installer) -> Finding {
    let Tool { name, package, purpose } = tool;
    let kind = if name.starts_with('/') { "file" } else { "program" };
    let check = format!("{kind} {}", name.rsplit('/').next().unwrap_or(name));
    match is_installed {
        true => Finding::ok(check, "is installed"),
        false => Finding::limited(
            check,
            format!("{kind} `{name}` is not installed (needed for {purpose})"),
            installer.cure(name, package),
        ),
    }
}
