//! The first process of a sandbox. It makes the job's view, starts the job, and reaps every process
//! that ends. When pid 1 ends, the kernel kills all others in the namespace.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, wait, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, fork, setgroups};
use rustix::fs::{Access as FileAccess, Mode, access};
use rustix::process::{
    Resource, Rlimit, getrlimit, set_parent_process_death_signal, setpriority_process, setrlimit, umask,
};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set};

use super::left::cache_mounts;
use super::mountinfo::Line;
use super::watch::Watch;
use super::wire::{Assignment, Ended, Letter, Report, Terminal};
use super::{devices, setup, view};
use crate::port::{CacheMount, Exit, Job, SandboxError, View};

/// The search path for programs if the job's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit status of a job whose program exists and cannot be executed; shells use the same
/// number.
const NO_INTERPRETER: i32 = 126;

/// Soft limit of open files. Some programs visit every possible descriptor when they start, which
/// takes long under the limits of a billion that container runtimes set. Jobs may raise it up to
/// the hard limit.
const OPEN_FILES: u64 = 1024;

/// Capabilities that root in a sandbox lacks, because they change the whole build host: kernel
/// modules, raw I/O, reboot, clock.
const MACHINE_WIDE: [CapabilitySet; 4] =
    [CapabilitySet::SYS_MODULE, CapabilitySet::SYS_RAWIO, CapabilitySet::SYS_BOOT, CapabilitySet::SYS_TIME];

/// Runs as pid 1. `alive` reads end of file when the supervisor is dead.
pub(super) fn run(assignment: &Assignment, report: &mut Letter, alive: &OwnedFd) {
    let result = die_with_supervisor(alive).and_then(|()| run_job(assignment));
    // If writing fails, no other process can report it. plywood treats a missing report as a
    // failure.
    let _ = report.write(&Report::from(result));
}

fn die_with_supervisor(alive: &OwnedFd) -> Result<(), SandboxError> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(setup("follow the supervisor"))?;
    // The supervisor may have died before the request above, and then no signal comes.
    match rustix::io::read(alive, &mut [0_u8; 1]) {
        Err(rustix::io::Errno::AGAIN) => Ok(()),
        _ => Err(setup("follow the supervisor")(io::Error::from(io::ErrorKind::ConnectionReset))),
    }
}

/// Returns in pid 1 with the job's end, and in the job's process only if its program cannot be
/// executed.
fn run_job(assignment: &Assignment) -> Result<Ended, SandboxError> {
    // Before the view is made, because it creates directories above mounts. With the caller's
    // umask, for example 077, users other than root could not enter them; apt downloads as the user
    // `_apt`.
    umask(Mode::from_raw_mode(0o022));
    let mut trace = view::enter(assignment)?;
    let events = trace.watch().map(Events::begin).transpose().map_err(setup("watch what hooks open"))?;
    // From here on, the process gives up rights that making the view needs.
    limit_resources().map_err(setup("set resource limits"))?;
    drop_machine_wide_rights().map_err(setup("drop capabilities"))?;
    if assignment.job.view == View::Target {
        devices::forbid_making_others().map_err(setup("restrict device nodes (seccomp)"))?;
    }
    rustix::process::chdir(&assignment.job.cwd).map_err(setup(format!("enter `{}`", assignment.job.cwd)))?;
    let program = Program::find(&assignment.job)?;
    // The job is not pid 1 itself: the kernel withholds signals from a pid 1 that has no handler
    // for them, so that even `kill -9 $$` would do nothing in a hook. And most programs do not reap
    // orphans.
    //
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(setup("start a process"))? {
        ForkResult::Parent { child } => {
            let exit = match (&events, trace.watch()) {
                (Some(events), Some(watch)) => events.reap_until_end_of(child, watch)?,
                _ => reap_until_end_of(child)?,
            };
            Ok(Ended { exit, mounts: left_mounts(assignment.job.view)?, opens: trace.finish() })
        }
        ForkResult::Child => match become_job(&program, assignment.terminal)? {},
    }
}

/// Waits for ended processes and for events of opened files at the same time.
struct Events {
    ended: SignalFd,
}

