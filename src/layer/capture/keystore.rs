//! The times in a Java keystore of certificate authorities.
//!
//! Debian's `ca-certificates-java` makes one from the certificates of the image. It has the time of
//! the build in each entry, and a well-known password.
//!
//! ```text
//! magic u32 = feedfeed · version u32 · count u32 · entries · SHA-1
//! entry: tag u32 = 2 · alias · milliseconds since 1970 i64 · type, from version 2 on · bytes u32 · certificate
//! ```
//!
//! Numbers are big endian; a text follows its length, a u16. Source: OpenJDK,
//! `sun.security.provider.JavaKeyStore`.

use sha1::{Digest, Sha1};

const MAGIC: u32 = 0xfeed_feed;
const TRUSTED_CERTIFICATE: u32 = 2;
const DIGEST_BYTES: usize = 20;

/// The password of Debian's keystore. It is part of the input of the digest.
const PASSWORD: &str = "changeit";
/// The text between password and content in the input of the digest.
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// Returns the keystore `content` with its times clamped to `epoch` (seconds since 1970). Returns
/// `None` for everything else than a keystore of certificates with the known password: a keystore
/// that somebody made by hand stays as it is.
pub(super) fn clamp(content: &[u8], epoch: i64) -> Option<Vec<u8>> {
    let (body, found) = content.split_at_checked(content.len().checked_sub(DIGEST_BYTES)?)?;
    if digest(body)[..] != *found {
        return None;
    }
    let mut new = body.to_vec();
    for place in places_of_times(body)? {
        let time: [u8; 8] = new.get(place..place + 8)?.try_into().ok()?;
        let clamped = i64::from_be_bytes(time).min(epoch.saturating_mul(1000));
        new[place..place + 8].copy_from_slice(&clamped.to_be_bytes());
    }
    // Java refuses a keystore whose digest does not fit its content.
    let digest = digest(&new);
    new.extend(digest);
    Some(new)
}

fn digest(body: &[u8]) -> [u8; DIGEST_BYTES] {
    let password: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    Sha1::new().chain_update(password).chain_update(WHITENER).chain_update(body).finalize().into()
}

/// Returns the offset of the time of each entry in `body`.
fn places_of_times(body: &[u8]) -> Option<Vec<usize>> {
    let mut reader = Reader { rest: body };
    let (magic, version, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if magic != MAGIC || !matches!(version, 1 | 2) {
        return None;
    }
    let mut places = Vec::new();
    for _ in 0..count {
        if reader.u32()? != TRUSTED_CERTIFICATE {
            return None;
        }
        reader.skip_text()?;
        places.push(body.len() - reader.rest.len());
        reader.skip(8)?;
        if version == 2 {
            reader.skip_text()?;
        }
        let bytes = reader.u32()?;
        reader.skip(bytes as usize)?;
    }
    reader.rest.is_empty().then_some(places)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn skip_text(&mut self) -> Option<()> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.skip(u16::from_be_bytes(*bytes).into())
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keystore of version 2 with an entry of this tag for each time.
    fn keystore(tag: u32, times: &[i64]) -> Vec<u8> {
        let mut body = [MAGIC, 2, times.len() as u32].map(u32::to_be_bytes).concat();
        for time in times {
            body.extend(tag.to_be_bytes());
            body.extend(b"\0\x06debian");
            body.extend(time.to_be_bytes());
            body.extend(b"\0\x05X.509\0\0\0\x02ab");
        }
        let digest = digest(&body);
        [body, digest.to_vec()].concat()
    }

    #[test]
    fn later_times_are_clamped_and_the_digest_fits_again() {
        let clamped = clamp(&keystore(2, &[5_000, 20_000]), 10);
        assert_eq!(clamped, Some(keystore(2, &[5_000, 10_000])));
        assert_eq!(clamp(&clamped.unwrap(), 10), Some(keystore(2, &[5_000, 10_000])));
    }

    /// The empty keystore under that password.
    #[test]
    fn the_digest_is_that_of_java() {
        let empty = [
            0xfe, 0xed, 0xfe, 0xed, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0xe2, 0x68, 0x6e, 0x45,
            0xfb, 0x43, 0xdf, 0xa4, 0xd9, 0x92, 0xdd, 0x41, 0xce, 0xb6, 0xb2, 0x1c, 0x63, 0x30, 0xd7, 0x92,
        ];
        assert_eq!(keystore(2, &[]), empty);
    }

    #[test]
    fn other_files_stay() {
        let good = keystore(2, &[20_000]);
        let mut other_password = good.clone();
        *other_password.last_mut().unwrap() ^= 1;
        let body = &good[..good.len() - DIGEST_BYTES - 1];
        let cut_short = [body, &digest(body)].concat();
        for content in [&b""[..], b"text", &good[..40], &other_password, &cut_short, &keystore(1, &[20_000])]
        {
            assert_eq!(clamp(content, 10), None, "{content:?}");
        }
    }
}
