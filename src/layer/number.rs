//! Numbers in the texts of archives.

/// Reads a decimal number.
pub(super) fn parse_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
