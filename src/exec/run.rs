//! One call of a program.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};
use tracing::debug;

use super::ExecError;
use super::limit::restore_open_files;
use super::started::Started;
use super::tail::read_tail;
use crate::element::shell_line;
use crate::plan::without_credentials;

/// Directories that are searched after the caller's `PATH`, which for ordinary users often lacks
/// `/usr/sbin`.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Interval of checks for the end of a program and for an interrupt.
const LOOK: Duration = Duration::from_millis(20);

/// The replacement of a secret in messages.
const HIDDEN: &str = "***";

/// A program of the build host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name, searched in `PATH`.
    pub name: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
}

/// A program, its arguments and its environment.
#[derive(Debug, Clone)]
pub struct Run {
    name: String,
    /// The Debian package of the program; `None` if settings of the user name the program.
    package: Option<&'static str>,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    inherits: Inherits,
    secrets: Vec<String>,
}

/// The variables that a program inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inherits {
    Nothing,
    Environment,
}

impl Run {
    /// Calls `program` without arguments.
    pub fn new(program: Program) -> Self {
        Self { package: Some(program.package), ..Self::named(program.name) }
    }

    /// Calls a program that settings of the user name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            package: None,
            args: Vec::new(),
            env: Vec::new(),
            inherits: Inherits::Nothing,
            secrets: Vec::new(),
        }
    }

    /// Passes the caller's whole environment to the program. For programs with settings there that
    /// plywood does not know.
    pub fn inherit_environment(mut self) -> Self {
        self.inherits = Inherits::Environment;
        self
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Run::arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Replaces `text` by `***` in messages.
    pub fn secret(mut self, text: impl Into<String>) -> Self {
        self.secrets.extend(Some(text.into()).filter(|text| !text.is_empty()));
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// [`ExecError::Missing`] if it is not installed, [`ExecError::Failed`] unless it exits with
    /// status 0.
    pub fn run(&self) -> Result<(), ExecError> {
        let mut child = self.spawn(Stdio::null(), Stdio::null(), Stdio::piped())?;
        let stderr = read_tail(child.stderr.take().expect("standard error is piped"));
        self.conclude(child.wait(), stderr)
    }

    /// Runs it to its end and returns its standard output.
    ///
    /// # Errors
    /// As [`Run::run`].
    pub fn capture(&self) -> Result<Vec<u8>, ExecError> {
        self.capture_both().map(|(output, _)| output)
    }

    /// As [`Run::capture`]; also returns the end of its standard error, with secrets replaced.
    pub fn capture_both(&self) -> Result<(Vec<u8>, String), ExecError> {
        let mut child = self.spawn(Stdio::null(), Stdio::piped(), Stdio::piped())?;
        let errors = child.stderr.take().expect("standard error is piped");
        // Reads both pipes at the same time: a program that fills one pipe would wait while this
        // process reads the other.
        let errors = thread::spawn(move || read_tail(errors));
        let mut output = Vec::new();
        let read = child.stdout.take().expect("standard output is piped").read_to_end(&mut output);
        let stderr = errors.join().expect("reading a pipe does not panic");
        let stderr = read.and(stderr);
        let printed = stderr.as_ref().map_or_else(|_| String::new(), |printed| self.hide(printed.clone()));
        self.conclude(child.wait(), stderr)?;
        Ok((output, printed))
    }

    /// Runs it on the caller's terminal: its three streams are the caller's.
    ///
    /// # Errors
    /// As [`Run::run`], without standard error in the text.
    pub fn interactive(&self) -> Result<(), ExecError> {
        let mut child = self.spawn(Stdio::inherit(), Stdio::inherit(), Stdio::inherit())?;
        self.conclude(child.wait(), Ok(String::new()))
    }

    /// Runs it on the caller's terminal until it ends or `interrupted` is true. Then sends SIGTERM,
    /// and SIGKILL a second later. So a program that has changed the modes of the terminal can
    /// restore them.
    ///
    /// # Errors
    /// As [`Run::interactive`]; [`ExecError::Interrupted`].
    pub fn interactive_until(&self, interrupted: &AtomicBool) -> Result<(), ExecError> {
        let mut child = self.spawn(Stdio::inherit(), Stdio::inherit(), Stdio::inherit())?;
        loop {
            if let Some(exit) = child.try_wait().map_err(|source| self.broken(source))? {
                return self.conclude(Ok(exit), Ok(String::new()));
            }
            if interrupted.load(Ordering::Relaxed) {
                end(&mut child);
                return Err(ExecError::Interrupted { command: self.command_line() });
            }
            thread::sleep(LOOK);
        }
    }

    /// Starts it without input and output. It is killed when the result is dropped, or when the
    /// calling thread ends.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn background(&self) -> Result<Background, ExecError> {
        Ok(Background {
            child: self.spawn(Stdio::null(), Stdio::null(), Stdio::inherit())?,
            run: self.clone(),
        })
    }

    /// Returns the command line, quoted for a shell, with secrets replaced.
    pub fn command_line(&self) -> String {
        let args = self.args.iter().map(|arg| arg.to_string_lossy().into_owned());
        // Secrets are replaced before quoting, which would change their text.
        shell_line(std::iter::once(self.name.clone()).chain(args).map(|word| self.hide(word)))
    }

    pub(super) fn spawn(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Started, ExecError> {
        let mut command = self.command();
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let parent = getpid();
        let prepare = move || {
            default_signals()?;
            restore_open_files()?;
            die_with(parent)
        };
        // SAFETY: the closure runs between fork and exec; it makes four system calls and allocates
        // nothing.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(|source| {
            debug!(command = %self.command_line(), error = %source, "cannot start a program");
            self.not_started(source)
        })?;
        debug!(pid = child.id(), command = %self.command_line(), "started");
        Ok(Started::new(child))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.name);
        if self.inherits == Inherits::Nothing {
            command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        }
        command.args(&self.args).env("PATH", search_path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn not_started(&self, source: io::Error) -> ExecError {
        match source.kind() {
            io::ErrorKind::NotFound => self.not_found(),
            _ => self.broken(source),
        }
    }

    /// Returns the result of a child that has ended.
    fn conclude(&self, exit: io::Result<ExitStatus>, stderr: io::Result<String>) -> Result<(), ExecError> {
        let exit = exit.map_err(|source| self.broken(source))?;
        let stderr = stderr.map_err(|source| self.broken(source))?;
        if exit.success() {
            return Ok(());
        }
        Err(ExecError::Failed { command: self.command_line(), exit, stderr: self.hide(stderr) })
    }

    pub(super) fn broken(&self, source: io::Error) -> ExecError {
        ExecError::Start { command: self.command_line(), source }
    }

    fn not_found(&self) -> ExecError {
        let program = self.name.clone();
        match self.package {
            Some(package) => ExecError::Missing { program, package },
            None => ExecError::NotFound { program },
        }
    }

    fn hide(&self, text: String) -> String {
        // Passwords in URLs are always replaced: a caller may not know that an argument has one.
        without_credentials(&self.secrets.iter().fold(text, |text, secret| text.replace(secret, HIDDEN)))
    }
}

