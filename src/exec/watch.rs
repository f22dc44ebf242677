//! Waits for a text in the output of a program.

use std::io::Read;
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::tail::read_tail;
use super::{ExecError, Run};

/// Size of the buffer for reads.
const PIECE_BYTES: usize = 8192;

/// How watching a program ended.
#[derive(Debug)]
pub enum Ending {
    /// The text was found.
    Found,
    /// The program ended without it; with the end of its standard error.
    Exited(ExitStatus, String),
    /// The time limit was reached without it.
    TimedOut,
}

/// The output of a watched program, and how watching ended.
#[derive(Debug)]
pub struct Watched {
    /// Its standard output up to that time.
    pub transcript: Vec<u8>,
    /// The event that came first.
    pub ending: Ending,
}

impl Run {
    /// Runs the program until `text` is in its standard output, it ends, or `limit` is over; then
    /// kills it.
    ///
    /// Passes the output to `on_output` as it comes. An empty `text` is never found.
    ///
    /// # Errors
    /// If the program cannot be started or waited for. A missing text is not an error.
    pub fn watch(
        &self,
        text: &str,
        limit: Duration,
        on_output: &mut dyn FnMut(&[u8]),
    ) -> Result<Watched, ExecError> {
        let deadline = Instant::now() + limit;
        let mut child = self.spawn(Stdio::null(), Stdio::piped(), Stdio::piped())?;
        let errors = child.stderr.take().expect("standard error is piped");
        // On a thread: a program that fills one pipe would wait while this one reads the other.
        let errors = thread::spawn(move || read_tail(errors));
        let pieces = read_pieces(child.stdout.take().expect("standard output is piped"));
        let mut transcript = Vec::new();
        let heard = listen(&pieces, text.as_bytes(), deadline, &mut transcript, on_output);
        if heard != Heard::End {
            child.kill().map_err(|source| self.broken(source))?;
        }
        drop(pieces);
        let exit = child.wait().map_err(|source| self.broken(source))?;
        let ending = match heard {
            Heard::Text => Ending::Found,
            Heard::Nothing => Ending::TimedOut,
            Heard::End => {
                let stderr = errors.join().expect("reading a pipe does not panic");
                Ending::Exited(exit, stderr.map_err(|source| self.broken(source))?)
            }
        };
        Ok(Watched { transcript, ending })
    }
}

#[derive(PartialEq, Eq)]
enum Heard {
    Text,
    End,
    Nothing,
}

/// Reads on a thread, because a read cannot time out, and a receiver can. The thread ends with the
/// program or the receiver.
pub(super) fn read_pieces(mut stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, receiver): (SyncSender<Vec<u8>>, _) = sync_channel(16);
    thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn listen(
    pieces: &Receiver<Vec<u8>>,
    text: &[u8],
    deadline: Instant,
    transcript: &mut Vec<u8>,
    on_output: &mut dyn FnMut(&[u8]),
) -> Heard {
    loop {
        match pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(piece) => {
                // The text may begin in the previous piece.
                let from = transcript.len().saturating_sub(text.len());
                transcript.extend_from_slice(&piece);
                on_output(&piece);
                if !text.is_empty() && transcript[from..].windows(text.len()).any(|window| window == text) {
                    return Heard::Text;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Heard::End,
            Err(RecvTimeoutError::Timeout) => return Heard::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::*;

    fn watch(script: &str, text: &str, milliseconds: u64) -> Watched {
        let run = Run::new(Program { name: "sh", package: "dash" }).args(["-c", script]);
        run.watch(text, Duration::from_millis(milliseconds), &mut |_| {}).unwrap()
    }

    #[test]
    fn a_text_is_found_across_pieces_and_the_program_killed() {
        let started = Instant::now();
        let watched = watch("printf lo; sleep 0.2; printf gin:; exec sleep 60", "login:", 10_000);
        assert!(matches!(watched.ending, Ending::Found));
        assert_eq!(watched.transcript, b"login:");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_early_end_and_a_missing_text_are_distinguished() {
        let watched = watch("echo no; echo why >&2; exit 4", "login:", 10_000);
        assert!(
            matches!(&watched.ending, Ending::Exited(exit, why) if exit.code() == Some(4) && why == "why")
        );
        assert!(matches!(watch("exec sleep 60", "login:", 100).ending, Ending::TimedOut));
    }
}
