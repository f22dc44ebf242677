//! Package mirrors.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::machine::try_action;
use crate::host::{Endpoint, Trial};

/// The time limit of a connection to a mirror, including the lookup of its name.
const LIMIT: Duration = Duration::from_secs(5);

/// Connects to a mirror, or to its proxy.
pub fn mirror(endpoint: &Endpoint) -> Trial {
    let place = endpoint.clone();
    let (sender, receiver) = channel();
    // The system's resolver has no time limit of its own. After the limit the thread is abandoned,
    // and ends with the process at the latest.
    thread::spawn(move || sender.send(connect(&place)));
    let Endpoint { host, port } = endpoint;
    try_action(format!("connect to {host}:{port}"), || {
        receiver.recv_timeout(LIMIT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    })
}

fn connect(endpoint: &Endpoint) -> io::Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (endpoint.host.as_str(), endpoint.port).to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
