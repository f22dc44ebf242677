//! Tests of the mounts of the sandbox under hooks: stacks of many layers, disks of many file
//! systems, moved directories, device nodes. They need root, overlayfs, loop devices, xfsprogs,
//! fdisk.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::page::Page;
use crate::common::work::{Work, program};
use crate::common::{Scratch, run, sandbox, shell};
use plywood::plan::Aspect;
use plywood::port::{Exit, HostOpens, RootSpec, Sandbox, View};

/// Runs a script on the build host with the target mounted. Returns its output.
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

/// If the inode number of a directory changes, tar and other programs treat it as another
/// directory.
#[test]
fn directories_of_a_first_layer_keep_their_inode_numbers_when_the_kernel_drops_its_caches() {
    let scratch = Scratch::on(&sandbox(&Arc::default()), &[]);
    let numbers = "stat -c '%n %i' $(find . -type d)";
    let before = on_host(&scratch, &format!("mkdir -p a/b/c d; {numbers}"));
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    assert_eq!(on_host(&scratch, numbers), before);
}

/// Every supported kernel must report the files that hooks open.
#[test]
fn host_files_that_a_job_opens_are_reported_for_every_path() {
    let scratch = Scratch::on(&sandbox(&Arc::default()), &[]);
    let script =
        "ls /etc >/dev/null; mkdir /tmp/x; mount --bind /etc /tmp/x; cat /tmp/x/passwd; echo made >/tmp/made";
    let mut job = shell(script);
    (job.view, job.traced) = (View::HostBare, true);
    let (exit, output) = run(scratch.root.as_ref(), &job);
    assert_eq!(exit, Exit::Status(0), "{output}");
    let opens = scratch.root.take_host_opens();
    assert_eq!(opens.gap, None);
    let has = |path: &str, aspect| opens.files.iter().any(|open| open.path == path && open.aspect == aspect);
    assert!(has("/etc/passwd", Aspect::Content) && has("/etc", Aspect::Listing), "{opens:?}");
    assert!(!opens.files.iter().any(|open| open.path.starts_with("/tmp")), "{opens:?}");
    assert_eq!(scratch.root.take_host_opens(), HostOpens::default(), "each file is reported once");
}

/// A disk of these partitions.
fn disk_of(partitions: &[&str]) -> String {
    let head = "- local_loop: { name: image0 }\n- partitioning: { base: image0, label: gpt, partitions: [";
    format!("{head}{}]}}\n", partitions.join(", "))
}

/// A partition with ext4.
fn ext4(name: &str, size: &str, place: &str) -> String {
    format!(
        "{{ name: {name}, size: {size}, mkfs: {{ type: ext4, mount: {{ mount_point: {place}, fstab: {{ }} }} }} }}"
    )
}

/// Returns what debugfs prints of a file in a partition.
fn read_from(raw: &Path, partition: &str, file: &str) -> String {
    let table = program("sfdisk", &["--json", raw.to_str().unwrap()], Path::new("/"));
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|found| found["name"] == partition).expect("the partition is there");
    let disk = format!("{}?offset={}", raw.display(), found["start"].as_u64().unwrap() * 512);
    program("debugfs", &["-R", &format!("cat {file}"), &disk], Path::new("/"))
}

/// A minimal image, with a disk of two file systems to which hooks write. Old kernels build it too.
#[test]
fn an_image_and_its_disk_are_built() {
    let work = Work::new();
    work.hook("tiny", "install.d/50-data", "mkdir /srv; echo layer >/srv/layer");
    let resolver = "echo nameserver 192.0.2.53 >/etc/resolv.conf";
    work.hook("tiny", "finalise.d/50-data", &format!("echo hook >/srv/hook; {resolver}"));
    let config = disk_of(&[&ext4("srv", "16MiB", "/srv"), &ext4("root", "100%", "/")]);
    let variables = [("DIB_BLOCK_DEVICE_CONFIG", config.as_str()), ("DIB_IMAGE_SIZE", "0.2")];
    work.create_with("-n -t raw -o x tiny", &variables).expect_success();
    let raw = work.path().join("x.raw");
    assert_eq!(read_from(&raw, "srv", "/layer"), "layer\n");
    assert_eq!(read_from(&raw, "srv", "/hook"), "hook\n");
    assert_eq!(read_from(&raw, "root", "/etc/resolv.conf"), "nameserver 192.0.2.53\n");
}

