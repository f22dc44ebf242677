//! TCP ports of this host.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// Returns a free TCP port of the loopback interface.
///
/// # Errors
/// If the host has none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Returns true if an ssh server sends its greeting on a port of the loopback interface.
///
/// Source: RFC 4253, section 4.2.
pub fn ssh_answers(port: u16) -> bool {
    const LIMIT: Duration = Duration::from_secs(1);
    let mut greeting = [0; 4];
    let greeted = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.read_exact(&mut greeting)
    });
    greeted.is_ok() && greeting == *b"SSH-"
}