impl Events {
    /// Call it before the job starts, so that no event is lost.
    fn begin(watch: &mut Watch) -> io::Result<Self> {
        watch.begin()?;
        let ends = SigSet::from(Signal::SIGCHLD);
        // A signal that is not blocked is not delivered through the descriptor. The job unblocks
        // all signals.
        ends.thread_block()?;
        Ok(Self { ended: SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// Reaps every process that ends and reads the events of opened files, until `job` ends. Then
    /// it kills all other processes, so that no file is opened after the last event that is read.
    fn reap_until_end_of(&self, job: Pid, watch: &mut Watch) -> Result<Exit, SandboxError> {
        let failed = |error: Errno| setup("wait for a process")(error);
        // Paths in a mount namespace of the job can be found only while the namespace exists. A
        // high priority helps to read events before it ends; a path that cannot be found becomes a
        // gap in the evidence.
        let _ = setpriority_process(None, -20);
        loop {
            let mut ready = [self.ended.as_fd(), watch.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(failed(error)),
            }
            watch.drain();
            // One pending SIGCHLD may stand for many ended processes, so `reap` asks for all of
            // them.
            while self.ended.read_signal().map_err(failed)?.is_some() {}
            if let Some(exit) = reap(job)? {
                // For pid 1, -1 means all other processes of its namespace.
                match nix::sys::signal::kill(Pid::from_raw(-1), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => return Err(failed(error)),
                }
                while wait() != Err(Errno::ECHILD) {}
                return Ok(exit);
            }
        }
    }
}

/// Reaps every process that has ended. Returns the end of `job` if it is among them.
fn reap(job: Pid) -> Result<Option<Exit>, SandboxError> {
    let mut exit = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == job => exit = Some(Exit::Status(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == job => {
                exit = Some(Exit::Signal(signal as i32))
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(exit),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(setup("wait for a process")(error)),
        }
    }
}

/// Returns the caches that a job in a host phase left mounted in the target.
fn left_mounts(view: View) -> Result<Vec<CacheMount>, SandboxError> {
    if view == View::Target {
        return Ok(Vec::new());
    }
    let mounts = Line::of_process().map_err(setup("read the mounts of a job"))?;
    Ok(cache_mounts(&mounts))
}

/// Reaps every process that ends; returns when `job` ends.
fn reap_until_end_of(job: Pid) -> Result<Exit, SandboxError> {
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, status)) if pid == job => return Ok(Exit::Status(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == job => return Ok(Exit::Signal(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(setup("wait for a process")(error)),
        }
    }
}

fn limit_resources() -> io::Result<()> {
    let files = getrlimit(Resource::Nofile);
    let soft = files.maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: files.maximum })?;
    // A core dump would become a file of the layer.
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

fn drop_machine_wide_rights() -> io::Result<()> {
    // From the bounding set: root gets all other capabilities back at each execve(2).
    for capability in MACHINE_WIDE {
        if capability_is_in_bounding_set(capability)? {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// Turns this process into the job. Returns only if that fails.
fn become_job(program: &Program, terminal: Terminal) -> Result<Infallible, SandboxError> {
    match terminal {
        Terminal::Detached => drop(rustix::process::setsid().map_err(setup("start a session"))?),
        Terminal::Inherited => come_to_foreground()?,
    }
    // After the terminal: the supervisor ignores SIGTTOU, which would stop this process when it
    // takes the terminal from the background.
    reset_signals()?;
    forget_groups_of_caller()?;
    program.execute()
}

/// Moves this process into a process group of its own, and makes it the foreground group of the
/// terminal, if there is one.
fn come_to_foreground() -> Result<(), SandboxError> {
    rustix::process::setpgid(None, None).map_err(setup("make a process group"))?;
    let stdin = io::stdin();
    match rustix::termios::tcsetpgrp(&stdin, rustix::process::getpid()) {
        Ok(()) | Err(rustix::io::Errno::NOTTY) => Ok(()),
        Err(error) => Err(setup("take the terminal")(error)),
    }
}

/// Leaves root's own group as the only one, so that a hook does not depend on the groups of the
/// caller.
fn forget_groups_of_caller() -> Result<(), SandboxError> {
    match setgroups(&[Gid::from_raw(0)]) {
        // Root of a user namespace may not have the right to change groups.
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(error) => Err(setup("leave the groups of the caller")(error)),
    }
}

fn reset_signals() -> Result<(), SandboxError> {
    // Ignored signals stay ignored across execve(2), and Rust ignores SIGPIPE. So `yes` in
    // `yes | head` would complain and fail instead of ending silently.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action installs no handler that could run.
        unsafe { sigaction(signal, &default) }.map_err(setup("reset signals"))?;
    }
    SigSet::empty().thread_set_mask().map_err(setup("reset signals"))
}

/// The arguments of execve(2).
struct Program {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn find(job: &Job) -> Result<Self, SandboxError> {
        let program = job.argv.first().map_or("", String::as_str);
        let search = job.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let path = search_program(program, search).ok_or_else(|| SandboxError::ProgramNotFound {
            program: program.to_owned(),
            path: search.to_owned(),
        })?;
        let terminated = |text: String| CString::new(text).map_err(setup("pass a NUL byte to a program"));
        let env = job.env.iter().map(|(name, value)| format!("{name}={value}"));
        Ok(Self {
            path: terminated(path.to_string_lossy().into_owned())?,
            argv: job.argv.iter().cloned().map(terminated).collect::<Result<_, _>>()?,
            env: env.map(terminated).collect::<Result<_, _>>()?,
        })
    }

    /// Executes the program. A script without `#!` line is run by bash, as diskimage-builder's bash
    /// does, or by `sh` in a root without bash. If the interpreter in the `#!` line does not exist,
    /// prints a message and exits with status [`NO_INTERPRETER`].
    fn execute(&self) -> Result<Infallible, SandboxError> {
        let mut error = nix::unistd::execve(&self.path, &self.argv, &self.env);
        if error == Err(Errno::ENOEXEC) {
            for shell in [c"/bin/bash", c"/bin/sh"] {
                let mut argv = vec![shell.to_owned(), self.path.clone()];
                argv.extend(self.argv.iter().skip(1).cloned());
                error = nix::unistd::execve(shell, &argv, &self.env);
            }
        }
        if error == Err(Errno::ENOENT) {
            let missing = missing_interpreter(&first_line(&self.path));
            // Standard error of this process is already that of the job, so the message is in the
            // log of the hook.
            let _ = writeln!(io::stderr(), "{}: {missing}", self.path.to_string_lossy());
            // SAFETY: ends the process at once; a forked process has nothing to clean up.
            unsafe { nix::libc::_exit(NO_INTERPRETER) };
        }
        error.map_err(setup(format!("execute `{}`", self.path.to_string_lossy())))
    }
}

fn first_line(path: &CStr) -> Vec<u8> {
    let mut start = Vec::new();
    let file = File::open(OsStr::from_bytes(path.to_bytes()));
    // An unreadable file counts as one without `#!` line; the message then names the dynamic
    // loader.
    let _ = file.and_then(|file| file.take(256).read_to_end(&mut start));
    start.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec()
}

/// Says why execve(2) answers ENOENT for a program that exists, given its first line.
fn missing_interpreter(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    match line.strip_prefix("#!") {
        Some(rest) if rest.ends_with('\r') => {
            "it has CRLF line endings, so the kernel cannot find its interpreter".to_owned()
        }
        Some(rest) => {
            let interpreter = rest.split_whitespace().next().unwrap_or_default();
            format!("its interpreter `{interpreter}` does not exist")
        }
        None => "its dynamic loader does not exist".to_owned(),
    }
}

/// Finds `program` as a shell does: by its path if it has a `/`, else in the directories of
/// `search`.
fn search_program(program: &str, search: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| PathBuf::from(program));
    }
    let candidates = search.split(':').map(|directory| Path::new(directory).join(program));
    candidates.into_iter().find(|path| path.is_file() && access(path, FileAccess::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interpreter_is_named() {
        for (line, expected) in [
            ("#! /usr/bin/pythonx -u", "its interpreter `/usr/bin/pythonx` does not exist"),
            ("#!/bin/sh\r", "it has CRLF line endings, so the kernel cannot find its interpreter"),
            ("\x7fELF", "its dynamic loader does not exist"),
        ] {
            assert_eq!(missing_interpreter(line.as_bytes()), expected);
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let cases = [
            ("sh", "/nonexistent:/bin", Some("/bin/sh")),
            ("sh", "/nonexistent", None),
            ("passwd", "/etc", None),
            ("/bin/sh", "", Some("/bin/sh")),
            ("/nonexistent/sh", "/bin", None),
            ("", "/bin", None),
        ];
        for (program, search, expected) in cases {
            assert_eq!(
                search_program(program, search).as_deref(),
                expected.map(Path::new),
                "{program} {search}"
            );
        }
    }
}
