//! The supervisor: plywood executed again, alone in its process, to make namespaces and start pid 1 in them.
//!
//! A process with threads must not fork and go on; this one has a single thread.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use super::wire::{Assignment, Letter, Report, Terminal};
use super::{init, network, setup};
use crate::port::{Network, SandboxError};

/// The name under which plywood executes itself as a supervisor.
pub(super) const NAME: &str = "plywood-sandbox";

/// The host name that every job sees: it must not differ from machine to machine.
const HOST_NAME: &[u8] = b"plywood";

/// Signals that the keys of a terminal send: the business of the job in its foreground, not ours.
const KEYS: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Does a supervisor's work if this process was started as one, and returns what `main` is to return. To be called first
/// in `main`.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.as_slice() {
        [name, owner, assignment, report] if name == NAME => {
            let done = supervise([owner, assignment, report].map(|argument| argument.to_string_lossy()));
            Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => None,
    }
}

/// Carries out the assignment that process `owner` wrote, and reports to it. An error means that the report could not be written. Returns
/// three times: in the job's process if its program cannot be executed, in pid 1, and here.
fn supervise([owner, assignment, report]: [Cow<'_, str>; 3]) -> io::Result<()> {
    die_with(&owner)?;
    let assignment: Option<Assignment> = Letter::of_process(&owner, &assignment)?.read()?;
    let assignment = assignment.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut report = Letter::of_process(&owner, &report)?;
    if let Err(error) = run_namespaces(&assignment, &mut report) {
        report.write(&Report::from(Err(error)))?;
    }
    Ok(())
}

/// Asks the kernel to kill this process when its parent dies, and makes sure that it has not died before.
pub(super) fn die_with(owner: &str) -> io::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let parent = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if parent.is_some_and(|parent| parent.to_string() == owner) {
        Ok(())
    } else {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

fn run_namespaces(assignment: &Assignment, report: &mut Letter) -> Result<(), SandboxError> {
    for door in &assignment.doors {
        fs::write(door, "0").map_err(setup(format!("enter the control group of `{}`", door.display())))?;
    }
    inherit_nothing_further().map_err(setup("close inherited descriptors"))?;
    if assignment.terminal == Terminal::Inherited {
        ignore_keys()?;
    }
    make_namespaces(assignment.job.network)?;
    let (alive, hold) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(setup("make a pipe"))?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(setup("start a first process"))? {
        ForkResult::Child => {
            drop::<OwnedFd>(hold);
            init::run(assignment, report, &alive);
            Ok(())
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).map_err(setup("wait for the first process"))?;
            Ok(())
        }
    }
}

fn make_namespaces(network: Network) -> Result<(), SandboxError> {
    // Before the pid namespace is made: this may start a process, which would become pid 1 there
    // and end the namespace with it.
    if network == Network::None {
        network::enter_empty().map_err(setup("make a network without interfaces"))?;
    }
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    // SAFETY: no descriptors are unshared, only namespaces.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(setup("make namespaces"))?;
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", downstream).map_err(setup("separate mounts"))?;
    rustix::system::sethostname(HOST_NAME).map_err(setup("set the host name"))
}

/// Marks every descriptor but the standard ones to be closed on execution, also those that plywood's caller leaked.
fn inherit_nothing_further() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_string_lossy().parse::<i32>().map_err(io::Error::other)?;
        if number > 2 {
            // SAFETY: the descriptor was open a moment ago, and no other thread could have closed it.
            let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}

fn ignore_keys() -> Result<(), SandboxError> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in KEYS {
        // SAFETY: ignoring a signal installs no handler that could run.
        unsafe { sigaction(signal, &ignore) }.map_err(setup("ignore the keys of the terminal"))?;
    }
    Ok(())
}
