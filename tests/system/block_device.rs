//! Tests that write disks of block-device files and read them with other programs.
//!
//! Needs root, loop devices, fdisk, gdisk, dosfstools, mtools, xfsprogs. Disks are booted with
//! diskimage-builder's elements, in `dib_elements`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use plywood::block::{LoopWriter, has_device_mapper};
use plywood::disk::{
    BlockDevices, Extent, FsKind, Layout, Partition, PartitionEntry, PartitionKind, RootParameters,
    SectorSize, Table, probe_answers,
};
use plywood::port::{BootImages, DiskError, DiskWriter};

const BARE: &str = "
- local_loop:
    name: image0
    mkfs: { name: mkfs_root, mount: { mount_point: /, fstab: { fsck-passno: 1 } } }
";

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/block-device").join(name);
    fs::read_to_string(path).unwrap()
}

fn writer(scratch: &Path) -> LoopWriter {
    plywood::sandbox::enter_private_mounts().expect("this test needs root and the right to mount");
    LoopWriter::new(scratch.to_owned(), Arc::new(AtomicBool::new(false)))
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Makes a tree with a file below each mount point of the layouts.
fn tree(scratch: &Path) -> PathBuf {
    let tree = scratch.join("tree");
    for path in ["", "boot", "boot/efi", "var", "var/log", "srv/data"] {
        fs::create_dir_all(tree.join(path)).unwrap();
        fs::write(tree.join(path).join("file"), vec![7; 100_000]).unwrap();
    }
    tree
}

/// Writes the disk twice, checks that both have the same tables, and returns it.
fn write(text: &str, tree: &Path, scratch: &Path) -> (Layout, PathBuf) {
    let writer = writer(scratch);
    let parameters = RootParameters { size_gibibytes: Some(1.0), ..RootParameters::default() };
    let devices = BlockDevices::parse("disk.yaml", text, &parameters).unwrap();
    let layout = devices.layout("test", writer.measure(tree).unwrap(), 1_700_000_000).unwrap();
    let raws = ["first.raw", "second.raw"].map(|name| scratch.join(name));
    for raw in &raws {
        let mut disk = writer.create(&layout, raw).unwrap();
        disk.fill(tree).unwrap();
        for file_system in layout.mounts() {
            let path = file_system.mount_path().unwrap();
            if path != "none" {
                let file = disk.root().join(path.trim_start_matches('/')).join("file");
                assert_eq!(fs::metadata(&file).unwrap().len(), 100_000, "{}", file.display());
            }
        }
        disk.finish(&BootImages::default()).unwrap();
    }
    assert!(outside(&raws[0], &layout) == outside(&raws[1], &layout), "{text}");
    fs::remove_file(&raws[1]).unwrap();
    (layout, raws.into_iter().next().unwrap())
}

/// Returns the bytes of the disk outside of partitions.
fn outside(raw: &Path, layout: &Layout) -> Vec<u8> {
    let disk = File::open(raw).unwrap();
    let (mut bytes, mut position) = (Vec::new(), 0);
    let end = Extent { offset: layout.bytes, bytes: 0 };
    let partitions = layout.partitions.iter().map(|partition| partition.extent);
    for extent in partitions.chain((layout.table != Table::None).then_some(end)) {
        let mut gap = vec![0; (extent.offset - position) as usize];
        disk.read_exact_at(&mut gap, position).unwrap();
        bytes.extend(gap);
        position = extent.offset + extent.bytes;
    }
    bytes
}

/// Checks every file system with its own program, and with blkid.
fn check_file_systems(layout: &Layout, raw: &Path, scratch: &Path) {
    for file_system in &layout.file_systems {
        let extent = file_system.place.extent().unwrap();
        let part = scratch.join("part.img");
        copy(raw, extent, &part);
        let part = part.to_str().unwrap();
        match file_system.kind {
            FsKind::Ext { .. } => drop(run("e2fsck", &["-fn", part])),
            FsKind::Xfs(_) => drop(run("xfs_repair", &["-n", "-f", part])),
            FsKind::Vfat(_) => {
                run("fsck.fat", &["-n", part]);
                assert!(run("mdir", &["-i", part, "-b", "::"]).contains("file"), "{file_system:?}");
            }
            FsKind::Btrfs(_) | FsKind::Swap(_) => {}
        }
        let found = run("blkid", &["--probe", "-o", "export", part]);
        for line in [
            format!("TYPE={}", file_system.kind.name()),
            format!("LABEL={}", file_system.label),
            format!("UUID={}", file_system.kind.uuid()),
        ] {
            assert!(found.lines().any(|found| found == line), "{line} is not in:\n{found}");
        }
    }
}

fn copy(raw: &Path, extent: Extent, part: &Path) {
    let (from, to) = (File::open(raw).unwrap(), File::create(part).unwrap());
    to.set_len(extent.bytes).unwrap();
    let mut buffer = vec![0; 1 << 20];
    for start in (0..extent.bytes).step_by(buffer.len()) {
        let count = buffer.len().min((extent.bytes - start) as usize);
        from.read_exact_at(&mut buffer[..count], extent.offset + start).unwrap();
        if buffer[..count].iter().any(|byte| *byte != 0) {
            to.write_all_at(&buffer[..count], start).unwrap();
        }
    }
}

/// Returns the table as partx reads it: number, first and last sector, type.
fn partx(raw: &Path) -> Vec<String> {
    let columns = ["--raw", "--output", "NR,START,END,TYPE", "-g", "-b", "-"];
    let text = run("partx", &[&columns[..], &[raw.to_str().unwrap()]].concat());
    text.lines().map(str::to_owned).collect()
}

fn expected_by_partx(layout: &Layout) -> Vec<String> {
    let line = |partition: &Partition| {
        let Extent { offset, bytes } = partition.extent;
        let kind = match partition.entry {
            PartitionEntry::Gpt { kind, .. } => kind.0.to_string(),
            PartitionEntry::Mbr { kind, .. } => format!("{kind:#x}"),
        };
        format!("{} {} {} {kind}", partition.number, offset / 512, (offset + bytes) / 512 - 1)
    };
    layout.partitions.iter().map(line).collect()
}

#[test]
fn other_programs_can_read_every_layout() {
    for name in ["bare", "mbr.yaml", "gpt.yaml", "efi.yaml", "many.yaml"] {
        let scratch = tempfile::tempdir().unwrap();
        let text = if name == "bare" { BARE.to_owned() } else { fixture(name) };
        let (layout, raw) = write(&text, &tree(scratch.path()), scratch.path());
        check_file_systems(&layout, &raw, scratch.path());
        let found: Vec<_> = match layout.table {
            Table::None => Vec::new(),
            _ => partx(&raw).into_iter().filter(|line| !line.ends_with(" 0xf")).collect(),
        };
        assert_eq!(found, expected_by_partx(&layout), "{name}");
        match layout.table {
            Table::None => {}
            Table::Gpt { .. } => {
                assert!(run("sgdisk", &["-v", raw.to_str().unwrap()]).contains("No problems found"));
            }
            Table::Mbr { id } => {
                let dump = run("sfdisk", &["--dump", raw.to_str().unwrap()]);
                assert!(dump.contains(&format!("label-id: {id:#010x}")), "{dump}");
                let bootable: Vec<_> = dump.lines().filter(|line| line.contains("bootable")).collect();
                assert_eq!(bootable.len(), 1, "{dump}");
                assert!(!run("sfdisk", &["--verify", raw.to_str().unwrap()]).contains("overlap"));
            }
        }
        assert_eq!(fs::metadata(&raw).unwrap().size(), layout.bytes);
    }
}

/// If a code meant another type than in sgdisk, no other test would notice it.
#[test]
fn codes_of_partition_types_mean_the_same_as_in_sgdisk() {
    let scratch = tempfile::tempdir().unwrap();
    let codes = [
        "0700", "0c01", "2700", "3000", "3001", "4100", "8200", "8300", "8301", "8302", "8303", "8304",
        "8305", "8306", "8307", "8308", "8309", "830a", "830b", "830c", "830d", "830e", "830f", "8310",
        "8311", "8312", "8313", "8314", "8315", "8316", "8317", "8318", "8319", "831a", "831b", "8e00",
        "ea00", "ef00", "ef02", "fd00",
    ];
    let raw = scratch.path().join("disk.raw");
    File::create(&raw).unwrap().set_len(64 << 20).unwrap();
    let mut arguments = Vec::new();
    for (number, code) in (1..).zip(codes) {
        arguments.extend([format!("--new={number}:0:+1M"), format!("--typecode={number}:{code}")]);
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).chain([raw.to_str().unwrap()]).collect();
    run("sgdisk", &arguments);
    let ours = codes.map(|code| PartitionKind::parse(code).unwrap().0.to_string());
    let theirs: Vec<_> =
        partx(&raw).iter().map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(theirs, ours);
}

#[test]
fn partx_can_read_a_long_chain_of_logical_partitions() {
    let scratch = tempfile::tempdir().unwrap();
    let swap = |number| format!("{{ name: p{number}, size: 10MiB, mkfs: {{ type: swap }} }}");
    let chain: Vec<_> = (5..40).map(swap).collect();
    let text = format!(
        "- local_loop: {{ name: image0, size: 1GiB }}\n- partitioning: {{ base: image0, label: mbr, partitions: [\
         {{ name: root, size: 400MiB, flags: [primary], mkfs: {{ mount: {{ mount_point: / }} }} }}, {}] }}\n",
        chain.join(", ")
    );
    let (layout, raw) = write(&text, &tree(scratch.path()), scratch.path());
    let mut expected = expected_by_partx(&layout);
    expected.insert(1, "2 821248 2097151 0xf".to_owned());
    assert_eq!(partx(&raw), expected);
}

/// Calls the replacement of grub-probe as grub-mkconfig does.
fn ask(layout: &Layout, arguments: &[&str]) -> String {
    let answers = probe_answers(layout);
    run("sh", &[&["-c", &answers, "grub-probe"], arguments].concat()).trim_end().to_owned()
}

#[test]
fn answers_to_grub_mkconfig_come_from_the_layout() {
    let parameters = RootParameters::default();
    let devices = BlockDevices::parse("disk.yaml", &fixture("many.yaml"), &parameters).unwrap();
    let layout = devices.layout("test", plywood::disk::Content::default(), 0).unwrap();
    let [root, boot] = ["/", "/boot"].map(|path| layout.locate(path).unwrap().0);
    let device = ask(&layout, &["--target=device", "/"]);
    assert_eq!(device, format!("/dev/disk/by-uuid/{}", root.kind.uuid()));
    let partition = layout.partition_uuid(layout.partition_of(root).unwrap());
    for (arguments, expected) in [
        (&["--device", &device, "--target=fs_uuid"][..], root.kind.uuid()),
        (&["-t", "fs", "/boot/grub"], "ext2".to_owned()),
        (&["--target=fs_uuid", "/boot/grub"], boot.kind.uuid()),
        (&["--target=fs", "/srv/data/x"], "fat".to_owned()),
        (&["--target=fs", "/var/lib"], "xfs".to_owned()),
        (&["--target=fs_label", "/usr/share"], "cloudimg-rootfs".to_owned()),
        (&["--device", &device, "--target=partmap"], "msdos".to_owned()),
        (&["--device", "LABEL=cloudimg-rootfs", "--target=abstraction"], String::new()),
        (&["--device", &device, "--target=hints_string"], String::new()),
        (&["--device", &device, "--target=partuuid"], partition),
    ] {
        assert_eq!(ask(&layout, arguments), expected, "{arguments:?}");
    }
}

/// A loop device that shows a file with large sectors.
struct LargeSectors(String);

impl LargeSectors {
    fn of(raw: &Path) -> Self {
        let options = ["--sector-size", "4096", "--find", "--show"];
        Self(run("losetup", &[&options[..], &[raw.to_str().unwrap()]].concat()).trim().to_owned())
    }
}

impl Drop for LargeSectors {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.0]);
    }
}

