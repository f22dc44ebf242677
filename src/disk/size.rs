//! Sizes with units.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A number of bytes.
///
/// The text form is a whole number and a unit: `4G`, `512 MiB`, `500MB`, `1048576`. As in qemu-img,
/// single letters (`K`, `M`, `G`, `T`) and IEC units (`KiB` …) have the factor 1024, and SI units
/// (`KB` …) 1000. No unit, or `B`, means bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct ByteSize(u64);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_size(deserializer)
    }
}

/// Parses the text of a size. Refuses a number without quotes, because its unit would be unclear.
pub(super) fn read_size<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<String, Error: fmt::Display>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: TryFrom<String, Error: fmt::Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.to_owned().try_into().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

/// An invalid size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: expected a whole number and a unit, such as `4G`, `512MiB` or `500MB`")]
pub struct ByteSizeError(String);

impl ByteSizeError {
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The largest disk. Above it, the descriptors of ext4's block groups do not fit into one block
/// group. A larger size is probably a wrong unit.
pub const LARGEST_DISK: ByteSize = ByteSize(256 << 40);

const UNITS: &[(&str, u64)] = &[
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("TIB", 1 << 40),
    ("GIB", 1 << 30),
    ("MIB", 1 << 20),
    ("KIB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

impl ByteSize {
    /// Returns the size of this many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the size of this many mebibytes.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let error = || ByteSizeError::of(text);
        let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let (number, unit) = text.split_at(text.len() - digits.len());
        let unit = unit.trim_start().to_ascii_uppercase();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let number: u64 = number.parse().map_err(|_| error())?;
        number.checked_mul(*factor).map(Self).ok_or_else(error)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = ByteSizeError;

    fn try_from(text: String) -> Result<Self, ByteSizeError> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// Uses the largest unit that needs no fraction: `4G`, `1536M`, `1000`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS[..4].iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written() {
        for (text, bytes, written) in [
            ("4G", 4 << 30, "4G"),
            ("1536M", 1536 << 20, "1536M"),
            ("2048MiB", 2 << 30, "2G"),
            ("10 kib", 10 << 10, "10K"),
            ("500MB", 500_000_000, "500000000"),
            ("1T", 1 << 40, "1T"),
            ("1000", 1000, "1000"),
            ("0", 0, "0"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, written), "{text}");
            assert_eq!(written.parse(), Ok(size));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "G", "4X", "-1G", "1.5G", "auto", "4 G B", "99999999999999999999", "99999999T"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
