//! When to try again, and when to give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::debug;

use super::error::RegistryError;
use super::meter::Transfer;

/// More would not help: by then half a minute has passed.
const MAX_ATTEMPTS: u32 = 8;
/// Most attempts where another one rarely helps: blobs that come out wrong, registries that never answered.
pub(super) const MAX_FETCHES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Fewer bytes are no progress: a registry that drips could hold us for ever.
const PROGRESS_BYTES: u64 = 16 << 10;
/// How often a wait looks for the user's wish to stop.
const SLICE: Duration = Duration::from_millis(50);

/// What all attempts of a client share.
#[derive(Debug, Default)]
pub(super) struct Line {
    interrupted: Arc<AtomicBool>,
    answered: AtomicBool,
}

impl Line {
    /// Everything ends soon after `interrupted` became true.
    pub(super) fn new(interrupted: Arc<AtomicBool>) -> Self {
        Self { interrupted, answered: AtomicBool::new(false) }
    }

    /// Fails if the user asked to stop.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(RegistryError::Interrupted) } else { Ok(()) }
    }

    /// Records that a server has answered once. Later failures are retried for longer, because the network is known to work.
    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    fn was_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

/// The attempts at one thing.
pub(super) struct Attempts<'a> {
    action: String,
    patience: Duration,
    line: &'a Line,
    /// Whose attempts these are, if bytes move.
    transfer: Option<&'a Transfer<'a>>,
    started: Instant,
    /// When there was progress last.
    progress: Instant,
    /// Since when nothing is waited for.
    paused: Option<Instant>,
    failed: u32,
    /// Failures since there was progress.
    in_a_row: u32,
    /// Bytes since there was progress.
    bytes: u64,
}

impl<'a> Attempts<'a> {
    /// Starts the first attempt at `action`, which a message can name: `reading tag …`.
    pub(super) fn new(action: String, patience: Duration, line: &'a Line) -> Self {
        let now = Instant::now();
        Self {
            action,
            patience,
            line,
            transfer: None,
            started: now,
            progress: now,
            paused: None,
            failed: 0,
            in_a_row: 0,
            bytes: 0,
        }
    }

    /// Ends them when another transfer has failed.
    pub(super) fn of(self, transfer: &'a Transfer<'a>) -> Self {
        Self { transfer: Some(transfer), ..self }
    }

    /// Fails if no more attempts are wanted.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        self.line.check()?;
        self.transfer.map_or(Ok(()), Transfer::check)
    }

    /// Returns whether this is not the first attempt.
    pub(super) fn is_repeated(&self) -> bool {
        self.failed > 0
    }

    /// Notes that bytes were achieved: when there are enough of them, patience starts anew.
    pub(super) fn progressed(&mut self, count: usize) {
        self.bytes += count as u64;
        if self.bytes >= PROGRESS_BYTES {
            (self.progress, self.in_a_row, self.bytes) = (Instant::now(), 0, 0);
        }
    }

    /// Stops the clock until [`Attempts::resume`], while the reader of the bytes works on them.
    pub(super) fn pause(&mut self) {
        self.paused = Some(Instant::now());
    }

    /// Goes on: the time since [`Attempts::pause`] does not count.
    pub(super) fn resume(&mut self) {
        let paused = self.paused.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.progress += paused;
    }

    /// Returns for how long there has been no progress, if that is longer than is waited for it.
    pub(super) fn stalled(&self) -> Option<Duration> {
        Some(self.progress.elapsed()).filter(|elapsed| *elapsed > self.patience)
    }

    /// Waits until it is time for another attempt.
    ///
    /// # Errors
    /// `error` itself if it will not get better, [`RegistryError::GaveUp`] if it was tried often or long enough,
    /// [`RegistryError::Interrupted`], [`RegistryError::Stopped`].
    pub(super) fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.check()?;
        if !error.is_transient() {
            return Err(error);
        }
        self.failed += 1;
        self.in_a_row += 1;
        let wait = back_off(self.in_a_row, random()).max(error.retry_after().unwrap_or_default());
        let is_hopeless = error.is_damage() || (error.is_absence() && !self.line.was_answered());
        let most = if is_hopeless { MAX_FETCHES } else { MAX_ATTEMPTS };
        if self.in_a_row >= most || self.progress.elapsed().saturating_add(wait) > self.patience {
            return Err(RegistryError::GaveUp {
                action: self.action.clone(),
                attempts: self.failed,
                elapsed: self.started.elapsed(),
                source: Box::new(error),
            });
        }
        debug!(action = self.action, attempts = self.failed, %error, ?wait, "tries again");
        self.sleep(wait)
    }

    /// Waits as long as after so many failures, without one.
    ///
    /// # Errors
    /// As [`Attempts::check`].
    pub(super) fn wait(&self, failures: u32) -> Result<(), RegistryError> {
        self.sleep(back_off(failures, random()))
    }

    fn sleep(&self, wait: Duration) -> Result<(), RegistryError> {
        let end = Instant::now() + wait;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.check()?;
            thread::sleep(left.min(SLICE));
        }
        Ok(())
    }
}

