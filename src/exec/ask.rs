//! Asks a program a question, without relying on an answer: with limits of time and size.

use std::fs;
use std::io::Write;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::watch::read_pieces;
use super::{ExecError, Run};

/// Real answers are a few kilobytes. The limit stops a broken program from exhausting memory.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The answer of a program.
#[derive(Debug)]
pub struct Answer {
    pub exit: ExitStatus,
    /// Its standard output.
    pub output: Vec<u8>,
}

impl Run {
    /// Writes `question` to its standard input and returns its answer, whatever its exit status.
    /// The question must be short, because it is written before the answer is read. A program that
    /// writes more than 1 MiB is killed, as its exit status shows.
    ///
    /// # Errors
    /// [`ExecError::NotFound`] or [`ExecError::Missing`] if it is not installed,
    /// [`ExecError::Start`] if it cannot be started, [`ExecError::TimedOut`] if it does not end
    /// within `limit`; it is killed then.
    pub fn ask(&self, question: &[u8], limit: Duration) -> Result<Answer, ExecError> {
        let deadline = Instant::now() + limit;
        let mut child = self.spawn(Stdio::piped(), Stdio::piped(), Stdio::null())?;
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A program may answer without reading the question. Closing the pipe ends the question.
        let _ = stdin.write_all(question);
        drop(stdin);
        let pieces = read_pieces(child.stdout.take().expect("standard output is piped"));
        let mut output = Vec::new();
        let ending = loop {
            match pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => output.extend_from_slice(&piece),
                Err(ending) => break ending,
            }
            if output.len() > MAX_ANSWER_BYTES {
                end_tree(&child);
                break RecvTimeoutError::Disconnected;
            }
        };
        drop(pieces);
        if ending == RecvTimeoutError::Timeout {
            end_tree(&child);
        }
        let exit = child.wait().map_err(|source| self.broken(source))?;
        match ending {
            RecvTimeoutError::Timeout => Err(ExecError::TimedOut { command: self.command_line(), limit }),
            RecvTimeoutError::Disconnected => Ok(Answer { exit, output }),
        }
    }
}

/// Kills a child and its descendants, except for those that have become daemons.
///
/// A process group would be simpler, but a helper in its own group is in the background of the
/// terminal, where it cannot ask for a password.
fn end_tree(child: &Child) {
    // The child has not been reaped yet, so its pid cannot belong to another process.
    Pid::from_raw(child.id() as i32).into_iter().for_each(end_with_descendants);
}

fn end_with_descendants(process: Pid) {
    // A stopped process neither starts nor reaps children, so the pids of its children cannot be
    // reused meanwhile. An error means that the process has ended.
    let _ = kill_process(process, Signal::STOP);
    children(process).into_iter().for_each(end_with_descendants);
    let _ = kill_process(process, Signal::KILL);
}

/// Returns the children of all threads of a process; none if the kernel does not list them.
fn children(process: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).into_iter().flatten();
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|number| number.parse().ok()).collect::<Vec<i32>>()
        })
        .filter_map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn sh(script: &str) -> Run {
        Run::named("sh").args(["-c", script])
    }

    #[test]
    fn an_answer_is_returned_whatever_the_exit_status() {
        let answer = sh("read name; echo hello $name; exit 3").ask(b"world\n", LIMIT).unwrap();
        assert_eq!((answer.exit.code(), answer.output.as_slice()), (Some(3), b"hello world\n".as_slice()));
        assert_eq!(sh("echo deaf").ask(&[b'x'; 200_000], LIMIT).unwrap().output, b"deaf\n");
        let error = Run::named("no-such-program").ask(b"", LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "program `no-such-program` not found in PATH");
        let home = sh("echo $HOME");
        assert_eq!(home.ask(b"", LIMIT).unwrap().output, b"\n");
        assert_eq!(
            home.inherit_environment().ask(b"", LIMIT).unwrap().output,
            format!("{}\n", env!("HOME")).into_bytes()
        );
    }

    #[test]
    fn a_late_or_endless_answer_is_cut_off() {
        let started = Instant::now();
        let error = sh("exec sleep 60").ask(b"", Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exec sleep 60'` has not answered within 0 s");
        let endless = sh("exec yes").ask(b"", LIMIT).unwrap();
        assert!(!endless.exit.success() && endless.output.len() < 2 * MAX_ANSWER_BYTES);
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn descendants_of_a_killed_program_end_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sh -c 'echo $$ >{0}; sleep 60; true' & wait", file.display());
        sh(&script).ask(b"", Duration::from_millis(500)).unwrap_err();
        let process = fs::read_to_string(file).unwrap();
        let is_alive = || {
            let state = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
            // A zombie is still listed.
            !state.is_empty() && !state.contains(") Z ")
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!is_alive());
    }
}
