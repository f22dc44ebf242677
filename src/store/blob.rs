//! Blobs: files whose name is the digest of their bytes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Store;
use super::file::{failed, mark_used, open_if_there, place, read_if_there};
use crate::oci::{Digest, HashingWriter, VerifyingReader};
use crate::port::{Blob, StoreError};

/// The blobs of a store: layers in any encoding, configs and manifests, each named by the digest of
/// its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Blobs<'a> {
    pub(super) store: &'a Store,
}

impl Blobs<'_> {
    /// Stores `bytes` as a blob and returns its digest. Idempotent, atomic, durable. For small
    /// documents.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        // An existing blob is not written again: an unchanged build leaves the store as it was. The
        // blob is marked as used before the look-up, so that a collection in between keeps it. It
        // is read and verified, so that a damaged blob is replaced.
        mark_used(&self.store.layout().blob(&digest));
        if self.get(&digest).is_ok() {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        let path = writer.path().to_owned();
        writer.write_all(bytes).map_err(failed("write", &path))?;
        Ok(writer.finish()?.0)
    }

    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        Ok(BlobWriter(HashingWriter::new(NewBlob::create(self.store.clone())?)))
    }

    /// Opens a blob of `bytes` bytes. The reader verifies the digest and fails at the end if it
    /// differs.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Invalid`] if it has another size,
    /// [`StoreError::Io`].
    pub fn open(&self, digest: &Digest, bytes: u64) -> Result<VerifyingReader<File>, StoreError> {
        let path = self.store.layout().blob(digest);
        let file = open_if_there(&path)?.ok_or(StoreError::MissingBlob { digest: *digest })?;
        let found = file.metadata().map_err(failed("inspect", &path))?.len();
        if found != bytes {
            let reason = format!("it has {found} bytes instead of {bytes}");
            return Err(StoreError::Invalid { path, reason });
        }
        Ok(VerifyingReader::new(file, *digest))
    }

    /// Reads and verifies a small blob.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`], [`StoreError::Io`].
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.store.layout().blob(digest);
        let bytes = read_if_there(&path)?.ok_or(StoreError::MissingBlob { digest: *digest })?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(StoreError::Damaged { expected: *digest, found }),
        }
    }

    /// Returns true if the store has a blob of this size, and marks it as used. The digest is not
    /// verified.
    pub fn contains(&self, blob: &Blob) -> bool {
        // Marked before the look-up: otherwise a collection right after it would remove an old blob
        // that nothing names yet.
        mark_used(&self.store.layout().blob(&blob.digest));
        self.size(&blob.digest) == Some(blob.bytes)
    }

    /// Returns the size of a blob, or `None` if the store lacks it.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        let found = std::fs::metadata(self.store.layout().blob(digest)).ok();
        found.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }
}

/// A blob that has no name yet. If it is dropped before it has one, nothing remains.
pub(super) struct NewBlob {
    store: Store,
    temporary: PathBuf,
    file: File,
}

impl NewBlob {
    pub(super) fn create(store: Store) -> Result<Self, StoreError> {
        let temporary = store.temporary()?;
        let file = File::create_new(&temporary).map_err(failed("create", &temporary))?;
        Ok(Self { store, temporary, file })
    }

    /// Syncs the blob and gives it its name. The caller has verified that the bytes have this
    /// digest. Replaces an existing blob of that name, which repairs a damaged one.
    pub(super) fn place(self, digest: &Digest) -> Result<(), StoreError> {
        // Before the lock: syncing gigabytes under the lock would block collections and changes of
        // the index.
        self.file.sync_all().map_err(failed("sync", &self.temporary))?;
        let _lock = self.store.lock_shared()?;
        place(&self.temporary, &self.store.layout().blob(digest))
    }

    /// The path of the temporary file, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.temporary
    }
}

impl Write for NewBlob {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        // After success the file is renamed, and this fails. If the removal fails otherwise, the
        // file is removed with the scratch directory of the process.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Writes a blob and computes its digest. If it is dropped before [`BlobWriter::finish`], nothing
/// remains.
pub struct BlobWriter(HashingWriter<NewBlob>);

impl BlobWriter {
    /// Ends the blob, syncs it and gives it its name. Returns digest and size. Replaces an existing
    /// blob of that digest, which repairs a damaged one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(self) -> Result<(Digest, u64), StoreError> {
        let (blob, digest, bytes) = self.0.finish();
        blob.place(&digest)?;
        Ok((digest, bytes))
    }

    /// The path of the temporary file, for messages.
    pub(super) fn path(&self) -> &Path {
        self.0.get_ref().path()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_of_a_wrong_digest_or_size_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = store.blobs().put(b"content").unwrap();
        let read = |bytes: u64| io::read_to_string(store.blobs().open(&digest, bytes).unwrap());
        assert_eq!(read(7).unwrap(), "content");
        for bytes in [6, 8] {
            assert!(matches!(store.blobs().open(&digest, bytes), Err(StoreError::Invalid { .. })));
        }
        std::fs::write(store.layout().blob(&digest), "CONTENT").unwrap();
        assert_eq!(read(7).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(matches!(store.blobs().get(&digest), Err(StoreError::Damaged { .. })));
        store.blobs().put(b"content").unwrap();
        assert_eq!(read(7).unwrap(), "content", "writing it again repairs it");
    }

    #[test]
    fn a_blob_that_is_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut writer = store.blobs().writer().unwrap();
        writer.write_all(b"half").unwrap();
        let temporary = writer.path().to_owned();
        drop(writer);
        assert!(!temporary.exists());
        assert_eq!(std::fs::read_dir(store.layout().blobs()).unwrap().count(), 0);
    }
}
