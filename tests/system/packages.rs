//! Tests of Debian roots, packages and initramfs images with real package managers. They need root
//! and the machine's package mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Scratch, run, sandbox, shell};
use plywood::distro::{Architecture, Mmdebstrap, PRIVATE, apt};
use plywood::load::load_apt_sources;
use plywood::oci::Digest;
use plywood::port::{Access, Bind, Exit, Job, View};
use plywood::sandbox::Namespaces;

/// The files of a build for apt: configuration, downloads, indices.
struct Apt {
    directory: tempfile::TempDir,
}

impl Apt {
    fn new(release: &str) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in ["apt", "archives", "lists", "state"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let machine = load_apt_sources(Path::new("/etc/apt")).unwrap();
        let mirrors = machine.mirrors("debian", release);
        let archive =
            mirrors.archive.expect("this test needs a Debian mirror in the machine's apt configuration");
        let security = mirrors.security.as_ref().map(|mirror| (mirror.uri.as_str(), None));
        let archive = Some((archive.uri.as_str(), None));
        let table = apt::mirror_table("debian", release, &BTreeSet::new(), archive, security);
        fs::write(directory.path().join("apt/mirrors.tsv"), table).unwrap();
        let configuration = apt::configuration(apt::Choices::Plywood, &machine.acquire, None);
        fs::write(directory.path().join("apt/apt.conf"), configuration).unwrap();
        Self { directory }
    }

    fn bind(&self, name: &str, target: &str) -> Bind {
        Bind { source: self.path(name), target: target.to_owned(), access: Access::ReadWrite }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bootstrap(&self, release: &str) -> Job {
        let base = Mmdebstrap {
            suites: ["", "-updates", "-security"].map(|suffix| format!("{release}{suffix}")).to_vec(),
            components: vec!["main".to_owned()],
            include: vec!["ca-certificates".to_owned()],
            ..Mmdebstrap::default()
        };
        let binds = ["apt", "archives", "lists"].map(|name| self.bind(name, &format!("{PRIVATE}/{name}")));
        Job {
            argv: apt::bootstrap(&base, Architecture::Amd64, View::HOST_MOUNT),
            view: View::HostBare,
            binds: binds.to_vec(),
            ..shell("")
        }
    }

    fn in_target(&self, argv: Vec<String>) -> Job {
        let mut job = Job { argv, ..shell("") };
        job.env.insert("APT_CONFIG".to_owned(), format!("{PRIVATE}/apt/apt.conf"));
        job.binds = vec![
            self.bind("apt", "/run/plywood/apt"),
            self.bind("state", "/run/plywood/state"),
            self.bind("archives", "/var/cache/apt/archives"),
            self.bind("lists", "/var/lib/apt/lists"),
        ];
        job
    }

    fn debs(&self) -> usize {
        let names = fs::read_dir(self.path("archives")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".deb")).count()
    }
}

fn succeed(scratch: &Scratch, job: &Job) -> String {
    let (exit, output) = run(scratch.root.as_ref(), job);
    assert_eq!(exit, Exit::Status(0), "{:?}: {output}", job.argv);
    output
}

/// Lists everything below `root` except files that layers drop: path, type, mode, owner, content.
fn inventory(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let left_out =
                ["var/log/", "var/cache/ldconfig/", "etc/machine-id", "var/cache/apt/", "var/lib/apt/lists"];
            if left_out.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let metadata = entry.metadata().unwrap();
            let kind = metadata.file_type();
            let content = if kind.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if kind.is_file() {
                Digest::of(fs::read(&path).unwrap()).to_string()
            } else {
                format!("{}", u8::from(kind.is_char_device()))
            };
            if kind.is_dir() {
                pending.push(path);
            }
            found.insert(
                name,
                format!("{:o} {}:{} {content}", metadata.mode(), metadata.uid(), metadata.gid()),
            );
        }
    }
    found
}

fn bootstrapped(sandbox: &Namespaces, apt: &Apt, release: &str) -> Scratch {
    let scratch = Scratch::on(sandbox, &[]);
    succeed(&scratch, &apt.bootstrap(release));
    scratch
}

