//! SHA-256 digests, and the identities that are digests.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::hex::{decode_hex, encode_hex};

/// A SHA-256 digest, written `sha256:` and 64 lower-case hex digits.
///
/// Other algorithms of the specification are refused, because plywood computes and verifies every
/// digest itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: expected `sha256:` and 64 hex digits")]
pub struct DigestError(String);

impl Digest {
    /// Computes the digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Computes the digest of the bytes of `reader`, up to its end.
    ///
    /// # Errors
    /// Those of `reader`.
    pub fn of_reader(reader: impl Read) -> io::Result<Self> {
        let mut reader = HashingReader::new(reader);
        io::copy(&mut reader, &mut io::sink())?;
        Ok(reader.finish().0)
    }

    /// Wraps the 32 bytes of a SHA-256 digest.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        encode_hex(&self.0)
    }

    /// Returns the first 12 hex digits, for messages.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.to_owned());
        let hex = text.strip_prefix("sha256:").ok_or_else(error)?;
        decode_hex(hex).map(Self).ok_or_else(error)
    }
}

impl schemars::JsonSchema for Digest {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

crate::identity! {
    /// The digest of a layer's *uncompressed* tar: the identity of the layer, whatever its
    /// compression.
    DiffId
}

crate::identity! {
    /// The identity of a stack of layers: the first DiffID, then the digest of "ChainID, space,
    /// next DiffID".
    ///
    /// Source: OCI image-spec, `config.md`, "Layer ChainID".
    ChainId
}

impl ChainId {
    /// Returns the identity of `stack` (lowest layer first), or `None` for an empty stack.
    pub fn of(stack: &[DiffId]) -> Option<Self> {
        let (first, rest) = stack.split_first()?;
        Some(
            rest.iter()
                .fold(Self(*first.digest()), |chain, diff_id| Self(Digest::of(format!("{chain} {diff_id}")))),
        )
    }
}

/// Computes a digest incrementally.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Passes reads through, and counts and hashes the bytes.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    bytes: u64,
}

impl<R: Read> HashingReader<R> {
    /// Wraps `inner`, with no bytes counted.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::default(), bytes: 0 }
    }

    /// Returns the digest and number of the bytes read so far.
    pub fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.bytes)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Passes writes through, and counts and hashes the bytes.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Wraps `inner`, with no bytes counted.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::default(), bytes: 0 }
    }

    /// Returns the inner writer.
    pub fn get_ref(&self) -> &W {
        &self.inner
    }

    /// Returns the inner writer, and the digest and number of the bytes written.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.bytes)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_rejects_everything_else() {
        let digest = Digest::of("plywood");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let upper = digest.to_string().to_uppercase();
        let long = format!("{digest}0");
        for text in ["", "sha256:", "sha512:00", &upper, &long, &digest.to_string()[..70]] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    /// The formula of the specification.
    #[test]
    fn chain_id_follows_the_specification() {
        let a = DiffId::new(Digest::of("a"));
        let b = DiffId::new(Digest::of("b"));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]).unwrap().digest(), a.digest());
        assert_eq!(
            ChainId::of(&[a, b]).unwrap().digest(),
            &Digest::of(format!("sha256:{} sha256:{}", a.hex(), b.hex())),
        );
    }
}
