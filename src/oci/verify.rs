//! Blobs that are verified while they are read.

use std::io::{self, Read};

use super::{Digest, Hasher};

/// A blob whose bytes are not those that its digest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("blob {expected} is damaged: its bytes have digest {found}")]
pub struct DamagedBlob {
    /// The name.
    pub expected: Digest,
    /// What the bytes give.
    pub found: Digest,
}

/// Reads a blob, and does not let anybody see the end of a wrong one: the read that would have told it fails, with a
/// [`DamagedBlob`] in an error of the kind `InvalidData`.
///
/// Whoever has read one to its end need not hash it again.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    expected: Digest,
    hasher: Hasher,
    /// The digest of all bytes, once the end was reached.
    found: Option<Digest>,
}

/// A blob that comes from wherever.
pub type BlobStream<'a> = VerifyingReader<&'a mut (dyn Read + 'a)>;

impl<R> VerifyingReader<R> {
    /// Starts at the first byte of what should be the blob `expected`.
    pub fn new(inner: R, expected: Digest) -> Self {
        Self { inner, expected, hasher: Hasher::default(), found: None }
    }

    /// Returns the digest that the bytes have, if they can be read to their end.
    pub fn digest(&self) -> &Digest {
        &self.expected
    }

    /// Returns what is wrong with the bytes, if that was found out.
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
    fn only_the_end_of_a_right_blob_is_seen() {
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
