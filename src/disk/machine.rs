//! The virtual machine that tries a disk.

use std::path::Path;

use super::{ByteSize, Firmware};

/// A machine to boot a disk in.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// The disk, which is not changed.
    pub disk: &'a Path,
    /// QEMU's name of its format: `qcow2`, `raw`, `vpc`, `vmdk`, `vdi`.
    pub format: &'a str,
    /// What starts it.
    pub firmware: Firmware,
    /// The UEFI firmware's file, needed for [`Firmware::Uefi`] alone.
    pub ovmf: &'a Path,
    /// Main memory.
    pub memory: ByteSize,
    /// A disk with the label `CIDATA` for cloud-init's NoCloud data source.
    pub seed: Option<&'a Path>,
}

impl Machine<'_> {
    /// Where Debian's package `ovmf` has the firmware.
    pub const OVMF: &'static str = "/usr/share/ovmf/OVMF.fd";
}

/// Returns the arguments of `qemu-system-x86_64`: emulation without hardware help (it works everywhere), the first serial port on
/// standard input and output, no window, a network behind QEMU's own NAT, exit in place of reboot.
///
/// Writes go to a temporary file of QEMU's: the disk stays as it is.
pub fn boot_command(machine: &Machine) -> Vec<String> {
    let mut words = vec!["-machine".to_owned(), "pc,accel=tcg".to_owned()];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    add("-m", machine.memory.bytes().div_ceil(1 << 20).to_string());
    add("-smp", "2".to_owned());
    if machine.firmware == Firmware::Uefi {
        add("-bios", machine.ovmf.display().to_string());
    }
    add("-drive", drive(machine.disk, machine.format, "snapshot=on"));
    if let Some(seed) = machine.seed {
        add("-drive", drive(seed, "raw", "readonly=on"));
    }
    add("-nic", "user,model=virtio-net-pci".to_owned());
    add("-device", "virtio-rng-pci".to_owned());
    add("-serial", "stdio".to_owned());
    add("-monitor", "none".to_owned());
    add("-display", "none".to_owned());
    words.push("-no-reboot".to_owned());
    words
}

/// A comma ends a value in QEMU's options; doubled it is a comma.
fn drive(file: &Path, format: &str, mode: &str) -> String {
    let file = file.display().to_string().replace(',', ",,");
    format!("file={file},format={format},if=virtio,{mode}")
}
