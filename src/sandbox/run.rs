//! plywood's side of a job: starts the supervisor, passes on the output, waits, and removes the
//! mount points that it made.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use tracing::debug;

use super::limit::Groups;
use super::resolver::{Planted, RESOLVER};
use super::shape::Shape;
use super::target::MadeTargets;
use super::wire::{Assignment, Ended, Letter, Report, Terminal};
use super::{Namespaces, child, setup, view};
use crate::port::{Exit, Job, Limit, SandboxError, View};

/// How often plywood checks for an interrupt while a job is silent.
const INTERRUPT_CHECK_MILLISECONDS: u16 = 100;

/// Size of the buffer for output; equals the default capacity of a pipe on Linux.
const OUTPUT_BYTES: usize = 64 << 10;

/// Runs `job` on the root mounted at `root`; see [`crate::port::Root::run`].
pub(super) fn run(
    sandbox: &Namespaces,
    root: &Path,
    job: &Job,
    output: &mut dyn FnMut(&[u8]),
) -> Result<Ended, SandboxError> {
    traced(job, || {
        with_targets(root, job, || {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(setup("make a pipe"))?;
            let stdio = [Stdio::null(), duplicate(&writer)?, Stdio::from(writer)];
            let groups = Groups::make(&sandbox.limits)?;
            let supervisor =
                Supervisor::start(sandbox, root, job, Terminal::Detached, stdio, groups.doors())?;
            let pumped = supervisor.pump(File::from(reader), sandbox, output)?;
            if let Pumped::TimeIsUp(seconds) = pumped {
                return Ok(over(Limit::Time(seconds)));
            }
            let ended = supervisor.into_ended();
            let is_success = matches!(&ended, Ok(ended) if ended.exit.is_success());
            match groups.exceeded().filter(|_| !is_success) {
                // Even if there is no report: short of memory, the kernel may have killed the
                // supervisor.
                Some(limit) => Ok(over(limit)),
                None => ended,
            }
        })
    })
}

/// Logs the start and the end of a job for `-vv`, without its output.
fn traced(job: &Job, body: impl FnOnce() -> Result<Ended, SandboxError>) -> Result<Ended, SandboxError> {
    let Job { argv, env, cwd, view, binds, network, .. } = job;
    // Only the names of variables: values may be secrets.
    debug!(?argv, ?view, ?network, cwd, variables = ?env.keys(), "starts a job");
    binds.iter().for_each(|bind| debug!(?bind, "mounts for the job"));
    let started = Instant::now();
    let ended = body();
    let result = ended.as_ref().map(|ended| &ended.exit);
    debug!(?argv, ?result, after = ?started.elapsed(), "the job ended");
    ended
}

/// Returns the end of a job that exceeded a limit. Its step fails, so its mounts and opens do not
/// matter.
fn over(limit: Limit) -> Ended {
    Ended { exit: Exit::OverLimit(limit), mounts: Vec::new(), opens: None }
}

/// Runs `job` on the caller's terminal; see [`crate::port::Root::run_interactive`].
pub(super) fn run_interactive(sandbox: &Namespaces, root: &Path, job: &Job) -> Result<Ended, SandboxError> {
    traced(job, || {
        with_targets(root, job, || {
            let stdio = [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()];
            let supervisor = Supervisor::start(sandbox, root, job, Terminal::Inherited, stdio, Vec::new())?;
            // Before any return: the kernel stops a background process that reads from the
            // terminal.
            let waited = supervisor.wait(&sandbox.interrupted);
            take_terminal_back();
            waited?;
            supervisor.into_ended()
        })
    })
}

