//! Pins the texts and arguments of one disk. A refactoring must not change them, and reviewers see
//! every change.

use std::path::Path;

use super::*;

fn layout(root: RootFs) -> Layout {
    let request = Request {
        image: "builder",
        size: DiskSize::Given(ByteSize::from_mebibytes(4096)),
        firmware: [Firmware::Bios, Firmware::Uefi].into(),
        root,
        label: None,
        by: FsName::Uuid,
        source_date_epoch: 1_700_000_000,
    };
    Layout::standard(&request, Content::default()).unwrap()
}

#[test]
fn fstab_names_by_uuid_or_label() {
    insta::assert_snapshot!(fstab(&layout(RootFs::Ext4)));
    let mut by_label = layout(RootFs::Xfs);
    let mounts = by_label.file_systems.iter_mut().filter_map(|file_system| file_system.mount.as_mut());
    mounts.filter_map(|mount| mount.fstab.as_mut()).for_each(|entry| entry.by = FsName::Label);
    insta::assert_snapshot!(fstab(&by_label));
}

#[test]
fn layouts_are_pinned() {
    insta::assert_debug_snapshot!(layout(RootFs::Ext4));
}

#[test]
fn file_system_arguments_are_pinned() {
    let of = |root, arguments: fn(&FileSystem, &Path) -> Vec<String>| {
        arguments(&layout(root).file_systems[0], Path::new("/dev/loop7")).join(" ")
    };
    insta::assert_snapshot!(of(RootFs::Ext4, make_arguments));
    insta::assert_snapshot!(of(RootFs::Xfs, make_arguments));
    assert_eq!(of(RootFs::Ext4, check_arguments), "-fn /dev/loop7");
    assert_eq!(of(RootFs::Xfs, check_arguments), "-n /dev/loop7");
    assert!(make_arguments(&layout(RootFs::Xfs).file_systems[1], Path::new("/dev/loop7")).is_empty());
}

#[test]
fn grub_texts_are_pinned() {
    let layout = layout(RootFs::Ext4);
    let cmdline = "console=tty0 console=ttyS0,115200n8 x=$y;z";
    let boot = Boot { layout: &layout, title: "Tim's Linux", cmdline, timeout: 1 };
    let kernels = Kernel::find(["vmlinuz-6.1.0-9", "initrd.img-6.1.0-9", "vmlinuz-6.1.0-10"]);
    insta::assert_snapshot!(boot.config(&kernels));
    insta::assert_snapshot!(early_config(&layout));
    insta::assert_snapshot!(boot.defaults());
    insta::assert_snapshot!(
        GrubTarget::I386Pc.mkimage_arguments("/tmp/early.cfg", "/tmp/core.img").join(" ")
    );
    insta::assert_snapshot!(
        GrubTarget::X86_64Efi.mkimage_arguments("/tmp/early.cfg", "/tmp/grub.efi").join(" ")
    );
}

#[test]
fn without_a_serial_console_grub_uses_the_screen() {
    let layout = layout(RootFs::Ext4);
    let boot = Boot { layout: &layout, title: "Linux", cmdline: "quiet", timeout: 0 };
    assert!(!boot.config(&[]).contains("serial") && !boot.defaults().contains("SERIAL"));
}

#[test]
fn qemu_arguments_are_pinned() {
    let machine = Machine {
        disk: Path::new("/out/a,b.qcow2"),
        format: "qcow2",
        firmware: Firmware::Uefi,
        ovmf: Path::new("/usr/share/ovmf/OVMF.fd"),
        memory: ByteSize::from_mebibytes(1024),
        seed: Some(Path::new("/out/seed.img")),
        accelerator: Accelerator::Tcg,
        console: Console::Output,
        writes: Writes::Discarded,
        forwards: &[],
    };
    insta::assert_snapshot!(boot_command(&machine).join(" "));
    let bios = Machine { firmware: Firmware::Bios, seed: None, ..machine };
    insta::assert_snapshot!(boot_command(&bios).join(" "));
    let forwards = &[Forward { host: 8080, guest: 80 }, Forward { host: 2222, guest: 22 }];
    let (accelerator, console) = (Accelerator::Kvm, Console::Terminal);
    let on_terminal = Machine { accelerator, console, forwards, writes: Writes::Kept, ..bios };
    insta::assert_snapshot!(boot_command(&on_terminal).join(" "));
}

#[test]
fn answers_to_grub_mkconfig_are_pinned() {
    insta::assert_snapshot!(probe_answers(&layout(RootFs::Ext4)));
}
