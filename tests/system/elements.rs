//! Tests of plywood's own elements with real package repositories on a real Debian. They need root,
//! the machine's package mirror and its Python package index.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::web::WebServer;

/// A project in its own directory. Its store is shared by test runs.
struct Project {
    directory: tempfile::TempDir,
}

impl Project {
    /// Makes a project with the image `it` of these elements, based on bookworm.
    fn new(elements: &str, rest: &str) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let text = format!(
            "[project]\nsource-date-epoch = 1700000000\nelements = []\n\
             [image.it]\nbase = 'debian-bookworm'\nelements = [{elements}]\noutputs = []\n{rest}"
        );
        fs::write(directory.path().join("plywood.toml"), text).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn plywood(&self, arguments: &[&str]) -> Output {
        let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store");
        let mut command = Command::new(env!("CARGO_BIN_EXE_plywood"));
        command.arg("--project").arg(self.directory.path()).arg("--store").arg(store).args(arguments);
        command.output().unwrap()
    }

    fn build(&self) {
        let built = self.plywood(&["build", "it"]);
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    /// Returns the output of a shell script in the finished image.
    fn shell(&self, script: &str) -> String {
        let output = self.plywood(&["shell", "it", "--", "sh", "-euc", script]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn make_package_repository(directory: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/make-package-repository");
    let made = Command::new(script).arg(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

const TOY: &str = "cat /usr/share/libtoy/version; dpkg-query -W -f '${Version}\\n' libtoy-dev; \
                   grep -c ^URIs: /etc/apt/sources.list.d/contrail.sources";

#[test]
fn contrail_installs_packages_from_a_signed_repository_of_a_release() {
    let project = Project::new("'contrail'", "");
    make_package_repository(&project.path("repository"));
    let server = WebServer::start(&project.path("repository"));
    let by_file = "file:/tmp/in_target.d/files/repository".to_owned();
    for (base, release, version) in [
        (by_file, "R4.0", "1.1-1contrail1~r40"),
        (format!("http://{}", server.address), "master", "2.0-1contrail1"),
    ] {
        let text = format!(
            "[project]\nsource-date-epoch = 1700000000\nelements = []\n[image.it]\nbase = 'debian-bookworm'\n\
             elements = ['contrail']\noutputs = []\n\
             files = {{ repository = 'repository', 'contrail.asc' = 'repository/contrail.asc' }}\n\
             [image.it.env]\nDIB_CONTRAIL_RELEASE = '{release}'\nDIB_CONTRAIL_REPO_BASE = '{base}'\n\
             DIB_CONTRAIL_REPO_KEY = 'contrail.asc'\nDIB_CONTRAIL_PACKAGES = 'libtoy-dev'\n"
        );
        fs::write(project.path("plywood.toml"), text).unwrap();
        project.build();
        assert_eq!(project.shell(TOY), format!("{version}\n{version}\n1\n"), "{base}");
    }
}

#[test]
fn contrail_refuses_a_repository_that_another_key_has_signed() {
    let files = "files = { repository = 'repository', key = 'other/contrail.asc' }\n[image.it.env]\n\
                 DIB_CONTRAIL_RELEASE = 'R4.0'\nDIB_CONTRAIL_REPO_BASE = 'file:/tmp/in_target.d/files/repository'\n\
                 DIB_CONTRAIL_REPO_KEY = 'key'\n";
    let project = Project::new("'contrail'", files);
    make_package_repository(&project.path("repository"));
    make_package_repository(&project.path("other"));
    let built = project.plywood(&["build", "it"]);
    let message = String::from_utf8_lossy(&built.stderr);
    assert_eq!(built.status.code(), Some(1), "{message}");
    assert!(message.contains("of step `contrail` failed") && message.contains("NO_PUBKEY"), "{message}");
}

#[test]
fn ansible_has_the_requested_version_or_the_build_fails() {
    let env = |version: &str| {
        format!("env = {{ DIB_ANSIBLE_SOURCE = 'venv', DIB_ANSIBLE_VERSION = '{version}' }}\n")
    };
    let project = Project::new("'ansible'", &env("core:2.16.14"));
    project.build();
    let version = project.shell("LC_ALL=C.UTF-8 ansible --version | head -n 1");
    assert!(version.starts_with("ansible [core 2.16.14]"), "{version}");

    let project = Project::new("'ansible'", &env("core:2.16.999"));
    let built = project.plywood(&["build", "it"]);
    let message = String::from_utf8_lossy(&built.stderr);
    assert_eq!(built.status.code(), Some(1), "{message}");
    assert!(message.contains("of element `ansible` failed") && message.contains("2.16.999"), "{message}");
}

#[test]
fn the_ssh_server_starts_with_its_service_or_its_socket_without_an_ordering_cycle() {
    let project = Project::new("'openssh-server'", "");
    project.build();
    // The exit status of systemd-analyze also reports other missing units, so the test reads its
    // output. The second run proves that the program reports cycles.
    let verify =
        "systemctl enable ssh.socket 2>&1; echo '[Unit]\nAfter=b.target' >/etc/systemd/system/a.target
        echo '[Unit]\nAfter=a.target\nRequires=a.target' >/etc/systemd/system/b.target
        systemd-analyze verify --man=no multi-user.target 2>&1 || true
        echo then; systemd-analyze verify --man=no b.target 2>&1 || true";
    let said = project.shell(verify);
    let (said, made) = said.split_once("then\n").unwrap();
    assert!(made.contains("cycle"), "a cycle is noticed: {made}");
    assert!(said.contains("sockets.target.wants/ssh.socket"), "{said}");
    assert!(!said.contains("cycle"), "{said}");
}
