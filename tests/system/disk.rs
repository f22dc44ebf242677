//! Tests of real disks: written on loop devices, booted with both firmwares, killed in the middle.
//!
//! Needs root, loop devices, mmdebstrap, gdisk, dosfstools, xfsprogs, qemu-system-x86, ovmf, and
//! the machine's own apt sources.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use plywood::block::LoopWriter;
use plywood::disk::{
    Boot, ByteSize, Content, DiskSize, Firmware, FsName, GrubTarget, Kernel, Layout, Machine, Request,
    RootFs, boot_command, early_config, fstab,
};
use plywood::exec::{Ending, Program, Run};
use plywood::image::Qcow2Compression;
use plywood::output::{Converter, Destination, DiskFormat, Qcow2Options};
use plywood::port::{BootImages, DiskError, DiskWriter};

const CMDLINE: &str = "console=tty0 console=ttyS0,115200";
const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };

/// Gives this thread its own mount namespace, as `main` does for the process.
fn enter_namespace() {
    plywood::sandbox::enter_private_mounts().expect("this test needs root and the right to mount");
}

fn writer(scratch: &Path) -> LoopWriter {
    LoopWriter::new(scratch.to_owned(), Arc::new(AtomicBool::new(false)))
}

fn request(root: RootFs, size: DiskSize) -> Request<'static> {
    Request {
        image: "test",
        size,
        firmware: [Firmware::Bios, Firmware::Uefi].into(),
        root,
        label: None,
        by: FsName::Uuid,
        source_date_epoch: 1_700_000_000,
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Makes a small tree with every kind of entry.
fn small_tree(root: &Path) {
    fs::create_dir_all(root.join("boot/efi/EFI/BOOT")).unwrap();
    fs::write(root.join("boot/efi/EFI/BOOT/BOOTX64.EFI"), vec![3; 300_000]).unwrap();
    fs::create_dir_all(root.join("dev")).unwrap();
    run("mknod", &[root.join("dev/null").to_str().unwrap(), "c", "1", "3"]);
    fs::write(root.join("ping"), "#!").unwrap();
    run("chown", &["1234:5678", root.join("ping").to_str().unwrap()]);
    run("setcap", &["cap_net_raw=ep", root.join("ping").to_str().unwrap()]);
    fs::hard_link(root.join("ping"), root.join("pong")).unwrap();
    std::os::unix::fs::lchown(
        {
            std::os::unix::fs::symlink("ping", root.join("link")).unwrap();
            root.join("link")
        },
        Some(7),
        Some(8),
    )
    .unwrap();
}

/// Returns the bytes of `raw` before and after the root partition.
fn around_root(raw: &Path, layout: &Layout) -> Vec<u8> {
    let root = layout.locate("/").unwrap().0.place.extent().unwrap();
    let disk = File::open(raw).unwrap();
    let mut bytes = vec![0; root.offset as usize];
    disk.read_exact_at(&mut bytes, 0).unwrap();
    let mut end = Vec::new();
    let mut tail = &disk;
    std::io::Seek::seek(&mut tail, std::io::SeekFrom::Start(root.offset + root.bytes)).unwrap();
    tail.read_to_end(&mut end).unwrap();
    [bytes, end].concat()
}

#[test]
fn both_file_systems_keep_everything_and_tables_are_the_same_twice() {
    enter_namespace();
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    small_tree(&tree);
    for root in [RootFs::Ext4, RootFs::Xfs] {
        let writer = writer(scratch.path());
        let layout =
            Layout::standard(&request(root, DiskSize::Auto), writer.measure(&tree).unwrap()).unwrap();
        let mut tables = Vec::new();
        for number in 0..2 {
            let raw = scratch.path().join(format!("{root:?}{number}.raw"));
            let mut disk = writer.create(&layout, &raw).unwrap();
            disk.fill(&tree).unwrap();
            let at = |path: &str| disk.root().join(path);
            let ping = fs::metadata(at("ping")).unwrap();
            assert_eq!((ping.uid(), ping.gid(), ping.nlink()), (1234, 5678, 2));
            assert!(run("getcap", &[at("pong").to_str().unwrap()]).contains("cap_net_raw=ep"));
            assert_eq!(fs::symlink_metadata(at("link")).unwrap().uid(), 7);
            assert_eq!(fs::metadata(at("dev/null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
            disk.finish(&BootImages::default()).unwrap();
            assert!(run("sgdisk", &["-v", raw.to_str().unwrap()]).contains("No problems found"));
            check_esp(&raw, &layout, scratch.path());
            tables.push(around_root(&raw, &layout));
        }
        assert!(tables[0] == tables[1], "{root:?}");
    }
    assert_eq!(attached(scratch.path()), [""; 0]);
}

#[test]
fn a_large_disk_takes_no_space_before_it_is_filled() {
    enter_namespace();
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    small_tree(&tree);
    let size = DiskSize::Given(ByteSize::from_mebibytes(200 * 1024));
    let (raw, writer) = (scratch.path().join("large.raw"), writer(scratch.path()));
    let layout = Layout::standard(&request(RootFs::Ext4, size), writer.measure(&tree).unwrap()).unwrap();
    let mut disk = writer.create(&layout, &raw).unwrap();
    disk.fill(&tree).unwrap();
    disk.finish(&BootImages::default()).unwrap();
    // Inode tables alone would be 3.2 GiB.
    let allocated = fs::metadata(&raw).unwrap().blocks() * 512;
    assert!(allocated < 256 << 20, "{allocated} bytes");
}

fn check_esp(raw: &Path, layout: &Layout, scratch: &Path) {
    let esp = layout.locate("/boot/efi").unwrap().0.place.extent().unwrap();
    let mut bytes = vec![0; esp.bytes as usize];
    File::open(raw).unwrap().read_exact_at(&mut bytes, esp.offset).unwrap();
    let file = scratch.join("esp.img");
    fs::write(&file, bytes).unwrap();
    run("fsck.fat", &["-n", file.to_str().unwrap()]);
    assert!(run("mdir", &["-i", file.to_str().unwrap(), "-b", "::EFI/BOOT"]).contains("BOOTX64.EFI"));
}

/// Returns the backing files of loop devices below `directory`.
fn attached(directory: &Path) -> Vec<String> {
    let devices =
        fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path().join("loop/backing_file"));
    let files = devices.filter_map(|file| fs::read_to_string(file).ok());
    files.filter(|file| file.starts_with(directory.to_str().unwrap())).collect()
}

#[test]
fn content_that_does_not_fit_is_an_error_with_both_sizes() {
    enter_namespace();
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("large"), vec![1; 600 << 20]).unwrap();
    let layout = Layout::standard(&request(RootFs::Ext4, DiskSize::Auto), Content::default()).unwrap();
    let raw = scratch.path().join("disk.raw");
    let mut disk = writer(scratch.path()).create(&layout, &raw).unwrap();
    let error = disk.fill(&tree).unwrap_err();
    let DiskError::TooSmall { given_bytes, needed_bytes } = error else { panic!("{error}") };
    assert!(
        given_bytes == layout.bytes && needed_bytes > layout.bytes + (200 << 20),
        "{given_bytes} {needed_bytes}"
    );
    drop(disk);
    assert_eq!(attached(scratch.path()), [""; 0]);
    assert!(!scratch.path().join("disk.raw.mount").exists());
}

const VICTIM_DIRECTORY: &str = "PLYWOOD_TEST_VICTIM_DIRECTORY";

#[test]
#[ignore = "started, and killed, by `a_kill_at_any_time_leaves_nothing`"]
fn victim() {
    enter_namespace();
    let scratch = PathBuf::from(std::env::var_os(VICTIM_DIRECTORY).expect("a directory from the killer"));
    let layout = Layout::standard(&request(RootFs::Ext4, DiskSize::Auto), Content::default()).unwrap();
    for number in 0.. {
        let mut disk = writer(&scratch).create(&layout, &scratch.join(format!("{number}.raw"))).unwrap();
        disk.fill(&scratch.join("tree")).unwrap();
        disk.finish(&BootImages::default()).unwrap();
    }
}

fn start_victim(scratch: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "disk::victim", "--ignored"]).env(VICTIM_DIRECTORY, scratch);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_kill_at_any_time_leaves_nothing() {
    for round in 0..12u64 {
        let scratch = tempfile::tempdir().unwrap();
        small_tree(&scratch.path().join("tree"));
        let mut victim = start_victim(scratch.path());
        let started = Instant::now();
        while attached(scratch.path()).is_empty() {
            assert!(started.elapsed() < Duration::from_secs(20), "the victim attached nothing");
        }
        std::thread::sleep(Duration::from_millis(round * round * 5));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let killed = Instant::now();
        while !attached(scratch.path()).is_empty() {
            assert!(
                killed.elapsed() < Duration::from_secs(20),
                "round {round}: {:?}",
                attached(scratch.path())
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Limits the initramfs to the modules that start a virtual machine.
const SMALL_INITRAMFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/small_initramfs.sh");

/// Makes a Debian with everything that a bootable disk needs.
fn debian(tree: &Path) {
    let packages = "linux-image-cloud-amd64,initramfs-tools,systemd-sysv,zstd,\
                    grub2-common,grub-pc-bin,grub-efi-amd64-bin";
    let small_initramfs = format!("--essential-hook=chroot \"$1\" bash <'{SMALL_INITRAMFS}'");
    let include = format!("--include={packages}");
    run("mmdebstrap", &["--variant=minbase", &include, &small_initramfs, "bookworm", tree.to_str().unwrap()]);
    fs::write(tree.join("etc/hostname"), "pressed\n").unwrap();
    fs::create_dir_all(tree.join("boot/efi/EFI/BOOT")).unwrap();
    fs::create_dir_all(tree.join("boot/grub")).unwrap();
}

/// Makes a core image with the GRUB of `tree`.
fn grub_image(tree: &Path, layout: &Layout, target: GrubTarget) -> Vec<u8> {
    fs::write(tree.join("tmp/early.cfg"), early_config(layout)).unwrap();
    let arguments = target.mkimage_arguments("/tmp/early.cfg", "/tmp/core");
    let mut words = vec![tree.to_str().unwrap(), "grub-mkimage"];
    words.extend(arguments.iter().map(String::as_str));
    run("chroot", &words);
    fs::read(tree.join("tmp/core")).unwrap()
}

/// Writes the tree to a bootable raw disk, as a build does.
fn press(tree: &Path, root: RootFs, scratch: &Path) -> PathBuf {
    let writer = writer(scratch);
    let layout = Layout::standard(&request(root, DiskSize::Auto), writer.measure(tree).unwrap()).unwrap();
    let boot = Boot { layout: &layout, title: "Debian GNU/Linux", cmdline: CMDLINE, timeout: 1 };
    let raw = scratch.join(format!("{root:?}.raw"));
    let mut disk = writer.create(&layout, &raw).unwrap();
    disk.fill(tree).unwrap();
    let names: Vec<_> = fs::read_dir(tree.join("boot")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let kernels = Kernel::find(names.iter().filter_map(|name| name.to_str()));
    let write = |path: &str, content: &[u8]| fs::write(disk.root().join(path), content).unwrap();
    write("etc/fstab", fstab(&layout).as_bytes());
    write("boot/grub/grub.cfg", boot.config(&kernels).as_bytes());
    let efi = format!("boot/efi/{}", GrubTarget::EFI_FALLBACK);
    write(&efi, &grub_image(tree, &layout, GrubTarget::X86_64Efi));
    let boot_image = fs::read(tree.join("usr/lib/grub/i386-pc/boot.img")).unwrap();
    let bios = Some((boot_image, grub_image(tree, &layout, GrubTarget::I386Pc)));
    disk.finish(&BootImages { bios }).unwrap();
    raw
}

/// The first boot writes the menu as a kernel upgrade does, and reboots with it.
const REWRITE_MENU: &str = "\
[Unit]
ConditionPathExists=!/etc/menu-rewritten
Before=getty.target serial-getty@ttyS0.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'update-grub && touch /etc/menu-rewritten && echo menu rewritten >/dev/console && systemctl reboot && sleep 300'
";

/// The defaults that the element `bootloader` writes.
const DEFAULTS: &str = "\
GRUB_TIMEOUT=1
GRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200\"
GRUB_DISABLE_OS_PROBER=true
GRUB_TERMINAL=\"console serial\"
GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"
";

/// Adds a unit to the tree that rewrites the menu at the first boot.
fn rewrite_menu_at_first_boot(tree: &Path) {
    let units = tree.join("etc/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
    fs::write(units.join("rewrite-menu.service"), REWRITE_MENU).unwrap();
    let wanted = units.join("multi-user.target.wants/rewrite-menu.service");
    std::os::unix::fs::symlink("../rewrite-menu.service", wanted).unwrap();
    fs::write(tree.join("etc/default/grub"), DEFAULTS).unwrap();
}

/// The handling of a machine's writes to the disk.
#[derive(Clone, Copy, PartialEq)]
enum Writes {
    Stay,
    Vanish,
}

/// Runs the disk until its console shows `text` or the machine ends. Returns the text of the
/// console.
fn console(disk: &Path, firmware: Firmware, writes: Writes, text: &str) -> (Ending, String) {
    let ovmf = Path::new(plywood::host::OVMF.name);
    let memory = ByteSize::from_mebibytes(1024);
    let machine = Machine {
        disk,
        format: "qcow2",
        firmware,
        ovmf,
        memory,
        seed: None,
        accelerator: plywood::disk::Accelerator::Tcg,
        console: plywood::disk::Console::Output,
        writes: plywood::disk::Writes::Discarded,
        forwards: &[],
    };
    let arguments = boot_command(&machine).into_iter().map(|argument| match writes {
        Writes::Stay => argument.replace("snapshot=on", "snapshot=off"),
        Writes::Vanish => argument,
    });
    let run = Run::new(QEMU).args(arguments);
    let watched = run.watch(text, Duration::from_secs(400), &mut |_| {}).unwrap();
    (watched.ending, String::from_utf8_lossy(&watched.transcript).into_owned())
}

/// Boots with plywood's menu, lets the system write its own, and boots with that.
fn boots_and_boots_again(disk: &Path, firmware: Firmware) {
    let (ending, transcript) = console(disk, firmware, Writes::Stay, "never on a console");
    assert!(matches!(ending, Ending::Exited(status, _) if status.success()), "{firmware:?}: {transcript}");
    assert!(transcript.contains("menu rewritten"), "{firmware:?}: {transcript}");
    run("qemu-img", &["check", disk.to_str().unwrap()]);
    let (ending, transcript) = console(disk, firmware, Writes::Vanish, "pressed login:");
    assert!(matches!(ending, Ending::Found), "{firmware:?} {ending:?}: {transcript}");
    assert!(transcript.contains("Mounted") && transcript.contains("/boot/efi"), "{transcript}");
    assert!(!transcript.contains("[FAILED]"), "{transcript}");
}

#[test]
fn a_debian_boots_with_bios_and_uefi_and_again_with_the_menu_that_it_writes() {
    enter_namespace();
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    debian(&tree);
    rewrite_menu_at_first_boot(&tree);
    for (root, firmware) in [(RootFs::Ext4, Firmware::Uefi), (RootFs::Xfs, Firmware::Bios)] {
        let raw = press(&tree, root, scratch.path());
        let converter = Converter {
            identity: plywood::disk::Identity::new("test"),
            source_date_epoch: 1_700_000_000,
            qcow2: Qcow2Options { compression: Qcow2Compression::Zstd, ..Qcow2Options::default() },
            clusters: None,
            interrupt: Arc::new(AtomicBool::new(false)),
        };
        let disk = converter
            .convert(&raw, &Destination::at(&raw.with_extension("qcow2")).unwrap(), DiskFormat::Qcow2)
            .unwrap();
        boots_and_boots_again(&disk.path, firmware);
    }
}
