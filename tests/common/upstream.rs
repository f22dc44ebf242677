//! diskimage-builder from the Python package index, in a virtual environment that all tests share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use plywood::distro::Mirror;
use plywood::load::load_apt_sources;

/// The version with which plywood is compared.
pub(crate) const VERSION: &str = "3.43.0";

/// Returns the virtual environment with diskimage-builder. The first call makes it. Tests must not
/// change it.
pub(crate) fn diskimage_builder() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Test programs may run at the same time.
        let lock = File::create(tests.join("diskimage-builder.lock")).unwrap();
        lock.lock().unwrap();
        let place = tests.join(format!("diskimage-builder-{VERSION}"));
        let done = place.join("done");
        if !done.exists() {
            let _ = fs::remove_dir_all(&place);
            run(Command::new("python3").args(["-m", "venv"]).arg(&place), "python3-venv");
            let package = format!("diskimage-builder=={VERSION}");
            run(Command::new(place.join("bin/pip")).args(["install", "--quiet", &package]), "python3-venv");
            File::create(done).unwrap();
        }
        place
    })
}

/// Returns the directory of diskimage-builder's elements.
pub(crate) fn elements() -> PathBuf {
    let libraries = fs::read_dir(diskimage_builder().join("lib")).unwrap();
    let mut found =
        libraries.map(|entry| entry.unwrap().path().join("site-packages/diskimage_builder/elements"));
    found.find(|path| path.is_dir()).expect("diskimage-builder has elements")
}

/// Returns the mirrors of this machine as variables for Debian's elements.
pub(crate) fn mirrors() -> [(&'static str, String); 2] {
    let machine = load_apt_sources(Path::new("/etc/apt")).unwrap();
    let mirrors = machine.mirrors("debian", "bookworm");
    let uri = |mirror: Option<Mirror>| mirror.expect("this test needs the machine's package mirrors").uri;
    [("DIB_DISTRIBUTION_MIRROR", uri(mirrors.archive)), ("DIB_DEBIAN_SECURITY_MIRROR", uri(mirrors.security))]
}

fn run(command: &mut Command, package: &str) {
    let run = command.output();
    let run = run
        .unwrap_or_else(|error| panic!("{command:?}: {error} (is the Debian package {package} installed?)"));
    assert!(run.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&run.stderr));
}