/// Doubles with each failure, and takes between half and all of that: clients that failed together do not return together.
fn back_off(failures: u32, random: u16) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let longest = doubled.min(LONGEST_WAIT);
    longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u16::MAX))
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness, all clients wait the longest, which is safe.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(2) => u16::from_le_bytes(bytes),
        _ => u16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, seconds: Option<u64>) -> RegistryError {
        let retry_after = seconds.map(Duration::from_secs);
        RegistryError::Refused { request: "GET x".to_owned(), status, reason: String::new(), retry_after }
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let milliseconds = |failures, random| back_off(failures, random).as_millis();
        assert_eq!((milliseconds(1, 0), milliseconds(1, u16::MAX)), (125, 250));
        assert_eq!((milliseconds(2, 0), milliseconds(2, u16::MAX)), (250, 500));
        assert_eq!((milliseconds(60, 0), milliseconds(60, u16::MAX)), (7500, 15000));
    }

    #[test]
    fn only_what_may_get_better_is_tried_again() {
        let never = Line::default();
        let patience = Duration::from_secs(5);
        for status in [400, 401, 403, 404, 405, 413, 416, 501] {
            let mut attempts = Attempts::new("x".to_owned(), patience, &never);
            assert!(matches!(attempts.again(refused(status, None)), Err(RegistryError::Refused { .. })));
        }
        for status in [408, 429, 500, 502, 503, 504] {
            let mut attempts = Attempts::new("x".to_owned(), patience, &never);
            assert!(attempts.again(refused(status, None)).is_ok(), "{status}");
        }
    }

    #[test]
    fn a_registry_that_asks_for_more_time_than_there_is_ends_the_attempts() {
        let never = Line::default();
        let mut attempts = Attempts::new("reading it".to_owned(), Duration::from_secs(30), &never);
        attempts.again(refused(503, None)).unwrap();
        let error = attempts.again(refused(429, Some(3600))).unwrap_err();
        assert_eq!(error.to_string(), "gave up on reading it after 2 attempts in 0 s");
        assert_eq!(error.status(), Some(429));
        let started = Instant::now();
        Attempts::new("x".to_owned(), Duration::from_secs(30), &never).again(refused(429, Some(1))).unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn patience_begins_anew_with_enough_bytes_and_not_while_they_are_taken() {
        let line = Line::default();
        let mut attempts = Attempts::new("x".to_owned(), Duration::from_millis(200), &line);
        attempts.pause();
        thread::sleep(Duration::from_millis(250));
        attempts.resume();
        assert_eq!(attempts.stalled(), None);
        thread::sleep(Duration::from_millis(250));
        attempts.progressed(PROGRESS_BYTES as usize - 1);
        assert!(attempts.stalled().is_some());
        attempts.progressed(1);
        assert_eq!(attempts.stalled(), None);
    }

    #[test]
    fn a_wait_ends_when_the_user_asks_to_stop() {
        let interrupted = Line::new(Arc::new(AtomicBool::new(true)));
        let mut attempts = Attempts::new("x".to_owned(), Duration::from_secs(30), &interrupted);
        assert!(matches!(attempts.again(refused(503, Some(20))), Err(RegistryError::Interrupted)));
    }

    #[test]
    fn a_registry_that_never_answered_is_not_waited_for_long() {
        let absent = || {
            let source = ureq::Error::Io(std::io::ErrorKind::ConnectionRefused.into());
            RegistryError::NoAnswer { request: "GET x".to_owned(), proxy: None, source: Box::new(source) }
        };
        let line = Line::default();
        let mut attempts = Attempts::new("x".to_owned(), Duration::from_secs(60), &line);
        let failed = std::iter::repeat_with(|| attempts.again(absent())).take_while(Result::is_ok).count();
        assert_eq!(failed, 2);
        line.note_answer();
        let mut attempts = Attempts::new("x".to_owned(), Duration::from_secs(60), &line);
        assert!((0..3).all(|_| attempts.again(absent()).is_ok()));
    }
}
