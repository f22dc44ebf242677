//! Tests of root writing into directories of other users, who have planted links there. The targets
//! of the links must not change.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use plywood::directory::Directory;
use tempfile::TempDir;

use crate::common::project::Project;
use crate::common::work::{Run, Work};

/// An untrusted user.
const STRANGER: u32 = 4242;

/// A file and an empty directory that only root may write to.
struct Victim(TempDir);

impl Victim {
    fn new() -> Self {
        let victim = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        fs::write(victim.file(), "secret").unwrap();
        fs::set_permissions(victim.file(), Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(victim.directory()).unwrap();
        victim
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("shadow")
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("etc")
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let status = fs::metadata(self.file()).unwrap();
        assert_eq!((status.uid(), status.mode() & 0o7777), (0, 0o600));
        assert_eq!(fs::read_to_string(self.file()).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.directory()).unwrap().count(), 0);
    }
}

/// Returns all output of a run. The log of these commands is on standard output.
fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

fn give_to_stranger(path: &Path) {
    lchown(path, Some(STRANGER), Some(STRANGER)).unwrap();
}

/// Plants a link of the untrusted user.
fn plant(link: &Path, target: &Path) {
    symlink(target, link).unwrap();
    give_to_stranger(link);
}

fn plant_fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    give_to_stranger(path);
}

#[test]
fn planted_names_are_replaced_and_not_followed() {
    let (work, victim) = (Work::new(), Victim::new());
    give_to_stranger(&work.path());
    let at = |name: &str| work.path().join(name);
    plant(&at("x.tar"), &victim.file());
    plant(&at("x.qcow2"), &victim.file());
    plant_fifo(&at("x.qcow2.sha256"));
    fs::hard_link(victim.file(), at("x.qcow2.md5")).unwrap();
    for name in ["x.tar", "x.qcow2", "x.qcow2.md5"] {
        plant(&at(&format!(".{name}.0.part")), &victim.file());
    }
    work.create("-n -t tar,qcow2 --checksum -o x tiny").expect_success();
    victim.assert_untouched();
    for name in ["x.tar", "x.qcow2.md5", "x.qcow2", "x.qcow2.sha256"] {
        let status = fs::symlink_metadata(at(name)).unwrap();
        assert!(status.is_file() && status.nlink() == 1 && status.uid() == 0, "{name}: {status:?}");
    }
}

