//! Running one program on a root file system, shut off from the machine.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::HostOpens;

/// The directories that make one root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSpec {
    /// An overlay: `lowers` from the lowest layer up, and a writable top.
    Overlay {
        /// Unpacked layers, lowest first. May be empty.
        lowers: Vec<PathBuf>,
        /// Receives every change.
        upper: PathBuf,
        /// Overlayfs' own scratch directory, on the file system of `upper`.
        work: PathBuf,
    },
    /// The merged view of `lowers` (lowest first), which nothing can change.
    ReadOnly {
        /// Unpacked layers, lowest first. At least one.
        lowers: Vec<PathBuf>,
    },
    /// A directory that is a root file system already, such as a mounted disk.
    Directory(PathBuf),
}

/// Opens roots. Mounts made for them are seen by this process and its children only, and vanish with them.
pub trait Sandbox: Sync {
    /// Mounts the root. Closing the result, or the end of the process, unmounts it.
    fn open(&self, spec: &RootSpec) -> Result<Box<dyn Root>, SandboxError>;
}

/// An open root file system.
pub trait Root {
    /// Where this process sees the merged root file system.
    fn path(&self) -> &Path;

    /// Runs `job` to its end and hands every piece of its standard output and error to `output`. While the job is silent,
    /// `output` is called several times a second with nothing.
    ///
    /// The job has its own mount, pid, uts and ipc namespace (and network namespace with [`Network::None`]).
    /// No process of it outlives the call, whatever it started, nor the death of this process.
    fn run(&self, job: &Job, output: &mut dyn FnMut(&[u8])) -> Result<Exit, SandboxError>;

    /// Runs `job` on the caller's terminal: standard input, output and error are inherited.
    fn run_interactive(&self, job: &Job) -> Result<Exit, SandboxError>;

    /// Returns what jobs have mounted from [`View::CACHE`] into the target, and left so, since the root was opened. The mounts
    /// themselves ended with their jobs.
    fn cache_mounts(&self) -> Vec<CacheMount>;

    /// Returns what traced jobs with the host's view have opened of the host's own files since the last call, whatever
    /// process of theirs, by whatever way. Binds of a job, and what the sandbox mounts, are no files of the host.
    fn take_host_opens(&self) -> HostOpens;

    /// Unmounts the root. Dropping does the same but loses the error.
    fn close(self: Box<Self>) -> Result<(), SandboxError>;
}

/// One program to run.
///
/// Inside, `/proc`, `/dev` and `/run` are its own and `/sys` is read-only, so that nothing a job writes there is kept.
/// `/etc/resolv.conf` is the machine's, and [`crate::distro::TOOLS`] holds the commands that hooks may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The program, looked up in the `PATH` of `env` inside the root, and its arguments.
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// The working directory inside the root.
    pub cwd: String,
    /// Whose files the program sees.
    pub view: View,
    /// Further mounts, in order.
    pub binds: Vec<Bind>,
    /// Which network it sees.
    pub network: Network,
    /// Whether to note what it opens of the host's own files: see [`Root::take_host_opens`].
    pub traced: bool,
}

/// Whose files a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// `/` is the root file system (diskimage-builder's chroot phases).
    Target,
    /// `/` is the machine's own root, read-only but for the target and a private `/tmp`, and without homes; the target is
    /// mounted, writable, at [`View::HOST_MOUNT`], ready for `chroot`: with `/proc`, `/sys`, `/dev` and the machine's
    /// `/etc/resolv.conf` (diskimage-builder's host phases).
    Host,
    /// The same, with the target as it is: while it is made (`root.d`), or put in order at the end.
    HostBare,
}

impl View {
    /// Where host phases find the target: `TMP_MOUNT_PATH`.
    pub const HOST_MOUNT: &str = "/tmp/plywood/mnt";

    /// Where host phases find a directory that builds share: `DIB_IMAGE_CACHE`. What a job mounts from there into the target
    /// is noted.
    pub const CACHE: &str = "/tmp/plywood/cache";

