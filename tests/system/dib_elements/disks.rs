//! Elements that make disks, and elements that also fail with diskimage-builder.

use super::Status::{FailsUpstream, NeedsDeviceMapper};
use super::images::{check, expected};
use super::{Check, Image};

const fn disk(
    name: &'static str,
    elements: &'static [&'static str],
    outputs: &'static str,
    keys: &'static str,
    checks: &'static [Check],
) -> Image {
    Image { name, elements, outputs, keys, files: &[], checks }
}

const fn failing(
    name: &'static str,
    elements: &'static [&'static str],
    keys: &'static str,
    checks: &'static [Check],
) -> Image {
    Image { name, elements, outputs: "'tar'", keys, files: &[], checks }
}

/// The disks share all layers except those of the boot loader.
pub(super) const DISKS: [Image; 5] = [
    disk(
        "mbr",
        &["debian-minimal", "vm", "block-device-mbr"],
        "'tar', 'raw'",
        "[image.mbr.env]\nDIB_RELEASE = 'bookworm'\nDIB_GRUB_TIMEOUT = '1'\n\
         DIB_BOOTLOADER_DEFAULT_CMDLINE = 'nofb nomodeset gfxpayload=text net.ifnames=0'\n",
        &[
            check(
                "block-device-mbr",
                "sfdisk reads one bootable partition",
                "[ $(sfdisk --dump $OUT/mbr.raw | grep -c 'type=83, bootable') = 1 ]",
            ),
            check(
                "vm",
                "the disk boots under BIOS to a login prompt",
                "$PLYWOOD boot $OUT/mbr.raw --firmware bios --expect login: --timeout 400 | tee $OUT/boot; ! grep -F '[FAILED]' $OUT/boot",
            ),
            check(
                "bootloader",
                "the kernel that booted has the command line",
                "grep -q 'Command line:.*net.ifnames=0' $OUT/boot",
            ),
        ],
    ),
    disk(
        "efi",
        &["debian-minimal", "vm", "block-device-efi"],
        "'raw'",
        "[image.efi.env]\nDIB_RELEASE = 'bookworm'\nDIB_GRUB_TIMEOUT = '1'\n",
        &[check(
            "block-device-efi",
            "sgdisk finds no error; the disk boots under UEFI to a login prompt",
            "sgdisk -v $OUT/efi.raw | grep 'No problems'; $PLYWOOD boot $OUT/efi.raw --firmware uefi --expect login: --timeout 400",
        )],
    ),
    disk(
        "gpt",
        &["debian-minimal", "vm", "block-device-gpt"],
        "'raw'",
        "[image.gpt.env]\nDIB_RELEASE = 'bookworm'\n",
        &[check(
            "block-device-gpt",
            "sgdisk finds no error; it finds the partitions for boot code and root",
            "sgdisk -v $OUT/gpt.raw | grep 'No problems'; sgdisk -p $OUT/gpt.raw | grep EF02; sgdisk -p $OUT/gpt.raw | grep 8300",
        )],
    ),
    disk(
        "large",
        &["debian-minimal", "vm", "block-device-efi-4k"],
        "'raw'",
        "[image.large.env]\nDIB_RELEASE = 'bookworm'\n",
        &[check(
            "block-device-efi-4k",
            "the partition table begins at the second sector of 4096 bytes; the root file system has its label",
            "dd if=$OUT/large.raw bs=4096 skip=1 count=1 status=none | head -c 8 | grep -qx 'EFI PART'; grep -aq cloudimg-rootfs $OUT/large.raw",
        )],
    ),
    disk(
        "lvm",
        &["debian-minimal", "vm", "block-device-efi-lvm"],
        "'raw'",
        "[image.lvm.env]\nDIB_RELEASE = 'bookworm'\n",
        &[expected(
            "block-device-efi-lvm",
            NeedsDeviceMapper,
            "refused before the first hook if the kernel has no device mapper",
            "device mapper",
        )],
    ),
];

/// Images that cannot be built with Debian bookworm.
pub(super) const FAILING: [Image; 5] = [
    failing(
        "names",
        &["debian-minimal", "stable-interface-names"],
        "[image.names.env]\nDIB_RELEASE = 'bookworm'\n",
        &[expected(
            "stable-interface-names",
            FailsUpstream,
            "Debian no longer has its package `biosdevname`",
            "biosdevname",
        )],
    ),
    failing(
        "proliant",
        &["debian-minimal", "proliant-tools"],
        "[image.proliant.env]\nDIB_RELEASE = 'bookworm'\nDIB_INSTALLTYPE_pip_and_virtualenv = 'package'\n",
        &[expected(
            "proliant-tools",
            FailsUpstream,
            "Debian no longer has its package `python-dev`",
            "python-dev",
        )],
    ),
    failing(
        "fips",
        &["debian-minimal", "fips"],
        "[image.fips.env]\nDIB_RELEASE = 'bookworm'\n",
        &[expected("fips", FailsUpstream, "Debian has no `fips-mode-setup`", "fips-mode-setup")],
    ),
    failing(
        "selinux",
        &["debian-minimal", "disable-selinux"],
        "[image.selinux.env]\nDIB_RELEASE = 'bookworm'\n",
        &[expected(
            "disable-selinux",
            FailsUpstream,
            "Debian has no `/etc/selinux/config`",
            "of element `disable-selinux` failed",
        )],
    ),
    failing(
        "kexec",
        &["debian-minimal", "deploy-kexec"],
        "[image.kexec.env]\nDIB_RELEASE = 'bookworm'\n",
        &[expected(
            "deploy-kexec",
            FailsUpstream,
            "it depends on an element that does not exist",
            "element `deploy` not found, which element `deploy-kexec` depends on",
        )],
    ),
];
