//! A blob on its way out: hashed while it is sent.
//!
//! The file that a blob is read from may be another since it was verified. The last piece of a
//! wrong blob is held back, so that no registry can store it under any name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};

use super::meter::Transfer;
use crate::oci::{DamagedBlob, Digest, Hasher};
use crate::port::BlobSource;

/// A blob, sent whole or in pieces. A piece may be sent more than once; the next one begins where
/// it ended.
pub(super) struct Outgoing<'a> {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    source: &'a dyn BlobSource,
    transfer: &'a Transfer<'a>,
    /// The hash of all bytes before a piece, by the piece's offset.
    hashed: RefCell<BTreeMap<u64, Hasher>>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn new(
        digest: Digest,
        bytes: u64,
        source: &'a dyn BlobSource,
        transfer: &'a Transfer<'a>,
    ) -> Self {
        let hashed = RefCell::new(BTreeMap::from([(0, Hasher::default())]));
        Self { digest, bytes, source, transfer, hashed }
    }

    /// Opens the piece of `bytes` bytes from `offset` on. All before it were read.
    pub(super) fn open(&self, offset: u64, bytes: u64) -> io::Result<Box<dyn Read + '_>> {
        let hasher = self.hashed.borrow().get(&offset).cloned();
        let hasher = hasher.ok_or_else(|| io::Error::other("the piece before this one was not sent"))?;
        let inner = self.source.open_at(offset)?;
        Ok(self.transfer.watch(Piece { inner, hasher, left: bytes, end: offset + bytes, of: self }))
    }

    /// Takes the hash of all bytes before `end`.
    fn note(&self, end: u64, hasher: Hasher) -> io::Result<()> {
        if end < self.bytes {
            self.hashed.borrow_mut().insert(end, hasher);
            return Ok(());
        }
        match hasher.finish() {
            found if found == self.digest => Ok(()),
            found => Err(damaged(DamagedBlob { expected: self.digest, found })),
        }
    }
}

fn damaged(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    // The kind by which the transport tells our own bytes from the network.
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

struct Piece<'a, R> {
    inner: R,
    /// Of all bytes of the blob that were read, those of earlier pieces included.
    hasher: Hasher,
    left: u64,
    end: u64,
    of: &'a Outgoing<'a>,
}

impl<R: Read> Read for Piece<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(damaged(format!("it ends {} bytes before {}", self.left, self.end)));
        }
        self.hasher.update(&buffer[..count]);
        self.left -= count as u64;
        if self.left == 0 {
            self.of.note(self.end, self.hasher.clone())?;
        }
        Ok(count)
    }
}
