//! Blobs: files named by the digest of their bytes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::Store;
use super::file::{failed, place};
use super::record::mark_used;
use crate::oci::{Digest, Hasher};
use crate::port::StoreError;

impl Store {
    /// Stores `bytes` as a blob and returns its digest. Idempotent, atomic, durable. For small documents.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        // What is there already is not written again: an unchanged build leaves the store as it was. Marked before it is
        // looked for, it is safe from a collection that starts in between. Read, as a damaged one is to be replaced.
        mark_used(&self.layout().blob(&digest));
        if self.read_blob(&digest).is_ok() {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(failed("write", &writer.temporary))?;
        Ok(writer.finish()?.0)
    }

    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        BlobWriter::create(self.clone())
    }

    /// Opens a blob of `bytes` bytes. The reader verifies digest and size: its last read fails if they are wrong.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Io`].
    pub fn open_blob(&self, digest: &Digest, bytes: u64) -> Result<BlobReader, StoreError> {
        let path = self.layout().blob(digest);
        match File::open(&path) {
            Ok(file) => {
                Ok(BlobReader { file, expected: *digest, left: bytes, hasher: Some(Hasher::default()) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::MissingBlob { digest: *digest })
            }
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// Reads and verifies a small blob.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.layout().blob(digest);
        let bytes = super::file::read_if_there(&path)?.ok_or(StoreError::MissingBlob { digest: *digest })?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(StoreError::Damaged { expected: *digest, found }),
        }
    }

    /// Returns the size of a blob, or `None` if it is not there.
    pub(super) fn blob_bytes(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.layout().blob(digest)).ok().map(|metadata| metadata.len())
    }
}

/// Writes one blob. Dropped before [`BlobWriter::finish`], it leaves nothing.
pub struct BlobWriter {
    store: Store,
    temporary: PathBuf,
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl BlobWriter {
    fn create(store: Store) -> Result<Self, StoreError> {
        let temporary = store.temporary();
        let file = File::create_new(&temporary).map_err(failed("create", &temporary))?;
        Ok(Self { store, temporary, file, hasher: Hasher::default(), bytes: 0 })
    }

    /// Ends the blob, syncs it and gives it its name; returns digest and size. A blob of that digest that was there is
    /// replaced, which heals a damaged one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(mut self) -> Result<(Digest, u64), StoreError> {
        let digest = std::mem::take(&mut self.hasher).finish();
        self.file.sync_all().map_err(failed("sync", &self.temporary))?;
        let _lock = self.store.lock_shared()?;
        place(&self.temporary, &self.store.layout().blob(&digest))?;
        Ok((digest, self.bytes))
    }

    /// Fails unless the bytes so far have the digest `expected`.
    pub(super) fn verify(&self, expected: &Digest) -> Result<(), StoreError> {
        match self.hasher.clone().finish() {
            found if found == *expected => Ok(()),
            found => Err(StoreError::Damaged { expected: *expected, found }),
        }
    }

    /// Returns how many bytes there are so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the bytes are before they have a digest, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // Renamed already after success; what stays is removed with the process's scratch directory.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Reads one blob and verifies it. The error of a damaged blob has the kind `InvalidData`.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    expected: Digest,
    left: u64,
    /// `None` once the end was reached and found right.
    hasher: Option<Hasher>,
}

impl BlobReader {
    fn verify(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let found = hasher.finish();
        // Also when the size is wrong: the digest then is another one.
        if found == self.expected && self.left == 0 {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            StoreError::Damaged { expected: self.expected, found },
        ))
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.verify()?;
            return Ok(0);
        }
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("blob {} is too long", self.expected))
        })?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_fails_where_digest_or_size_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = store.put_blob(b"content").unwrap();
        let read = |bytes: u64| io::read_to_string(store.open_blob(&digest, bytes).unwrap());
        assert_eq!(read(7).unwrap(), "content");
        assert_eq!(read(6).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(8).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::write(store.layout().blob(&digest), "CONTENT").unwrap();
        assert_eq!(read(7).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(matches!(store.read_blob(&digest), Err(StoreError::Damaged { .. })));
        store.put_blob(b"content").unwrap();
        assert_eq!(read(7).unwrap(), "content", "writing it again heals it");
    }

    #[test]
    fn a_blob_that_is_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"half").unwrap();
        let temporary = writer.path().to_owned();
        assert!(matches!(writer.verify(&Digest::of("whole")), Err(StoreError::Damaged { .. })));
        drop(writer);
        assert!(!temporary.exists());
        assert_eq!(std::fs::read_dir(store.layout().blobs()).unwrap().count(), 0);
    }
}