#[test]
fn a_layout_and_a_manifest_replace_planted_names() {
    let project = Project::new("elements = []\noutputs = [\"oci\", \"docker-archive\"]").with_small_base();
    let victim = Victim::new();
    fs::create_dir(project.out()).unwrap();
    give_to_stranger(&project.out());
    let at = |name: &str| project.out().join(name);
    plant(&at("tiny.oci"), &victim.directory());
    plant(&at(".tiny.oci.0.part"), &victim.file());
    plant(&at(".tiny.oci.0.part.d"), &victim.directory());
    plant(&at("tiny.manifest.json"), &victim.file());
    plant(&at("tiny.docker.tar"), &victim.file());
    // A planted link with the name of a temporary file is not followed.
    plant(&at(".plywood.0000000000000000.part"), &victim.file());
    plant_fifo(&at(".plywood.0000000000000001.part"));
    project.build(&[]);
    victim.assert_untouched();
    assert!(fs::symlink_metadata(at("tiny.oci")).unwrap().is_dir());
    assert!(fs::symlink_metadata(at("tiny.manifest.json")).unwrap().is_file());
    // Blobs of an old layout are reused only if no other user can change them.
    let blobs = || fs::read_dir(at("tiny.oci/blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    blobs().for_each(|blob| give_to_stranger(&blob));
    project.build(&[]);
    blobs().for_each(|blob| assert_eq!(fs::metadata(blob).unwrap().uid(), 0));
}

#[test]
fn a_planted_name_of_a_log_is_not_followed() {
    let (work, victim) = (Work::new(), Victim::new());
    give_to_stranger(&work.path());
    let at = |name: &str| work.path().join(name);
    plant(&at("link.log"), &victim.file());
    fs::hard_link(victim.file(), at("hard.log")).unwrap();
    plant_fifo(&at("fifo.log"));
    for name in ["link.log", "hard.log", "fifo.log"] {
        let run = work.create(&format!("-n -t tar -o x --logfile {name} tiny"));
        assert_eq!(run.status, Some(1), "{}", run.stderr);
        let said = said(&run);
        assert!(said.contains(name) && said.contains("others can write"), "{said}");
        victim.assert_untouched();
    }
    assert!(fs::symlink_metadata(at("fifo.log")).unwrap().file_type().is_fifo());
    work.create("-n -t tar -o x --logfile new.log tiny").expect_success();
    assert!(work.read("new.log").contains("Build completed successfully"));
}

#[test]
fn a_strangers_link_to_a_directory_is_not_followed() {
    let (work, victim) = (Work::new(), Victim::new());
    give_to_stranger(&work.path());
    plant(&work.path().join("out"), &victim.directory());
    let link = work.path().join("out").display().to_string();
    let project = Project::new("elements = []\noutputs = [\"tar\"]").with_small_base();
    let key = format!("{link}/signing.key");
    let runs = [
        work.create("-n -t tar -o out/x tiny"),
        work.create("-n -t tar -o x --logfile out/log tiny"),
        work.create_with("-n -t tar -o x tiny", &[("DIB_MANIFEST_SAVE_DIR", "out/manifests")]),
        work.create("-n -t tar -o x --image-cache out/cache tiny"),
        work.create_with("-n -t tar -o x tiny", &[("PLYWOOD_STORE", &format!("{link}/store"))]),
    ];
    let runs = runs.into_iter().map(|run| (run.status, said(&run)));
    let builds = [&["build", "-o", link.as_str()][..], &["key", "generate", "--out", &key]];
    let builds = builds.map(|words| project.run(words)).map(|run| (run.status, run.stderr));
    for (status, said) in runs.chain(builds) {
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("out` is a symbolic link of user 4242"), "{said}");
        victim.assert_untouched();
    }
    // A link to a directory of the same user is allowed, because that user could write there
    // anyway.
    fs::create_dir(work.path().join("own")).unwrap();
    give_to_stranger(&work.path().join("own"));
    plant(&work.path().join("fine"), Path::new("own"));
    work.create("-n -t tar -o fine/x tiny").expect_success();
    assert_eq!(work.files("own"), ["x.d", "x.tar"].map(str::to_owned)[1..]);
}

#[test]
fn files_of_others_are_not_given_to_the_caller() {
    let (work, victim) = (Work::new(), Victim::new());
    let planted = "ln -s /proc/self/environ x.link; echo made >x.made";
    work.hook("web", "cleanup.d/50-web", planted);
    fs::hard_link(victim.file(), work.path().join("x.hard")).unwrap();
    plant(&work.path().join("x.soft"), &victim.file());
    let owner = format!("{STRANGER}:{STRANGER}");
    work.create_with("-n -t tar -o x tiny web", &[("PLYWOOD_OWNER", &owner)]).expect_success();
    victim.assert_untouched();
    let owner = |name: &str| fs::symlink_metadata(work.path().join(name)).unwrap().uid();
    assert_eq!((owner("x.made"), owner("x.tar"), owner("x.link")), (STRANGER, STRANGER, STRANGER));
}

#[test]
fn a_file_with_two_names_keeps_its_owner() {
    let (place, victim) = (tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), Victim::new());
    fs::create_dir(place.path().join("d")).unwrap();
    fs::write(place.path().join("d/own"), "").unwrap();
    fs::hard_link(victim.file(), place.path().join("d/planted")).unwrap();
    let directory = Directory::open(place.path()).unwrap();
    directory.give("d".as_ref(), STRANGER, STRANGER).unwrap();
    let owner = |name: &str| fs::metadata(place.path().join(name)).unwrap().uid();
    assert_eq!((owner("d"), owner("d/own"), owner("d/planted")), (STRANGER, STRANGER, 0));
}

#[test]
fn root_uses_no_store_that_others_can_fill() {
    let (work, victim) = (Work::new(), Victim::new());
    fs::create_dir(work.store()).unwrap();
    give_to_stranger(&work.store());
    // An empty directory becomes root's own.
    work.create("-n -t tar -o x tiny").expect_success();
    assert_eq!(fs::metadata(work.store()).unwrap().uid(), 0);
    give_to_stranger(&work.store());
    plant(&work.store().join(".plywood-store"), &victim.file());
    fs::remove_file(work.store().join("index.json")).unwrap();
    let refused = work.create("-n -t tar -o x tiny");
    assert_eq!(refused.status, Some(1));
    assert!(said(&refused).contains("belongs to user 4242"), "{}", said(&refused));
    lchown(work.store(), Some(0), Some(0)).unwrap();
    fs::set_permissions(work.store(), Permissions::from_mode(0o777)).unwrap();
    let refused = work.create("-n -t tar -o x tiny");
    assert!(said(&refused).contains("can be written by all users"), "{}", said(&refused));
    // A directory in a store of root, as umask 000 once made it.
    fs::set_permissions(work.store(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(work.store().join("records"), Permissions::from_mode(0o777)).unwrap();
    let refused = work.create("-n -t tar -o x tiny");
    assert!(said(&refused).contains("/records` can be written by all users"), "{}", said(&refused));
    victim.assert_untouched();
}
