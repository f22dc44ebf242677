//! A web server for a directory.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Serves a directory over HTTP until it is dropped.
pub(crate) struct WebServer {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl WebServer {
    pub(crate) fn start(directory: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = address.port().to_string();
        let process = Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", &port, "--directory"])
            .arg(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs the program `python3` (Debian package python3)");
        while std::net::TcpStream::connect(address).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Self { process, address }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