#[test]
fn many_file_systems_of_one_disk_are_filled_by_layers_and_by_hooks() {
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
    let small = [("boot", "/boot"), ("var", "/var"), ("lib", "/var/lib"), ("srv", "/srv"), ("home", "/home")];
    let small = small.map(|(name, place)| ext4(name, "64MiB", place));
    let swap = "{ name: swap, size: 64MiB, mkfs: { type: swap, mount: { mount_point: none, fstab: { } } } }";
    let root = ext4("root", "100%", "/");
    let partitions: Vec<_> = small.iter().map(String::as_str).chain([swap, &root]).collect();
    let config = disk_of(&partitions);
    let variables = [("DIB_BLOCK_DEVICE_CONFIG", config.as_str()), ("DIB_IMAGE_SIZE", "1")];
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

/// The guests of `kernels` have only control groups of version 2. Other hosts have version 1, or
/// both.
#[test]
fn control_groups_end_hooks_at_their_limits() {
    let work = Work::new();
    let forks = "sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 30 & done; wait'";
    let cases = [
        ("PLYWOOD_HOOK_MEMORY", "48M", "install.d/50-all", "x=0123456789abcdef; while :; do x=$x$x; done"),
        ("PLYWOOD_HOOK_PROCESSES", "8", "extra-data.d/50-all", forks),
    ];
    for (variable, value, hook, script) in cases {
        work.hook("greedy", hook, script);
        let run = work.create_with("-n -t tar -o x tiny greedy", &[(variable, value)]);
        let said = [run.stdout, run.stderr].concat();
        assert!(run.status != Some(0) && said.contains(&format!("raise {variable}")), "{variable}: {said}");
        fs::remove_file(work.path().join("../elements/greedy").join(hook)).unwrap();
    }
}

/// rustup, npm and others rename directories that an earlier step installed.
#[test]
fn moved_directories_of_a_lower_layer_are_whole_in_the_layer() {
    let lower = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for directory in ["old/sub/deep", "other", "kept"] {
        fs::create_dir_all(lower.path().join(directory)).unwrap();
    }
    for file in ["old/file", "old/gone", "old/sub/deep/file", "other/file"] {
        fs::write(lower.path().join(file), file).unwrap();
    }
    fs::hard_link(lower.path().join("old/file"), lower.path().join("old/sub/linked")).unwrap();
    let sandbox = sandbox(&Arc::default());
    let scratch = Scratch::on(&sandbox, &[lower.path()]);
    let at = |path: &str| scratch.root.path().join(path);
    fs::rename(at("old"), at("kept/new")).expect("as on any file system");
    fs::rename(at("kept/new/sub"), at("sub")).unwrap();
    fs::remove_file(at("kept/new/gone")).unwrap();
    fs::write(at("kept/new/added"), "added").unwrap();
    fs::remove_dir_all(at("other")).unwrap();
    fs::rename(at("sub/deep"), at("other")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::open(at("kept")).unwrap().set_modified(time).unwrap();
    scratch.root.close().unwrap();
    let upper = scratch.directory.path().join("upper");
    assert_eq!(fs::metadata(upper.join("kept")).unwrap().modified().unwrap(), time);
    let listing = program("find", &[".", "-type", "f"], &upper);
    let mut listing: Vec<_> = listing.lines().collect();
    listing.sort_unstable();
    assert_eq!(listing, ["./kept/new/added", "./kept/new/file", "./other/file", "./sub/linked"]);
    let marks = program("getfattr", &["-R", "-h", "-d", "-m", "redirect", "."], &upper);
    assert_eq!(marks, "");
    let merged = sandbox.open(&RootSpec::ReadOnly { lowers: vec![lower.path().to_owned(), upper] }).unwrap();
    let listing = program("find", &[".", "-mindepth", "1"], merged.path());
    let mut listing: Vec<_> = listing.lines().collect();
    listing.sort_unstable();
    let expected =
        ["./kept", "./kept/new", "./kept/new/added", "./kept/new/file", "./other", "./other/file", "./sub"];
    assert_eq!(listing, [&expected[..], &["./sub/linked"]].concat());
    assert_eq!(fs::read_to_string(merged.path().join("other/file")).unwrap(), "old/sub/deep/file");
}

/// The file system of a container is an overlayfs.
#[test]
fn a_store_on_overlayfs_is_refused_before_a_hook_runs_with_the_option_that_names_another() {
    let work = Work::new();
    let layer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let scratch = Scratch::on(&sandbox(&Arc::default()), &[layer.path()]);
    // Not below the sandbox's own directory, over which each plywood mounts.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = place.path().to_str().unwrap();
    program("mount", &["--bind", scratch.root.path().to_str().unwrap(), path], Path::new("/"));
    let store = place.path().join("store");
    let run = work.create_with("-n -t tar -o x tiny", &[("PLYWOOD_STORE", store.to_str().unwrap())]);
    let doctor = work.run("plywood", &["doctor", "--store", store.to_str().unwrap()]);
    program("umount", &["--lazy", path], Path::new("/"));
    assert!(doctor.stdout.contains("on overlayfs") && doctor.stdout.contains("--store"), "{doctor:?}");
    let said = run.stdout + &run.stderr;
    assert_eq!(run.status, Some(1), "{said}");
    assert!(said.contains("is on overlayfs") && said.contains("hint: "), "{said}");
    assert!(said.contains("PLYWOOD_STORE"), "{said}");
    assert!(!said.contains("10-tiny"), "{said}");
}

#[test]
fn the_example_of_the_documentation_builds() {
    let example = Page::read("docs/block-devices.md").texts("yaml").remove(0);
    let work = Work::new();
    let variables = [("DIB_BLOCK_DEVICE_CONFIG", example.as_str()), ("DIB_IMAGE_SIZE", "4")];
    work.create_with("-n -t raw -o x tiny", &variables).expect_success();
    let fstab = read_from(&work.path().join("x.raw"), "root", "/etc/fstab");
    assert!(["/boot/efi", "/var", "/"].iter().all(|place| fstab.contains(&format!(" {place} "))), "{fstab}");
}

#[test]
fn hooks_of_host_phases_can_unpack_a_container_image() {
    let work = Work::new();
    work.programs("tiny", &["tar"]);
    let hook = r#"
tar --create --directory "$TARGET_ROOT" . | podman import --quiet - localhost/base
container=$(podman create localhost/base /bin/true)
mkdir "$TARGET_ROOT/unpacked"
podman export "$container" | tar --extract --directory "$TARGET_ROOT/unpacked"
"#;
    work.hook("tiny", "root.d/50-container", hook);
    work.create("-n -t tar -o x tiny").expect_success();
    let listing = program("tar", &["--list", "--file", "x.tar"], &work.path());
    assert!(listing.lines().any(|line| line.ends_with("unpacked/etc/tiny")), "{listing}");
    assert!(!listing.contains("var/lib/containers"), "{listing}");
}
