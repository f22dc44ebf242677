//! Verifies blobs while they are read.

use std::io::{self, Read};

use super::{Digest, Hasher};

/// A blob whose bytes do not match its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("blob {expected} is damaged: its bytes have digest {found}")]
pub struct DamagedBlob {
    /// The digest in the name of the blob.
    pub expected: Digest,
    /// The digest of the bytes.
    pub found: Digest,
}

/// Reads a blob and verifies its digest. At the end of a damaged blob, the read fails with a
/// [`DamagedBlob`] in an error of the kind `InvalidData`.
///
/// A caller that has read to the end without an error need not hash the blob again.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    expected: Digest,
    hasher: Hasher,
    /// The digest of all bytes; `None` before the end.
    found: Option<Digest>,
}

/// A blob from any source.
pub type BlobStream<'a> = VerifyingReader<&'a mut (dyn Read + 'a)>;

impl<R> VerifyingReader<R> {
    /// Wraps `inner`, which must be at the first byte of the blob `expected`.
    pub fn new(inner: R, expected: Digest) -> Self {
        Self { inner, expected, hasher: Hasher::default(), found: None }
    }

    /// Returns the expected digest.
    pub fn digest(&self) -> &Digest {
        &self.expected
    }

    /// Returns the damage, if the end has been read and the digest is wrong.
    pub fn damage(&self) -> Option<DamagedBlob> {
        let found = self.found.filter(|found| *found != self.expected)?;
        Some(DamagedBlob { expected: self.expected, found })
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.found.is_none() {
            let count = self.inner.read(buffer)?;
            self.hasher.update(&buffer[..count]);
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.found = Some(std::mem::take(&mut self.hasher).finish());
        }
        let damage = self.damage().map(|damage| io::Error::new(io::ErrorKind::InvalidData, damage));
        damage.map_or(Ok(0), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_the_end_of_a_damaged_blob_fails() {
        let digest = Digest::of("content");
        let mut right = VerifyingReader::new(b"content".as_slice(), digest);
        assert_eq!((right.read(&mut []).unwrap(), right.damage()), (0, None));
        assert_eq!(io::read_to_string(&mut right).unwrap(), "content");
        assert_eq!((right.read(&mut [0]).unwrap(), right.damage()), (0, None));
        for wrong in ["", "conten", "contents", "CONTENT"] {
            let damage = DamagedBlob { expected: digest, found: Digest::of(wrong) };
            let mut reader = VerifyingReader::new(wrong.as_bytes(), digest);
            for _ in 0..2 {
                let error = io::read_to_string(&mut reader).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&damage));
            }
            assert_eq!(reader.damage(), Some(damage));
        }
    }
}
