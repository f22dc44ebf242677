//! Pins the same facts as diskimage-builder's own tests, with plywood's own files.

use std::path::Path;

use super::*;
use crate::disk::{Partition, PartitionEntry, SectorSize, fstab, make_arguments};

const MBR: &str = include_str!("../../../tests/fixtures/block-device/mbr.yaml");
const GPT: &str = include_str!("../../../tests/fixtures/block-device/gpt.yaml");
const EFI: &str = include_str!("../../../tests/fixtures/block-device/efi.yaml");
const EFI_4K: &str = include_str!("../../../tests/fixtures/block-device/efi-4k.yaml");
const EFI_LVM: &str = include_str!("../../../tests/fixtures/block-device/efi-lvm.yaml");
const MANY: &str = include_str!("../../../tests/fixtures/block-device/many.yaml");

const CONTENT: Content = Content { bytes: 1 << 30, entries: 20_000, blocks: 1 << 18, inodes: 20_000 };

fn parse(text: &str) -> BlockDevices {
    BlockDevices::parse("disk.yaml", text, &RootParameters::default()).unwrap()
}

fn layout(text: &str) -> Layout {
    parse(text).layout("builder", CONTENT, 1_700_000_000).unwrap()
}

/// Returns a disk of 1 GiB with these partitions. The first one is the root.
fn table(label: &str, partitions: &str) -> String {
    format!(
        "- local_loop: {{ name: image0, size: 1GiB }}\n- partitioning: {{ base: image0, label: {label}, partitions: [{partitions}] }}\n\
         - mkfs: {{ name: mkfs_root, base: p0, mount: {{ mount_point: / }} }}\n"
    )
}

fn partitions(count: usize, keys: &str) -> String {
    (0..count).map(|number| format!("{{ name: p{number}, {keys} }}, ")).collect()
}

/// Number, first and last sector of each partition.
fn sectors(layout: &Layout) -> Vec<(u32, u64, u64)> {
    let unit = layout.sector.bytes();
    let place = |partition: &Partition| {
        let extent = partition.extent;
        (partition.number, extent.offset / unit, (extent.offset + extent.bytes) / unit - 1)
    };
    layout.partitions.iter().map(place).collect()
}

#[test]
fn tree_form_and_graph_form_are_equal() {
    let graph = "
- fstab: { name: fstab_mount_mkfs_root, base: mount_mkfs_root, options: defaults, fsck-passno: 1 }
- mount: { name: mount_mkfs_root, base: mkfs_root, mount_point: / }
- mkfs: { name: mkfs_root, base: root }
- partitioning:
    name: mbr
    base: image0
    label: mbr
    partitions:
      - { name: root, base: image0, flags: [boot, primary], size: 100% }
- local_loop: { name: image0 }
";
    assert_eq!(layout(MBR), layout(graph));
    let names = Nodes::read(&Item::parse(MBR).unwrap()).unwrap();
    assert_eq!(names.mounts[0].name.text, "mount_mkfs_root");
    assert_eq!(names.fstabs[0].name.text, "fstab_mount_mkfs_root");
}

#[test]
fn the_built_in_layouts_are_pinned() {
    let bare = DiskSource::BARE;
    for (name, text) in [("bare", bare), ("mbr", MBR), ("gpt", GPT), ("efi", EFI), ("efi-4k", EFI_4K)] {
        insta::assert_debug_snapshot!(name, layout(text));
    }
    assert_eq!(layout(EFI_4K).sector, SectorSize::B4096);
    assert_eq!(layout(bare).bios_boot(), None);
    assert_eq!(layout(MBR).bios_boot().unwrap().bytes, (1 << 20) - 512);
}

/// The tables that diskimage-builder's tests expect from partx, with partitions of 10 MiB.
#[test]
fn primary_and_logical_partitions_are_placed_as_in_diskimage_builder() {
    let primary = partitions(3, "size: 10MiB, flags: [primary]");
    let logical: String = (3..10).map(|number| format!("{{ name: p{number}, size: 10MiB }}, ")).collect();
    for (partitions, expected) in [
        (partitions(1, "size: 10MiB"), vec![(5, 4096, 24575)]),
        (partitions(1, "size: 10MiB, flags: [primary]"), vec![(1, 2048, 22527)]),
        (primary.clone(), vec![(1, 2048, 22527), (2, 22528, 43007), (3, 43008, 63487)]),
        (
            primary + &logical,
            vec![
                (1, 2048, 22527),
                (2, 22528, 43007),
                (3, 43008, 63487),
                (5, 65536, 86015),
                (6, 88064, 108_543),
                (7, 110_592, 131_071),
                (8, 133_120, 153_599),
                (9, 155_648, 176_127),
                (10, 178_176, 198_655),
                (11, 200_704, 221_183),
            ],
        ),
    ] {
        assert_eq!(sectors(&layout(&table("mbr", &partitions))), expected);
    }
    let many = layout(&table("mbr", &partitions(64, "size: 10MiB")));
    let expected: Vec<_> = (0..64).map(|n| (n as u32 + 5, 4096 + n * 22528, 24575 + n * 22528)).collect();
    assert_eq!(sectors(&many), expected);
}

