//! Tests of images from a small package repository with the structure of Ubuntu's: the base, the
//! elements of plywood and of diskimage-builder, and damaged repositories. They need root, and the
//! package mirror of this machine.

use std::fs;
use std::path::Path;

use crate::common::project::Project;
use crate::common::ubuntu::{Damaged, define, project, repository, uri};
use crate::common::upstream;
use crate::common::web::WebServer;
use crate::common::work::{Work, program};

const BASE: &str = "base:ubuntu-noble";

const ELEMENTS: &str = r#"
elements = ["base", "kernel", "disable-selinux", "insecure-docker-registry", "contrail", "ansible", "hosts",
            "openssh-server", "locale", "devuser", "dhcp-network", "growroot"]
outputs = []
env = { DIB_LOCALE = "en_US.UTF-8", DIB_DEV_USER_USERNAME = "me", DIB_HOSTS_ENTRIES = "192.0.2.1 mirror",
        DIB_DOCKER_INSECURE_REGISTRIES = "registry.example:5000", DIB_KERNEL_FLAVOUR = "cloud" }
"#;

/// A script that checks the results of each element.
const LOOK: &str = r#"
grep -q '^ID=ubuntu' /etc/os-release
[ "$(dpkg-query -W -f '${Version}' hostname)" = 3.23+nmu1ubuntu9 ]
[ "$(dpkg-query -W -f '${Version}' netbase)" = 6.4ubuntu9 ]
dpkg-query -W linux-image-virtual initramfs-tools jq build-essential
jq -e '.["insecure-registries"] == ["registry.example:5000"]' /etc/docker/daemon.json
LC_ALL=C.UTF-8 ansible --version | grep 'core 2'
grep '192.0.2.1.*mirror' /etc/hosts
id me
sshd -V 2>&1 | grep OpenSSH || [ -x /usr/sbin/sshd ]
locale -a | grep -i en_US.utf8
[ -e /etc/systemd/system/multi-user.target.wants/systemd-networkd.service ]
"#;

fn sources(project: &Project) -> String {
    project.run(&["shell", "tiny", "--", "cat", "/etc/apt/sources.list"]).stdout
}

#[test]
fn elements_of_plywood_work_on_ubuntu_and_a_second_build_finds_everything() {
    let server = WebServer::start(repository());
    let project = project(&uri(&server), ELEMENTS);
    project.build(&[]);
    let looked = project.run(&["shell", "tiny", "--", "sh", "-euc", LOOK]);
    assert_eq!(looked.status, Some(0), "{}{}", looked.stdout, looked.stderr);
    assert_eq!(
        sources(&project),
        "deb http://archive.ubuntu.com/ubuntu noble main universe\n\
         deb http://archive.ubuntu.com/ubuntu noble-updates main universe\n\
         deb http://security.ubuntu.com/ubuntu noble-security main universe\n"
    );
    assert_eq!(project.build(&[]).made(), Vec::<&str>::new());

    // Another mirror gives the same keys and the same layers.
    let other = WebServer::start(repository());
    let second = crate::common::ubuntu::project(&uri(&other), "packages = [\"netbase\"]\noutputs = []");
    second.build(&[]);
    define(&project, "packages = [\"netbase\"]\noutputs = [\"oci\"]");
    let built = project.build(&[]);
    assert_eq!(built.hits("input"), [BASE]);
    assert_eq!(project.layers(), second.layers());
}

/// A function that damages the repository in a directory.
type Fault = fn(&Path);

fn remove_signatures(directory: &Path) {
    for suite in fs::read_dir(directory.join("dists")).unwrap() {
        fs::remove_file(suite.unwrap().path().join("InRelease")).unwrap();
    }
}

fn change_an_index(directory: &Path) {
    let indices = directory.join("dists/noble/main/binary-amd64");
    let index = indices.join("Packages");
    fs::write(&index, fs::read_to_string(&index).unwrap().replace("Section: admin", "Section: misc"))
        .unwrap();
    fs::remove_file(indices.join("Packages.gz")).unwrap();
}

