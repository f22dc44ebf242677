//! Downloads of blobs.
//!
//! The reader of a blob sees one stream, however often the connection breaks. After a break,
//! plywood requests the rest (`Range`). If the registry does not support that, plywood requests the
//! whole blob again and skips the known bytes. Digest and size are verified over the whole blob. A
//! damaged blob is downloaded again from the start; its reader gets an error in place of the end.
//!
//! The bytes are hashed once, by the reader that the caller gets.
//!
//! Source: OCI distribution-spec v1.1, "Pulling blobs"; RFC 9110, 14.

use std::io::{self, Read};

use ureq::http::Method;
use ureq::http::header::RANGE;

use super::error::RegistryError;
use super::message::{Answer, Request};
use super::meter::{Transfer, Transfers};
use super::remote::Remote;
use super::retry::{Attempts, MAX_FETCHES};
use crate::oci::{BlobStream, DamagedBlob, Digest, VerifyingReader};
use crate::port::How;

/// Real configs are a few kilobytes. The limit stops a hostile registry from exhausting memory.
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// A failed download of a blob.
#[derive(Debug, thiserror::Error)]
pub enum PullError<E: std::error::Error + 'static> {
    /// The download failed.
    #[error(transparent)]
    Registry(RegistryError),
    /// The callback of the caller failed.
    #[error(transparent)]
    Taking(E),
}

impl Remote {
    /// Passes the bytes of a blob to `take`, which must read them to the end. If the blob is
    /// damaged, the last read fails, and `take` is called again for a new download, up to three
    /// times in all. `take` must discard the bytes that it has read before an error.
    ///
    /// # Errors
    /// [`PullError::Registry`] if the download fails, [`PullError::Taking`] if `take` fails for a
    /// reason of its own.
    pub fn pull_blob<T, E: std::error::Error + 'static>(
        &self,
        digest: &Digest,
        bytes: u64,
        transfers: &Transfers<'_>,
        mut take: impl FnMut(&mut BlobStream<'_>) -> Result<T, E>,
    ) -> Result<T, PullError<E>> {
        let transfer = transfers.blob(digest, bytes);
        let mut fetches = 0;
        loop {
            let mut stream = Stream::new(self, *digest, bytes, &transfer);
            let mut blob = VerifyingReader::new(&mut stream as &mut dyn Read, *digest);
            let (taken, damage) = (take(&mut blob), blob.damage());
            fetches += 1;
            // The failure of the stream first: the error of `take` is only its consequence.
            match (stream.failure(damage), taken) {
                (None, Ok(taken)) => {
                    transfer.finish(How::Moved);
                    return Ok(taken);
                }
                (Some(failure), _) if failure.is_damage() && fetches < MAX_FETCHES => transfer.restart(),
                (Some(failure), _) => return Err(PullError::Registry(failure)),
                (None, Err(error)) => return Err(PullError::Taking(error)),
            }
        }
    }

    /// Reads a small blob, such as a config, into memory.
    ///
    /// # Errors
    /// [`RegistryError::TooLarge`] if it has more than 16 MiB, and all errors of a download.
    pub fn read_blob(
        &self,
        digest: &Digest,
        bytes: u64,
        transfers: &Transfers<'_>,
    ) -> Result<Vec<u8>, RegistryError> {
        if bytes > MAX_DOCUMENT_BYTES {
            let request = self.request(Method::GET, &format!("blobs/{digest}")).text();
            return Err(RegistryError::TooLarge { request, limit: MAX_DOCUMENT_BYTES });
        }
        let read = |reader: &mut BlobStream<'_>| {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map(|_| content)
        };
        self.pull_blob(digest, bytes, transfers, read).map_err(|error| match error {
            PullError::Registry(error) => error,
            PullError::Taking(source) => RegistryError::BrokenOff {
                request: format!("blob {digest} of {}", self.repository()),
                source,
            },
        })
    }
}

/// The bytes of one blob, from one or more answers.
struct Stream<'a> {
    remote: &'a Remote,
    digest: Digest,
    bytes: u64,
    position: u64,
    body: Option<Body>,
    /// False once the registry has answered a range request with something else than the range.
    has_ranges: bool,
    attempts: Attempts<'a>,
    transfer: &'a Transfer<'a>,
    /// The reason for which the last read failed.
    failure: Option<RegistryError>,
}

/// The bytes of one answer.
struct Body {
    reader: Box<dyn Read>,
    /// Bytes still to come, if the answer has a length.
    left: Option<u64>,
    /// Bytes at the start that an earlier answer has delivered already.
    known: u64,
}

impl Body {
    fn new(answer: Answer, known: u64) -> Self {
        Self { left: answer.length(), reader: Box::new(answer.into_reader()), known }
    }

    /// Reads some bytes, which are either all known or all new. Returns [`Piece::End`] when the
    /// connection ends, whether or not the answer is complete.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Piece> {
        let most = match usize::try_from(self.known).unwrap_or(usize::MAX) {
            0 => buffer.len(),
            known => known.min(buffer.len()),
        };
        let count = self.reader.read(&mut buffer[..most])?;
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        let known = self.known > 0;
        self.known -= if known { count as u64 } else { 0 };
        Ok(match count {
            0 => Piece::End,
            _ if known => Piece::Known(count),
            _ => Piece::New(count),
        })
    }
}

