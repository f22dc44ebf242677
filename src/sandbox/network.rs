//! The network of a job without network: a loopback interface that is up.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::parent::die_with;

/// Moves this process, which must have one thread, into a network namespace with `lo` alone, which
/// is up.
///
/// Bringing an interface up needs `CAP_NET_ADMIN`, which root in a container usually lacks. The
/// creator of a user namespace has all rights over the network namespaces that belong to it. So in
/// this case a child process makes both and brings the interface up. This process may then enter
/// the network namespace, because its own user namespace is the parent of the child's.
pub(super) fn enter_empty() -> io::Result<()> {
    unshare(UnshareFlags::NEWNET)?;
    match raise_loopback() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => enter_network_of_user_namespace(),
        result => result,
    }
}

fn enter_network_of_user_namespace() -> io::Result<()> {
    let parent = Pid::this();
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let made = unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET).and_then(|()| raise_loopback());
            // After the user namespace, because the kernel clears this setting when the credentials
            // of a process change. Without it, a stopped process would stay forever if its parent
            // died.
            let bound = made.and_then(|()| die_with(&parent.to_string()));
            // Stops until the parent has entered: a network namespace ends with its last process.
            let stopped = bound.and_then(|()| Ok(raise(Signal::SIGSTOP)?));
            let number = stopped.err().and_then(|error| error.raw_os_error()).unwrap_or(libc::EPERM);
            // SAFETY: ends this process without a destructor of the parent's values.
            unsafe { libc::_exit(number) }
        }
        ForkResult::Parent { child } => {
            let entered = enter_network_of(child);
            // The child may have ended already. It must be reaped here, because nothing else waits
            // for it.
            let _ = kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None));
            entered
        }
    }
}

fn enter_network_of(child: Pid) -> io::Result<()> {
    match waitpid(child, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(..) => {
            let network = File::open(format!("/proc/{child}/ns/net"))?;
            Ok(move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
        }
        WaitStatus::Exited(_, number) => Err(io::Error::from_raw_os_error(number)),
        _ => Err(io::ErrorKind::Interrupted.into()),
    }
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: no descriptors are unshared, only namespaces.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Brings `lo` up in this process' network namespace.
///
/// Source: netdevice(7), `SIOCSIFFLAGS`.
fn raise_loopback() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all bytes zero is a valid request: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the socket is open, and the kernel only reads the request, which outlives the call.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
