//! Tests of disks made from a stack of layers: the files of the boot stage, and the clean-up after
//! a failure.

use std::collections::BTreeSet;
use std::path::Path;

use super::fake::{Effect, World, but_for, usual};
use super::fake_disk::{DISK, Tree};
use super::{BuildError, Registries};
use crate::disk::{
    Allowance, BlockDevices, Content, DiskRequest, DiskSize, Firmware, FsName, Request, RootFs,
    RootParameters,
};
use crate::element::fixture::element;
use crate::plan::fixture::Image;
use crate::port::BootImages;

use Firmware::{Bios, Uefi};

/// A Debian with two kernels and GRUB for both kinds of firmware.
const DEBIAN: [(&str, &str); 8] = [
    ("/boot/initrd.img-6.1.0-9-amd64", ""),
    ("/boot/vmlinuz-6.1.0-10-amd64", ""),
    ("/boot/vmlinuz-6.1.0-9-amd64", ""),
    ("/etc/fstab", "of a hook"),
    ("/etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"),
    ("/usr/bin/grub-mkimage", ""),
    ("/usr/lib/grub/i386-pc/boot.img", "of the first sector"),
    ("/usr/lib/grub/x86_64-efi/normal.mod", ""),
];

const SIGNED: [(&str, &str); 2] = [
    ("/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "signed grub"),
    ("/usr/lib/shim/shimx64.efi.signed", "shim"),
];

const EFI: &str = include_str!("../../tests/fixtures/block-device/efi.yaml");
const SEPARATE_BOOT: &str = "
- local_loop: { name: image0 }
- partitioning:
    base: image0
    label: mbr
    partitions:
      - name: boot
        size: 512MiB
        mkfs: { type: ext4, mount: { mount_point: /boot, fstab: { options: defaults } } }
      - name: root
        flags: [boot]
        size: 100%
        mkfs: { type: xfs, mount: { mount_point: /, fstab: { options: defaults } } }
";

fn debian_without(left_out: &str) -> Vec<(&'static str, &'static str)> {
    DEBIAN.into_iter().filter(|(path, _)| !path.contains(left_out)).collect()
}

fn standard(firmware: &[Firmware], root: RootFs) -> DiskRequest<'static> {
    DiskRequest::Standard(Request {
        image: "web",
        size: DiskSize::Auto,
        firmware: firmware.iter().copied().collect(),
        root,
        label: None,
        by: FsName::Uuid,
        source_date_epoch: 0,
    })
}

fn described(text: &str) -> BlockDevices {
    let parameters = RootParameters { allowance: Allowance::Partitions, ..RootParameters::default() };
    BlockDevices::parse("disk.yaml", text, &parameters).unwrap()
}

fn request<'a>(devices: &'a BlockDevices, firmware: &[Firmware]) -> DiskRequest<'a> {
    let firmware = firmware.iter().copied().collect();
    DiskRequest::Described { devices, image: "web", source_date_epoch: 0, firmware }
}

/// Returns an image with a hook of the final stage, or none.
fn image(has_hook: bool) -> Image {
    let web = element("web").hook("install.d/50-web", "");
    let web = if has_hook { web.hook("finalise.d/90-web", "") } else { web };
    Image { elements: vec![web.build()], ..Image::bare() }
}

fn press(world: &World, image: &Image, request: &DiskRequest<'_>) -> Result<(), BuildError> {
    let registries = Registries::none(world);
    let builder = world.builder(&registries);
    let plan = image.plan();
    builder.disk(&plan, &[], request, world, Path::new("disk.raw"))?.close()
}

/// Writes a disk of merged layers with these files. Returns its other files, and its boot code.
fn pressed(files: &[(&str, &str)], request: &DiskRequest<'_>) -> (Tree, BootImages) {
    let world = World::default();
    world.merge(files);
    press(&world, &image(false), request).unwrap();
    let mut tree = world.tree(DISK);
    tree.retain(|path, content| !files.iter().any(|(own, text)| own == path && text.as_bytes() == content));
    (tree, world.finished_disks().remove(0))
}

fn text(tree: &Tree, path: &str) -> String {
    String::from_utf8(tree[path].clone()).unwrap()
}

