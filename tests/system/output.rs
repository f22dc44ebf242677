//! Tests of disk images with QEMU's own tools. They need qemu-img (Debian: qemu-utils).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use plywood::disk::Identity;
use plywood::image::Qcow2Compression;
use plywood::oci::Digest;
use plywood::output::{Compatibility, Converter, Destination, DiskFormat, Qcow2Options};

fn converter(qcow2: Qcow2Options) -> Converter {
    Converter {
        identity: Identity::new("builder"),
        source_date_epoch: 1_700_000_000,
        qcow2,
        clusters: None,
        interrupt: Arc::new(AtomicBool::new(false)),
    }
}

/// Writes a disk of 700 MiB with about 40 MiB of data: text, noise, and clusters with both,
/// scattered over L2 tables.
fn raw(path: &Path) {
    let disk = File::create(path).unwrap();
    disk.set_len(700 << 20).unwrap();
    for number in 0..600u64 {
        let noise: Vec<u8> = (0..2048).flat_map(|n| *Digest::of(format!("{number} {n}")).bytes()).collect();
        let text = format!("line {number}\n").repeat(10_000);
        let offset = (number * number * 7919 * 512) % (699 << 20);
        let piece = if number % 3 == 0 { &noise[..] } else { &text.as_bytes()[..65536] };
        disk.write_all_at(piece, offset).unwrap();
    }
}

fn qemu_img(arguments: &[&str]) -> String {
    let output =
        Command::new("qemu-img").args(arguments).output().expect("qemu-img runs (Debian: qemu-utils)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "qemu-img {arguments:?}: {text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn every_qcow2_is_clean_and_has_the_content_of_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    raw(&at("disk.raw"));
    let raw = at("disk.raw");
    for (name, compression, compatibility) in [
        ("zlib", Qcow2Compression::Zlib, Compatibility::V3),
        ("zlib-v2", Qcow2Compression::Zlib, Compatibility::V2),
        ("zstd", Qcow2Compression::Zstd, Compatibility::V3),
        ("none", Qcow2Compression::None, Compatibility::V3),
    ] {
        let target = at(&format!("{name}.qcow2"));
        let converter = converter(Qcow2Options { compression, compatibility });
        let destination = Destination::at(&target).unwrap();
        let first = converter.convert(&raw, &destination, DiskFormat::Qcow2).unwrap();
        assert_eq!(converter.convert(&raw, &destination, DiskFormat::Qcow2).unwrap(), first);
        let target = target.to_str().unwrap();
        let check = qemu_img(&["check", "-f", "qcow2", target]);
        assert!(check.contains("No errors were found") && !check.contains("leak"), "{name}: {check}");
        qemu_img(&["compare", "-f", "raw", "-F", "qcow2", raw.to_str().unwrap(), target]);
        let info = qemu_img(&["info", target]);
        assert!(
            info.contains(if compatibility == Compatibility::V2 { "compat: 0.10" } else { "compat: 1.1" }),
            "{info}"
        );
    }
}

#[test]
fn every_other_format_has_the_content_of_the_disk_and_is_reproducible() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let raw_disk = at("disk.img");
    raw(&raw_disk);
    for format in DiskFormat::ALL {
        let target = at(&format!("disk.{}", format.extension()));
        let converter = converter(Qcow2Options::default());
        let destination = Destination::at(&target).unwrap();
        let first = converter.convert(&raw_disk, &destination, format).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(converter.convert(&raw_disk, &destination, format).unwrap(), first, "{format:?}");
        let (raw, image) = (raw_disk.to_str().unwrap(), target.to_str().unwrap());
        qemu_img(&["compare", "-f", "raw", "-F", format.qemu_name(), raw, image]);
        let mut check = Command::new("sha256sum");
        check.args(["--check", "--status", &format!("{image}.sha256")]).current_dir(directory.path());
        assert!(check.status().unwrap().success());
        assert_eq!(DiskFormat::of_file(&File::open(&target).unwrap()).unwrap(), format);
    }
    let hidden = fs::read_dir(directory.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0);
}
