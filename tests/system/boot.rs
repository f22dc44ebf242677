//! Tests of `plywood boot`: its end, ports, larger disks, ssh. They boot no system: a boot sector
//! that prints a text is enough.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A disk whose boot sector prints a text and stops.
struct Disk(TempDir);

/// `mov dx, 0x3f8; mov si, text; 1: lodsb; test al, al; jz 2f; out dx, al; jmp 1b; 2: hlt; jmp 2b`,
/// then the text.
const SPEAKS: [u8; 17] =
    [0xba, 0xf8, 0x03, 0xbe, 0x11, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xf4, 0xeb, 0xfd];

impl Disk {
    /// Makes a disk that prints `text` on the serial port.
    fn that_says(text: &str) -> Self {
        let disk = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let mut sector = vec![0; 1 << 20];
        sector[..SPEAKS.len()].copy_from_slice(&SPEAKS);
        sector[SPEAKS.len()..SPEAKS.len() + text.len()].copy_from_slice(text.as_bytes());
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(disk.path(), sector).unwrap();
        disk
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("disk.raw")
    }

    fn boot(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plywood"));
        command.arg("boot").arg(self.path()).args(args);
        command
    }
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads standard output up to this text.
fn wait_for(child: &mut Child, text: &str) {
    let stdout = child.stdout.as_mut().unwrap();
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(text.as_bytes()) {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
}

#[test]
fn the_first_signal_ends_the_machine_with_its_status() {
    let disk = Disk::that_says("here I am");
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut machine = start(&mut disk.boot(&["--accel", "tcg"]));
        wait_for(&mut machine, "here I am");
        kill_process(Pid::from_child(&machine), signal).unwrap();
        let sent = Instant::now();
        assert_eq!(machine.wait().unwrap().code(), Some(status));
        assert!(sent.elapsed() < Duration::from_secs(3), "{:?}", sent.elapsed());
    }
}

/// Ctrl-C goes to the guest, and Ctrl-A X to QEMU.
#[test]
fn keys_reach_the_machine_and_the_escape_key_ends_it() {
    let disk = Disk::that_says("ready");
    let mut machine = start(&mut disk.boot(&["--accel", "tcg"]));
    wait_for(&mut machine, "ready");
    let stdin = machine.stdin.as_mut().unwrap();
    stdin.write_all(b"\x03").unwrap();
    stdin.flush().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(machine.try_wait().unwrap().is_none(), "Ctrl-C ended the machine");
    machine.stdin.as_mut().unwrap().write_all(b"\x01x").unwrap();
    assert_eq!(machine.wait().unwrap().code(), Some(0));
}

#[test]
fn kvm_is_used_if_it_works_and_otherwise_a_remark_is_printed() {
    let disk = Disk::that_says("done");
    let run = disk.boot(&["--expect", "done", "--timeout", "60"]).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(0), "{said}");
    let works = plywood::probe::kvm() == plywood::host::KvmTrial::Works;
    assert_eq!(said.starts_with("remark: "), !works, "{said}");
    let forced = disk.boot(&["--expect", "done", "--accel", "kvm"]).output().unwrap();
    assert_eq!(forced.status.success(), works, "{}", String::from_utf8_lossy(&forced.stderr));
}

#[test]
fn a_larger_disk_does_not_change_the_file_and_ports_are_forwarded() {
    let disk = Disk::that_says("up");
    let before = fs::read(disk.path()).unwrap();
    let port = plywood::probe::free_port().unwrap();
    let forward = format!("{port}:80");
    let mut machine = start(&mut disk.boot(&["--accel", "tcg", "--disk-size", "3G", "--forward", &forward]));
    wait_for(&mut machine, "up");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "QEMU listens on the port");
    machine.stdin.as_mut().unwrap().write_all(b"\x01cinfo block\n").unwrap();
    wait_for(&mut machine, "(qcow2)");
    machine.stdin.as_mut().unwrap().write_all(b"quit\n").unwrap();
    assert_eq!(machine.wait().unwrap().code(), Some(0));
    assert!(fs::read(disk.path()).unwrap() == before);
}

#[test]
fn the_error_for_ssh_without_answer_shows_the_end_of_the_console() {
    let disk = Disk::that_says("no server here");
    let run =
        disk.boot(&["--accel", "tcg", "--ssh", "root", "--timeout", "4", "--", "true"]).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("ssh -p ") && said.contains("root@127.0.0.1 true"), "{said}");
    assert!(said.contains("within 4 seconds\n  | ") && said.contains("no server here"), "{said}");
}
