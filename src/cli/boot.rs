//! `plywood boot`: a disk in QEMU, its serial console on this terminal.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::args::{self, Boot};
use super::report::{Failure, Message};
use crate::disk::{ByteSize, Firmware, Machine, boot_command};
use crate::exec::{Ending, Program, Run};
use crate::output::DiskFormat;

/// The program, and where Debian has it.
const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };

/// Starts the disk; with a text to expect, ends when it comes.
pub(super) fn run(args: &Boot) -> Result<ExitCode, Failure> {
    let machine = Machine {
        disk: &args.disk,
        format: format_of(&args.disk)?,
        firmware: match args.firmware {
            args::Firmware::Bios => Firmware::Bios,
            args::Firmware::Uefi => Firmware::Uefi,
        },
        ovmf: ovmf(args.firmware)?,
        memory: ByteSize::from_mebibytes(args.memory.into()),
        seed: args.seed.as_deref(),
    };
    let qemu = Run::new(QEMU).args(boot_command(&machine));
    match &args.expect {
        None => {
            qemu.interactive()?;
            Ok(ExitCode::SUCCESS)
        }
        Some(text) => expect(&qemu, args, text),
    }
}

fn expect(qemu: &Run, args: &Boot, text: &str) -> Result<ExitCode, Failure> {
    let limit = Duration::from_secs(args.timeout);
    let mut stdout = std::io::stdout().lock();
    let watched = qemu.watch(text, limit, &mut |bytes| {
        // Whoever reads the console may have gone; the machine is still watched.
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    })?;
    let disk = args.disk.display();
    match watched.ending {
        Ending::Found => {
            let _ = stdout.write_all(b"\n");
            Ok(ExitCode::SUCCESS)
        }
        Ending::TimedOut => Err(Message::plain(format!(
            "the console of `{disk}` did not show `{text}` within {} seconds",
            args.timeout
        ))),
        Ending::Exited(status, stderr) => Err(Message::plain(format!(
            "the machine of `{disk}` ended ({status}) before its console showed `{text}`: {}",
            stderr.trim()
        ))),
    }
}

/// Returns QEMU's name of the format of a disk.
fn format_of(disk: &Path) -> Result<&'static str, Failure> {
    let format = File::open(disk).and_then(|file| DiskFormat::of_file(&file));
    let unreadable = |error| Message::plain(format!("cannot read disk `{}`: {error}", disk.display()));
    Ok(format.map_err(unreadable)?.qemu_name())
}

fn ovmf(firmware: args::Firmware) -> Result<&'static Path, Failure> {
    let ovmf = Path::new(Machine::OVMF);
    match firmware {
        args::Firmware::Uefi if !ovmf.is_file() => Err(Message::with_hint(
            format!("the UEFI firmware `{}` is not there", ovmf.display()),
            "apt-get install ovmf",
        )),
        _ => Ok(ovmf),
    }
}
