//! Lower-case hex digits.

use std::fmt::Write as _;

/// Returns `bytes` as lower-case hex digits.
pub fn encode_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Parses exactly `N` bytes. Returns `None` for another length, and for upper-case digits: each
/// value has only one form, so that texts can be compared.
pub fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_form() {
        assert_eq!(encode_hex(&[0, 0x0f, 0xa5]), "000fa5");
        assert_eq!(decode_hex("000fa5"), Some([0, 0x0f, 0xa5]));
        for text in ["", "000fa", "000fa50", "000FA5", "000fg5", "00 fa5"] {
            assert_eq!(decode_hex::<3>(text), None, "{text}");
        }
    }
}