/// Makes the mount points that `job` needs and its root lacks, calls `body`, and removes them
/// again.
fn with_targets(
    root: &Path,
    job: &Job,
    body: impl FnOnce() -> Result<Ended, SandboxError>,
) -> Result<Ended, SandboxError> {
    let mut targets = MadeTargets::default();
    let result = make_targets(&mut targets, root, job).and_then(|()| {
        let planted = plant_resolver(&mut targets, root, job)?;
        let result = body();
        // Before the mount points: `/etc/resolv.conf` may be one of them, and a file with content
        // counts as written by the job, and stays.
        let removed = planted.map_or(Ok(()), Planted::remove).map_err(setup("remove the resolver"));
        result.and_then(|ended| removed.map(|()| ended))
    });
    let removed = targets.remove().map_err(setup("remove mount points"));
    let ended = result?;
    removed.map(|()| ended)
}

fn plant_resolver(
    targets: &mut MadeTargets,
    root: &Path,
    job: &Job,
) -> Result<Option<Planted>, SandboxError> {
    let elsewhere = match job.view {
        View::Target => &view::OWN_MOUNTS[..],
        View::Host => &view::KERNEL_MOUNTS[..],
        View::HostBare => return Ok(None),
    };
    let text = view::resolver_of(job);
    Planted::plant(root, targets, elsewhere, &text).map_err(setup(format!("write `{RESOLVER}`")))
}

fn make_targets(targets: &mut MadeTargets, root: &Path, job: &Job) -> Result<(), SandboxError> {
    let (directories, files) = match job.view {
        View::Target => (&view::OWN_MOUNTS[..], &[view::POLICY][..]),
        View::Host => (&view::KERNEL_MOUNTS[..], &[][..]),
        View::HostBare => return Ok(()),
    };
    let make_failed = |target: &str| setup::<io::Error>(format!("make the mount point `{target}`"));
    for target in directories {
        targets.make(root, target, Shape::Directory, &[]).map_err(make_failed(target))?;
    }
    for target in files {
        match targets.make(root, target, Shape::File, &view::OWN_MOUNTS) {
            // A read-only root. The view then skips this mount.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            other => drop(other.map_err(make_failed(target))?),
        }
    }
    if job.view == View::Host {
        return Ok(());
    }
    for bind in &job.binds {
        Shape::of(&bind.source)
            .and_then(|shape| targets.make(root, &bind.target, shape, &view::OWN_MOUNTS))
            .map_err(make_failed(&bind.target))?;
    }
    Ok(())
}

fn duplicate(descriptor: &OwnedFd) -> Result<Stdio, SandboxError> {
    descriptor.try_clone().map(Stdio::from).map_err(setup("duplicate a pipe"))
}

/// How passing on the output of a job ended.
enum Pumped {
    /// The job has ended.
    Ended,
    /// The job still runs, and has used up the given seconds.
    TimeIsUp(u64),
}

/// A running supervisor. Dropping it kills it, and with it every process of its job.
struct Supervisor {
    child: Child,
    handle: OwnedFd,
    report: Letter,
    /// The supervisor opens it through `/proc`, so it must stay open here.
    _assignment: Letter,
}

