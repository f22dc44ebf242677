//! Whole builds: cold, beside the same work by hand; and warm, beside doing nothing but writing the
//! disk again.
//!
//! Needs root, loop devices and the machine's package mirror. Downloads are on the disk in all
//! laps.

mod fixture;
mod race;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::{need_root, run, scratch, text};
use race::Race;
use tempfile::TempDir;

/// A machine that boots and compiles; what changes in the warm laps comes last.
const PROJECT: &str = r#"
[project]
source-date-epoch = 1700000000
elements = ["elements"]

[image.machine]
base = "debian-bookworm"
elements = ["base", "kernel", "bootloader", "dhcp-network", "openssh-server", "toolchain", "leaf"]
qcow2 = { compression = "zstd" }
"#;
const TOOLCHAIN: &str = "build-essential:\npython3-dev:\ngit:\ncmake:\n";

fn main() {
    need_root();
    let project = Project::new();
    eprintln!("first build: downloads packages");
    project.build(&project.store());
    let packages = project.packages();
    let kept = scratch();
    cold(&project, &packages, kept.path());
    warm(&project, &kept.path().join("tree"));
}

/// A project with a store that has built it once.
struct Project(TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(scratch());
        project.write("plywood.toml", PROJECT);
        project.write("elements/toolchain/package-installs.yaml", TOOLCHAIN);
        project.write_leaf(0);
        project
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn write_leaf(&self, number: u32) {
        self.write("elements/leaf/install.d/50-leaf", &format!("#!/bin/sh\necho {number} >/etc/leaf\n"));
        run(r#"chmod +x "$1""#, &[text(&self.0.path().join("elements/leaf/install.d/50-leaf"))]);
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn build(&self, store: &Path) {
        self.plywood(store, &["--quiet", "build", "-f", "qcow2", "-o", text(&self.out())]);
    }

    fn plywood(&self, store: &Path, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_plywood"))
            .arg("--project")
            .arg(self.0.path())
            .arg("--store")
            .arg(store)
            .args(arguments)
            .output()
            .expect("plywood runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Returns the names of the packages that the last build installed.
    fn packages(&self) -> String {
        let document = fs::read(self.out().join("machine.manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&document).unwrap();
        let packages = manifest["packages"].as_array().unwrap().iter();
        packages.map(|package| package["name"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    /// Makes a store that has the downloads of the first, and no layers.
    fn empty_store(&self) -> TempDir {
        let store = scratch();
        let script = r#"mkdir -p "$2/cache"; cp -al "$1/cache/apt" "$2/cache""#;
        self.plywood(store.path(), &["store", "list"]);
        run(script, &[text(&self.store()), text(store.path())]);
        store
    }
}

/// What someone would type who has these tools and no other; what is left is a disk without boot
/// code.
const BY_HAND: &str = r#"
    rm -rf "$1"
    mmdebstrap --quiet --mode=root --variant=minbase --include=ca-certificates,systemd-sysv \
        --skip=essential/unlink,cleanup/apt \
        --setup-hook='mkdir -p "$1/var/cache/apt/archives"; cp "'"$2"'"/*.deb "$1/var/cache/apt/archives"' \
        bookworm "$1"
    for kind in proc sys dev; do mount --rbind --make-rslave "/$kind" "$1/$kind"; done
    chroot "$1" env DEBIAN_FRONTEND=noninteractive apt-get -qq --no-install-recommends install $3
    for kind in dev sys proc; do umount -R "$1/$kind"; done
    chroot "$1" apt-get clean"#;

/// Flattens a tree into a qcow2 by hand.
const DISK_BY_HAND: &str = r#"
    rm -f "$1.raw"; truncate -s 4G "$1.raw"; mkfs.ext4 -qF "$1.raw"; mkdir -p "$1.mount"
    mount -o loop "$1.raw" "$1.mount"; tar -C "$1" -c . | tar -C "$1.mount" -x; umount "$1.mount"
    qemu-img convert -c -O qcow2 -o compression_type=zstd "$1.raw" "$1.qcow2"; sync "$1.qcow2""#;

fn cold(project: &Project, packages: &str, kept: &Path) {
    let tree = kept.join("tree");
    let downloads = project.store().join("cache/apt/archives");
    Race::new("A cold build to qcow2, downloads at hand")
        .enter("mmdebstrap, chroot apt-get install, tar to ext4, qemu-img -c zstd", || {
            run(BY_HAND, &[text(&tree), text(&downloads), packages]);
            run(DISK_BY_HAND, &[text(&tree)]);
        })
        .enter_prepared(
            "**plywood build, empty store**",
            || project.empty_store(),
            |store| {
                project.build(store.path());
                store
            },
        )
        .run();
}

fn warm(project: &Project, tree: &Path) {
    let leaf = Cell::new(0);
    let change_leaf = || {
        leaf.set(leaf.get() + 1);
        project.write_leaf(leaf.get());
    };
    Race::new("A warm build")
        .enter("by hand, the disk alone: tar to ext4, qemu-img -c zstd", || run(DISK_BY_HAND, &[text(tree)]))
        .enter("**plywood plan, nothing changed**", || project.plywood(&project.store(), &["plan"]))
        .enter("**plywood build, nothing changed**", || project.build(&project.store()))
        .enter_prepared("**plywood build, the last element changed**", change_leaf, |()| {
            project.build(&project.store())
        })
        .run();
}
