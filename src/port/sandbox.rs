//! Runs one program on a root file system, isolated from the build host.

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
        /// Overlayfs's scratch directory, on the file system of `upper`.
        work: PathBuf,
    },
    /// The read-only merged view of `lowers` (lowest first).
    ReadOnly {
        /// Unpacked layers, lowest first. At least one.
        lowers: Vec<PathBuf>,
    },
    /// A directory that already is a root file system, such as a mounted disk.
    Directory(PathBuf),
}

/// Opens roots. Their mounts are visible to this process and its children only, and disappear with
/// them.
pub trait Sandbox: Sync {
    /// Mounts the root. Closing the result, or the end of the process, unmounts it.
    fn open(&self, spec: &RootSpec) -> Result<Box<dyn Root>, SandboxError>;
}

/// An open root file system.
pub trait Root {
    /// Returns the path of the merged root file system in this process's mount namespace.
    fn path(&self) -> &Path;

    /// Runs `job` to its end, and passes its standard output and error to `output` in pieces. While
    /// the job prints nothing, `output` is called several times a second with an empty slice.
    ///
    /// The job has its own mount, pid, uts and ipc namespace (and network namespace with
    /// [`Network::None`]). All its processes end when the call returns, or when this process dies.
    fn run(&self, job: &Job, output: &mut dyn FnMut(&[u8])) -> Result<Exit, SandboxError>;

    /// Runs `job` on the caller's terminal: standard input, output and error are inherited.
    fn run_interactive(&self, job: &Job) -> Result<Exit, SandboxError>;

    /// Returns the kind of the entry at `path`; `None` if there is none.
    ///
    /// Here and in the methods below, paths are absolute, and symbolic links are followed as a
    /// program in the root follows them: they never lead out of it. No job may run in the root at
    /// the same time.
    fn look(&self, path: &str) -> Result<Option<EntryKind>, SandboxError>;

    /// Returns the content of the regular file at `path`; `None` if nothing has this path.
    ///
    /// # Errors
    /// If the entry is not a regular file, or has more than `most_bytes`.
    fn read(&self, path: &str, most_bytes: u64) -> Result<Option<Vec<u8>>, SandboxError>;

    /// Returns the names in the directory at `path`, in byte order; no names if there is no such
    /// directory. Leaves out names that are not UTF-8.
    fn list(&self, path: &str) -> Result<Vec<String>, SandboxError>;

    /// Writes a file with mode 0644, the user and group of this process, and the time `seconds`
    /// since 1970. Replaces a file or link at `path`. Creates missing directories above it with
    /// mode 0755.
    fn write(&self, path: &str, content: &[u8], seconds: i64) -> Result<(), SandboxError>;

    /// Removes the file or link at `path`, if there is one.
    fn remove(&self, path: &str) -> Result<(), SandboxError>;

    /// Returns the mounts from [`View::CACHE`] into the target that jobs left in place since the
    /// root was opened. The mounts themselves ended with their jobs.
    fn cache_mounts(&self) -> Vec<CacheMount>;

    /// Returns the build host's files that traced jobs with a host view have opened since the last
    /// call, by all their processes. Binds of a job and the sandbox's own mounts are left out.
    fn take_host_opens(&self) -> HostOpens;

    /// Unmounts the root. Dropping does the same but loses the error.
    fn close(self: Box<Self>) -> Result<(), SandboxError>;
}

/// The kind of an entry of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// True if its owner, its group or others may execute it.
        is_executable: bool,
    },
    /// A directory.
    Directory,
    /// A device, socket or FIFO.
    Other,
}

/// One program to run.
///
/// Inside, `/proc`, `/dev` and `/run` are private and `/sys` is read-only, so nothing that a job
/// writes there is kept. `/etc/resolv.conf` is the build host's, and [`crate::distro::TOOLS`] holds
/// the commands that hooks may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments. The program is looked up in the `PATH` of `env` inside the
    /// root.
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// The working directory inside the root.
    pub cwd: String,
    /// Whether `/` is the target or the build host.
    pub view: View,
    /// Additional mounts, in order.
    pub binds: Vec<Bind>,
    pub network: Network,
    /// Whether to record the build host's files that it opens: see [`Root::take_host_opens`].
    pub traced: bool,
    /// The root file system that a job with a host view sees in place of the build host's: an open
    /// root with tools that the build host may lack. `None` for the build host's own.
    pub tools: Option<PathBuf>,
}