/// Bootstraps a release twice and compares. Then installs a kernel, makes its initramfs twice, and
/// compares.
fn assert_reproducible(release: &str) {
    let sandbox = sandbox(&Arc::default());
    let apt = Apt::new(release);
    let first = bootstrapped(&sandbox, &apt, release);
    let downloads = apt.debs();
    assert!(downloads > 50, "{downloads} downloads were kept");
    let second = bootstrapped(&sandbox, &apt, release);
    assert_eq!(apt.debs(), downloads);
    let (first, second_files) = (inventory(&first.upper()), inventory(&second.upper()));
    let differing: Vec<_> =
        first.iter().filter(|(name, state)| second_files.get(*name) != Some(state)).collect();
    assert!(differing.is_empty() && first.len() == second_files.len(), "{differing:#?}");
    assert_reproducible_initramfs(&sandbox, &apt, second, release);
}

fn assert_image_names_no_mirror_of_the_machine(root: &Path, release: &str) {
    let sources = fs::read_to_string(root.join("etc/apt/sources.list")).unwrap();
    let suites: Vec<_> = sources.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(suites, ["", "-updates", "-security"].map(|suffix| format!("{release}{suffix}")));
    assert!(!sources.contains("signed-by"), "{sources}");
    assert_eq!(fs::read_to_string(root.join("etc/resolv.conf")).unwrap(), "");
    assert_eq!(fs::read_to_string(root.join("etc/hostname")).unwrap(), "localhost\n");
}

/// Installs a kernel, makes its initramfs twice, and compares the two.
fn assert_reproducible_initramfs(sandbox: &Namespaces, apt: &Apt, scratch: Scratch, release: &str) {
    assert_image_names_no_mirror_of_the_machine(&scratch.upper(), release);
    succeed(&scratch, &apt.in_target(apt::update()));
    let kernel = kernel(&scratch, apt);
    let packages = [kernel.as_str(), "initramfs-tools", "zstd"];
    let output = succeed(&scratch, &apt.in_target(apt::install(packages)));
    assert!(output.contains("put off until the end of this step"), "{output}");
    assert!(!output.contains("Generating /boot/initrd.img"), "{output}");
    assert!(apt.path("state/initramfs").exists());
    assert_indices_are_read_once(&scratch, apt);
    let first = made_initramfs(&scratch, apt);
    scratch.root.close().unwrap();
    // At another time and on another file system, with other inode numbers.
    std::thread::sleep(Duration::from_millis(1100));
    let again = Scratch::on(sandbox, &[&scratch.directory.path().join("upper")]);
    assert_eq!(first, made_initramfs(&again, apt));
    assert_eq!(first.lines().count(), 1, "{first}");
}

/// If a package source is newer than apt's cache of the indices, apt reads all indices again, which
/// takes half the time of a run. The sources are written again for each call, seconds after the
/// indices were fetched.
fn assert_indices_are_read_once(scratch: &Scratch, apt: &Apt) {
    let call = ["apt-get", "-oDebug::pkgCacheGen=true", "install", "--simulate", "apt"].map(str::to_owned);
    let output = succeed(scratch, &apt.in_target(call.to_vec()));
    assert!(output.contains("srcpkgcache.bin is"), "{output}");
    assert!(!output.contains("sources.list is newer than the cache"), "{output}");
}

/// Returns the kernel package on which the metapackage for clouds depends.
fn kernel(scratch: &Scratch, apt: &Apt) -> String {
    let query = ["apt-cache", "depends", "linux-image-cloud-amd64"].map(str::to_owned);
    let answer = succeed(scratch, &apt.in_target(query.to_vec()));
    let kernel = answer.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    kernel.unwrap_or_else(|| panic!("no kernel in: {answer}")).to_owned()
}

fn made_initramfs(scratch: &Scratch, apt: &Apt) -> String {
    succeed(scratch, &apt.in_target(apt::make_initramfs()));
    succeed(scratch, &shell("sha256sum /boot/initrd.img-*"))
}

#[test]
fn bookworm_and_its_initramfs_come_out_the_same_twice() {
    assert_reproducible("bookworm");
}

#[test]
fn trixie_and_its_initramfs_come_out_the_same_twice() {
    assert_reproducible("trixie");
}

#[test]
fn bullseye_and_its_initramfs_come_out_the_same_twice() {
    assert_reproducible("bullseye");
}
