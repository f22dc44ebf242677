//! The checksum files beside an image.

use std::collections::BTreeSet;

use crate::image::Checksum;

/// Parses `DIB_CHECKSUM`: empty or 0 for none, 1 for both, else a list of names.
pub(super) fn wanted(value: &str) -> BTreeSet<Checksum> {
    let named = |checksum: &Checksum| value == "1" || value.contains(checksum.extension());
    Checksum::ALL.into_iter().filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_asks_for_both() {
        let table: [(&str, &[Checksum]); 6] = [
            ("", &[]),
            ("0", &[]),
            ("1", &[Checksum::Md5, Checksum::Sha256]),
            ("sha256", &[Checksum::Sha256]),
            ("md5,sha256", &[Checksum::Md5, Checksum::Sha256]),
            ("crc", &[]),
        ];
        for (value, expected) in table {
            assert_eq!(wanted(value), expected.iter().copied().collect(), "{value}");
        }
    }
}
