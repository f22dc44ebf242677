//! `plywood boot`: starts a disk in QEMU, with its serial console on this terminal, or with ssh.

use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::answer::remark;
use super::args::{self, Accel, Boot, Global};
use super::report::{Failure, Message};
use crate::disk::{Accelerator, ByteSize, Console, Firmware, Forward, Machine, Writes, boot_command};
use crate::engine::{DiskFormat, Process, require_whole, tool};
use crate::exec::{Background, Ending, ExecError, Program, Run};
use crate::host::{self, KvmTrial, OVMF, QEMU_SYSTEM, tool_named};
use crate::probe;

const QEMU: Program = Program { name: QEMU_SYSTEM.name, package: QEMU_SYSTEM.package };
const SSH: Program = Program { name: "ssh", package: "openssh-client" };

/// The port of an ssh server.
const SSH_PORT: u16 = 22;

/// The directory for temporary files. Guests write gigabytes, and `/tmp` may be in memory.
const TEMPORARY: &str = "/var/tmp";

/// Starts the disk. With a text to expect, ends when it appears; with a user for ssh, ends when ssh
/// does.
pub(super) fn run(global: &Global, args: &Boot, process: &Process) -> Result<ExitCode, Failure> {
    let format = format_of(&args.disk)?;
    require_whole(tool(&QEMU_SYSTEM))?;
    if args.firmware == args::Firmware::Uefi {
        require_whole(tool(&OVMF))?;
    }
    let overlay = args.disk_size.map(|size| Overlay::of(&args.disk, format, size)).transpose()?;
    // The overlay is deleted anyway, so QEMU needs no second temporary file for discarded writes.
    let writes = if args.write || overlay.is_some() { Writes::Kept } else { Writes::Discarded };
    let machine = Machine {
        disk: overlay.as_ref().map_or(&args.disk, |overlay| &overlay.path),
        format: if overlay.is_some() { "qcow2" } else { format },
        firmware: match args.firmware {
            args::Firmware::Bios => Firmware::Bios,
            args::Firmware::Uefi => Firmware::Uefi,
        },
        ovmf: Path::new(OVMF.name),
        memory: ByteSize::from_mebibytes(args.memory.into()),
        seed: args.seed.as_deref(),
        accelerator: accelerator(global, args.accel)?,
        console: Console::Output,
        writes,
        forwards: &args.forward,
    };
    match (&args.expect, &args.ssh) {
        (Some(text), _) => expect(&qemu(&machine), args, text),
        (None, Some(user)) => by_ssh(&machine, args, user, process),
        (None, None) => on_terminal(&machine, process),
    }
}

/// Returns the call of QEMU for a machine. Its environment has only TMPDIR, because QEMU keeps
/// discarded writes there.
fn qemu(machine: &Machine<'_>) -> Run {
    Run::new(QEMU).args(boot_command(machine)).env("TMPDIR", temporary_directory())
}

fn temporary_directory() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|directory| !directory.is_empty());
    PathBuf::from(named.unwrap_or_else(|| TEMPORARY.into()))
}

/// Returns how long to wait for a text or for ssh.
fn limit(args: &Boot) -> Duration {
    // Adding a larger duration to the current time would panic.
    Duration::from_secs(args.timeout.min(u32::MAX.into()))
}

/// Chooses KVM only if a test guest runs under it.
fn accelerator(global: &Global, wanted: Accel) -> Result<Accelerator, Failure> {
    let trial = match wanted {
        Accel::Tcg => return Ok(Accelerator::Tcg),
        Accel::Auto | Accel::Kvm => probe::kvm(),
    };
    if trial == KvmTrial::Works {
        return Ok(Accelerator::Kvm);
    }
    let finding = host::kvm(&trial, probe::installer());
    if wanted == Accel::Kvm {
        require_whole(finding)?;
    } else if !global.quiet {
        remark!("remark: {}", finding.found);
    }
    Ok(Accelerator::Tcg)
}

