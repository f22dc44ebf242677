//! Hardware acceleration of virtual machines.

use super::tool::{self, QEMU_SYSTEM};
use super::{Finding, Installer};

/// The outcome of running a guest under KVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmTrial {
    /// A guest ran.
    Works,
    /// There is no `/dev/kvm`.
    NoDevice,
    /// `/dev/kvm` cannot be opened by this user.
    NoAccess,
    /// QEMU is not installed, so no guest could be run.
    NoProgram,
    /// `/dev/kvm` can be opened, but no guest runs.
    Fails(String),
}

/// Checks that disks can be booted with hardware acceleration.
pub fn kvm(trial: &KvmTrial, installer: Installer) -> Finding {
    const CHECK: &str = "kvm";
    const SLOW: &str = "`plywood boot` works, several times slower, by emulation";
    match trial {
        KvmTrial::Works => Finding::ok(CHECK, "a guest ran under KVM"),
        KvmTrial::NoProgram => {
            Finding { check: CHECK.to_owned(), ..tool::tool(&QEMU_SYSTEM, false, installer) }
        }
        KvmTrial::NoDevice => Finding::limited(
            CHECK,
            format!("there is no /dev/kvm: {SLOW}"),
            "modprobe kvm_intel or kvm_amd; in a virtual machine allow nested virtualization; in a container add \
             `--device /dev/kvm`",
        ),
        KvmTrial::NoAccess => Finding::limited(
            CHECK,
            format!("this user may not open /dev/kvm: {SLOW}"),
            "add this user to the group `kvm`, or run as root",
        ),
        KvmTrial::Fails(reason) => Finding::limited(
            CHECK,
            format!("/dev/kvm exists, but no guest runs under it ({reason}): {SLOW}"),
            "see `dmesg`; in a virtual machine allow nested virtualization",
        ),
    }
}