/// A FAT32 partition, as in diskimage-builder's tests.
#[test]
fn a_partition_has_the_requested_type() {
    let layout = layout(&table("mbr", &partitions(1, "size: 10MiB, type: 0x0c, flags: [primary]")));
    let PartitionEntry::Mbr { kind, .. } = layout.partitions[0].entry else { panic!("{layout:?}") };
    assert_eq!((kind, sectors(&layout)), (0x0c, vec![(1, 2048, 22527)]));
}

#[test]
fn partitions_of_a_gpt_are_whole_mebibytes_and_percents_of_the_rest() {
    let three = "{ name: esp, size: 8MiB, type: EF00 }, { name: bsp, size: 8MiB, type: EF02 }, { name: p0, size: 100% }";
    let mebibytes = |layout: &Layout| -> Vec<_> {
        layout.partitions.iter().map(|p| (p.extent.offset >> 20, p.extent.bytes >> 20)).collect()
    };
    assert_eq!(mebibytes(&layout(&table("gpt", three))), [(1, 8), (9, 8), (17, 1006)]);
    let halves = "{ name: p0, size: 50% }, { name: b, size: 50% }, { name: c, size: 100% }";
    assert_eq!(mebibytes(&layout(&table("gpt", halves))), [(1, 511), (512, 255), (767, 256)]);
}

/// Azure accepts only such a vhd, and a disk is the same in every format.
#[test]
fn every_disk_has_whole_mebibytes() {
    for (size, mebibytes) in [("500MB", 477), ("500MiB", 500), ("524288001", 501)] {
        let text = format!(
            "- local_loop: {{ name: image0, size: {size} }}\n- mkfs: {{ name: root, base: image0, type: ext4, mount: {{ mount_point: / }} }}\n"
        );
        assert_eq!(layout(&text).bytes, mebibytes << 20, "{size}");
    }
}

#[test]
fn a_disk_with_every_kind_of_node_is_pinned() {
    let layout = layout(MANY);
    insta::assert_debug_snapshot!("many", layout);
    insta::assert_snapshot!("fstab", fstab(&layout));
    let arguments =
        layout.file_systems.iter().map(|fs| make_arguments(fs, Path::new("/dev/loop7")).join(" ") + "\n");
    insta::assert_snapshot!("mkfs", arguments.collect::<String>());
    let boot: Vec<_> = layout.partitions.iter().filter(|partition| is_active(partition)).collect();
    assert_eq!(boot.iter().map(|partition| partition.name.as_str()).collect::<Vec<_>>(), ["root"]);
}

fn is_active(partition: &Partition) -> bool {
    matches!(partition.entry, PartitionEntry::Mbr { boot: crate::disk::BootFlag::Active, .. })
}

#[test]
fn parents_come_before_children_and_swap_space_is_last() {
    let layout = layout(MANY);
    let paths: Vec<_> = layout.mounts().into_iter().filter_map(|fs| fs.mount_path()).collect();
    assert_eq!(paths, ["/", "/boot", "/srv/data", "/var", "/var/log", "none"]);
}

#[test]
fn hooks_get_the_variables_of_the_disk_before_it_exists() {
    let values = |devices: &BlockDevices| devices.variables().map(|(_, value)| value);
    assert_eq!(values(&parse(MBR)), ["cloudimg-rootfs", "ext4", "", "/"]);
    assert_eq!(
        values(&parse(MANY)),
        ["cloudimg-rootfs", "ext4", "mkfs_boot", "/var/log|/|/boot|none|/var|/srv/data"]
    );
    assert_eq!(values(&parse(EFI_LVM)), ["img-rootfs", "xfs", "", "/boot/efi|/|/var|/home"]);
    let xfs = RootParameters { kind: "xfs".to_owned(), ..RootParameters::default() };
    let devices = BlockDevices::parse("disk.yaml", MBR, &xfs).unwrap();
    assert_eq!(values(&devices)[..2], ["img-rootfs", "xfs"]);
    let named = RootParameters { label: Some("mine".to_owned()), ..xfs };
    let devices = BlockDevices::parse("disk.yaml", MBR, &named).unwrap();
    assert_eq!(values(&devices)[..2], ["mine", "xfs"]);
}

