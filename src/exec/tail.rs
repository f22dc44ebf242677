//! The last bytes of a stream.

use std::collections::VecDeque;
use std::io::{self, Read};

/// Limit of the bytes that are kept of standard error: about 50 lines.
const LIMIT_BYTES: usize = 4096;

/// Reads `stream` to its end and returns its last lines, with U+FFFD for bytes that are not UTF-8.
pub(super) fn read_tail(mut stream: impl Read) -> io::Result<String> {
    let mut tail = VecDeque::with_capacity(LIMIT_BYTES);
    let mut buffer = [0; LIMIT_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(text_of(&tail.into_iter().collect::<Vec<u8>>())),
            Ok(count) => {
                tail.extend(&buffer[..count]);
                tail.drain(..tail.len().saturating_sub(LIMIT_BYTES));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Drops the first line if its start is missing.
fn text_of(tail: &[u8]) -> String {
    let cut = tail.len() == LIMIT_BYTES;
    let start = if cut { tail.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1) } else { 0 };
    String::from_utf8_lossy(&tail[start..]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_streams_are_kept_whole_and_long_ones_from_a_line_start() {
        assert_eq!(read_tail(&b"one\ntwo\n"[..]).unwrap(), "one\ntwo");
        assert_eq!(read_tail(&b""[..]).unwrap(), "");
        let long: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let tail = read_tail(long.as_bytes()).unwrap();
        assert!(
            tail.starts_with("line ") && tail.ends_with("line 9999") && tail.len() < LIMIT_BYTES,
            "{tail}"
        );
    }
}
