//! The supervisor: plywood executed again as a process with one thread. It makes the namespaces and
//! starts pid 1 in them.
//!
//! plywood itself has threads. After fork(2) in such a process, only async-signal-safe calls are
//! allowed, so plywood executes itself instead.

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
use rustix::thread::UnshareFlags;

use super::parent::die_with;
use super::wire::{Assignment, Letter, Report, Terminal};
use super::{init, network, setup};
use crate::port::{Network, SandboxError};

/// `argv[0]` of a supervisor.
pub(super) const NAME: &str = "plywood-sandbox";

/// The host name that every job sees. It is the same on all build hosts, so that programs that
/// write it into files make equal layers.
const HOST_NAME: &[u8] = b"plywood";

/// Signals that a terminal sends. They are meant for the job in the foreground; the supervisor
/// ignores them.
const KEYS: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// Runs as a supervisor if this process was started as one, and then returns the exit code for
/// `main`. Call it first in `main`, before any thread starts.
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

/// Carries out the assignment that process `owner` wrote, and reports to it. An error means that
/// the report could not be written.
///
/// Returns in up to three processes: in the supervisor, in pid 1, and in the job's process if its
/// program cannot be executed.
fn supervise([owner, assignment, report]: [Cow<'_, str>; 3]) -> io::Result<()> {
    // First: if plywood is killed from now on, the kernel kills this process, and with it the job.
    die_with(&owner)?;
    let assignment: Option<Assignment> = Letter::of_process(&owner, &assignment)?.read()?;
    let assignment = assignment.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut report = Letter::of_process(&owner, &report)?;
    if let Err(error) = run_namespaces(&assignment, &mut report) {
        report.write(&Report::from(Err(error)))?;
    }
    Ok(())
}

fn run_namespaces(assignment: &Assignment, report: &mut Letter) -> Result<(), SandboxError> {
    // Before the fork: processes inherit their control group, so everything the job starts is
    // limited.
    for door in &assignment.doors {
        fs::write(door, "0").map_err(setup(format!("enter the control group of `{}`", door.display())))?;
    }
    inherit_nothing_further().map_err(setup("close inherited descriptors"))?;
    if assignment.terminal == Terminal::Inherited {
        ignore_keys()?;
    }
    make_namespaces(assignment.job.network)?;
    // Pid 1 cannot see the supervisor's pid, which is outside of its namespace. It reads this pipe
    // instead: end of file means that the supervisor is dead, "would block" that it lives.
    let (alive, hold) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(setup("make a pipe"))?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(setup("start a first process"))? {
        ForkResult::Child => {
            // Otherwise pid 1 would hold the write end itself, and never read the end of the file.
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
    // Before the pid namespace exists: this may start a process. It would become pid 1 of the
    // namespace, which ends with its pid 1.
    if network == Network::None {
        network::enter_empty().map_err(setup("make a network without interfaces"))?;
    }
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    // SAFETY: no descriptors are unshared, only namespaces.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(setup("make namespaces"))?;
    // Mounts made here must not appear in plywood's namespace. Unmounts there must still arrive
    // here: otherwise the copy in this namespace would keep a disk busy that plywood has unmounted.
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", downstream).map_err(setup("separate mounts"))?;
    rustix::system::sethostname(HOST_NAME).map_err(setup("set the host name"))
}

/// Marks all descriptors above standard error to be closed on execution, including those that
/// plywood's caller leaked. Through an open directory of the build host, a job could leave its
/// root.
fn inherit_nothing_further() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_string_lossy().parse::<i32>().map_err(io::Error::other)?;
        if number > 2 {
            // SAFETY: the descriptor was open a moment ago, and no other thread could have closed
            // it.
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
