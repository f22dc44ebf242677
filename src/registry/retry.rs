//! Decides when to try again, and when to give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::debug;

use super::error::RegistryError;
use super::meter::Transfer;

/// Limit of attempts without progress. The waits between them add up to about half a minute; after
/// that, another attempt rarely helps.
const MAX_ATTEMPTS: u32 = 8;
/// Limit of attempts if another one rarely helps: for damaged blobs, and for registries that never
/// answered.
pub(super) const MAX_FETCHES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Fewer bytes do not count as progress. Otherwise, a registry that sends a byte a second could
/// hold up a build forever.
const PROGRESS_BYTES: u64 = 16 << 10;
/// Interval of looks at the interrupt flag during a wait.
const SLICE: Duration = Duration::from_millis(50);

/// The state that all attempts of a client share.
#[derive(Debug, Default)]
pub(super) struct Line {
    interrupted: Arc<AtomicBool>,
    answered: AtomicBool,
}

impl Line {
    /// All attempts end soon after `interrupted` becomes true.
    pub(super) fn new(interrupted: Arc<AtomicBool>) -> Self {
        Self { interrupted, answered: AtomicBool::new(false) }
    }

    /// Fails if the user asked to stop.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(RegistryError::Interrupted) } else { Ok(()) }
    }

    /// Records that a server has answered once. Later failures are retried for longer, because the
    /// network is known to work.
    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    fn was_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}

/// The attempts at one action.
pub(super) struct Attempts<'a> {
    action: String,
    patience: Duration,
    line: &'a Line,
    /// The transfer that these attempts belong to, if any.
    transfer: Option<&'a Transfer<'a>>,
    started: Instant,
    /// The time of the last progress.
    progress: Instant,
    /// The time since which the clock is stopped.
    paused: Option<Instant>,
    failed: u32,
    /// Failures since the last progress.
    in_a_row: u32,
    /// Bytes since the last progress.
    bytes: u64,
}

impl<'a> Attempts<'a> {
    /// Starts the first attempt at `action`, a gerund for messages: `reading tag …`. `patience`
    /// limits the time without progress.
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

    /// Makes these attempts part of `transfer`: they end when another transfer fails.
    pub(super) fn of(self, transfer: &'a Transfer<'a>) -> Self {
        Self { transfer: Some(transfer), ..self }
    }

    /// Fails if the user has interrupted, or another transfer has failed.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        self.line.check()?;
        self.transfer.map_or(Ok(()), Transfer::check)
    }

    /// Returns true after a failed attempt.
    pub(super) fn is_repeated(&self) -> bool {
        self.failed > 0
    }

    /// Counts received bytes. When they reach [`PROGRESS_BYTES`], patience and the count of
    /// failures start again.
    pub(super) fn progressed(&mut self, count: usize) {
        self.bytes += count as u64;
        if self.bytes >= PROGRESS_BYTES {
            (self.progress, self.in_a_row, self.bytes) = (Instant::now(), 0, 0);
        }
    }

    /// Stops the clock until [`Attempts::resume`], while the reader works on the bytes.
    pub(super) fn pause(&mut self) {
        self.paused = Some(Instant::now());
    }

    /// Restarts the clock. The time since [`Attempts::pause`] does not count.
    pub(super) fn resume(&mut self) {
        let paused = self.paused.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.progress += paused;
    }

    /// Returns the time without progress if it exceeds the patience.
    pub(super) fn stalled(&self) -> Option<Duration> {
        Some(self.progress.elapsed()).filter(|elapsed| *elapsed > self.patience)
    }

    /// Waits until the time of the next attempt.
    ///
    /// # Errors
    /// `error` itself if it is permanent, [`RegistryError::GaveUp`] after the last attempt or at
    /// the end of patience, [`RegistryError::Interrupted`], [`RegistryError::Stopped`].
    pub(super) fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.check()?;
        if !error.is_transient() {
            return Err(error);
        }
        self.failed += 1;
        self.in_a_row += 1;
        // At least as long as the registry asks for: it would refuse an earlier request again.
        let wait = back_off(self.in_a_row, random()).max(error.retry_after().unwrap_or_default());
        let is_hopeless = error.is_damage() || (error.is_absence() && !self.line.was_answered());
        let most = if is_hopeless { MAX_FETCHES } else { MAX_ATTEMPTS };
        // Gives up before a wait that would end after the patience, instead of waiting in vain.
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

    /// Waits as after this many failures, without counting one.
    ///
    /// # Errors
    /// As [`Attempts::check`].
    pub(super) fn wait(&self, failures: u32) -> Result<(), RegistryError> {
        self.sleep(back_off(failures, random()))
    }

    fn sleep(&self, wait: Duration) -> Result<(), RegistryError> {
        let end = Instant::now() + wait;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            // In slices, because a signal does not end a sleep of this thread.
            self.check()?;
            thread::sleep(left.min(SLICE));
        }
        Ok(())
    }
}

/// Returns the wait: it doubles with each failure, and a random part of its second half is left
/// out. So clients that failed at the same moment do not all return at the same moment.
fn back_off(failures: u32, random: u16) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let longest = doubled.min(LONGEST_WAIT);
    longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u16::MAX))
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness, all clients wait for the longest time, which is safe.
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
    fn only_transient_failures_are_retried() {
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
        assert_eq!(error.to_string(), "gave up reading it after 2 attempts in 0 s");
        assert_eq!(error.status(), Some(429));
        let started = Instant::now();
        Attempts::new("x".to_owned(), Duration::from_secs(30), &never).again(refused(429, Some(1))).unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1));
    }

    #[test]
    fn the_time_limit_restarts_after_enough_bytes_and_is_paused_by_a_slow_reader() {
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