fn remove_a_suite(directory: &Path) {
    fs::remove_dir_all(directory.join("dists/noble-updates")).unwrap();
}

#[test]
fn a_damaged_archive_is_an_error_with_a_hint() {
    let faults: [(Fault, &str, &str); 3] = [
        (remove_signatures, "noble Release' is not signed", "plywood uses only signed archives"),
        (change_an_index, "Mirror sync in progress?", "the mirror is being synchronized: build again later"),
        (remove_a_suite, "noble-updates Release' does not have a Release file", "this mirror lacks a suite"),
    ];
    for (damage, found, cure) in faults {
        let damaged = Damaged::new();
        damage(damaged.directory.path());
        let run = project(&uri(&damaged.server), "outputs = []").refused(&[]);
        assert!(run.stderr.contains(found), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("hint: {cure}")), "{}", run.stderr);
    }
}

#[test]
fn a_keyring_that_cannot_verify_the_archive_is_an_error_with_a_hint() {
    let server = WebServer::start(repository());
    let debian = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let expired = repository().join("key-expired.gpg");
    for (keyring, found, cure) in [
        (debian, "NO_PUBKEY", "the keyring lacks the key that signs this archive"),
        (expired.to_str().unwrap(), "EXPKEYSIG", "the key in the keyring has expired"),
        (
            "/nowhere.gpg",
            "the keyring `/nowhere.gpg` does not exist",
            "name a file of keys with `DIB_APT_KEYRING=FILE`",
        ),
    ] {
        let project = project(&uri(&server), "outputs = []").with_variable("DIB_APT_KEYRING", keyring);
        let run = project.refused(&[]);
        assert!(run.stderr.contains(found), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("hint: {cure}")), "{}", run.stderr);
    }
}

#[test]
fn the_hint_for_a_missing_keyring_names_its_package() {
    let project = Project::new("outputs = []");
    let base = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("layers/ubuntu-noble.toml"));
    let elsewhere = base.unwrap().replace("/usr/share/keyrings/", "/nowhere/");
    project.write("layers/ubuntu-noble.toml", &elsewhere);
    define(&project, "outputs = []");
    let run = project.refused(&[]);
    let expected = "error: cannot verify the packages of ubuntu `noble`: the keyring \
                    `/nowhere/ubuntu-archive-keyring.gpg` does not exist\n\nhint: apt-get install ubuntu-keyring, \
                    or name a file of keys with `DIB_APT_KEYRING=FILE`\n";
    assert!(run.stderr.ends_with(expected), "{}", run.stderr);
}

#[test]
fn ubuntu_minimal_of_diskimage_builder_works_as_it_is() {
    let server = WebServer::start(repository());
    let work = Work::new();
    let elements = upstream::elements();
    let mirror = uri(&server);
    let keyring = repository().join("keyring.gpg");
    work.create_with(
        "-t tar -o root ubuntu-minimal",
        &[
            ("ELEMENTS_PATH", elements.to_str().unwrap()),
            ("DIB_DISTRIBUTION_MIRROR", &mirror),
            ("DIB_APT_KEYRING", keyring.to_str().unwrap()),
            ("DIB_MMDEBSTRAP_EXTRA_ARGS", "--include=ubuntu-keyring,gnupg"),
        ],
    )
    .expect_success();
    let read = |path: &str| program("tar", &["-xOf", "root.tar", path], &work.path());
    assert!(read("./usr/lib/os-release").contains("ID=ubuntu\n"));
    let status = read("./var/lib/dpkg/status");
    for package in ["linux-image-generic", "systemd-sysv", "sudo"] {
        assert!(status.contains(&format!("Package: {package}\nStatus: install ok installed\n")), "{package}");
    }
    let sources = read("./etc/apt/sources.list");
    assert!(sources.contains(&format!("deb {mirror} noble-backports main universe\n")), "{sources}");
}
