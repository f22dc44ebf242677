//! Programs of the host that outputs and bases need.

use super::Finding;

/// A program, the Debian package that has it, and what needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Its name, searched in `PATH`, or the absolute path of a file.
    pub name: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// What does not work without it.
    pub purpose: &'static str,
}

/// Starts disks.
pub const QEMU_SYSTEM: Tool =
    Tool { name: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "plywood boot" };

/// The UEFI firmware of virtual machines.
pub const OVMF: Tool =
    Tool { name: "/usr/share/ovmf/OVMF.fd", package: "ovmf", purpose: "plywood boot --firmware uefi" };

/// All of them.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "mmdebstrap",
        package: "mmdebstrap",
        purpose: "bases that are bootstrapped: Debian, Ubuntu",
    },
    Tool { name: "mke2fs", package: "e2fsprogs", purpose: "disks with ext4, the default" },
    Tool { name: "mkfs.xfs", package: "xfsprogs", purpose: "disks with xfs" },
    Tool { name: "mkfs.btrfs", package: "btrfs-progs", purpose: "disks with btrfs" },
    Tool { name: "mkswap", package: "util-linux", purpose: "disks with swap" },
    Tool { name: "lvm", package: "lvm2", purpose: "disks with logical volumes" },
    Tool {
        name: "qemu-img",
        package: "qemu-utils",
        purpose: "the formats vhd, vmdk, vdi and those of qemu-img itself",
    },
    Tool { name: "mksquashfs", package: "squashfs-tools", purpose: "the format squashfs" },
    Tool { name: "docker", package: "docker.io", purpose: "the format docker" },
    Tool { name: "bash", package: "bash", purpose: "elements with environment.d, and block-device files" },
    Tool {
        name: "git",
        package: "git",
        purpose: "elements with sources in git, and projects that are checkouts",
    },
    Tool { name: "curl", package: "curl", purpose: "elements with sources that are downloaded" },
    QEMU_SYSTEM,
    OVMF,
    Tool { name: "ssh", package: "openssh-client", purpose: "plywood boot --ssh" },
];

/// Returns the tool of this name, which must be one of [`TOOLS`].
pub fn tool_named(name: &str) -> Tool {
    *TOOLS.iter().find(|tool| tool.name == name).expect("every program that plywood calls is in the list")
}

/// Checks that a tool is installed.
pub fn tool(tool: &Tool, is_installed: bool) -> Finding {
    let Tool { name, package, purpose } = tool;
    let check = format!("program {}", name.rsplit('/').next().unwrap_or(name));
    match is_installed {
        true => Finding::ok(check, "is installed"),
        false => Finding::limited(
            check,
            format!("program `{name}` is needed and not installed (for {purpose})"),
            format!("apt-get install {package}"),
        ),
    }
}