#[test]
fn root_parameters_do_not_override_the_file() {
    let parameters = RootParameters {
        kind: "xfs".to_owned(),
        label: Some("mine".to_owned()),
        ..RootParameters::default()
    };
    let text =
        MBR.replace("mkfs:", "mkfs:\n          type: ext3\n          label: theirs\n          opts: -b 1024");
    let devices = BlockDevices::parse("disk.yaml", &text, &parameters).unwrap();
    let root = &devices.layout("builder", CONTENT, 0).unwrap().file_systems[0];
    assert_eq!(
        (root.kind.name(), root.label.as_str(), root.options.join(" ").as_str()),
        ("ext3", "theirs", "-b 1024")
    );
}

#[test]
fn the_variable_can_request_sectors_of_4096_bytes() {
    let parameters = RootParameters { sector: Some(SectorSize::B4096), ..RootParameters::default() };
    let layout = |text: &str| {
        BlockDevices::parse("disk.yaml", text, &parameters).unwrap().layout("builder", CONTENT, 0)
    };
    assert_eq!(layout(EFI).unwrap().sector, SectorSize::B4096);
    assert!(layout(MBR).unwrap_err().to_string().contains("an MBR needs sectors of 512 bytes"));
}

const VOLUMES: &str = "
- local_loop: { name: image0, size: 6GiB }
- partitioning:
    base: image0
    label: mbr
    partitions:
      - { name: root, flags: [boot, primary], size: 3G }
      - { name: data1, flags: [primary], size: 1G }
      - { name: data2, flags: [primary], size: 1G }
- lvm:
    pvs:
      - { name: pv_root, base: root, options: [--force] }
      - { name: pv1, base: data1, options: [--force] }
      - { name: pv2, base: data2 }
    vgs:
      - { name: vg_root, base: [pv_root], options: [--force] }
      - { name: vg_data, base: [pv1, pv2] }
    lvs:
      - { name: lv_root, base: vg_root, size: 1800M }
      - { name: lv_tmp, base: vg_root, size: 100M }
      - { name: lv_var, base: vg_root, size: 500M }
      - { name: lv_home, base: vg_root, size: 200M }
      - { name: pool, base: vg_data, type: thin-pool, size: 1400MiB }
      - { name: thin, base: vg_data, type: thin, thin-pool: pool, size: 1800MiB, options: [--wipesignatures, y] }
      - { name: rest, base: vg_data, extents: 100%FREE }
- mkfs:
    name: fs_root
    base: lv_root
    type: ext4
    mount: { mount_point: / }
";

#[test]
fn commands_of_logical_volumes_are_pinned() {
    let text = |commands: Vec<crate::disk::LvmCommand>| -> String {
        commands
            .into_iter()
            .map(|command| format!("{} {}\n", command.program, command.arguments.join(" ")))
            .collect()
    };
    for (name, file) in [("volumes", VOLUMES), ("volumes of efi-lvm", EFI_LVM)] {
        let layout = if file == VOLUMES { layout(file) } else { large(file) };
        let commands = text(layout.lvm.create_commands(|name| format!("/dev/{name}")));
        insta::assert_snapshot!(name, commands + &text(layout.lvm.release_commands()));
    }
    let layout = layout(VOLUMES);
    assert_eq!(layout.lvm.physical[1].extent, layout.partitions[1].extent);
}

/// Returns the layout of a disk with 40 GB.
fn large(text: &str) -> Layout {
    let parameters = RootParameters { size_gibibytes: Some(41.0), ..RootParameters::default() };
    let devices = BlockDevices::parse("disk.yaml", text, &parameters).unwrap();
    assert!(devices.has_volumes());
    assert_eq!(devices.programs().first(), Some(&("lvm", "lvm2")));
    assert!(!parse(EFI).programs().contains(&("lvm", "lvm2")));
    devices.layout("builder", CONTENT, 0).unwrap()
}

