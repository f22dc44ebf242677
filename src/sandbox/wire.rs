//! The messages between plywood and the supervisor: one assignment, one report.
//!
//! Both are in anonymous files that the supervisor opens as `/proc/<plywood>/fd/<n>`. So no
//! descriptor is inherited, and none can leak into another child that starts at the same time.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::port::{CacheMount, Exit, HostOpens, Job, SandboxError};

/// The task of a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) job: Job,
    /// The path where plywood has mounted the root.
    pub(super) root: PathBuf,
    pub(super) terminal: Terminal,
    /// A directory of the host that the job must not see.
    pub(super) hidden: Option<PathBuf>,
    /// The files `cgroup.procs` of the job's control groups.
    pub(super) doors: Vec<PathBuf>,
}

/// Where standard input, output and error of a job lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Terminal {
    /// To the caller's; the job is in the foreground of the caller's terminal.
    Inherited,
    /// Input is empty, output is a pipe, and the job has a session of its own.
    Detached,
}

/// How a job ended, the mounts that it left, and the host files that it opened if it was watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) mounts: Vec<CacheMount>,
    pub(super) opens: Option<HostOpens>,
}

/// The result of an assignment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    Ended(Ended),
    ProgramNotFound { program: String, path: String },
    MountFailed { what: String, target: PathBuf, cause: Cause },
    SetupFailed { action: String, cause: Cause },
}

/// An I/O error in a form that can be serialized.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Cause {
    Errno(i32),
    Text(String),
}

impl From<Result<Ended, SandboxError>> for Report {
    fn from(result: Result<Ended, SandboxError>) -> Self {
        match result {
            Ok(ended) => Report::Ended(ended),
            Err(SandboxError::ProgramNotFound { program, path }) => Report::ProgramNotFound { program, path },
            Err(SandboxError::Mount { what, target, source }) => {
                Report::MountFailed { what, target, cause: source.into() }
            }
            Err(SandboxError::Setup { action, source }) => {
                Report::SetupFailed { action, cause: source.into() }
            }
            Err(other) => {
                Report::SetupFailed { action: "run a job".to_owned(), cause: Cause::Text(other.to_string()) }
            }
        }
    }
}

impl Report {
    pub(super) fn into_result(self) -> Result<Ended, SandboxError> {
        Err(match self {
            Report::Ended(ended) => return Ok(ended),
            Report::ProgramNotFound { program, path } => SandboxError::ProgramNotFound { program, path },
            Report::MountFailed { what, target, cause } => {
                SandboxError::Mount { what, target, source: cause.into() }
            }
            Report::SetupFailed { action, cause } => SandboxError::Setup { action, source: cause.into() },
        })
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Cause::Text(error.to_string()), Cause::Errno)
    }
}

impl From<Cause> for io::Error {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Errno(number) => io::Error::from_raw_os_error(number),
            Cause::Text(text) => io::Error::other(text),
        }
    }
}

/// An anonymous file that carries one message from one process to another.
pub(super) struct Letter(File);

impl Letter {
    pub(super) fn empty() -> io::Result<Self> {
        Ok(Self(File::from(memfd_create("plywood-sandbox", MemfdFlags::CLOEXEC)?)))
    }

    pub(super) fn with(message: &impl Serialize) -> io::Result<Self> {
        let mut letter = Self::empty()?;
        letter.write(message)?;
        Ok(letter)
    }

    /// Opens the letter with descriptor `number` of the process `owner`.
    pub(super) fn of_process(owner: &str, number: &str) -> io::Result<Self> {
        File::options().read(true).write(true).open(format!("/proc/{owner}/fd/{number}")).map(Self)
    }

    /// Returns the number under which [`Letter::of_process`] finds this letter.
    pub(super) fn number(&self) -> String {
        self.0.as_raw_fd().to_string()
    }

    /// Writes `message` if the letter is empty. The first report wins: a later one is usually its
    /// consequence.
    pub(super) fn write(&mut self, message: &impl Serialize) -> io::Result<()> {
        if self.0.metadata()?.len() == 0 {
            self.0.write_all(&serde_json::to_vec(message)?)?;
        }
        Ok(())
    }

    /// Reads the message; `None` if the letter is empty.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut text = Vec::new();
        self.0.rewind()?;
        self.0.read_to_end(&mut text)?;
        if text.is_empty() { Ok(None) } else { Ok(Some(serde_json::from_slice(&text)?)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_keep_error_and_number() {
        let failures = [
            (SandboxError::ProgramNotFound { program: "x".into(), path: "/bin".into() }, None),
            (
                SandboxError::Mount {
                    what: "tmpfs".into(),
                    target: "/run".into(),
                    source: io::Error::from_raw_os_error(13),
                },
                Some(13),
            ),
            (SandboxError::Setup { action: "fork".into(), source: io::Error::other("no luck") }, None),
        ];
        for (failure, number) in failures {
            let text = failure.to_string();
            let letter = serde_json::to_string(&Report::from(Err(failure))).unwrap();
            let back = serde_json::from_str::<Report>(&letter).unwrap().into_result().unwrap_err();
            assert_eq!(back.to_string(), text);
            if let SandboxError::Mount { source, .. } = &back {
                assert_eq!(source.raw_os_error(), number);
            }
        }
    }

    #[test]
    fn the_first_message_of_a_letter_stays() {
        let mut letter = Letter::empty().unwrap();
        assert!(letter.read::<Report>().unwrap().is_none());
        let process = std::process::id().to_string();
        let mut other_end = Letter::of_process(&process, &letter.number()).unwrap();
        let ended = |exit| Ended { exit, mounts: Vec::new(), opens: None };
        other_end.write(&Report::Ended(ended(Exit::Signal(9)))).unwrap();
        other_end.write(&Report::Ended(ended(Exit::Status(0)))).unwrap();
        let report = letter.read::<Report>().unwrap().unwrap();
        assert_eq!(report.into_result().unwrap(), ended(Exit::Signal(9)));
    }
}
