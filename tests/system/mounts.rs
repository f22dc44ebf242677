//! What the sandbox mounts, and how it behaves under hooks: stacks of many layers, disks of many file systems, moved
//! directories, device nodes. Needs root, overlayfs, loop devices, xfsprogs, fdisk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::work::{Work, program};
use crate::common::{Scratch, run, sandbox, shell};
use plywood::port::{Exit, RootSpec, Sandbox, View};

/// Runs a script on the build host with the target as it is; returns what it wrote.
#[track_caller]
fn on_host(scratch: &Scratch, script: &str) -> String {
    let mut job = shell(&format!("cd {}\n{script}", View::HOST_MOUNT));
    job.view = View::HostBare;
    let (exit, output) = run(scratch.root.as_ref(), &job);
    assert_eq!(exit, Exit::Status(0), "{output}");
    output
}

#[test]
fn more_layers_than_a_page_of_paths_are_stacked_whatever_their_names() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let long = "n".repeat(200);
    let layer = |number: u32| -> PathBuf {
        let layer = directory.path().join(format!("layer:{number},\\ {long}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(number.to_string()), "").unwrap();
        fs::write(layer.join("all"), number.to_string()).unwrap();
        layer
    };
    let lowers: Vec<_> = (0..500).map(layer).collect();
    let sandbox = sandbox(&Arc::default());
    let before = std::env::current_dir().unwrap();
    let merged = sandbox.open(&RootSpec::ReadOnly { lowers: lowers.clone() }).unwrap();
    assert_eq!(fs::read_dir(merged.path()).unwrap().count(), 501);
    assert_eq!(fs::read_to_string(merged.path().join("all")).unwrap(), "499");
    merged.close().unwrap();
    let lowers: Vec<_> = lowers.iter().map(PathBuf::as_path).collect();
    let scratch = Scratch::on(&sandbox, &lowers);
    on_host(&scratch, "cat all >new; rm 7");
    scratch.root.close().unwrap();
    let upper = scratch.directory.path().join("upper");
    assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "499");
    assert!(upper.join("7").symlink_metadata().is_ok(), "the removal is in the layer");
    assert_eq!(std::env::current_dir().unwrap(), before);
}

/// tar and other programs take a directory for another one when its number changes.
#[test]
fn directories_of_a_first_layer_keep_their_numbers_when_the_kernel_forgets_them() {
    let scratch = Scratch::on(&sandbox(&Arc::default()), &[]);
    let numbers = "stat -c '%n %i' $(find . -type d)";
    let before = on_host(&scratch, &format!("mkdir -p a/b/c d; {numbers}"));
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    assert_eq!(on_host(&scratch, numbers), before);
}

/// Every file system that a disk may have beside its root.
const MANY: &str = "
- local_loop: { name: image0 }
- partitioning:
    base: image0
    label: gpt
    partitions:
      - { name: boot, size: 64MiB, mkfs: { type: ext4, mount: { mount_point: /boot, fstab: { } } } }
      - { name: swap, size: 64MiB, mkfs: { type: swap, label: swap, mount: { mount_point: none, fstab: { } } } }
      - { name: var, size: 64MiB, mkfs: { type: ext4, mount: { mount_point: /var, fstab: { } } } }
      - { name: lib, size: 64MiB, mkfs: { type: ext4, mount: { mount_point: /var/lib, fstab: { } } } }
      - { name: srv, size: 64MiB, mkfs: { type: ext4, mount: { mount_point: /srv, fstab: { } } } }
      - { name: home, size: 64MiB, mkfs: { type: ext4, mount: { mount_point: /home, fstab: { } } } }
      - { name: root, size: 100%, mkfs: { mount: { mount_point: /, fstab: { } } } }
";

/// Returns what debugfs prints of a file in a partition.
fn read_from(raw: &Path, partition: &str, file: &str) -> String {
    let table = program("sfdisk", &["--json", raw.to_str().unwrap()], Path::new("/"));
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|found| found["name"] == partition).expect("the partition is there");
    let disk = format!("{}?offset={}", raw.display(), found["start"].as_u64().unwrap() * 512);
    program("debugfs", &["-R", &format!("cat {file}"), &disk], Path::new("/"))
}

#[test]
fn several_file_systems_of_one_disk_are_filled_by_layers_and_by_hooks() {
    let work = Work::new();
    work.hook(
        "tiny",
        "install.d/50-data",
        "for d in boot var srv home; do mkdir -p /$d; echo layer >/$d/layer; done",
    );
    work.hook(
        "tiny",
        "finalise.d/50-data",
        "for d in boot var var/lib srv home; do echo hook >/$d/hook; done",
    );
    let variables = [("DIB_BLOCK_DEVICE_CONFIG", MANY), ("DIB_IMAGE_SIZE", "1")];
    work.create_with("-n -t raw -o x tiny", &variables).expect_success();
    let raw = work.path().join("x.raw");
    for partition in ["boot", "var", "srv", "home"] {
        assert_eq!(read_from(&raw, partition, "/layer"), "layer\n", "{partition}");
        assert_eq!(read_from(&raw, partition, "/hook"), "hook\n", "{partition}");
    }
    assert_eq!(read_from(&raw, "lib", "/hook"), "hook\n");
    let fstab = read_from(&raw, "root", "/etc/fstab");
    for place in ["/boot", "none", "/var", "/var/lib", "/srv", "/home", "/"] {
        assert!(fstab.lines().any(|line| line.split_whitespace().nth(1) == Some(place)), "{place}: {fstab}");
    }
}

#[test]
fn the_example_of_the_documentation_builds() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/block-devices.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let work = Work::new();
    let variables = [("DIB_BLOCK_DEVICE_CONFIG", example), ("DIB_IMAGE_SIZE", "4")];
    work.create_with("-n -t raw -o x tiny", &variables).expect_success();
    let fstab = read_from(&work.path().join("x.raw"), "root", "/etc/fstab");
    assert!(["/boot/efi", "/var", "/"].iter().all(|place| fstab.contains(&format!(" {place} "))), "{fstab}");
}