impl Supervisor {
    fn start(
        sandbox: &Namespaces,
        root: &Path,
        job: &Job,
        terminal: Terminal,
        [stdin, stdout, stderr]: [Stdio; 3],
        doors: Vec<PathBuf>,
    ) -> Result<Self, SandboxError> {
        // Jobs in the target do not see the file system of the host at all.
        let hidden = sandbox.hidden.clone().filter(|_| job.view != View::Target);
        let assignment = Assignment { job: job.clone(), root: root.to_owned(), terminal, hidden, doors };
        let assignment = Letter::with(&assignment).map_err(setup("write down the job"))?;
        let report = Letter::empty().map_err(setup("make a file for the report"))?;
        let mut command = Command::new(&sandbox.launcher);
        command.arg0(child::NAME).args([
            std::process::id().to_string(),
            assignment.number(),
            report.number(),
        ]);
        // A job can read `/proc/1/environ`, which must not contain the variables of plywood's
        // caller: they may be secrets.
        command.stdin(stdin).stdout(stdout).stderr(stderr).env_clear();
        if terminal == Terminal::Detached {
            // Ctrl-C on the caller's terminal then reaches plywood alone, which ends the job in
            // order.
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(setup("start a supervisor"))?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(handle) => Ok(Self { child, handle, report, _assignment: assignment }),
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(setup("watch a supervisor")(error))
            }
        }
    }

    /// Passes everything from `pipe` to `output` until the supervisor has ended. At that time every
    /// process of the job is dead. Does not wait for other processes that hold the write end.
    fn pump(
        &self,
        mut pipe: File,
        sandbox: &Namespaces,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<Pumped, SandboxError> {
        let mut buffer = vec![0; OUTPUT_BYTES];
        let mut open = true;
        let started = Instant::now();
        loop {
            if let Some(seconds) = sandbox.limits.time
                && started.elapsed().as_secs() >= seconds
            {
                return Ok(Pumped::TimeIsUp(seconds));
            }
            // The pipe first: output that the job wrote before its end is read before the end is
            // seen.
            let pipe_first = [pipe.as_fd(), self.handle.as_fd()];
            let (ready, watched) = poll_readable(if open { &pipe_first } else { &pipe_first[1..] })?;
            if sandbox.interrupted.load(Ordering::Relaxed) {
                return Err(SandboxError::Interrupted);
            }
            match ready {
                Some(0) if watched == 2 => {
                    let count = pipe.read(&mut buffer).map_err(setup("read the output of a job"))?;
                    open = count > 0;
                    output(&buffer[..count]);
                }
                Some(_) => return Ok(Pumped::Ended),
                None => output(&[]),
            }
        }
    }

    /// Waits until the supervisor has ended.
    fn wait(&self, interrupted: &AtomicBool) -> Result<(), SandboxError> {
        while poll_readable(&[self.handle.as_fd()])?.0.is_none() {
            if interrupted.load(Ordering::Relaxed) {
                return Err(SandboxError::Interrupted);
            }
        }
        Ok(())
    }

    /// Reads the report of a supervisor that has ended.
    fn into_ended(mut self) -> Result<Ended, SandboxError> {
        const ACTION: &str = "learn how a job ended";
        let status = self.child.wait().map_err(setup(ACTION))?;
        let report: Option<Report> = self.report.read().map_err(setup(ACTION))?;
        let Some(report) = report else {
            let message = format!("its supervisor ended with {status} and without a report");
            return Err(setup(ACTION)(io::Error::other(message)));
        };
        report.into_result()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // After `into_ended` both do nothing, because `Child` remembers that it has been waited
        // for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits up to 0.1 s. Returns the index of the first descriptor that can be read or has ended, and
/// the number of descriptors.
fn poll_readable(descriptors: &[BorrowedFd<'_>]) -> Result<(Option<usize>, usize), SandboxError> {
    let mut entries: Vec<_> = descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut entries, PollTimeout::from(INTERRUPT_CHECK_MILLISECONDS)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(setup("wait for a job")(error)),
    }
    Ok((entries.iter().position(|entry| entry.any() == Some(true)), entries.len()))
}

/// Moves this process back to the foreground of its terminal, if it has one.
fn take_terminal_back() {
    let stdin = io::stdin();
    if tcgetpgrp(&stdin).is_ok() {
        let _stopped = SignalBlock::of_background_writes();
        let _ = tcsetpgrp(&stdin, rustix::process::getpgrp());
    }
}

/// Blocks SIGTTOU until dropped. The kernel sends it to a background process that changes its
/// terminal, and by default it stops the process.
struct SignalBlock;

impl SignalBlock {
    fn of_background_writes() -> Self {
        let _ = background_writes().thread_block();
        Self
    }
}

impl Drop for SignalBlock {
    fn drop(&mut self) {
        let _ = background_writes().thread_unblock();
    }
}

fn background_writes() -> nix::sys::signal::SigSet {
    nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGTTOU)
}
