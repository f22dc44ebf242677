//! A proxy like those of companies: a client names a host and is connected to it. Every name leads
//! to this machine.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running proxy. It ends with the test program.
pub(crate) struct Tunnel {
    port: u16,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Tunnel {
    /// Starts a proxy.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                thread::spawn(move || serve(client, &seen));
            }
        });
        Self { port, seen }
    }

    /// Returns `127.0.0.1:<port>`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the lines of the heads of the requests since the last call.
    pub(crate) fn take(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn serve(mut client: TcpStream, seen: &Mutex<Vec<Vec<String>>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let head: Vec<_> =
        reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let target = head.first().and_then(|line| line.strip_prefix("CONNECT ")).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(head);
    let port = target.split([':', ' ']).nth(1).and_then(|port| port.parse::<u16>().ok());
    let Some(port) = port else { return client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n") };
    let upstream = TcpStream::connect(("127.0.0.1", port))?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let mut back = (upstream.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut back.0, &mut back.1);
        let _ = back.1.shutdown(Shutdown::Write);
    });
    io::copy(&mut reader, &mut &upstream)?;
    upstream.shutdown(Shutdown::Write)
}