fn on_terminal(machine: &Machine<'_>, process: &Process) -> Result<ExitCode, Failure> {
    if std::io::stdin().is_terminal() {
        remark!(
            "remark: Ctrl-A X ends the machine, Ctrl-A C opens QEMU's monitor, all other keys go to the machine"
        );
    }
    let machine = Machine { console: Console::Terminal, ..*machine };
    // QEMU puts the terminal into raw mode, and resets it only if it ends by itself.
    qemu(&machine).interactive_until(&process.interrupted)?;
    Ok(ExitCode::SUCCESS)
}

fn expect(qemu: &Run, args: &Boot, text: &str) -> Result<ExitCode, Failure> {
    let (mut stdout, mut last) = (std::io::stdout().lock(), b'\n');
    let watched = qemu.watch(text, limit(args), &mut |bytes| {
        last = bytes.last().copied().unwrap_or(last);
        // The reader of the console may have closed it. The machine keeps running.
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    })?;
    // A console ends in the middle of a line, such as `login: `. The next output, of plywood or of
    // the caller's shell, belongs on a new line.
    if last != b'\n' {
        let _ = stdout.write_all(b"\n").and_then(|()| stdout.flush());
    }
    let disk = args.disk.display();
    match watched.ending {
        Ending::Found => Ok(ExitCode::SUCCESS),
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

/// Runs ssh into the machine; returns its exit status.
fn by_ssh(machine: &Machine<'_>, args: &Boot, user: &str, process: &Process) -> Result<ExitCode, Failure> {
    require_whole(tool(&tool_named(SSH.name)))?;
    let mut forwards = args.forward.clone();
    let port = match forwards.iter().find(|forward| forward.guest == SSH_PORT) {
        Some(forward) => forward.host,
        None => {
            // Another program may take this port before QEMU does. QEMU then fails and names it.
            let host = probe::free_port()?;
            forwards.push(Forward { host, guest: SSH_PORT });
            host
        }
    };
    // The console goes into a file: ssh owns the terminal, and a full pipe without a reader would
    // stop the machine.
    let mut console = Unnamed::new()?;
    let machine = Machine { console: Console::File(&console.path), forwards: &forwards, ..*machine };
    let qemu = qemu(&machine).background()?;
    let ssh = ssh(user, port, args);
    remark!("remark: waiting for ssh; from another terminal: {}", ssh.command_line());
    // Dropping this ends the machine, also if ssh fails.
    let _qemu = wait_for_ssh(qemu, port, args, process, &mut console)?;
    match ssh.interactive_until(&process.interrupted) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(ExecError::Failed { exit, .. }) => {
            Ok(exit.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Err(error) => Err(error.into()),
    }
}

fn ssh(user: &str, port: u16, args: &Boot) -> Run {
    // ssh finds its agent and its configuration through the caller's environment.
    let ssh = Run::new(SSH).inherit_environment().args(["-p", &port.to_string()]);
    // Each first boot makes a new host key, and the next machine may get the same port.
    let ssh = ssh.args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ]);
    // Servers refuse a client after a few wrong keys. An agent with many keys would use up the
    // attempts before this key.
    let ssh = args.ssh_key.iter().fold(ssh, |ssh, key| ssh.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(key));
    ssh.arg(format!("{user}@127.0.0.1")).args(&args.command)
}

/// Waits until the ssh server answers; returns the running machine.
fn wait_for_ssh(
    mut qemu: Background,
    port: u16,
    args: &Boot,
    process: &Process,
    console: &mut Unnamed,
) -> Result<Background, Failure> {
    const PAUSE: Duration = Duration::from_millis(300);
    let deadline = Instant::now() + limit(args);
    let disk = args.disk.display();
    // QEMU accepts connections long before the guest listens, so only the server's greeting counts.
    while !probe::ssh_answers(port) {
        if process.interrupted.load(Ordering::Relaxed) {
            return Err(Message::plain("interrupted"));
        }
        if let Some(status) = qemu.ended()? {
            let end = console.end()?;
            return Err(Message::plain(format!(
                "the machine of `{disk}` ended ({status}) before ssh answered{end}"
            )));
        }
        if Instant::now() >= deadline {
            let end = console.end()?;
            return Err(Message::with_hint(
                format!(
                    "no ssh server answered in the machine of `{disk}` within {} seconds{end}",
                    args.timeout
                ),
                "the image needs an ssh server and a network that is configured at boot; see its console with `plywood boot`",
            ));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(qemu)
}

/// A temporary file without a name, which another program opens by its path in `/proc`. The kernel
/// removes it when it is closed.
struct Unnamed {
    file: File,
    path: PathBuf,
}

impl Unnamed {
    /// Creates the file in the directory in which QEMU puts its own temporary files.
    fn new() -> Result<Self, Failure> {
        let directory = temporary_directory();
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = rustix::fs::open(&directory, flags, Mode::RUSR | Mode::WUSR).map_err(|error| {
            Message::with_hint(
                format!("cannot make a temporary file in `{}`: {error}", directory.display()),
                "set TMPDIR to another directory",
            )
        })?;
        let file = File::from(file);
        // `/proc/self` would be the other program's directory.
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        Ok(Self { file, path })
    }

    /// Returns the last lines, for a message.
    fn end(&mut self) -> Result<String, Failure> {
        const LAST_BYTES: u64 = 2000;
        let length = self.file.metadata()?.len();
        // QEMU has opened the file itself, so this seek does not change QEMU's position.
        self.file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        let lines: Vec<_> = text.lines().rev().take(10).map(|line| format!("\n  | {line}")).collect();
        Ok(lines.into_iter().rev().collect())
    }
}

/// A larger disk above another one. It receives the machine's writes.
struct Overlay {
    path: PathBuf,
    _file: Unnamed,
}

impl Overlay {
    fn of(disk: &Path, format: &str, size: ByteSize) -> Result<Self, Failure> {
        let qemu_img = tool_named("qemu-img");
        require_whole(tool(&qemu_img))?;
        let file = Unnamed::new()?;
        // qemu-img resolves a relative name against the overlay's directory, which is in /proc.
        let backing = disk.canonicalize().map_err(|error| unreadable(disk, &error))?;
        let run = Run::new(Program { name: qemu_img.name, package: qemu_img.package });
        let run = run.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(backing);
        run.arg(&file.path).arg(size.bytes().to_string()).run()?;
        // The file must stay open here, because QEMU opens it only after it has started.
        Ok(Self { path: file.path.clone(), _file: file })
    }
}

/// Returns QEMU's name of the format of a disk.
fn format_of(disk: &Path) -> Result<&'static str, Failure> {
    let format = File::open(disk).and_then(|file| match disk.extension() {
        // The extension decides, not the content: a guest that writes to a raw disk could write the
        // header of another format. QEMU would then open the host files that this header names, and
        // show them to the guest.
        Some(extension) if extension == DiskFormat::Raw.extension() => Ok(DiskFormat::Raw),
        _ => DiskFormat::of_file(&file),
    });
    Ok(format.map_err(|error| unreadable(disk, &error))?.qemu_name())
}

fn unreadable(disk: &Path, error: &std::io::Error) -> Failure {
    Message::plain(format!("cannot read disk `{}`: {error}", disk.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_disk_is_raw_even_if_it_starts_like_a_qcow2() {
        let directory = tempfile::tempdir().unwrap();
        for (name, expected) in [("disk.raw", "raw"), ("disk.img", "qcow2"), ("disk", "qcow2")] {
            let disk = directory.path().join(name);
            std::fs::write(&disk, b"QFI\xfb\0\0\0\x03").unwrap();
            assert_eq!(format_of(&disk).unwrap(), expected, "{name}");
        }
        assert!(format_of(&directory.path().join("none.raw")).is_err());
    }
}
