//! Sizes in block-device files.

/// A size of a partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Size {
    /// A number of bytes.
    Bytes(u64),
    /// Percent of the remaining space.
    Percent(f64),
}

/// An invalid size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size: expected a number and a unit, such as `8GiB`, `550MiB`, `1.5GB`, or `100%`")]
pub struct SizeError(String);

/// Single letters are SI units with factor 1000. Case matters.
///
/// Source: diskimage-builder, `block_device/utils.py`.
const UNITS: [(&str, u64); 14] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("K", 1_000),
    ("B", 1),
    ("", 1),
];

impl Size {
    /// Parses a size: `<number> [unit]`, or `<number>%`.
    pub(super) fn parse(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        match text.strip_suffix('%') {
            None => parse_bytes(text).map(Size::Bytes),
            Some(number) => {
                let percent = number.trim().parse::<f64>().map_err(|_| error())?;
                Some(percent)
                    .filter(|percent| (0.0..=100.0).contains(percent))
                    .map(Size::Percent)
                    .ok_or_else(error)
            }
        }
    }

    /// Returns the size in bytes if `free` bytes are left.
    pub(super) fn of(self, free: u64) -> u64 {
        match self {
            Size::Bytes(bytes) => bytes,
            // Integers for whole percents, because 100 % must be exactly `free`.
            Size::Percent(percent) if percent.fract() == 0.0 => {
                (u128::from(free) * percent as u128 / 100) as u64
            }
            Size::Percent(percent) => (free as f64 * percent / 100.0) as u64,
        }
    }
}

/// Parses `<number> [unit]`. A unit without a number means one unit.
pub(super) fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    let error = || SizeError(text.to_owned());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
    match number {
        "" if unit.is_empty() => Err(error()),
        "" => Ok(*factor),
        whole if !whole.contains('.') => {
            let whole = whole.parse::<u64>().ok();
            whole.and_then(|whole| whole.checked_mul(*factor)).ok_or_else(error)
        }
        fraction => {
            let bytes = fraction.parse::<f64>().map_err(|_| error())? * *factor as f64;
            if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(error()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, bytes) in [
            ("20TiB", 20 << 40),
            ("8 GiB", 8 << 30),
            ("154MiB", 154 << 20),
            ("1024KiB", 1 << 20),
            ("1.2TB", 1_200_000_000_000),
            ("2.4T", 2_400_000_000_000),
            ("40G", 40_000_000_000),
            ("1800M", 1_800_000_000),
            ("3K", 3_000),
            ("512B", 512),
            ("198", 198),
            ("0.5MiB", 1 << 19),
            ("MiB", 1 << 20),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
            assert_eq!(Size::parse(text), Ok(Size::Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let texts =
            ["", "747InVaLiDUnIt", "_+!HuHi+-=", "1mib", "1  MiB", "-1", "1.2.3", "%", "101%", "-1%", "NaN%"];
        for text in texts.into_iter().chain(["99999999999999999999", "99999999999TiB", "9e9%x"]) {
            assert!(Size::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn percents_refer_to_the_remaining_space_and_bytes_do_not() {
        for (text, free, expected) in [
            ("154MiB", 0, 154 << 20),
            ("50%", 1001, 500),
            ("100%", u64::MAX, u64::MAX),
            ("33.3%", 1000, 333),
            ("0%", 1000, 0),
        ] {
            assert_eq!(Size::parse(text).unwrap().of(free), expected, "{text}");
        }
    }
}
