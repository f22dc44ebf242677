//! Tests of the boot loader that a disk gets, depending on the files of the image.

use std::path::Path;
use std::process::Command;

use crate::common::project::Project;

/// For UEFI and the BIOS.
const LAYOUT: &str = include_str!("../fixtures/block-device/efi.yaml");

/// The files of a Debian with a kernel and GRUB for UEFI that the build reads.
const SYSTEM: &str = r#"
echo ID=debian >/etc/os-release
mkdir -p /boot /usr/bin /usr/lib/grub/x86_64-efi /usr/lib/shim /usr/lib/grub/x86_64-efi-signed
touch /boot/vmlinuz-6.1.0
printf '#!/bin/bash\necho "${1%%/*}"\n' >/bin/dirname
printf '#!/bin/bash\nwhile [ $1 != -o ]; do shift; done; echo own >$2\n' >/usr/bin/grub-mkimage
chmod +x /bin/dirname /usr/bin/grub-mkimage
"#;

const SHIM: &str = "\necho shim >/usr/lib/shim/shimx64.efi.signed\n";
const SIGNED_GRUB: &str = "\necho grub >/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed\n";

fn build(project: &Project, system: &str) -> Vec<String> {
    project.hook("elements/a/install.d/50-a", system);
    let build = project.build(&[]);
    build.of("warning").map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// Returns a file of the EFI system partition, the first of the disk.
fn on_esp(raw: &Path, file: &str) -> String {
    let image = format!("{}@@1M", raw.display());
    let output = Command::new("mtype").args(["-i", &image, &format!("::{file}")]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_disk_gets_the_boot_loader_of_its_image() {
    let project = Project::of_elements(&["a"]).with_small_base();
    project.define("elements = [\"a\"]\noutputs = [\"raw\"]\ndisk = { layout = \"disk.yaml\" }");
    project.write("disk.yaml", LAYOUT);
    let raw = project.out().join("tiny.raw");
    let lacks_bios =
        "image `tiny` has no GRUB for the BIOS: its disk does not boot there (package grub-pc-bin)";

    let warnings = build(&project, SYSTEM);
    assert_eq!(warnings, [lacks_bios]);
    assert_eq!(on_esp(&raw, "EFI/BOOT/BOOTX64.EFI"), "own\n");

    let warnings = build(&project, &[SYSTEM, SHIM].concat());
    let partial = "image `tiny` has a part of the signed boot loaders: its own is unsigned, and Secure Boot \
                   refuses it (packages shim-signed and grub-efi-amd64-signed)";
    assert_eq!(warnings, [lacks_bios, partial]);
    assert_eq!(on_esp(&raw, "EFI/BOOT/BOOTX64.EFI"), "own\n");

    let warnings = build(&project, &[SYSTEM, SHIM, SIGNED_GRUB].concat());
    assert_eq!(warnings, [lacks_bios]);
    assert_eq!(on_esp(&raw, "EFI/BOOT/BOOTX64.EFI"), "shim\n");
    assert_eq!(on_esp(&raw, "EFI/BOOT/grubx64.efi"), "grub\n");
    let config = on_esp(&raw, "EFI/debian/grub.cfg");
    let lines: Vec<_> = config.lines().collect();
    assert!(lines[0].starts_with("search.fs_uuid ") && lines[0].ends_with(" root"), "{config}");
    assert_eq!(lines[1..], ["set prefix=($root)/boot/grub", "configfile $prefix/grub.cfg"]);
}

/// Returns a project with a disk for the BIOS, whose image has the files that `system` makes.
fn for_bios(system: &str) -> Project {
    let project = Project::of_elements(&["a"]).with_small_base();
    project.define("elements = [\"a\"]\noutputs = [\"raw\"]\ndisk = { firmware = [\"bios\"] }");
    project.hook("elements/a/install.d/50-a", system);
    project
}

#[test]
fn missing_boot_loader_is_noticed_before_the_disk_is_filled() {
    let project = for_bios("mkdir -p /boot; touch /boot/vmlinuz-6.1.0");
    let run = project.run_build(&[]);
    let lines = run.json_lines();
    let started: Vec<_> = lines.iter().filter(|event| event["event"] == "stage-started").collect();
    assert_eq!(started.len(), 1, "{}", run.stderr);
    assert_eq!(started[0]["stage"], "fill disk");
    let failed = lines.iter().find(|event| event["event"] == "failed").expect("the build fails");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("image `tiny` has a kernel, but no GRUB for i386-pc"), "{message}");
    assert!(!project.out().join("tiny.raw").exists());
}

#[test]
fn kernel_of_the_build_host_is_not_the_images() {
    let host = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(host.path().join("vmlinuz-6.1.0"), "").unwrap();
    let project = for_bios("");
    // The small base has no `ln`.
    let link = format!("cd $TMP_MOUNT_PATH; rm -rf boot; ln -s {} boot", host.path().display());
    project.hook("elements/a/extra-data.d/50-a", &link);
    let build = project.build(&[]);
    assert_eq!(build.warnings().len(), 1, "{:?}", build.warnings());
    assert!(build.warnings()[0].contains("has no kernel in `/boot`"), "{:?}", build.warnings());
}
