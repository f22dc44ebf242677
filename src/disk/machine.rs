//! The virtual machine that boots a disk.

use std::path::Path;
use std::str::FromStr;

use super::{ByteSize, Firmware};

/// A virtual machine that boots a disk.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    pub disk: &'a Path,
    /// QEMU's name of the format of the disk: `qcow2`, `raw`, `vpc`, `vmdk`, `vdi`.
    pub format: &'a str,
    pub firmware: Firmware,
    /// The file of the UEFI firmware. Only [`Firmware::Uefi`] needs it.
    pub ovmf: &'a Path,
    pub memory: ByteSize,
    /// A disk with the label `CIDATA` for cloud-init's NoCloud data source.
    pub seed: Option<&'a Path>,
    pub accelerator: Accelerator,
    /// The other end of the first serial port.
    pub console: Console<'a>,
    pub writes: Writes,
    /// Forwarded TCP ports of the build host.
    pub forwards: &'a [Forward],
}

/// The component that executes the instructions of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    /// QEMU's emulator. It works everywhere and is several times slower.
    Tcg,
}

/// The other end of the first serial port of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console<'a> {
    /// Standard output, for a program that reads it.
    Output,
    /// The terminal. All keys go to the guest, also Ctrl-C. Only Ctrl-A goes to QEMU.
    Terminal,
    /// A file. It may be nameless, with a path in `/proc`.
    File(&'a Path),
}

/// The handling of writes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// QEMU writes to a temporary file and removes it at the end. The disk does not change.
    Discarded,
    /// Writes change the disk.
    Kept,
}

/// A TCP port on the loopback interface of the build host, and the port of the guest to which it is
/// forwarded.
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

/// Returns the arguments of `qemu-system-x86_64`: no window, a network behind QEMU's NAT, and exit
/// instead of reboot.
pub fn boot_command(machine: &Machine) -> Vec<String> {
    let accelerator = match machine.accelerator {
        Accelerator::Kvm => "pc,accel=kvm",
        Accelerator::Tcg => "pc,accel=tcg",
    };
    let mut words = vec!["-machine".to_owned(), accelerator.to_owned()];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    if machine.accelerator == Accelerator::Kvm {
        // The default CPU of QEMU lacks instructions that some distributions need, such as those of
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
    // Only on the loopback interface, because images under test often have well-known passwords.
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
            // `signal=off` sends Ctrl-C to the guest. `mux` makes Ctrl-A the escape key for QEMU's
            // monitor.
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

/// Returns a drive option. A comma ends a value, so commas in the path are doubled.
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
