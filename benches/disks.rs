//! Pressing a tree into a disk, and the disk into a qcow2: beside writing the same bytes, and
//! beside tar and qemu-img.
//!
//! Needs root, loop devices, and once, for the tree, the network.

mod fixture;
mod race;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fixture::{EPOCH, files, machine_tree, run, scratch, text};
use plywood::block::LoopWriter;
use plywood::disk::{DiskSize, Firmware, FsName, Identity, Layout, Request, RootFs};
use plywood::image::Qcow2Compression;
use plywood::output::{Compatibility, Converter, Destination, DiskFormat, Qcow2Options};
use plywood::port::{BootImages, DiskWriter};
use plywood::sandbox::enter_private_mounts;
use race::Race;

fn main() {
    let tree = machine_tree();
    let _mounts = enter_private_mounts().expect("root may mount");
    let directory = scratch();
    let raw = directory.path().join("kept.raw");
    write_disk(&tree, &raw, RootFs::Ext4);
    fill(&tree, directory.path());
    convert(&raw, directory.path());
}

/// Flattening. Nobody syncs: the disk is converted and thrown away. Only the first way makes no
/// file system.
fn fill(tree: &Path, directory: &Path) {
    let archive = directory.join("tree.tar");
    run(r#"tar -C "$1" -cf "$2" ."#, &[text(tree), text(&archive)]);
    let sequential = directory.join("sequential");
    let by_hand = directory.join("by-hand.raw");
    let fresh = || {
        let raw = directory.join("plywood.raw");
        let _ = fs::remove_file(&raw);
        raw
    };
    let size = fs::metadata(directory.join("kept.raw")).unwrap().len().to_string();
    Race::new("Filling a disk")
        .enter("floor: the same bytes into one file", || write_sequentially(tree, &sequential))
        .enter_prepared("**plywood, ext4: partition, mkfs, fill, trim, umount, fsck**", fresh, |raw| {
            write_disk(tree, &raw, RootFs::Ext4)
        })
        .enter_prepared("**plywood, xfs**", fresh, |raw| write_disk(tree, &raw, RootFs::Xfs))
        .enter("mkfs.ext4, mount, tar x of one archive, umount", || {
            run(TAR_TO_EXT4, &[text(&archive), text(&by_hand), &size])
        })
        .run();
}

const TAR_TO_EXT4: &str = r#"
    rm -f "$2"; truncate -s "$3" "$2"; mkfs.ext4 -qF "$2"; mkdir -p "$2.mount"
    mount -o loop "$2" "$2.mount"; tar -C "$2.mount" -xf "$1"; umount "$2.mount""#;

fn write_sequentially(tree: &Path, target: &Path) {
    let mut out = File::create(target).unwrap();
    for path in files(tree) {
        io::copy(&mut File::open(path).unwrap(), &mut out).unwrap();
    }
}

fn write_disk(tree: &Path, raw: &Path, root: RootFs) {
    let writer = LoopWriter::new(raw.parent().unwrap().to_owned(), Arc::new(AtomicBool::new(false)));
    let request = Request {
        image: "bench",
        size: DiskSize::Auto,
        firmware: [Firmware::Uefi].into(),
        root,
        label: None,
        by: FsName::Uuid,
        source_date_epoch: EPOCH,
    };
    let layout = Layout::standard(&request, writer.measure(tree).unwrap()).unwrap();
    let mut disk = writer.create(&layout, raw).unwrap();
    disk.fill(tree).unwrap();
    disk.finish(&BootImages::default()).unwrap();
}

fn convert(raw: &Path, directory: &Path) {
    let target = |name: &str| directory.join(name);
    let (blob, ours, theirs) = (target("raw.zst"), target("plywood.qcow2"), target("qemu.qcow2"));
    let qemu = |options: &str| {
        let script = format!(r#"qemu-img convert -f raw -O qcow2 {options} "$1" "$2"; sync "$2""#);
        run(&script, &[text(raw), text(&theirs)]);
        theirs.clone()
    };
    let plywood = |compression| write_qcow2(raw, &ours, compression);
    Race::new("A disk to qcow2")
        .enter("peer: zstd -3 -T2 of the data, sync", || compress_data(raw, &blob))
        .enter("**plywood, zstd, with digest**", || plywood(Qcow2Compression::Zstd))
        .enter("qemu-img convert -c, zstd", || qemu("-c -o compression_type=zstd"))
        .enter("**plywood, zlib, with digest**", || plywood(Qcow2Compression::Zlib))
        .enter("qemu-img convert -c, zlib", || qemu("-c"))
        .run();
}

/// Compresses what a disk has beside holes, which tar leaves out.
fn compress_data(raw: &Path, blob: &Path) {
    let script = r#"tar -C "${1%/*}" -Sc "${1##*/}" | zstd -q -3 -T2 -f -o "$2"; sync "$2""#;
    run(script, &[text(raw), text(blob)]);
}

fn write_qcow2(raw: &Path, target: &Path, compression: Qcow2Compression) -> PathBuf {
    let converter = Converter {
        identity: Identity::new("bench"),
        source_date_epoch: EPOCH,
        qcow2: Qcow2Options { compression, compatibility: Compatibility::V3 },
        clusters: None,
        interrupt: Arc::new(AtomicBool::new(false)),
    };
    converter.convert(raw, &Destination::at(target).unwrap(), DiskFormat::Qcow2).unwrap().path
}
