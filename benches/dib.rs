//! One list of diskimage-builder's elements to qcow2, by diskimage-builder and by plywood under its
//! name.
//!
//! Needs root, sudo, loop devices, the machine's package mirror, and the Python package index for
//! diskimage-builder. Every lap of diskimage-builder downloads its packages again, and so does
//! plywood's cold one.

#[allow(dead_code, reason = "tests use all of it")]
#[path = "../tests/common/cloud_image.rs"]
mod cloud_image;
mod fixture;
mod race;
#[allow(dead_code, reason = "tests use all of it")]
#[path = "../tests/common/upstream.rs"]
mod upstream;

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cloud_image::{ELEMENTS, VARIABLES, write_leaf, write_own_elements};
use fixture::{need_root, scratch};
use race::Race;
use tempfile::TempDir;

fn main() {
    need_root();
    let bench = Bench::new();
    let store = scratch();
    Race::new("A cold build")
        .enter("diskimage-builder", || bench.by_diskimage_builder())
        .enter_prepared("**plywood, empty store**", scratch, |store| {
            bench.by_plywood(store.path());
            store
        })
        .run();
    eprintln!("filling the store");
    bench.by_plywood(store.path());
    bench.again("The same again", || (), store.path());
    let leaf = Cell::new(0);
    let change_leaf = || {
        leaf.set(leaf.get() + 1);
        write_leaf(&bench.path("elements"), leaf.get());
    };
    bench.again("A line of the last element changed", change_leaf, store.path());
}

/// Elements of our own, and a directory to call from.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(scratch());
        symlink(env!("CARGO_BIN_EXE_plywood"), bench.path("disk-image-create")).unwrap();
        write_own_elements(&bench.path("elements"));
        fs::create_dir(bench.path("out")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Lets both build what both have built before.
    fn again(&self, title: &str, prepare: impl Fn(), store: &Path) {
        Race::new(title)
            .enter_prepared("diskimage-builder", &prepare, |()| self.by_diskimage_builder())
            .enter_prepared("**plywood**", &prepare, |()| self.by_plywood(store))
            .run();
    }

    /// In a mount namespace that takes along whatever a failure would leave mounted.
    fn by_diskimage_builder(&self) {
        let program = upstream::diskimage_builder().join("bin/disk-image-create");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--"]).arg(program);
        command.env("DIB_IMAGE_CACHE", self.path("cache")).env("HOME", self.0.path());
        self.build(&mut command);
    }

    fn by_plywood(&self, store: &Path) {
        let mut command = Command::new(self.path("disk-image-create"));
        command.env("PLYWOOD_STORE", store).env("VIRTUAL_ENV", upstream::diskimage_builder());
        self.build(&mut command);
    }

    fn build(&self, command: &mut Command) {
        let path = format!(
            "{}:{}",
            upstream::diskimage_builder().join("bin").display(),
            std::env::var("PATH").unwrap()
        );
        command.args(["-t", "qcow2", "-o", "out/image"]).args(ELEMENTS).current_dir(self.0.path());
        command.envs(VARIABLES).envs(upstream::mirrors()).env("PATH", path);
        command.env("ELEMENTS_PATH", self.path("elements")).env("OVERWRITE_OLD_IMAGE", "1");
        let output = command.stdin(Stdio::null()).output().expect("unshare and disk-image-create run");
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let lines: Vec<_> = said.iter().flat_map(|text| text.lines()).collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        assert!(output.status.success(), "{command:?}: {}\n{tail}", output.status);
    }
}
