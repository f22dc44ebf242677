//! Follows the tutorial, and then boots its machine with the signed loaders of the distribution
//! under Secure Boot. Needs root, the machine's package mirror, QEMU, OVMF, an ssh client,
//! docker-registry.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::reader::Reader;
use crate::common::registry::free_port;

/// UEFI firmware with Secure Boot, and its variables with the keys of Microsoft.
const FIRMWARE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"];

/// The time limit for the machine. QEMU emulates each instruction here.
const PATIENCE: Duration = Duration::from_secs(600);

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// A machine with a log of its console. It ends with the test.
struct Machine {
    qemu: Child,
    console: Arc<Mutex<Vec<u8>>>,
}

impl Machine {
    /// Starts the disk under Secure Boot. `port` is forwarded to its ssh server.
    fn start(disk: &Path, variables: &Path, port: u16) -> Self {
        fs::copy(FIRMWARE[1], variables)
            .unwrap_or_else(|error| panic!("{} (package ovmf): {error}", FIRMWARE[1]));
        let flash = |unit: u8, path: &str, options: &str| {
            ["-drive".to_owned(), format!("if=pflash,format=raw,unit={unit},file={path}{options}")]
        };
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35,smm=on", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024"])
            .args(["-global", "driver=cfi.pflash01,property=secure,value=on", "-nographic", "-no-reboot"])
            .args(flash(0, FIRMWARE[0], ",readonly=on"))
            .args(flash(1, variables.to_str().unwrap(), ""))
            .args(["-drive", &format!("if=virtio,format=qcow2,snapshot=on,file={}", disk.display())])
            .args(["-nic", &format!("user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:22")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("qemu-system-x86_64 (package qemu-system-x86): {error}"));
        let console = Arc::new(Mutex::new(Vec::new()));
        let (mut stdout, sink) = (qemu.stdout.take().unwrap(), console.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { qemu, console }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.lock().unwrap()).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Calls `attempt` until it returns a value.
fn wait<T>(machine: &Machine, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = attempt() {
            return found;
        }
        thread::sleep(Duration::from_secs(2));
    }
    panic!("{what} did not come; the console: {}", machine.console());
}

#[test]
fn the_machine_of_the_tutorial_starts_under_secure_boot_and_its_owner_can_log_in() {
    let reader = Reader::with_debian().with_registry();
    reader.follow("docs/tutorial.md");
    let project = reader.project.path().join("web");
    let definition = fs::read_to_string(project.join("plywood.toml")).unwrap();
    let packages = "[image.web]\npackages = [\"shim-signed\", \"grub-efi-amd64-signed\"]\n";
    fs::write(project.join("plywood.toml"), definition.replacen("[image.web]\n", packages, 1)).unwrap();
    let mut build = Command::new(env!("CARGO_BIN_EXE_plywood"));
    build.current_dir(&project).arg("--store").arg(reader.project.store()).args(["build", "web"]);
    succeed(&mut build);

    let port = free_port();
    let machine = Machine::start(&project.join("out/web.qcow2"), &project.join("variables.fd"), port);
    let report = "id -un; sudo -n true && echo root; cat /etc/motd; sudo dmesg | grep -o 'Secure boot enabled' | head -n 1";
    let printed = wait(&machine, "ssh", || {
        let mut ssh = Command::new("ssh");
        ssh.current_dir(&project).args(["-F", "none", "-i", "key", "-p", &port.to_string()]);
        for option in
            ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=5"]
        {
            ssh.args(["-o", option]);
        }
        let output = ssh.args(["me@127.0.0.1", report]).output().unwrap();
        output.status.success().then_some(output.stdout)
    });
    assert_eq!(String::from_utf8(printed).unwrap(), "me\nroot\nWelcome\nHave fun\nSecure boot enabled\n");
    wait(&machine, "a login on the console", || machine.console().contains("login:").then_some(()));
}