/// A program that runs beside its caller. Dropping it ends the program.
pub struct Background {
    child: Started,
    run: Run,
}

impl Background {
    /// Returns how the program ended; `None` while it runs.
    ///
    /// # Errors
    /// If waiting fails.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ExecError> {
        self.child.try_wait().map_err(|source| self.run.broken(source))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Sends SIGTERM, and SIGKILL a second later.
fn end(child: &mut Started) {
    const PATIENCE: Duration = Duration::from_secs(1);
    // Fails if the child has ended, which is fine.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SYSTEM_PATH}"),
        _ => SYSTEM_PATH.to_owned(),
    }
}

/// Returns the path of the program `name`, which may also be an absolute path; `None` if it is not
/// installed.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = search_path();
    // `join` returns an absolute path unchanged.
    path.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// Restores the default action of SIGXFSZ, which plywood ignores. An ignored signal stays ignored
/// across execve(2), and most programs rely on the default. The standard library does the same for
/// SIGPIPE.
fn default_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action installs no handler that could run.
    unsafe { sigaction(nix::sys::signal::Signal::SIGXFSZ, &default) }?;
    Ok(())
}

/// Makes this process die with `parent`. Fails if `parent` is already dead: the kernel sends the
/// signal only for deaths after the request.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const SH: Program = Program { name: "sh", package: "dash" };

    #[test]
    fn a_program_has_the_callers_limit_of_open_files() {
        let ulimit = || sh("ulimit -n").capture().unwrap();
        let before = ulimit();
        crate::exec::raise_open_files();
        assert_eq!(ulimit(), before);
    }

    fn sh(script: &str) -> Run {
        Run::new(SH).args(["-c", script])
    }

    #[test]
    fn output_is_captured_and_input_is_empty() {
        assert_eq!(sh("cat; echo out; echo err >&2").capture().unwrap(), b"out\n");
        sh("cat").run().unwrap();
    }

    #[test]
    fn a_program_gets_only_the_given_variables() {
        let env = sh("env").env("NAME", "value").capture().unwrap();
        let mut names: Vec<_> = String::from_utf8(env)
            .unwrap()
            .lines()
            .map(|line| line.split('=').next().unwrap().to_owned())
            .collect();
        names.retain(|name| !["_", "PWD", "SHLVL", "OLDPWD"].contains(&name.as_str()));
        names.sort();
        assert_eq!(names, ["LC_ALL", "NAME", "PATH", "TZ"]);
    }

    #[test]
    fn a_program_starts_with_the_signals_that_a_shell_gives_it() {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        for signal in [nix::sys::signal::Signal::SIGXFSZ, nix::sys::signal::Signal::SIGPIPE] {
            // SAFETY: ignoring a signal installs no handler. All processes of plywood ignore these.
            unsafe { sigaction(signal, &ignore) }.unwrap();
            let number = signal as i32;
            let ignored = sh("sed -n 's/^SigIgn:.//p' /proc/self/status").capture().unwrap();
            let ignored = u64::from_str_radix(String::from_utf8(ignored).unwrap().trim(), 16).unwrap();
            assert_eq!(ignored & 1 << (number - 1), 0, "{signal}");
        }
    }

    #[test]
    fn a_failure_shows_command_exit_and_error_without_secrets() {
        let error = sh("echo bad hunter2 >&2; exit 3").secret("hunter2").run().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh -c 'echo bad *** >&2; exit 3'` failed with exit status: 3: bad ***",
        );
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Run::new(Program { name: "no-such-program", package: "some-package" }).run().unwrap_err();
        assert_eq!(
            error.to_string(),
            "program `no-such-program` not found (it is in the Debian package `some-package`)"
        );
    }

    #[test]
    fn much_output_on_both_streams_does_not_block() {
        let output = sh("seq 100000 >&2; seq 100000").capture().unwrap();
        assert!(output.ends_with(b"\n100000\n"));
    }

    /// The signal is tied to the thread that starts the child.
    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let start = || sh("exec sleep 60").spawn(Stdio::null(), Stdio::null(), Stdio::null()).unwrap();
        let mut child = thread::spawn(start).join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }
}
