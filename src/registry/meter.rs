//! Reports the progress of transfers as events, a few times a second.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::error::RegistryError;
use super::parallel::each_until;
use crate::oci::{Digest, Repository};
use crate::port::{Direction, Event, Events, How, Pace};

/// Interval between two reports of one blob.
const REPORT_MILLISECONDS: u64 = 200;

/// All blobs of one push or pull.
pub struct Transfers<'a> {
    events: &'a dyn Events,
    repository: String,
    direction: Direction,
    blobs: usize,
    /// Bytes of all blobs.
    bytes: u64,
    /// Bytes that have arrived, including those of blobs that needed no transfer.
    done: AtomicU64,
    /// Bytes that were transferred, including those of failed attempts.
    moved: AtomicU64,
    /// True once a transfer has failed for good. The others stop then.
    stopped: AtomicBool,
    started: Instant,
}

impl<'a> Transfers<'a> {
    /// Reports the start of a push or pull of blobs with these sizes.
    pub fn start(
        events: &'a dyn Events,
        repository: &Repository,
        direction: Direction,
        sizes: impl IntoIterator<Item = u64>,
    ) -> Self {
        let sizes: Vec<u64> = sizes.into_iter().collect();
        let this = Self {
            events,
            repository: repository.to_string(),
            direction,
            blobs: sizes.len(),
            // Sizes in a hostile manifest may overflow the sum.
            bytes: sizes.iter().fold(0, |all, bytes| all.saturating_add(*bytes)),
            done: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            started: Instant::now(),
        };
        let Self { repository, blobs, bytes, .. } = &this;
        events.emit(Event::TransfersStarted { repository, direction, blobs: *blobs, bytes: *bytes });
        this
    }

    /// Calls `work` for every item, `jobs` at a time, and returns the results in the order of the
    /// items. The first error stops the running transfers, and no more are started.
    ///
    /// # Errors
    /// The first error.
    pub fn each<T: Sync, R: Send, E: Send>(
        &self,
        jobs: usize,
        items: &[T],
        work: impl Fn(&T) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E> {
        each_until(&self.stopped, jobs, items, work)
    }

    /// Reports the start of one blob.
    pub fn blob(&'a self, digest: &Digest, bytes: u64) -> Transfer<'a> {
        let transfer = Transfer {
            all: self,
            digest: *digest,
            bytes,
            done: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            started: Instant::now(),
        };
        let (repository, direction) = (self.repository.as_str(), self.direction);
        self.events.emit(Event::TransferStarted { repository, direction, digest, bytes });
        transfer
    }

    /// Reports that all blobs have arrived.
    pub fn finish(self) {
        self.events.emit(Event::TransfersFinished {
            repository: &self.repository,
            direction: self.direction,
            blobs: self.blobs,
            moved: self.moved.load(Ordering::Relaxed),
            milliseconds: milliseconds(self.started),
        });
    }
}

/// One blob on its way.
pub struct Transfer<'a> {
    all: &'a Transfers<'a>,
    digest: Digest,
    bytes: u64,
    done: AtomicU64,
    /// Milliseconds since the start at the last report.
    reported: AtomicU64,
    started: Instant,
}

impl Transfer<'_> {
    /// Reports that the blob has arrived, and how.
    pub fn finish(self, how: How) {
        // A blob that needed no transfer counts as done.
        let rest = self.bytes.saturating_sub(self.done.load(Ordering::Relaxed));
        self.all.done.fetch_add(rest, Ordering::Relaxed);
        self.all.events.emit(Event::TransferFinished {
            repository: &self.all.repository,
            direction: self.all.direction,
            digest: &self.digest,
            bytes: self.bytes,
            how,
            milliseconds: milliseconds(self.started),
        });
    }

    /// Fails if another transfer has failed finally.
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        match self.all.stopped.load(Ordering::Relaxed) {
            true => Err(RegistryError::Stopped),
            false => Ok(()),
        }
    }

    /// Counts transferred bytes.
    pub(super) fn advance(&self, count: usize) {
        let count = count as u64;
        self.done.fetch_add(count, Ordering::Relaxed);
        self.all.done.fetch_add(count, Ordering::Relaxed);
        self.all.moved.fetch_add(count, Ordering::Relaxed);
        let now = milliseconds(self.started);
        if now >= self.reported.load(Ordering::Relaxed) + REPORT_MILLISECONDS {
            self.reported.store(now, Ordering::Relaxed);
            self.report();
        }
    }

    /// Subtracts the bytes of a failed attempt from the progress: the blob starts again.
    pub(super) fn restart(&self) {
        let done = self.done.swap(0, Ordering::Relaxed);
        self.all.done.fetch_sub(done, Ordering::Relaxed);
    }

    /// Counts the bytes that are read from `reader`. Reads fail once another transfer has failed.
    pub(super) fn watch<'r>(&'r self, reader: impl Read + 'r) -> Box<dyn Read + 'r> {
        Box::new(Watched { reader, transfer: self })
    }

    fn report(&self) {
        let Transfers { repository, direction, done, bytes, started, events, .. } = self.all;
        events.emit(Event::TransferProgress {
            repository,
            direction: *direction,
            digest: &self.digest,
            blob: pace(self.done.load(Ordering::Relaxed), self.bytes, self.started.elapsed()),
            all: pace(done.load(Ordering::Relaxed), *bytes, started.elapsed()),
        });
    }
}

struct Watched<'r, R> {
    reader: R,
    transfer: &'r Transfer<'r>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.transfer.check().map_err(io::Error::other)?;
        let count = self.reader.read(buffer)?;
        self.transfer.advance(count);
        Ok(count)
    }
}

fn pace(done: u64, bytes: u64, elapsed: Duration) -> Pace {
    let milliseconds = (elapsed.as_millis() as u64).max(1);
    let rate = done.saturating_mul(1000) / milliseconds;
    let seconds_left = bytes.saturating_sub(done).checked_div(rate);
    Pace { done, bytes, rate, seconds_left }
}

fn milliseconds(started: Instant) -> u64 {
    started.elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_are_averages_since_the_start() {
        let second = Duration::from_secs(2);
        assert_eq!(pace(50, 200, second), Pace { done: 50, bytes: 200, rate: 25, seconds_left: Some(6) });
        assert_eq!(pace(0, 200, second).seconds_left, None);
        assert_eq!(pace(200, 200, second).seconds_left, Some(0));
        assert_eq!(pace(1, 2, Duration::ZERO).rate, 1000);
    }
}
