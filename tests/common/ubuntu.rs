//! A small package repository with the suites, components and package names of Ubuntu. Its packages
//! come from the Debian mirror of this machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::project::{Project, copy_tree};
use super::web::WebServer;
use plywood::oci::Digest;

/// The script that makes the repository. Its header lists the content.
const SCRIPT: &str = "tests/fixtures/make-ubuntu-repository";

/// Returns the directory of the repository. The first call makes it. Tests must not write to it,
/// because they share it.
pub(crate) fn repository() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
        // Several test programs may run at the same time, so only one of them makes it.
        let lock = File::create(tests.join("ubuntu.lock")).unwrap();
        lock.lock().unwrap();
        let version = Digest::of(fs::read(&script).unwrap());
        let place = tests.join(format!("ubuntu-{}", &version.hex()[..16]));
        if !place.exists() {
            let partial = tempfile::tempdir_in(tests).unwrap();
            let made = partial.path().join("repository");
            let run = Command::new(&script).arg(&made).output().unwrap();
            assert!(
                run.status.success(),
                "{SCRIPT} failed (it needs this machine's Debian mirror, and the Debian packages apt-utils, dpkg-dev and \
                 gnupg): {}",
                String::from_utf8_lossy(&run.stderr)
            );
            fs::rename(&made, &place).unwrap();
        }
        place
    })
}

/// A copy of the repository that a test may damage, and its server.
pub(crate) struct Damaged {
    pub directory: tempfile::TempDir,
    pub server: WebServer,
}

impl Damaged {
    /// Copies the indices and links the packages.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        copy_tree(&repository().join("dists"), directory.path());
        std::os::unix::fs::symlink(repository().join("pool"), directory.path().join("pool")).unwrap();
        let server = WebServer::start(directory.path());
        Self { directory, server }
    }
}

/// Returns the URI of a served repository.
pub(crate) fn uri(server: &WebServer) -> String {
    format!("http://{}", server.address)
}

/// Makes a project with the image `tiny` on `ubuntu-noble`. Its packages come from `mirror`.
pub(crate) fn project(mirror: &str, image: &str) -> Project {
    let project = Project::new("outputs = []");
    define(&project, image);
    project
        .with_variable("DIB_DISTRIBUTION_MIRROR_UBUNTU", mirror)
        .with_variable("DIB_APT_KEYRING", repository().join("keyring.gpg").to_str().unwrap())
}

/// Replaces `plywood.toml` by a file with these keys of the image.
pub(crate) fn define(project: &Project, image: &str) {
    project.write("plywood.toml", &format!("[image.tiny]\nbase = \"ubuntu-noble\"\n{image}\n"));
}