/// File, old text, new text, expected error.
const SLIPS: [(&str, &str, &str, &str); 29] = [
    (
        MBR,
        "- partitioning:",
        "- partition:",
        "3:3: `partition` is not a plugin: expected one of local_loop, partitioning, lvm, mkfs, mount, fstab",
    ),
    (
        MBR,
        "- partitioning:",
        "- mkfs: {}\n  partitioning:",
        "3:3: expected a node with one key, the name of its plugin; found `mkfs`, `partitioning`",
    ),
    (MBR, "- partitioning:", "- text\n- partitioning:", "3:3: a node is the text `text`: expected a map"),
    (
        MBR,
        "name: image0",
        "name: image1",
        "2:23: expected exactly one `local_loop`, with the name `image0`; found `image1`",
    ),
    (MBR, "{ name: image0 }", "{}", "2:15: `local_loop` has no `name`"),
    (MBR, "base: image0", "base: image9", "4:11: `image9`, the base of `partitioning`, is not a local_loop"),
    (MBR, "    base: image0\n", "", "4:5: `partitioning` has no `base`"),
    (MBR, "label: mbr", "label: bsd", "5:12: `bsd` is not a partition table: expected mbr or gpt"),
    (MBR, "label: mbr", "label: gpt", "7:15: partitions of a GPT do not have the flag `primary`: remove it"),
    (
        MBR,
        "label: mbr",
        "label: mbr\n    align: 100",
        "6:12: `100` is not an alignment: expected a multiple of 512 bytes, such as 1MiB",
    ),
    (MBR, "name: root", "name: image0", "7:15: the name `image0` is used by a node in line 2"),
    (
        MBR,
        "100%",
        "10 elephants",
        "8:15: `10 elephants` is not a size: expected a number and a unit, such as `8GiB`, `550MiB`, `1.5GB`, or `100%`",
    ),
    (
        MBR,
        "100%",
        "1TiB",
        "7:15: partition `root` of 1099511627776 bytes does not fit: 1854930944 bytes are left",
    ),
    (MBR, "boot, primary", "boot, first", "9:23: `first` is not a flag: expected boot or primary"),
    (MBR, "        size: 100%\n", "", "7:9: `partition` has no `size`"),
    (
        MBR,
        "size: 100%",
        "size: 100%\n        type: EF00",
        "9:15: `EF00` is not a type of MBR partition: expected two hexadecimal digits, such as 0x83",
    ),
    (
        MBR,
        "mkfs:",
        "mkfs:\n          label: seventeen-letters",
        "11:18: label `seventeen-letters` is too long for ext4: 17 characters, 16 at most",
    ),
    (
        MBR,
        "mkfs:",
        "mkfs:\n          type: zfs",
        "11:17: `zfs` is not a type of file system: expected ext2, ext3, ext4, xfs, btrfs, vfat or swap",
    ),
    (MBR, "mkfs:", "mkfs:\n          name: other", "11:17: `mkfs` has no `type`"),
    (
        MBR,
        "mkfs:",
        "mkfs:\n          uuid: root-uuid",
        "11:17: `root-uuid` is not a UUID: expected such as 7b6f4bd9-3a5e-4f5b-9c3a-1d2e3f4a5b6c",
    ),
    (MBR, "mount_point: /", "mount_point: /srv", "1:1: the layout has no file system mounted at `/`"),
    (
        MBR,
        "mount_point: /",
        "mount_point: a/b",
        "12:26: `a/b` is not a mount point: expected an absolute path without `..` and spaces",
    ),
    (
        EFI,
        "type: 8300",
        "type: 83",
        "17:15: `83` is not a type of GPT partition: expected a code such as 8300, ef00, ef02, 8200, 8e00, or a GUID",
    ),
    (
        EFI,
        "mount_point: /\n",
        "mount_point: /boot/efi\n",
        "22:26: mount point `/boot/efi` is used in line 13",
    ),
    (
        EFI,
        "550MiB",
        "8MiB",
        "11:11: `mkfs_ESP` of 8388608 bytes is too small for FAT32: 34603008 bytes at least",
    ),
    (VOLUMES, "base: [pv_root]", "base: [pv]", "16:33: `pv`, the base of `vg_root`, is not one of the pvs"),
    (VOLUMES, "base: vg_root, size: 100M", "base: vg_root", "20:9: `lvs` has no `size` or `extents`"),
    (
        VOLUMES,
        "base: vg_root, size: 100M",
        "base: pv1, size: 1M",
        "20:31: `pv1`, the base of `lv_tmp`, is not one of the vgs",
    ),
    (
        VOLUMES,
        "type: thin-pool",
        "type: pool",
        "23:44: `pool` is not a type of volume: expected thin or thin-pool",
    ),
];

