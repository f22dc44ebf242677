//! The store with what needs root: owners, devices, extended attributes of the system, overlayfs' own forms.
#![cfg(feature = "system-tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use plywood::layer::{CaptureRules, Decoder, Entry, Kind};
use plywood::oci::{DiffId, Digest};
use plywood::plan::{InputKey, KeyFields, Record};
use plywood::port::{Commit, Layer, LayerStore, StoreError};
use plywood::store::Store;

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

    /// Makes a layer above `stack` by what `make` does in the upper directory.
    fn layer(&self, stack: &[DiffId], make: impl FnOnce(&Path)) -> Option<Layer> {
        let workspace = self.store.workspace(stack).unwrap();
        make(workspace.upper());
        workspace.commit(&commit()).unwrap()
    }

    fn entries(&self, layer: &Layer) -> Vec<(Entry, Vec<u8>)> {
        let blob = self.store.open_blob(&layer.blob, layer.blob_bytes).unwrap();
        let mut decoder = Decoder::new(zstd::Decoder::new(blob).unwrap());
        let mut entries = Vec::new();
        while let Some((entry, mut content)) = decoder.next_entry().unwrap() {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            entries.push((entry, bytes));
        }
        entries
    }

    /// The paths of a layer in order; directories end in `/`, removals start with `-`.
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

    fn snapshot(&self, diff_id: &DiffId) -> PathBuf {
        self.path.join("snapshots").join(diff_id.hex())
    }
}

fn commit() -> Commit {
    Commit { source_date_epoch: EPOCH, rules: CaptureRules::standard() }
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

/// Everything that a directory's files are, by path: what two equal trees have in common.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() { Digest::of(fs::read(&path).unwrap()).hex() } else { String::new() };
        let target = fs::read_link(&path).unwrap_or_default();
        // A removal has no meta data of its own.
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

/// A tree with one of everything.
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
fn what_is_committed_is_what_unpacking_gives() {
    let bench = Bench::new();
    let layer = bench.layer(&[], make_everything).unwrap();
    let snapshot = bench.snapshot(&layer.diff_id);
    let committed = describe(&snapshot);
    assert!(
        committed[Path::new("etc/hosts")].contains("(33188, 1000, 3000000, 0) (1700000000, 0)"),
        "{committed:#?}"
    );
    assert!(committed[Path::new("usr/bin/capable")].contains("security.capability"));
    fs::remove_dir_all(&snapshot).unwrap();
    bench.store.snapshot(&layer.diff_id).unwrap();
    assert_eq!(describe(&snapshot), committed);
}

#[test]
fn the_same_tree_made_later_and_in_another_order_is_the_same_layer() {
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
fn a_layer_holds_what_changed_and_nothing_else() {
    let bench = Bench::new();
    let base = bench.layer(&[], |root| {
        for path in ["etc/a", "etc/b", "opt/x", "opt/y", "srv/same"] {
            write(root.join(path), path);
        }
    });
    let base = base.unwrap().diff_id;
    assert_eq!(bench.layer(&[base], |_| {}), None);
    let touched = bench.layer(&[base], |root| write(root.join("srv/same"), "srv/same"));
    assert_eq!(touched, None, "equal once its time is clamped");
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
    let snapshot = bench.snapshot(&layer.diff_id);
    let committed = describe(&snapshot);
    assert_eq!(committed.len(), 6, "{committed:#?}");
    fs::remove_dir_all(&snapshot).unwrap();
    bench.store.snapshot(&layer.diff_id).unwrap();
    assert_eq!(describe(&snapshot), committed);
}

#[test]
fn rules_are_applied_before_the_layer_is_made() {
    let bench = Bench::new();
    let layer = bench.layer(&[], |root| {
        write(root.join("etc/machine-id"), "0123\n");
        write(root.join("etc/shadow"), "root:*:99999:0:99999:7:::\n");
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
fn records_are_hits_only_while_their_layers_are_there() {
    let bench = Bench::new();
    let layer = bench.layer(&[], |root| write(root.join("a"), "a")).unwrap();
    let fields = KeyFields::new([("file a".to_owned(), "1".to_owned())]);
    let record = Record {
        step: "a".to_owned(),
        image: "i".to_owned(),
        input_key: fields.input_key(None),
        content_key: fields.content_key(None),
        parent: None,
        fields,
        diff_ids: vec![layer.diff_id],
    };
    bench.store.save(&record).unwrap();
    let again = Store::open(&bench.path).unwrap();
    assert_eq!(again.by_input(record.input_key).unwrap(), Some(record.clone()));
    assert_eq!(again.by_content(record.content_key).unwrap(), Some(record.clone()));
    assert_eq!(again.records().unwrap(), [record.clone()]);
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
    assert_eq!(describe(&target), describe(&bench.snapshot(&layer.diff_id)));
}
