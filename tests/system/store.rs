//! Tests of the store that need root: owners, devices, extended attributes of the system, marks of
//! overlayfs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use plywood::layer::{CaptureRules, Clamp, Decoder, Encoding, Entry, Kind};
use plywood::oci::{DiffId, Digest, ImageConfig, descriptor, image_manifest};
use plywood::plan::{InputKey, KeyFields, Record};
use plywood::port::{Commit, Layer, LayerBlobs, LayerStore, StoreError};
use plywood::store::Store;

use crate::common::project::Project;

const EPOCH: i64 = 1_700_000_000;

fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test changes owners and makes devices: run it as root"
    );
}

struct Bench {
    _directory: tempfile::TempDir,
    path: PathBuf,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        need_root();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = Store::open(&path).unwrap();
        Self { _directory: directory, path, store }
    }

    /// Makes a layer above `stack`. `make` changes the upper directory.
    fn layer(&self, stack: &[DiffId], make: impl FnOnce(&Path)) -> Option<Layer> {
        let workspace = self.store.workspace(stack).unwrap();
        make(workspace.upper());
        workspace.commit(&commit()).unwrap()
    }

    fn entries(&self, layer: &Layer) -> Vec<(Entry, Vec<u8>)> {
        let blob = self.store.blobs().open(&layer.blob, layer.blob_bytes).unwrap();
        let mut decoder = Decoder::new(zstd::Decoder::new(blob).unwrap());
        let mut entries = Vec::new();
        while let Some((entry, mut content)) = decoder.next_entry().unwrap() {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            entries.push((entry, bytes));
        }
        entries
    }

    /// Returns the paths of a layer in order. Directories end with `/`, and removals start with
    /// `-`.
    fn show(&self, layer: &Layer) -> String {
        let words = self.entries(layer).into_iter().map(|(entry, _)| {
            let path = String::from_utf8(entry.path).unwrap();
            match entry.kind {
                Kind::Directory => format!("{path}/"),
                Kind::Whiteout => format!("-{path}"),
                _ => path,
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Returns the snapshot of the highest layer of a stack. Unpacks the layer if necessary.
    fn snapshot(&self, stack: &[DiffId]) -> PathBuf {
        self.store.snapshots().unpack(stack).unwrap().pop().unwrap()
    }
}

fn commit() -> Commit {
    Commit { clamp: Clamp::to(EPOCH), rules: CaptureRules::standard() }
}

fn write(path: impl AsRef<Path>, content: &str) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn whiteout(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// Returns a description of all files of a directory by path. Equal trees have equal descriptions.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { Digest::of(fs::read(&path).unwrap()).hex() } else { String::new() };
        let target = fs::read_link(&path).unwrap_or_default();
        // A removal has no metadata.
        let hides = meta.rdev() == 0 && (meta.mode() & 0o170_000) == 0o020_000;
        let dates = if hides { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let owner = (meta.mode(), meta.uid(), meta.gid(), meta.rdev());
        let mut names = [0u8; 4096];
        let count = rustix::fs::llistxattr(&path, &mut names).unwrap();
        let xattrs: Vec<_> = names[..count].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let text = format!("{owner:?} {dates:?} {links} {xattrs:?} {} {content}", target.display());
        all.insert(path.strip_prefix(root).unwrap().to_owned(), text);
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all
}

/// Makes a tree with every kind of entry.
fn make_everything(root: &Path) {
    write(root.join("etc/hosts"), "127.0.0.1 localhost\n");
    write(root.join("usr/bin/tool"), "#!/bin/sh\n");
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(root.join("etc/hosts"), Some(1000), Some(3_000_000)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/alias")).unwrap();
    symlink("/etc/hosts", root.join("hosts")).unwrap();
    write(root.join("n".repeat(200)).join("x".repeat(200)), "long");
    write(root.join("usr/bin/capable"), "cap");
    // cap_net_raw+ep, and a byte 10 in it.
    set_xattr(
        &root.join("usr/bin/capable"),
        "security.capability",
        b"\x01\0\0\x02\0\x20\0\0\0\x0a\0\0\0\0\0\0\0\0\0\0",
    );
    set_xattr(&root.join("etc"), "user.note", b"kept");
    set_xattr(&root.join("etc/hosts"), "trusted.overlay.origin", b"\0\xfb");
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    fs::create_dir(root.join("nodes")).unwrap();
    mknodat(
        CWD,
        root.join("nodes/null"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(1, 3),
    )
    .unwrap();
    mknodat(CWD, root.join("nodes/fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn a_committed_snapshot_equals_the_unpacked_layer() {
    let bench = Bench::new();
    let layer = bench.layer(&[], make_everything).unwrap();
    let snapshot = bench.snapshot(&[layer.diff_id]);
    let committed = describe(&snapshot);
    assert!(
        committed[Path::new("etc/hosts")].contains("(33188, 1000, 3000000, 0) (1700000000, 0)"),
        "{committed:#?}"
    );
    assert!(committed[Path::new("usr/bin/capable")].contains("security.capability"));
    fs::remove_dir_all(&snapshot).unwrap();
    bench.snapshot(&[layer.diff_id]);
    assert_eq!(describe(&snapshot), committed);
}

#[test]
fn an_equal_tree_made_later_and_in_another_order_gives_the_same_layer() {
    let (one, two) = (Bench::new(), Bench::new());
    let first = one.layer(&[], |root| {
        make_everything(root);
        write(root.join("a"), "a");
        write(root.join("b"), "b");
    });
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = two.layer(&[], |root| {
        write(root.join("b"), "b");
        write(root.join("a"), "a");
        make_everything(root);
    });
    assert_eq!(first, second);
}

#[test]
fn old_times_stay_and_new_ones_are_clamped() {
    let bench = Bench::new();
    let layer = bench.layer(&[], |root| {
        write(root.join("new"), "");
        write(root.join("old"), "");
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_234_567);
        fs::File::open(root.join("old")).unwrap().set_modified(old).unwrap();
    });
    let times: Vec<_> = bench.entries(&layer.unwrap()).iter().map(|(entry, _)| entry.meta.mtime).collect();
    assert_eq!(times, [EPOCH, EPOCH, 1234]);
}

#[test]
fn a_layer_holds_only_changes() {
    let bench = Bench::new();
    let base = bench.layer(&[], |root| {
        for path in ["etc/a", "etc/b", "opt/x", "opt/y", "srv/same"] {
            write(root.join(path), path);
        }
    });
    let base = base.unwrap().diff_id;
    assert_eq!(bench.layer(&[base], |_| {}), None);
    let touched = bench.layer(&[base], |root| write(root.join("srv/same"), "srv/same"));
    assert_eq!(touched, None, "equal after its time is clamped");
    let layer = bench.layer(&[base], |root| {
        write(root.join("etc/b"), "changed");
        whiteout(&root.join("etc/a"));
        whiteout(&root.join("etc/never"));
        write(root.join("opt/y"), "opt/y");
        set_xattr(&root.join("opt"), "trusted.overlay.opaque", b"y");
        write(root.join("srv/same"), "srv/same");
    });
    let layer = layer.unwrap();
    assert_eq!(bench.show(&layer), "/ etc/ -etc/a etc/b opt/ -opt/x");
    let snapshot = bench.snapshot(&[base, layer.diff_id]);
    let committed = describe(&snapshot);
    assert_eq!(committed.len(), 6, "{committed:#?}");
    fs::remove_dir_all(&snapshot).unwrap();
    assert_eq!(describe(&bench.snapshot(&[base, layer.diff_id])), committed);
}

#[test]
fn rules_are_applied_before_the_layer_is_made() {
    let bench = Bench::new();
    let layer = bench.layer(&[], |root| {
        write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n");
        let today = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
        write(root.join("etc/shadow"), &format!("root:*:{today}:0:99999:7:::\n"));
        write(root.join("run/sshd.pid"), "1");
        write(root.join("var/log/dpkg.log"), "today");
        write(root.join("var/log/lastlog"), "today");
        write(root.join("tmp/kept"), "");
        std::os::unix::net::UnixListener::bind(root.join("tmp/socket")).unwrap();
    });
    let layer = layer.unwrap();
    assert_eq!(
        bench.show(&layer),
        "/ etc/ etc/machine-id etc/shadow run/ tmp/ tmp/kept var/ var/log/ var/log/lastlog"
    );
    for (entry, content) in bench.entries(&layer) {
        assert!(entry.meta.mtime <= EPOCH, "{entry:?}");
        match entry.path.as_slice() {
            b"etc/shadow" => assert_eq!(content, b"root:*:19675:0:99999:7:::\n"),
            _ => assert!(content.is_empty(), "{entry:?}"),
        }
    }
}

#[test]
fn a_redirected_directory_is_refused() {
    let bench = Bench::new();
    let workspace = bench.store.workspace(&[]).unwrap();
    fs::create_dir(workspace.upper().join("moved")).unwrap();
    set_xattr(&workspace.upper().join("moved"), "trusted.overlay.redirect", b"/elsewhere");
    let error = workspace.commit(&commit()).unwrap_err();
    assert!(error.to_string().contains("redirect_dir=off"), "{error}");
}

#[test]
fn the_root_directory_keeps_its_mode_through_layers() {
    let bench = Bench::new();
    let base = bench.layer(&[], |root| {
        fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
        write(root.join("a"), "");
    });
    let workspace = bench.store.workspace(&[base.unwrap().diff_id]).unwrap();
    assert_eq!(fs::metadata(workspace.upper()).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn records_are_hits_only_while_the_store_has_their_layers() {
    let bench = Bench::new();
    let layer = bench.layer(&[], |root| write(root.join("a"), "a")).unwrap();
    let fields = KeyFields::new([("file a".to_owned(), "1".to_owned())]);
    let record = Record {
        step: "a".parse().unwrap(),
        image: "i".to_owned(),
        input_key: fields.input_key(None),
        content_key: fields.content_key(None),
        parent: None,
        fields,
        diff_ids: vec![layer.diff_id],
        evidence: None,
    };
    bench.store.save(&record).unwrap();
    let again = Store::open(&bench.path).unwrap();
    assert_eq!(again.by_input(record.input_key).unwrap(), Some(record.clone()));
    assert_eq!(again.by_content(record.content_key).unwrap(), Some(record.clone()));
    assert_eq!(again.all_records().unwrap(), std::slice::from_ref(&record));
    assert_eq!(again.by_input(InputKey::new(Digest::of("other"))).unwrap(), None);
    let blob = bench.path.join("blobs/sha256").join(layer.blob.hex());
    fs::write(&blob, "short").unwrap();
    assert_eq!(again.by_input(record.input_key).unwrap(), None);
    assert!(matches!(again.save(&record), Err(StoreError::MissingLayer { .. })));
}

#[test]
fn other_programs_read_the_archive() {
    let bench = Bench::new();
    let layer = bench.layer(&[], make_everything).unwrap();
    let blob = bench.path.join("blobs/sha256").join(layer.blob.hex());
    let target = bench.path.parent().unwrap().join("tar");
    fs::create_dir(&target).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(&blob)
        .arg("-C")
        .arg(&target);
    assert!(tar.status().expect("GNU tar and zstd are needed").success());
    assert_eq!(describe(&target), describe(&bench.snapshot(&[layer.diff_id])));
}

#[test]
fn a_changed_snapshot_is_noticed_and_made_again() {
    let bench = Bench::new();
    let layer = bench.layer(&[], make_everything).unwrap();
    assert!(bench.store.check().unwrap().is_sound());
    let snapshot = bench.snapshot(&[layer.diff_id]);
    let before = describe(&snapshot);
    fs::set_permissions(snapshot.join("etc/hosts"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(bench.store.check().unwrap().dropped_snapshots, [layer.diff_id]);
    bench.snapshot(&[layer.diff_id]);
    assert_eq!(describe(&snapshot), before);
}

#[test]
fn only_root_can_read_unpacked_layers() {
    let bench = Bench::new();
    for directory in ["snapshots", "work"] {
        assert_eq!(fs::metadata(bench.path.join(directory)).unwrap().mode() & 0o777, 0o700, "{directory}");
    }
}

#[test]
fn snapshots_of_an_earlier_boot_are_discarded() {
    let bench = Bench::new();
    let layer = bench.layer(&[], make_everything).unwrap();
    let snapshot = bench.snapshot(&[layer.diff_id]);
    let before = describe(&snapshot);
    fs::write(bench.path.join("boot"), "another boot").unwrap();
    let store = Store::open(&bench.path).unwrap();
    assert!(!snapshot.exists());
    store.snapshots().unpack(&[layer.diff_id]).unwrap();
    assert_eq!(describe(&snapshot), before);
}

const CHILD_STORE: &str = "PLYWOOD_TEST_STORE";

/// The program that `a_killed_process_leaves_a_sound_store` kills. It makes layers until then.
#[test]
#[ignore = "runs as a child of another test, until it is killed"]
fn committing_child() {
    let store = Store::open(Path::new(&std::env::var_os(CHILD_STORE).expect("a store to work in"))).unwrap();
    let mut stack = Vec::new();
    for number in 0.. {
        let workspace = store.workspace(&stack).unwrap();
        for file in 0..20 {
            write(
                workspace.upper().join(format!("d{number}/{file}")),
                &format!("{number} {file} ").repeat(20_000),
            );
        }
        let layer = workspace.commit(&commit()).unwrap().unwrap();
        let fields = KeyFields::new([("number".to_owned(), number.to_string())]);
        let record = Record {
            step: number.to_string().parse().unwrap(),
            image: "i".to_owned(),
            input_key: fields.input_key(None),
            content_key: fields.content_key(None),
            parent: None,
            fields,
            diff_ids: vec![layer.diff_id],
            evidence: None,
        };
        store.save(&record).unwrap();
        stack = vec![layer.diff_id];
    }
}

#[test]
fn a_killed_process_leaves_a_sound_store() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let mut found = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "store::committing_child"]).env(CHILD_STORE, &path);
        let mut child =
            child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60 + round * 83));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(
            fs::read_dir(path.join("work")).unwrap().count(),
            1,
            "only this process has something in work"
        );
        let report = store.check().unwrap();
        assert!(report.is_sound(), "round {round}: {report:#?}");
        for record in store.all_records().unwrap() {
            assert!(store.by_input(record.input_key).unwrap().is_some());
            found += 1;
        }
    }
    assert!(found > 0, "no child got as far as a record");
}

#[test]
fn two_processes_at_once_are_safe() {
    need_root();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let run = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "store::committing_child"]).env(CHILD_STORE, &path);
        child.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut children = [run(), run(), run()];
    let store = Store::open(&path).unwrap();
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        store.gc(&Default::default()).unwrap();
    }
    for child in &mut children {
        assert_eq!(child.try_wait().unwrap(), None, "a child failed beside the others and the collector");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let report = Store::open(&path).unwrap().check().unwrap();
    assert!(report.is_sound(), "{report:#?}");
    assert!(report.blobs > 2, "{report:#?}");
}

#[test]
fn no_collection_removes_data_of_a_running_build() {
    let project = || {
        let project = Project::of_elements(&["a", "b", "c"]).with_small_base();
        project.hook("elements/c/install.d/60-late", "read -t 0.5 <> <(:) || true");
        project
    };
    let (quiet, busy) = (project(), project());
    let collect = || {
        let gc = busy.run(&["store", "gc", "--older-than", "0", "--max-size", "1"]);
        // The imported base exceeds the limit, and so does the data of the build while it runs.
        let is_base_alone = gc.stderr.contains("size of imported and pulled images, which `store gc` keeps");
        assert!(gc.status == Some(0) || is_base_alone, "{}", gc.stderr);
    };
    let age = || {
        let age = "find blobs layers records -type f -exec touch -d -9days {} +";
        run("sh", &["-ec", &format!("cd '{}'; {age}", busy.store().display())]);
    };
    for text in ["one", "two"] {
        for project in [&quiet, &busy] {
            project.hook("elements/b/install.d/50-b", &format!("echo {text} >/etc/b"));
        }
        quiet.build(&[]);
        // Only this build needs the data in the store.
        age();
        let collections = std::thread::scope(|scope| {
            let build = scope.spawn(|| busy.build(&[]));
            let collections = std::iter::repeat_with(collect).take_while(|()| !build.is_finished()).count();
            build.join().unwrap();
            collections
        });
        assert!(collections > 3, "{collections}");
        assert_eq!(busy.layers(), quiet.layers());
        // Builds the steps, so that they are hits from now on.
        busy.build(&[]);
    }
    let check = busy.run(&["store", "check"]);
    assert!(check.stdout.ends_with("sound\n"), "{}", check.stdout);
    // Without a running build, only the imported base stays.
    age();
    collect();
    let list = busy.run(&["store", "list"]);
    assert!(
        list.stdout.contains("base:debian-bookworm") && list.stdout.lines().count() == 1,
        "{}",
        list.stdout
    );
    assert_eq!(busy.build(&[]).made(), ["a", "b", "c", "image:final"]);
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}` is needed: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Stores an image of two layers as `image:1`. Returns its DiffIDs.
fn save_image(bench: &Bench) -> Vec<DiffId> {
    let base = bench.layer(&[], make_everything).unwrap();
    let top = bench.layer(&[base.diff_id], |root| {
        whiteout(&root.join("hosts"));
        write(root.join("etc/new"), "new");
    });
    let diff_ids = vec![base.diff_id, top.unwrap().diff_id];
    let mut config = ImageConfig::new("amd64", EPOCH).unwrap();
    config.push_step("base", &diff_ids[..1]);
    config.push_step("element a", &diff_ids[1..]);
    let config = config.to_bytes();
    bench.store.blobs().put(&config).unwrap();
    let layers = diff_ids.iter().map(|diff_id| {
        let layer = bench.store.layers().encoded(diff_id, Encoding::Gzip).unwrap();
        descriptor(layer.encoding.media_type(), &layer.blob, layer.blob_bytes)
    });
    let manifest = image_manifest(&config, layers.collect(), &BTreeMap::new());
    bench.store.images().put("1", &manifest).unwrap();
    diff_ids
}

#[test]
fn skopeo_and_umoci_read_the_store_and_plywood_reads_their_images() {
    let bench = Bench::new();
    let diff_ids = save_image(&bench);
    let outside = bench.path.parent().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let store = format!("oci:{}:1", text(&bench.path));
    let (layout, archive) = (outside.join("layout"), outside.join("archive.tar"));
    run("skopeo", &["copy", "--insecure-policy", &store, &format!("oci:{}:copy", text(&layout))]);
    run(
        "skopeo",
        &["copy", "--insecure-policy", &store, &format!("docker-archive:{}:name:tag", text(&archive))],
    );
    let bundle = outside.join("bundle");
    run("umoci", &["unpack", "--image", &format!("{}:1", text(&bench.path)), &text(&bundle)]);
    assert!(bundle.join("rootfs/etc/new").exists() && !bundle.join("rootfs/hosts").is_symlink());

    let other = Bench::new();
    assert_eq!(
        other.store.bases().import_oci_layout(&layout, Some("copy"), "amd64").unwrap().diff_ids,
        diff_ids
    );
    assert_eq!(
        other.store.bases().import_docker_archive(&archive, None, "amd64").unwrap().diff_ids,
        diff_ids
    );
    assert_eq!(
        other.store.bases().import_docker_archive(&archive, Some("name:tag"), "amd64").unwrap().diff_ids,
        diff_ids
    );
    assert!(other.store.bases().import_docker_archive(&archive, Some("name:other"), "amd64").is_err());
    assert_eq!(describe(&other.snapshot(&diff_ids)), describe(&bench.snapshot(&diff_ids)));
}

#[test]
fn an_archive_of_gnu_tar_is_unpacked_without_changes() {
    let bench = Bench::new();
    let outside = bench.path.parent().unwrap();
    let (tree, archive) = (outside.join("tree"), outside.join("rootfs.tar"));
    fs::create_dir(&tree).unwrap();
    make_everything(&tree);
    rustix::fs::lremovexattr(tree.join("etc/hosts"), "trusted.overlay.origin").unwrap();
    for format in ["gnu", "pax"] {
        let (format, file, directory) =
            (format!("--format={format}"), archive.to_str().unwrap(), tree.to_str().unwrap());
        let mut args = vec![format.as_str(), "--numeric-owner", "-C", directory, "-cf", file, "."];
        if format.ends_with("pax") {
            args.splice(1..1, ["--xattrs", "--xattrs-include=*"]);
        }
        run("tar", &args);
        let imported = bench.store.bases().import_rootfs_tar(&archive).unwrap();
        let snapshot = describe(&bench.snapshot(&imported.diff_ids));
        // Fractions of seconds are dropped, and GNU's format has no attributes.
        let plain = |tree: BTreeMap<PathBuf, String>| -> Vec<_> {
            let words = |text: String| text.split(") ").next().unwrap().to_owned();
            tree.into_iter().map(|(path, text)| (path, words(text))).collect()
        };
        assert_eq!(plain(snapshot), plain(describe(&tree)), "{format}");
    }
}
