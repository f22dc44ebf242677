//! Builds for an ordinary user, through sudo as diskimage-builder does.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::{io, thread};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Call;
use crate::cli::report::{Failure, Message};
use crate::directory::Directory;
use crate::dropin::Environment;
use crate::exec::{ExecError, Program, Run};

const SUDO: Program = Program { name: "sudo", package: "sudo" };

/// Names the caller's user and group for the process that sudo starts: `1000:1000`.
const OWNER: &str = "PLYWOOD_OWNER";

/// Names the calling process. A user stops a build by ending that process, and may not signal sudo.
const CALLER: &str = "PLYWOOD_CALLER";

/// Runs the call as root; returns its exit status.
pub(super) fn run_as_root(call: &Call<'_>) -> Result<u8, Failure> {
    let owner = format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("plywood"));
    let sudo = Run::new(SUDO).args(["-n", "-E"]).arg(format!("{OWNER}={owner}"));
    let sudo = sudo.arg(format!("{CALLER}={}", std::process::id()));
    let sudo = sudo.arg("--").arg(program).arg(call.command.name()).args(&call.words);
    let sudo = call.environment.iter().fold(sudo, |sudo, (name, value)| sudo.env(name, value));
    match sudo.interactive() {
        Ok(()) => Ok(0),
        // sudo or the build has already printed the reason.
        Err(ExecError::Failed { exit, .. }) => {
            Ok(exit.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => Err(Message::with_hint(
            format!("{} needs root: {error}", call.command),
            "run it as root, or install sudo and allow this user to use it without a password, with the environment kept",
        )),
    }
}

/// Ends this process when the process that called it by [`run_as_root`] ends, also by SIGKILL. The
/// kernel then releases mounts, loop devices and jobs.
pub(super) fn end_with_caller(environment: &Environment) {
    const KILLED: i32 = 128 + 9;
    let caller = environment.get(CALLER).and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    let Some(caller) = caller else { return };
    thread::spawn(move || {
        if let Ok(caller) = pidfd_open(caller, PidfdFlags::empty()) {
            let mut ended = [PollFd::new(caller.as_fd(), PollFlags::POLLIN)];
            while poll(&mut ended, PollTimeout::NONE) == Err(Errno::EINTR) {}
        }
        std::process::exit(KILLED)
    });
}

/// The user who gets the outputs, if another user called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Reads the variable that [`run_as_root`] sets.
    pub(super) fn of(environment: &Environment) -> Option<Self> {
        let (uid, gid) = environment.get(OWNER)?.split_once(':')?;
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }

    /// Gives this user the entry `name` of the directory, and everything below it.
    pub(super) fn take(self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        directory.give(name, self.uid, self.gid)
    }

    /// Gives this user an open file.
    pub(super) fn take_file(self, file: &File) -> io::Result<()> {
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_two_numbers() {
        let of = |text: &str| Owner::of(&[(OWNER.to_owned(), text.to_owned())].into());
        assert_eq!(of("1000:100"), Some(Owner { uid: 1000, gid: 100 }));
        for text in ["", "1000", "a:b", "1000:-1"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(Owner::of(&Environment::new()), None);
    }
}
