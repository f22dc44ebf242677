//! Tests with kernels of other releases. Each kernel boots in QEMU and runs the tests of `mounts`,
//! which stack layers, build images and make disks. They need root, the machine's package mirror,
//! QEMU, a static C library, kmod and cpio.
//!
//! The guest is an initramfs with this test program, plywood as `make build` links it, and programs
//! of this machine. It has a disk for stores. The guest is always emulated, without KVM, so that it
//! behaves in the same way everywhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use plywood::exec::{Ending, Program, Run};

use crate::common::upstream;

const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };

/// The root of the system in the guest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Root {
    /// In the initramfs, where `pivot_root` does not work.
    Initramfs,
    Disk,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&said));
}

/// Returns the path of a script beside this file.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/kernels").join(name)
}

fn temporary() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Returns a directory with the kernel of a Debian release, `vmlinuz`, and the modules for the
/// guest. The first call downloads it.
fn kernel(suite: &str) -> PathBuf {
    let place = temporary().join("kernels").join(suite);
    if !place.join("vmlinuz").exists() {
        fs::create_dir_all(temporary().join("kernels")).unwrap();
        let partial = tempfile::tempdir_in(temporary().join("kernels")).unwrap();
        let [(_, mirror), _] = upstream::mirrors();
        run(Command::new(script("download")).args([suite, &mirror]).arg(partial.path()));
        fs::rename(partial.keep(), &place).unwrap();
    }
    place
}

/// Returns plywood as it is installed. Reuses the crates that were compiled for the tests, if they
/// are the same.
fn installed_plywood() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let target = temporary().join("installed");
        // `debug/tmp` is in cargo's target directory.
        let compiled = temporary().parent().unwrap();
        let mut make = Command::new("make");
        let binary = target.join("debug/plywood");
        make.args(["build", "BUILD=--features system-tests"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        make.arg(format!("BINARY={}", binary.display()));
        // With the variables that cargo sets for this program, crates that read them would be
        // compiled again.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
            make.env_remove(name);
        }
        make.env_remove("CARGO_MANIFEST_DIR")
            .env_remove("CARGO_MANIFEST_PATH")
            .env_remove("CARGO_MANIFEST_LINKS");
        run(make.env("CARGO_BUILD_BUILD_DIR", compiled).env("CARGO_TARGET_DIR", &target));
        binary
    })
}

/// Returns an initramfs without modules.
fn initramfs() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let tree = tempfile::tempdir_in(temporary()).unwrap();
        let program = std::env::current_exe().unwrap();
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/block-devices.md");
        run(Command::new(script("tree")).arg(tree.path()).args([&program, &page]));
        let inside = |path: &Path| tree.path().join(path.strip_prefix("/").unwrap());
        let plywood = inside(Path::new(env!("CARGO_BIN_EXE_plywood")));
        fs::create_dir_all(plywood.parent().unwrap()).unwrap();
        fs::copy(installed_plywood(), plywood).unwrap();
        fs::create_dir_all(inside(temporary())).unwrap();
        fs::copy(script("init"), tree.path().join("init")).unwrap();
        let settings = format!(
            "program='{}'\ntemporary='{}'\nPATH='{}'\n",
            program.display(),
            temporary().display(),
            env!("PATH")
        );
        fs::write(tree.path().join("settings"), settings).unwrap();
        archive(tree.path(), "guest.cpio")
    })
}

/// Packs a directory as an initramfs.
fn archive(directory: &Path, name: &str) -> PathBuf {
    let file = temporary().join("kernels").join(name);
    let mut cpio = Command::new("sh");
    cpio.args(["-c", "find . | cpio --quiet -o -H newc >\"$0\""]).arg(&file).current_dir(directory);
    run(&mut cpio);
    file
}

/// Boots the kernel of a Debian release, checks its version, and runs the tests there.
fn tests_pass_on(suite: &str, version: &str, root: Root) {
    let kernel = kernel(suite);
    let scratch = tempfile::tempdir_in(temporary()).unwrap();
    let modules = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-r").arg(kernel.join("modules")).arg(modules.path()));
    let modules = archive(modules.path(), &format!("{suite}.cpio"));
    let image = scratch.path().join("initramfs");
    // The kernel unpacks several archives in a row.
    let parts = [fs::read(initramfs()).unwrap(), fs::read(modules).unwrap()];
    fs::write(&image, parts.concat()).unwrap();
    let disk = scratch.path().join("disk");
    File::create(&disk).unwrap().set_len(4 << 30).unwrap();
    // Linux 5.10 does not support all default features of the current mke2fs.
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^orphan_file,^metadata_csum_seed"])
        .arg(&disk));
    let place = if root == Root::Disk { "disk" } else { "initramfs" };
    let command_line = format!("console=ttyS0 quiet panic=-1 root_is={place}");
    let guest = Run::new(QEMU)
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "1200", "-no-reboot"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
        .args(["-append", command_line.as_str()])
        .args([Path::new("-kernel"), &kernel.join("vmlinuz"), Path::new("-initrd"), &image])
        .args(["-drive".to_owned(), format!("if=virtio,format=raw,cache=unsafe,file={}", disk.display())]);
    let watched = guest.watch("", Duration::from_secs(600), &mut |_| {}).unwrap();
    let said = String::from_utf8_lossy(&watched.transcript);
    assert!(matches!(watched.ending, Ending::Exited(..)), "{:?}: {said}", watched.ending);
    assert!(said.lines().any(|line| line.starts_with(version)), "not Linux {version}: {said}");
    assert!(said.contains("tests ended with 0"), "{said}");
}

#[test]
fn linux_5_10_of_debian_11_builds_images_and_disks() {
    tests_pass_on("bullseye", "5.10.", Root::Disk);
}

#[test]
fn linux_6_1_of_debian_12_builds_images_and_disks_in_an_initramfs() {
    tests_pass_on("bookworm", "6.1.", Root::Initramfs);
}

#[test]
fn linux_6_12_of_debian_13_builds_images_and_disks() {
    tests_pass_on("trixie", "6.12.", Root::Disk);
}

/// A statically linked program needs no library of the machine.
#[test]
fn the_installed_program_needs_no_library_of_the_machine() {
    let headers = Command::new("readelf").args(["-lW"]).arg(installed_plywood()).output().unwrap();
    let headers = String::from_utf8(headers.stdout).unwrap();
    assert!(headers.contains("LOAD") && !headers.contains("INTERP"), "{headers}");
}