/// The result of a read.
enum Piece {
    /// This many bytes that an earlier answer has delivered.
    Known(usize),
    /// This many new bytes.
    New(usize),
    /// No more bytes.
    End,
}

impl<'a> Stream<'a> {
    fn new(remote: &'a Remote, digest: Digest, bytes: u64, transfer: &'a Transfer<'a>) -> Self {
        let attempts = remote.attempts(format_args!("pulling blob {digest}")).of(transfer);
        let (position, body, has_ranges, failure) = (0, None, true, None);
        Self { remote, digest, bytes, position, body, has_ranges, attempts, transfer, failure }
    }

    fn request(&self) -> Request<'static> {
        self.remote.request(Method::GET, &format!("blobs/{}", self.digest))
    }

    /// Requests the bytes from the position on, or all of them if the registry does not support
    /// ranges.
    fn open(&mut self) -> Result<Body, RegistryError> {
        let position = self.position;
        if position > 0 && self.has_ranges {
            let request = self.request().header(RANGE, format!("bytes={position}-"));
            let answer = self.remote.call(&request, &[200, 206, 416])?;
            // Some registries answer a range with 416 or with other bytes. Requesting the whole
            // blob then still succeeds.
            match answer.status {
                200 => return self.whole(answer),
                206 if starts_at(&answer, position) => return Ok(Body::new(answer, 0)),
                _ => self.has_ranges = false,
            }
        }
        self.whole(self.remote.call(&self.request(), &[200])?)
    }

    /// Accepts an answer with the whole blob. A proxy may answer with an HTML page instead; a blob
    /// may be HTML, too, so an answer of the right size is never refused.
    fn whole(&self, answer: Answer) -> Result<Body, RegistryError> {
        let is_blob = answer.length() == Some(self.bytes);
        let answer = if is_blob { answer } else { answer.refuse_page()? };
        Ok(Body::new(answer, self.position))
    }

    /// Reads some new bytes; none at the end of the blob.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        loop {
            self.attempts.check()?;
            // Timeouts of the connection do not notice a registry that sends a byte from time to
            // time.
            if let Some(elapsed) = self.attempts.stalled() {
                self.retry(RegistryError::Stalled { request: self.request().text(), elapsed })?;
            }
            let is_complete = self.position == self.bytes;
            match self.read_some(buffer) {
                Ok(Piece::New(count)) => return self.count(count),
                Ok(Piece::Known(count)) => self.attempts.progressed(count),
                Ok(Piece::End) if is_complete => return Ok(0),
                Ok(Piece::End) => self.end()?,
                // The blob is complete, so an error at the end of the connection does not matter.
                Err(RegistryError::BrokenOff { .. }) if is_complete => return Ok(0),
                Err(error) => self.retry(error)?,
            }
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<Piece, RegistryError> {
        if self.body.is_none() {
            self.body = Some(self.open()?);
        }
        let body = self.body.as_mut().expect("opened above");
        body.read(buffer)
            .map_err(|source| RegistryError::BrokenOff { request: self.request().text(), source })
    }

    /// Handles an early end. An answer that is complete by its own length means that the registry's
    /// blob is too short; retrying the rest cannot help. Otherwise the connection broke.
    fn end(&mut self) -> Result<(), RegistryError> {
        let (request, expected, found) = (self.request().text(), self.bytes, self.position);
        match &self.body {
            Some(Body { left: Some(0), .. }) => Err(RegistryError::WrongSize { request, expected, found }),
            _ => {
                let source = io::ErrorKind::UnexpectedEof.into();
                self.retry(RegistryError::BrokenOff { request, source })
            }
        }
    }

    fn retry(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.body = None;
        self.attempts.again(error)
    }

    fn count(&mut self, count: usize) -> Result<usize, RegistryError> {
        self.position += count as u64;
        if self.position > self.bytes {
            let (request, expected, found) = (self.request().text(), self.bytes, self.position);
            return Err(RegistryError::WrongSize { request, expected, found });
        }
        self.transfer.advance(count);
        self.attempts.progressed(count);
        Ok(count)
    }

    /// Returns the error of the download, or that the blob is damaged.
    fn failure(self, damage: Option<DamagedBlob>) -> Option<RegistryError> {
        let request = self.request().text();
        let wrong = |DamagedBlob { expected, found }| RegistryError::WrongDigest { request, expected, found };
        self.failure.or(damage.map(wrong))
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.failure.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // The clock runs only in reads: a slow reader, such as one that decodes, must not count as
        // a stalled registry.
        self.attempts.resume();
        let read = self.next(buffer);
        self.attempts.pause();
        read.map_err(|error| {
            let text = error.to_string();
            self.failure = Some(error);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }
}

/// Returns true if an answer declares that its bytes begin at `position`.
fn starts_at(answer: &Answer, position: u64) -> bool {
    let range = answer.header("content-range").unwrap_or_default();
    range.trim_start_matches("bytes").trim_start().starts_with(&format!("{position}-"))
}