#[test]
fn sgdisk_can_read_a_disk_with_large_sectors_and_its_fat_has_them_too() {
    let scratch = tempfile::tempdir().unwrap();
    let (layout, raw) = write(&fixture("efi-4k.yaml"), &tree(scratch.path()), scratch.path());
    assert_eq!(layout.sector, SectorSize::B4096);
    let device = LargeSectors::of(&raw);
    assert!(run("sgdisk", &["-v", &device.0]).contains("No problems found"));
    let printed = run("sgdisk", &["-p", &device.0]);
    for (partition, code) in layout.partitions.iter().zip(["EF00", "EF02", "8300"]) {
        let first = (partition.extent.offset / 4096).to_string();
        let line = printed.lines().find(|line| line.ends_with(&partition.name)).expect("a line a partition");
        assert!(line.split_whitespace().nth(1) == Some(&first) && line.contains(code), "{printed}");
    }
    check_file_systems(&layout, &raw, scratch.path());
}

#[test]
fn logical_volumes_are_made_or_refused_before_anything_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let text = fixture("efi-lvm.yaml").replace("40G", "2G").replace("57%VG", "30%VG");
    let parameters = RootParameters { size_gibibytes: Some(3.0), ..RootParameters::default() };
    let devices = BlockDevices::parse("disk.yaml", &text, &parameters).unwrap();
    assert!(devices.has_volumes());
    let layout = devices.layout("test", plywood::disk::Content::default(), 0).unwrap();
    let made = writer(scratch.path()).create(&layout, &scratch.path().join("disk.raw"));
    match has_device_mapper() {
        true => made.unwrap().finish(&BootImages::default()).unwrap(),
        false => {
            eprintln!("logical volumes were not made here: the kernel has no device mapper");
            assert!(matches!(made.err(), Some(DiskError::NoDeviceMapper)));
            assert!(!scratch.path().join("disk.raw").exists());
        }
    }
}