/// The root directory of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// `/` is the root file system (diskimage-builder's chroot phases).
    Target,
    /// `/` is the build host's own root, read-only except for the target and a private `/tmp`, and
    /// without home directories. The target is mounted, writable, at [`View::HOST_MOUNT`], and
    /// prepared for `chroot` with `/proc`, `/sys`, `/dev` and the build host's `/etc/resolv.conf`
    /// (diskimage-builder's host phases).
    Host,
    /// Like [`View::Host`], but the target is not prepared for `chroot`: while it is created
    /// (`root.d`), or cleaned up at the end.
    HostBare,
}

impl View {
    /// The mount point of the target in host phases: `TMP_MOUNT_PATH`.
    pub const HOST_MOUNT: &str = "/tmp/plywood/mnt";

    /// The path in host phases of a directory that builds share: `DIB_IMAGE_CACHE`. The sandbox
    /// records what a job mounts from there into the target.
    pub const CACHE: &str = "/tmp/plywood/cache";

    /// Returns the path of the hooks directory in a job: on the host, `TMP_HOOKS_PATH`.
    pub const fn hooks(self) -> &'static str {
        match self {
            View::Target => "/tmp/in_target.d",
            View::Host | View::HostBare => "/tmp/plywood/hooks",
        }
    }
}

/// A file or directory of the build host, mounted inside the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The path on the build host.
    pub source: PathBuf,
    /// The absolute path in the job's view. Created if missing, and then removed after the job.
    /// Symlinks are resolved beneath the root.
    pub target: String,
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
    /// The absolute path in the target.
    pub target: String,
}

/// The access of a job to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    ReadOnly,
    ReadWrite,
    /// Reads and writes; writes go to a separate layer. The source holds the three directories of
    /// [`Bind::LAYERS`]: the job sees the files of the first, its changes go to the second, and
    /// overlayfs uses the third.
    CopyOnWrite,
}

/// The network of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The network of the build host.
    Host,
    /// Only a loopback interface.
    None,
}

/// Limits of each job; `None` means unlimited. Limits are in no key: they decide whether a job
/// succeeds, never its result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Seconds.
    pub time: Option<u64>,
    /// Processes and threads at a time.
    pub processes: Option<u64>,
    /// Bytes of main memory, including file pages that are in use.
    pub memory: Option<u64>,
}

/// A limit that a job exceeded.
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
    /// Returns the key of `plywood.toml` that sets it. The command-line option has the same name.
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

/// The end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// The signal that ended it.
    Signal(i32),
    /// The sandbox stopped it because it exceeded a limit.
    OverLimit(Limit),
}

impl Exit {
    /// Returns true if the job ended with status 0.
    pub fn is_success(self) -> bool {
        self == Exit::Status(0)
    }

    /// Returns the status that a shell shows: the exit status, or 128 plus the signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Exit::Status(status) => status,
            Exit::Signal(signal) => 128 + signal,
            // The status of timeout(1). Jobs over other limits are killed.
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

/// A sandbox that could not be created or closed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("running hooks needs root")]
    NotRoot,
    #[error("cannot mount `{what}` at `{}`", target.display())]
    Mount { what: String, target: PathBuf, source: io::Error },
    #[error("cannot {action} `{path}` in the root file system of the image")]
    File {
        /// The action that failed, in the imperative.
        action: &'static str,
        /// The absolute path inside the root.
        path: String,
        source: io::Error,
    },
    #[error("cannot unmount `{}`", target.display())]
    Unmount { target: PathBuf, source: io::Error },
    #[error("program `{program}` not found in the root file system (PATH `{path}`)")]
    ProgramNotFound { program: String, path: String },
    #[error(
        "cannot limit jobs on this host: control groups that plywood can create lack the controller `{controller}`"
    )]
    NoController {
        /// The kernel's name of the controller.
        controller: &'static str,
    },
    #[error("cannot {action} for a sandbox")]
    Setup {
        /// An imperative such as `unshare namespaces`.
        action: String,
        source: io::Error,
    },
    #[error("the command at the break point `{point}` failed: {reason}")]
    Break {
        /// For example `before-install`.
        point: String,
        reason: String,
    },
    #[error("interrupted")]
    Interrupted,
}