    /// Returns where a job finds the hooks directory: on the host, `TMP_HOOKS_PATH`.
    pub const fn hooks(self) -> &'static str {
        match self {
            View::Target => "/tmp/in_target.d",
            View::Host | View::HostBare => "/tmp/plywood/hooks",
        }
    }
}

/// A file or directory of the machine, shown inside the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// On the machine.
    pub source: PathBuf,
    /// Inside the job's view, absolute. Made (and removed after the job, where it was made) if absent;
    /// symlinks are resolved beneath the root.
    pub target: String,
    /// Whether the job may write through it.
    pub access: Access,
}

impl Bind {
    /// The directories below the source of an [`Access::CopyOnWrite`].
    pub const LAYERS: [&str; 3] = ["below", "own", "work"];
}

/// A directory that builds share, mounted into the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMount {
    /// Relative to [`View::CACHE`].
    pub source: String,
    /// In the target, absolute.
    pub target: String,
}

/// Whether something may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    /// Reads and writes, and what it writes stays apart. The source holds the three directories of [`Bind::LAYERS`]: the job
    /// sees the files of the first, its changes go to the second, and the third is the kernel's.
    CopyOnWrite,
}

/// Which network a job sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The machine's.
    Host,
    /// A loopback interface alone.
    None,
}

/// What each job may take. By default all that there is. Limits are in no key: they change whether a job succeeds, never
/// what it makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Seconds.
    pub time: Option<u64>,
    /// Processes and threads at a time.
    pub processes: Option<u64>,
    /// Bytes of main memory, pages of files that it reads and writes included as far as they are in use.
    pub memory: Option<u64>,
}

/// A limit that a job ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Seconds.
    Time(u64),
    /// Processes and threads.
    Processes(u64),
    /// Bytes of memory.
    Memory(u64),
}

impl Limit {
    /// Returns the key of `plywood.toml` that sets it; the option has the same name.
    pub const fn key(self) -> &'static str {
        match self {
            Limit::Time(_) => "hook-timeout",
            Limit::Processes(_) => "hook-processes",
            Limit::Memory(_) => "hook-memory",
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Limit::Time(seconds) => write!(f, "a timeout after {seconds} s")?,
            Limit::Processes(count) => write!(f, "more than {count} processes")?,
            Limit::Memory(bytes) => write!(f, "more than {bytes} bytes of memory")?,
        }
        write!(f, " (limit `{}`)", self.key())
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
    /// It was ended because it took more than it may.
    OverLimit(Limit),
}

impl Exit {
    /// Returns true if the job ended with status 0.
    pub fn is_success(self) -> bool {
        self == Exit::Status(0)
    }

    /// Returns the status a shell would show: the status, or 128 and the signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Exit::Status(status) => status,
            Exit::Signal(signal) => 128 + signal,
            // As of timeout(1); the others are killed.
            Exit::OverLimit(Limit::Time(_)) => 124,
            Exit::OverLimit(_) => 128 + 9,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exit status {status}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::OverLimit(limit) => write!(f, "{limit}"),
        }
    }
}

/// A sandbox that could not be made or left.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("running hooks needs root")]
    NotRoot,
    #[error("cannot mount `{what}` at `{}`", target.display())]
    Mount { what: String, target: PathBuf, source: io::Error },
    #[error("cannot unmount `{}`", target.display())]
    Unmount { target: PathBuf, source: io::Error },
    #[error("program `{program}` not found in the root file system (PATH `{path}`)")]
    ProgramNotFound {
        /// As asked for.
        program: String,
        /// Where it was searched.
        path: String,
    },
    #[error(
        "jobs cannot be limited here: no control group that plywood can make has the controller `{controller}`"
    )]
    NoController {
        /// The kernel's name of the controller.
        controller: &'static str,
    },
    #[error("cannot {action} for a sandbox")]
    Setup {
        /// What was tried, in the imperative.
        action: String,
        source: io::Error,
    },
    #[error("the command at the break point `{point}` failed: {reason}")]
    Break {
        /// `before-install`.
        point: String,
        reason: String,
    },
    #[error("interrupted")]
    Interrupted,
}
