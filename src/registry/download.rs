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
use super::meter::{Transfer, Transfers};
use super::remote::Remote;
use super::retry::{Attempts, MAX_FETCHES};
use crate::oci::{BlobStream, DamagedBlob, Digest, VerifyingReader};
use crate::port::How;

/// No config comes near it. Who names a larger one is after our memory.
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
    body: Option<Box<dyn Read>>,
    attempts: Attempts<'a>,
    transfer: &'a Transfer<'a>,
    /// Why the last read failed.
    failure: Option<RegistryError>,
}

impl<'a> Stream<'a> {
    fn new(remote: &'a Remote, digest: Digest, bytes: u64, transfer: &'a Transfer<'a>) -> Self {
        let attempts = remote.attempts(format_args!("pulling blob {digest}")).of(transfer);
        Self { remote, digest, bytes, position: 0, body: None, attempts, transfer, failure: None }
    }

    fn request(&self) -> String {
        self.remote.request(Method::GET, &format!("blobs/{}", self.digest)).text()
    }

    /// Asks for the bytes from the position on.
    fn open(&self) -> Result<Box<dyn Read>, RegistryError> {
        let request = self.remote.request(Method::GET, &format!("blobs/{}", self.digest));
        let position = self.position;
        if position == 0 {
            return Ok(Box::new(self.remote.call(&request, &[200])?.into_reader()));
        }
        let answer = self.remote.call(&request.header(RANGE, format!("bytes={position}-")), &[200, 206])?;
        let starts_here =
            |range: &str| range.trim_start_matches("bytes").trim_start().starts_with(&format!("{position}-"));
        match (answer.status, answer.header("content-range")) {
            (206, Some(range)) if starts_here(range) => Ok(Box::new(answer.into_reader())),
            (206, _) => Err(RegistryError::Unexpected {
                request: answer.request,
                reason: format!("not the bytes from {position} on that were asked for"),
            }),
            _ => {
                let request = answer.request.clone();
                let mut reader = answer.into_reader();
                let skipped = io::copy(&mut (&mut reader).take(position), &mut io::sink());
                skipped.map_err(|source| RegistryError::BrokenOff { request, source })?;
                Ok(Box::new(reader))
            }
        }
    }

    /// Reads some bytes; none at the end.
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        loop {
            self.attempts.check()?;
            match self.read_some(buffer) {
                Ok(0) if self.position == self.bytes => return Ok(0),
                Ok(0) => self.retry(RegistryError::BrokenOff {
                    request: self.request(),
                    source: io::ErrorKind::UnexpectedEof.into(),
                })?,
                Ok(count) => return self.count(count),
                Err(error) => self.retry(error)?,
            }
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryError> {
        if self.body.is_none() {
            self.body = Some(self.open()?);
        }
        let body = self.body.as_mut().expect("opened above");
        body.read(buffer).map_err(|source| RegistryError::BrokenOff { request: self.request(), source })
    }

    fn retry(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.body = None;
        self.attempts.again(error)
    }

    fn count(&mut self, count: usize) -> Result<usize, RegistryError> {
        self.position += count as u64;
        if self.position > self.bytes {
            let (request, expected, found) = (self.request(), self.bytes, self.position);
            return Err(RegistryError::WrongSize { request, expected, found });
        }
        self.transfer.advance(count);
        self.attempts.progressed();
        Ok(count)
    }

    /// Returns why the blob could not be read, or that it was in vain.
    fn failure(self, damage: Option<DamagedBlob>) -> Option<RegistryError> {
        let request = self.request();
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
        self.next(buffer).map_err(|error| {
            let text = error.to_string();
            self.failure = Some(error);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }
}
