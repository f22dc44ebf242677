//! The virtual machine that tries a disk.

use std::path::Path;
use std::str::FromStr;

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
    pub memory: ByteSize,
    /// A disk with the label `CIDATA` for cloud-init's NoCloud data source.
    pub seed: Option<&'a Path>,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// Where the first serial port is.
    pub console: Console<'a>,
    /// What happens to what the guest writes.
    pub writes: Writes,
    /// TCP ports of this host that lead into the machine.
    pub forwards: &'a [Forward],
}

/// What executes a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    /// QEMU itself. It works everywhere and takes several times as long.
    Tcg,
}

/// Where the first serial port of a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console<'a> {
    /// On standard output, for a program that reads it.
    Output,
    /// On the terminal. All keys go to the guest, Ctrl-C too; Ctrl-A is QEMU's own.
    Terminal,
    /// In a file, which need not have a name: its path may be in `/proc`.
    File(&'a Path),
}

/// What happens to what a guest writes to its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It goes into a temporary file of QEMU's and is lost: the disk stays as it is.
    Discarded,
    /// It goes into the disk.
    Kept,
}

/// A TCP port of this host, on the loopback interface, that leads to one of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

/// A text that is not a pair of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form HOST:GUEST, two TCP ports such as 8080:80")]
pub struct ForwardError(String);

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let ports = text.split_once(':').and_then(|(host, guest)| Some((port(host)?, port(guest)?)));
        let (host, guest) = ports.ok_or_else(|| ForwardError(text.to_owned()))?;
        Ok(Self { host, guest })
    }
}

/// Returns the arguments of `qemu-system-x86_64`: no window, a network behind QEMU's own NAT, exit
/// in place of reboot.
pub fn boot_command(machine: &Machine) -> Vec<String> {
    let accelerator = match machine.accelerator {
        Accelerator::Kvm => "pc,accel=kvm",
        Accelerator::Tcg => "pc,accel=tcg",
    };
    let mut words = vec!["-machine".to_owned(), accelerator.to_owned()];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if machine.accelerator == Accelerator::Kvm {
        // QEMU's default model lacks instructions that some distributions are compiled for, such as
        // x86-64-v2.
        add("-cpu", "host".to_owned());
    }
    add("-m", machine.memory.bytes().div_ceil(1 << 20).to_string());
    add("-smp", "2".to_owned());
    if machine.firmware == Firmware::Uefi {
        add("-bios", machine.ovmf.display().to_string());
    }
    let mode = match machine.writes {
        Writes::Discarded => "snapshot=on",
        Writes::Kept => "snapshot=off",
    };
    add("-drive", drive(machine.disk, machine.format, mode));
    if let Some(seed) = machine.seed {
        add("-drive", drive(seed, "raw", "readonly=on"));
    }
    // On the loopback interface alone: images under test often have well-known passwords.
    let forwards = machine.forwards.iter();
    let forwards = forwards.map(|Forward { host, guest }| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
    add("-nic", format!("user,model=virtio-net-pci{}", forwards.collect::<String>()));
    add("-device", "virtio-rng-pci".to_owned());
    match machine.console {
        Console::Output => {
            add("-serial", "stdio".to_owned());
            add("-monitor", "none".to_owned());
        }
        Console::Terminal => {
            // `signal=off` makes Ctrl-C a key of the guest; `mux` gives QEMU's monitor the escape
            // key Ctrl-A.
            add("-chardev", "stdio,id=console,mux=on,signal=off".to_owned());
            add("-serial", "chardev:console".to_owned());
            add("-mon", "chardev=console".to_owned());
        }
        Console::File(file) => {
            add("-serial", format!("file:{}", file.display()));
            add("-monitor", "none".to_owned());
        }
    }
    add("-display", "none".to_owned());
    words.push("-no-reboot".to_owned());
    words
}

/// A comma ends a value in QEMU's options; doubled it is a comma.
fn drive(file: &Path, format: &str, mode: &str) -> String {
    let file = file.display().to_string().replace(',', ",,");
    format!("file={file},format={format},if=virtio,{mode}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_two_ports() {
        assert_eq!("8080:80".parse(), Ok(Forward { host: 8080, guest: 80 }));
        for text in ["8080", "0:22", "a:22", "22:70000", "127.0.0.1:22:22", ""] {
            assert_eq!(text.parse::<Forward>(), Err(ForwardError(text.to_owned())));
        }
    }
}