#[test]
fn an_error_has_position_and_expectation() {
    let found = SLIPS.map(|(text, old, new, _)| {
        let text = text.replacen(old, new, 1);
        let parsed = BlockDevices::parse("disk.yaml", &text, &RootParameters::default());
        parsed.and_then(|devices| devices.layout("builder", CONTENT, 0)).unwrap_err().to_string()
    });
    let expected = SLIPS.map(|(_, _, _, message)| format!("disk.yaml:{message}"));
    assert_eq!(found, expected);
}

#[test]
fn a_base_that_is_used_twice_is_an_error() {
    let more = |text: &str, node: &str| {
        let text = format!("{text}{node}\n");
        BlockDevices::parse("disk.yaml", &text, &RootParameters::default()).unwrap_err().to_string()
    };
    let table = "- partitioning: { base: image0, label: gpt, partitions: [{ name: x, size: 1% }] }";
    assert!(more(MBR, table).ends_with("`image0` is already the base of another node"));
    assert!(
        more(MBR, "- mkfs: { name: x, base: root, type: xfs }")
            .ends_with("`root` is already the base of another node")
    );
    assert!(
        more(MBR, "- mount: { name: x, base: mkfs_root, mount_point: /x }")
            .ends_with("`mkfs_root` is already the base of another node")
    );
    assert!(more(MBR, "- local_loop: { name: image1 }").ends_with("found a second one, `image1`"));
    let label = "- mkfs: { name: fs, base: thin, type: xfs, label: fs_root }";
    assert!(more(VOLUMES, label).ends_with("label `fs_root` is used by the file system in line 27"));
    assert!(
        more(MBR, "- mount: { name: x, base: nobody, mount_point: /x }")
            .ends_with("`nobody`, the base of `x`, is not a mkfs")
    );
}

#[test]
fn an_mbr_has_four_entries() {
    let build = |partitions: &str| {
        let parsed = BlockDevices::parse("disk.yaml", &table("mbr", partitions), &RootParameters::default());
        parsed.unwrap().layout("builder", CONTENT, 0).map_err(|error| *error.problem)
    };
    let four = partitions(4, "size: 10MiB, flags: [primary]");
    assert_eq!(build(&four).unwrap().partitions.len(), 4);
    let logical = "{ name: l, size: 10MiB }";
    let primary = "{ name: q, size: 10MiB, flags: [primary] }";
    assert_eq!(build(&format!("{four}{primary}")), Err(Problem::ManyPrimaries("q".to_owned())));
    assert_eq!(build(&format!("{four}{logical}")), Err(Problem::ManyPrimaries("p3".to_owned())));
    let one = partitions(1, "size: 10MiB");
    assert_eq!(build(&format!("{one}{primary}")), Err(Problem::LatePrimary("q".to_owned())));
}

#[test]
fn an_unknown_key_is_an_error_with_position_and_nearest_key() {
    for (text, old, new, expected) in [
        (MBR, "fsck-passno", "fck-passno", "`fstab` has no key `fck-passno`: did you mean `fsck-passno`?"),
        (MBR, "options:", "optoins:", "`fstab` has no key `optoins`: did you mean `options`?"),
        (
            MBR,
            "mount_point:",
            "luks: yes\n            mount_point:",
            "`mount` has no key `luks`: expected one of ",
        ),
        (
            MBR,
            "partitions:",
            "verity: yes\n    partitions:",
            "`partitioning` has no key `verity`: expected one of ",
        ),
        (
            EFI_LVM,
            "extents: 23%VG",
            "extents: 23%VG, encrypt: yes",
            "`lvs` has no key `encrypt`: expected one of ",
        ),
    ] {
        assert!(text.contains(old), "{old}");
        let error = BlockDevices::parse("disk.yaml", &text.replacen(old, new, 1), &RootParameters::default());
        let error = error.expect_err(new).to_string();
        assert!(error.contains(expected), "{error}");
        let key = expected.split('`').nth(3).unwrap();
        let (line, column) = place(&text.replacen(old, new, 1), key);
        assert!(error.starts_with(&format!("disk.yaml:{line}:{column}: ")), "{error}");
    }
}

/// Returns line and column of a word, counted from 1.
fn place(text: &str, word: &str) -> (usize, usize) {
    let found = text.lines().enumerate().find_map(|(line, text)| Some((line + 1, text.find(word)? + 1)));
    found.unwrap_or_else(|| panic!("{word} is not in\n{text}"))
}

#[test]
fn disks_are_equal_for_one_image_and_differ_between_images() {
    let of = |image: &str| parse(MANY).layout(image, CONTENT, 0).unwrap();
    assert_eq!(of("one"), of("one"));
    assert_ne!(of("one").table, of("two").table);
    assert_ne!(of("one").file_systems[0].kind, of("two").file_systems[0].kind);
}