fn warnings(world: &World) -> Vec<String> {
    let warnings = world.events("warning").into_iter();
    warnings.map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn boot_stage_writes_a_menu_and_a_loader_for_each_firmware() {
    let own = ["/boot/grub/grub.cfg", "/etc/default/grub.d/50-plywood.cfg", "/etc/fstab"];
    for root in [RootFs::Ext4, RootFs::Xfs] {
        for (firmware, loader) in [
            (&[Bios][..], None),
            (&[Uefi], Some("/boot/efi/EFI/BOOT/BOOTX64.EFI")),
            (&[Bios, Uefi], Some("/boot/efi/EFI/BOOT/BOOTX64.EFI")),
        ] {
            let request = standard(firmware, root);
            let (tree, boot) = pressed(&DEBIAN, &request);
            let expected: BTreeSet<_> = own.into_iter().chain(loader).collect();
            assert_eq!(tree.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{firmware:?}");

            let layout =
                request.layout(Content { bytes: 1 << 20, entries: 1, blocks: 256, inodes: 1 }).unwrap();
            let uuid = layout.locate("/").unwrap().0.kind.uuid();
            let early = format!("search.fs_uuid {uuid} root\nset prefix=($root)/boot/grub\n");
            let of_bios =
                boot.bios.map(|(first, core)| [first, core].map(|code| String::from_utf8(code).unwrap()));
            let expected =
                firmware.contains(&Bios).then(|| ["of the first sector".to_owned(), early.clone()]);
            assert_eq!(of_bios, expected);
            assert!(loader.is_none_or(|path| text(&tree, path) == early));

            let fstab = text(&tree, "/etc/fstab");
            assert!(fstab.contains(&format!("UUID={uuid} / {} ", root.name())), "{fstab}");
            assert_eq!(fstab.contains(" /boot/efi vfat "), firmware.contains(&Uefi), "{fstab}");
        }
    }
}

#[test]
fn menu_of_a_debian_starts_its_newest_kernel() {
    let (tree, _) = pressed(&DEBIAN, &standard(&[Bios], RootFs::Ext4));
    let menu = text(&tree, "/boot/grub/grub.cfg");
    let titles: Vec<_> = menu.lines().filter(|line| line.starts_with("menuentry ")).collect();
    let expected = [
        "menuentry 'Debian GNU/Linux 12 (bookworm), Linux 6.1.0-10-amd64' {",
        "menuentry 'Debian GNU/Linux 12 (bookworm), Linux 6.1.0-9-amd64' {",
    ];
    assert_eq!(titles, expected);
    assert!(
        menu.contains(" ro nofb nomodeset gfxpayload=text console=tty0 console=ttyS0,115200\n"),
        "{menu}"
    );
    assert!(menu.contains("\tinitrd /boot/initrd.img-6.1.0-9-amd64\n"), "{menu}");
    assert!(menu.contains("set timeout=5\n"), "{menu}");
    let (tree, _) = pressed(&debian_without("os-release"), &standard(&[Bios], RootFs::Ext4));
    assert!(text(&tree, "/boot/grub/grub.cfg").contains("menuentry 'Linux, Linux 6.1.0-9-amd64' {"));
}

#[test]
fn grub_looks_for_kernels_on_a_file_system_of_their_own() {
    let devices = described(SEPARATE_BOOT);
    let request = request(&devices, &[Bios, Uefi]);
    let (tree, boot) = pressed(&DEBIAN, &request);
    let layout = request.layout(Content { bytes: 1 << 20, entries: 1, blocks: 256, inodes: 1 }).unwrap();
    let uuid = layout.locate("/boot").unwrap().0.kind.uuid();
    let menu = text(&tree, "/boot/grub/grub.cfg");
    assert!(menu.contains(&format!("search --no-floppy --fs-uuid --set=root {uuid}\n")), "{menu}");
    assert!(menu.contains("\tlinux /vmlinuz-6.1.0-10-amd64 "), "{menu}");
    let (_, core) = boot.bios.unwrap();
    let early = format!("search.fs_uuid {uuid} root\nset prefix=($root)/grub\n");
    assert_eq!(String::from_utf8(core).unwrap(), early);
    assert!(!tree.contains_key("/boot/efi/EFI/BOOT/BOOTX64.EFI"), "the disk has no place for it");
}

#[test]
fn signed_loaders_are_copied_if_they_are_complete() {
    let all = [&DEBIAN[..], &SIGNED[..]].concat();
    let (tree, _) = pressed(&all, &standard(&[Uefi], RootFs::Ext4));
    assert_eq!(text(&tree, "/boot/efi/EFI/BOOT/BOOTX64.EFI"), "shim");
    assert_eq!(text(&tree, "/boot/efi/EFI/BOOT/grubx64.efi"), "signed grub");
    assert!(text(&tree, "/boot/efi/EFI/debian/grub.cfg").ends_with("configfile $prefix/grub.cfg\n"));

    let world = World::default();
    world.merge(&[&DEBIAN[..], &SIGNED[..1]].concat());
    press(&world, &image(false), &standard(&[Uefi], RootFs::Ext4)).unwrap();
    let warnings = warnings(&world);
    assert!(warnings.len() == 1 && warnings[0].contains("Secure Boot refuses it"), "{warnings:?}");
    assert!(text(&world.tree(DISK), "/boot/efi/EFI/BOOT/BOOTX64.EFI").starts_with("search.fs_uuid "));
}

#[test]
fn missing_boot_loader_is_noticed_before_the_disk_is_made() {
    let no_signed_grub = [&debian_without("x86_64-efi/")[..], &SIGNED[1..]].concat();
    for (files, firmware, target) in [
        (debian_without("i386-pc"), &[Bios, Uefi][..], "i386-pc"),
        (debian_without("x86_64-efi"), &[Bios, Uefi], "x86_64-efi"),
        (debian_without("grub-mkimage"), &[Bios], "i386-pc"),
        (no_signed_grub, &[Uefi], "x86_64-efi"),
    ] {
        let world = World::default();
        world.merge(&files);
        let error = press(&world, &image(false), &standard(firmware, RootFs::Ext4)).unwrap_err();
        let BuildError::NoBootLoader { image, target: lacking, .. } = error else { panic!("{error}") };
        assert_eq!((image.as_str(), lacking), ("vm", target));
        assert!(world.disk_calls().is_empty() && world.still_open().is_empty());
    }
}

#[test]
fn hooks_of_the_final_stage_may_bring_the_boot_loader() {
    let world = World::default();
    world.merge(&debian_without("i386-pc"));
    let error = press(&world, &image(true), &standard(&[Bios], RootFs::Ext4)).unwrap_err();
    assert!(matches!(error, BuildError::NoBootLoader { .. }), "{error}");
    assert!(world.disk_calls().contains(&"fill") && world.finished_disks().is_empty());
    assert!(!world.tree(DISK).contains_key("/boot/grub/grub.cfg"));
    assert!(world.still_open().is_empty(), "{:?}", world.still_open());
}

#[test]
fn disk_that_nothing_shall_boot_needs_no_boot_loader() {
    let (tree, boot) = pressed(&debian_without("grub"), &standard(&[], RootFs::Ext4));
    assert_eq!(
        (tree.keys().map(String::as_str).collect::<Vec<_>>(), boot),
        (vec!["/etc/fstab"], BootImages::default())
    );
}

#[test]
fn missing_kernel_is_a_warning() {
    let world = World::default();
    world.merge(&debian_without("vmlinuz"));
    press(&world, &image(false), &standard(&[Bios, Uefi], RootFs::Ext4)).unwrap();
    let expected =
        "image `vm` has no kernel in `/boot`: its disk will not boot (element `kernel` installs one)";
    assert_eq!(warnings(&world), [expected]);
    assert_eq!(world.finished_disks(), [BootImages::default()]);
    assert!(!world.tree(DISK).contains_key("/boot/grub/grub.cfg"));
}

#[test]
fn described_disk_without_grub_is_left_to_its_author() {
    let devices = described(EFI);
    let world = World::default();
    world.merge(&debian_without("grub"));
    press(&world, &image(false), &request(&devices, &[Bios, Uefi])).unwrap();
    let warnings = warnings(&world);
    assert!(warnings.len() == 1 && warnings[0].contains("has no GRUB"), "{warnings:?}");
    assert_eq!(world.finished_disks(), [BootImages::default()]);
}

#[test]
fn nothing_is_left_open_when_the_writer_of_disks_fails() {
    let calls = ["measure", "ask for space", "create", "fill", "finish"];
    for (place, failing) in calls.into_iter().enumerate() {
        let world = World::default();
        world.merge(&DEBIAN);
        world.fail_disk(failing);
        let error = press(&world, &image(false), &standard(&[Bios], RootFs::Ext4)).unwrap_err();
        assert!(matches!(error, BuildError::Disk(_)), "{error}");
        assert_eq!(world.disk_calls(), calls[..=place]);
        assert!(world.still_open().is_empty() && world.finished_disks().is_empty(), "{failing}");
    }
}

#[test]
fn disk_of_a_failed_final_stage_is_thrown_away() {
    let hook = "finalise.d/90-web";
    let mkimage = |job: &crate::port::Job| match job.argv[0].as_str() {
        "grub-mkimage" => Effect { status: 1, ..Effect::default() },
        _ => usual(job),
    };
    for fails_in_hook in [true, false] {
        let world = World::default();
        world.merge(&DEBIAN);
        match fails_in_hook {
            true => world.behave(but_for(hook, Effect { status: 1, ..Effect::default() })),
            false => world.behave(mkimage),
        }
        let error = press(&world, &image(true), &standard(&[Bios], RootFs::Ext4)).unwrap_err();
        let is_expected = match &error {
            BuildError::HookFailed(failure) => fails_in_hook && failure.hook == "90-web",
            BuildError::TaskFailed { task, .. } => !fails_in_hook && task == "boot",
            _ => false,
        };
        assert!(is_expected, "{error}");
        assert!(
            world.finished_disks().is_empty() && world.still_open().is_empty(),
            "{:?}",
            world.still_open()
        );
    }
}

#[test]
fn hooks_find_the_fstab_of_the_disk() {
    let world = World::default();
    world.merge(&DEBIAN);
    let (seen, looking) = (std::sync::Arc::new(std::sync::Mutex::new(None)), world.clone());
    let noted = seen.clone();
    world.behave(move |job| {
        if job.argv[0].ends_with("finalise.d/90-web") {
            *noted.lock().unwrap() = looking.tree(DISK).remove("/etc/fstab");
        }
        usual(job)
    });
    press(&world, &image(true), &standard(&[Bios], RootFs::Ext4)).unwrap();
    let fstab = String::from_utf8(seen.lock().unwrap().take().unwrap()).unwrap();
    assert!(fstab.starts_with("# <file system>"), "{fstab}");
}
