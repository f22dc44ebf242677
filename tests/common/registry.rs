//! Debian's `docker-registry` on a private port, with a temporary directory.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

/// The account of registries with accounts.
pub(crate) const USER: &str = "tester";
/// The password of the account.
pub(crate) const PASSWORD: &str = "pass:word";

/// A name in the certificates of registries. It does not resolve.
pub(crate) const ELSEWHERE: &str = "registry.test";

/// The access to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Plain HTTP without accounts.
    Open,
    /// TLS with a certificate of the test's own authority, and an account.
    Guarded,
    /// TLS for clients with a certificate of that authority: `client.crt` with `client.key`.
    Mutual,
    /// TLS with a self-signed certificate, as authorities have it: `server.crt`.
    SelfSigned,
}

/// A running registry. Dropping it stops it.
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Server {
    /// Starts a registry and waits until it answers.
    pub(crate) fn start(door: Door) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let port = free_port();
        fs::write(directory.path().join("config.yml"), config(directory.path(), port, door)).unwrap();
        if door != Door::Open {
            make_certificates(directory.path(), door);
        }
        if door == Door::Guarded {
            make_account(directory.path());
        }
        let child = spawn(directory.path().join("config.yml"));
        wait_for(port);
        Self { child, directory, port }
    }

    /// Starts a registry with plain HTTP and without accounts.
    pub(crate) fn open() -> Self {
        Self::start(Door::Open)
    }

    /// Returns `localhost:<port>`.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the directory of configuration, certificates (`ca.crt`) and data.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the program from a thread that lives as long as the test program. The kernel ends the
/// program together with that thread.
fn spawn(config: PathBuf) -> Child {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let die = || Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: one system call between fork and exec, which allocates nothing.
        unsafe { command.pre_exec(die) };
        let _ = sender.send(command.spawn());
        loop {
            std::thread::park();
        }
    });
    let child = receiver.recv().unwrap();
    child.unwrap_or_else(|error| {
        panic!("this test needs `docker-registry` (Debian package docker-registry): {error}")
    })
}

fn config(directory: &Path, port: u16, door: Door) -> String {
    let directory = directory.display();
    let tls = format!("  tls:\n    certificate: {directory}/server.crt\n    key: {directory}/server.key\n");
    let guard = match door {
        Door::Open => String::new(),
        Door::SelfSigned => tls,
        Door::Guarded => {
            format!("{tls}auth:\n  htpasswd:\n    realm: test\n    path: {directory}/htpasswd\n")
        }
        Door::Mutual => format!("{tls}    clientcas:\n      - {directory}/ca.crt\n"),
    };
    format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {directory}/data\n  delete:\n    enabled: true\n\
         http:\n  addr: 127.0.0.1:{port}\n{guard}"
    )
}

/// Makes `ca.crt`, `server.crt` for localhost and [`ELSEWHERE`], and `client.crt`, each with its
/// `.key`.
fn make_certificates(directory: &Path, door: Door) {
    let script = "
        new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
        openssl req -x509 $new -days 2 -subj '/CN=Test CA' -keyout ca.key -out ca.crt
        for name in server client; do
            openssl req $new -subj /CN=$name -keyout $name.key -out $name.csr
            openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -days 2 -extfile names -out $name.crt
        done";
    let alone = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lab \\
            -addext subjectAltName=DNS:localhost -keyout server.key -out server.crt";
    let names = format!("subjectAltName=DNS:localhost,DNS:{ELSEWHERE},IP:127.0.0.1\n");
    fs::write(directory.join("names"), names).unwrap();
    shell(directory, if door == Door::SelfSigned { alone } else { script });
}

fn make_account(directory: &Path) {
    // The registry supports only bcrypt, which crypt() of the C library computes.
    let crypt = format!("print crypt(q({PASSWORD}), q($2b$05$abcdefghijklmnopqrstuu))");
    shell(directory, &format!("printf '{USER}:%s\\n' \"$(perl -e '{crypt}')\" >htpasswd"));
}

fn shell(directory: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns an unused port.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_for(port: u16) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "docker-registry does not listen on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
