//! Tests the first boot of a cloud machine: with a larger disk, and a seed with the account. Needs
//! root, the machine's package mirror, QEMU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The command with which the machine prints its result at the end.
const RESULT: &str = "printf 'RESULT host=%s user=%s keys=%s sudo=%s root=%sG END\\n' \
    \"$(hostname)\" \"$(id -un alice)\" \"$(grep -c alice@desk /home/alice/.ssh/authorized_keys)\" \
    \"$(su alice -c 'sudo -n true' >/dev/null 2>&1 && echo yes || echo no)\" \
    \"$(df --output=size -BG / | tail -n 1 | tr -dc 0-9)\" >/dev/console";

fn tool(program: &str, package: &str) -> Command {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    assert!(found.status.success(), "this test needs the program `{program}` (Debian package {package})");
    Command::new(program)
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// Builds the disk of a cloud machine, with layers that test runs share.
fn cloud_disk(directory: &Path) -> PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cloud-vm");
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store");
    succeed(
        Command::new(env!("CARGO_BIN_EXE_plywood"))
            .arg("--project")
            .arg(example)
            .arg("--store")
            .arg(store)
            .args(["build", "bookworm", "--format", "qcow2", "--output"])
            .arg(directory),
    );
    directory.join("bookworm.qcow2")
}

/// Makes a disk for cloud-init's data source NoCloud.
///
/// Source: cloud-init documentation, "NoCloud", "Source 2: drive with labelled filesystem".
fn seed(directory: &Path) -> PathBuf {
    let user_data = format!(
        "#cloud-config\nhostname: seeded\nusers:\n  - name: alice\n    shell: /bin/bash\n    sudo: 'ALL=(ALL) NOPASSWD:ALL'\n    \
         ssh_authorized_keys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ1aWxkZXItc2VlZC1rZXktZm9yLXRlc3Rz alice@desk']\n\
         runcmd:\n  - [bash, -c, {RESULT:?}]\n"
    );
    fs::write(directory.join("user-data"), user_data).unwrap();
    fs::write(directory.join("meta-data"), "instance-id: test-1\nlocal-hostname: seeded\n").unwrap();
    let seed = directory.join("seed.iso");
    succeed(tool("xorriso", "xorriso").current_dir(directory).args([
        "-as",
        "mkisofs",
        "-quiet",
        "-V",
        "CIDATA",
        "-J",
        "-r",
        "-o",
        "seed.iso",
        "user-data",
        "meta-data",
    ]));
    seed
}

#[test]
fn a_machine_applies_its_seed_and_grows_its_root_at_the_first_boot() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = cloud_disk(directory.path());
    succeed(tool("qemu-img", "qemu-utils").arg("resize").arg(&disk).arg("9G"));
    tool("qemu-system-x86_64", "qemu-system-x86");
    let booted = Command::new(env!("CARGO_BIN_EXE_plywood"))
        .arg("boot")
        .arg(&disk)
        .arg("--seed")
        .arg(seed(directory.path()))
        .args(["--expect", "G END", "--timeout", "600"])
        .output()
        .unwrap();
    let console = String::from_utf8_lossy(&booted.stdout);
    let result = console.lines().find_map(|line| line.split_once("RESULT ").map(|(_, result)| result.trim()));
    assert_eq!(result, Some("host=seeded user=alice keys=1 sudo=yes root=9G END"), "{console}");
}
