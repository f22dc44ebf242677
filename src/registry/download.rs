//! Blobs on their way from a registry.
//!
//! A blob is read as one stream, however often the connection breaks: each time it is asked for from where the bytes stopped
//! (`Range`), or read past that point where the registry cannot do so. Digest and size are those of the whole. A blob
//! that comes out wrong is fetched again from the start; its reader never sees the end of a wrong one.
//!
//! A blob is hashed once, by the reader that it is handed out with.
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

/// A blob that did not get from a registry to where it was wanted.
#[derive(Debug, thiserror::Error)]
pub enum PullError<E: std::error::Error + 'static> {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(RegistryError),
    /// It could not be put where it was wanted.
    #[error(transparent)]
    Taking(E),
}

impl Remote {
    /// Gives the bytes of a blob to `take`, which reads them to the end. If they turn out wrong, its read fails, and it is
    /// called again, up to three times: it must keep nothing then.
    ///
    /// # Errors
    /// [`PullError::Registry`] if the blob cannot be had, [`PullError::Taking`] if `take` fails for a reason of its own.
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
    /// [`RegistryError::TooLarge`] if it is not small; if it cannot be had.
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

/// The bytes of one blob, from as many answers as it takes.
struct Stream<'a> {
    remote: &'a Remote,
    digest: Digest,
    bytes: u64,
    position: u64,
    body: Option<Body>,
    /// The registry has not yet failed to go on in the middle.
    has_ranges: bool,
    attempts: Attempts<'a>,
    transfer: &'a Transfer<'a>,
    /// Why the last read failed.
    failure: Option<RegistryError>,
}

/// The bytes of one answer.
struct Body {
    reader: Box<dyn Read>,
    /// How many are left to come, where the answer says so.
    left: Option<u64>,
    /// How many of them we have already, from an answer before.
    known: u64,
}

impl Body {
    fn new(answer: Answer, known: u64) -> Self {
        Self { left: answer.length(), reader: Box::new(answer.into_reader()), known }
    }

    /// Reads some bytes, either all of them known or none; no bytes at the end of the connection, be it that of the answer or not.
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

/// What a read gave.
enum Piece {
    /// So many bytes that we had.
    Known(usize),
    /// So many bytes that we want.
    New(usize),
    /// None: no more come.
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

    /// Asks for the bytes from the position on, where the registry can go on in the middle; else for all of them.
    fn open(&mut self) -> Result<Body, RegistryError> {
        let position = self.position;
        if position > 0 && self.has_ranges {
            let request = self.request().header(RANGE, format!("bytes={position}-"));
            let answer = self.remote.call(&request, &[200, 206, 416])?;
            match answer.status {
                200 => return self.whole(answer),
                206 if starts_at(&answer, position) => return Ok(Body::new(answer, 0)),
                _ => self.has_ranges = false,
            }
        }
        self.whole(self.remote.call(&self.request(), &[200])?)
    }

    /// Takes an answer with the whole blob. A page for people has another size.
    fn whole(&self, answer: Answer) -> Result<Body, RegistryError> {
        let is_blob = answer.length() == Some(self.bytes);
        let answer = if is_blob { answer } else { answer.refuse_page()? };
        Ok(Body::new(answer, self.position))
    }

    /// Reads some bytes; none at the end.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        loop {
            self.attempts.check()?;
            if let Some(elapsed) = self.attempts.stalled() {
                self.retry(RegistryError::Stalled { request: self.request().text(), elapsed })?;
            }
            let is_complete = self.position == self.bytes;
            match self.read_some(buffer) {
                Ok(Piece::New(count)) => return self.count(count),
                Ok(Piece::Known(count)) => self.attempts.progressed(count),
                Ok(Piece::End) if is_complete => return Ok(0),
                Ok(Piece::End) => self.end()?,
                // All is there: how the connection ends is no matter.
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

    /// Tells a blob that ends too early from an answer that broke off.
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

    /// Returns why the blob could not be read, or that it was in vain.
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

/// Returns whether an answer says that its bytes are those from `position` on.
fn starts_at(answer: &Answer, position: u64) -> bool {
    let range = answer.header("content-range").unwrap_or_default();
    range.trim_start_matches("bytes").trim_start().starts_with(&format!("{position}-"))
}
