//! A small rpm distribution that `tests/fixtures/make-rpm-distribution` makes of Debian packages,
//! kept between runs of the tests, and served over HTTP.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use plywood::oci::Digest;

/// Returns the directory of the distribution.
pub(crate) fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/make-rpm-distribution");
        // Another script makes another distribution.
        let name = format!("rpm-distribution-{}", Digest::of(fs::read(&script).unwrap()).short());
        // Test programs may run at the same time.
        let lock = File::create(tests.join("rpm-distribution.lock")).unwrap();
        lock.lock().unwrap();
        let directory = tests.join(name);
        if !directory.is_dir() {
            let unfinished = tests.join("rpm-distribution.part");
            let _ = fs::remove_dir_all(&unfinished);
            let made = Command::new(script).arg(&unfinished).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            fs::rename(unfinished, &directory).unwrap();
        }
        directory
    })
}

/// Serves the distribution, at an address of its own.
pub(crate) struct Mirror {
    process: Child,
    address: SocketAddr,
}

impl Mirror {
    pub(crate) fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &address.port().to_string()])
            .current_dir(directory())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs the program `python3` (Debian package python3)");
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(50));
        }
        Self { process, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
