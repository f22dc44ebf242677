//! Redacts secrets in the output of jobs: `set -x`, a program's own trace, an error message.
//!
//! A secret is found as it is and as programs commonly write it: quoted by a shell's trace, escaped
//! in JSON or in a URL, and in base64 at each of its three alignments. Base64 that is wrapped in
//! the middle of a secret, and every other encoding, is not.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use crate::element::Environment;
use crate::plan::secret_texts;

/// The text that replaces a secret.
const STARS: &[u8] = b"***";

/// Shorter texts (`yes`, `1`) keep nothing secret, and redacting them would spoil every log.
const MIN_BYTES: usize = 4;

/// As [`MIN_BYTES`], for the characters of base64 that depend on the secret alone.
const MIN_BASE64: usize = 6;

/// The secrets of one environment.
pub struct Redactor {
    /// By the first byte; the longest first, as one may be part of another.
    secrets: Vec<Vec<Vec<u8>>>,
}

/// The treatment of the bytes at one position.
enum Match {
    /// A secret of this length.
    Secret(usize),
    /// The beginning of a secret, which more bytes could complete.
    Beginning,
    Plain,
}

impl Redactor {
    /// Returns a redactor of the secrets among these variables. Output is redacted line by line, so
    /// each line of a secret counts for itself.
    pub fn of(environment: &Environment) -> Self {
        let texts = environment.iter().flat_map(|(name, value)| secret_texts(name, value));
        let spelled: BTreeSet<_> = texts.filter(|line| line.len() >= MIN_BYTES).flat_map(spellings).collect();
        let mut secrets = vec![Vec::new(); 256];
        for secret in spelled {
            secrets[usize::from(secret[0])].push(secret);
        }
        secrets
            .iter_mut()
            .for_each(|same: &mut Vec<Vec<u8>>| same.sort_by_key(|secret| std::cmp::Reverse(secret.len())));
        Self { secrets }
    }

    /// Returns a line of text without secrets.
    pub fn text(&self, line: &str) -> String {
        String::from_utf8_lossy(&self.apply(line.as_bytes())).into_owned()
    }

    /// Returns `line` without secrets.
    pub(super) fn apply(&self, line: &[u8]) -> Vec<u8> {
        self.run(line, |found| matches!(found, Match::Secret(_))).0
    }

    /// As [`Redactor::apply`], for the beginning of a line. Also returns how many bytes of `line`
    /// the result covers: bytes at the end that may begin a secret are left for later.
    pub(super) fn apply_to_beginning(&self, line: &[u8]) -> (Vec<u8>, usize) {
        self.run(line, |found| !matches!(found, Match::Plain))
    }

    fn run(&self, line: &[u8], counts: impl Fn(&Match) -> bool) -> (Vec<u8>, usize) {
        let (mut redacted, mut at) = (Vec::with_capacity(line.len()), 0);
        while at < line.len() {
            match self.find(&line[at..], &counts) {
                Match::Secret(bytes) => {
                    redacted.extend_from_slice(STARS);
                    at += bytes;
                }
                Match::Beginning => break,
                Match::Plain => {
                    redacted.push(line[at]);
                    at += 1;
                }
            }
        }
        (redacted, at)
    }

    /// Compares these bytes with each secret, the longest first, and returns the first result that
    /// `counts`.
    fn find(&self, rest: &[u8], counts: impl Fn(&Match) -> bool) -> Match {
        let say = |secret: &Vec<u8>| match () {
            () if rest.starts_with(secret) => Match::Secret(secret.len()),
            () if secret.starts_with(rest) => Match::Beginning,
            () => Match::Plain,
        };
        let same = self.secrets[usize::from(rest[0])].iter();
        same.map(say).find(counts).unwrap_or(Match::Plain)
    }
}

/// Returns how a text is printed: as it is, as a shell's trace quotes it, in JSON, in URLs, in
/// base64.
fn spellings(text: &str) -> Vec<Vec<u8>> {
    let json = serde_json::Value::from(text).to_string();
    let mut spelled = vec![
        text.to_owned(),
        text.replace('\'', r"'\''"),
        json[1..json.len() - 1].to_owned(),
        in_url(text, "-._~", "%20"),
        in_url(text, "-._~/", "%20"),
        in_url(text, "-._~", "+"),
    ];
    spelled.extend((0..3).flat_map(|before| in_base64(text.as_bytes(), before)));
    spelled.into_iter().map(String::into_bytes).collect()
}

/// Percent-encodes all but letters, digits and `kept`.
///
/// Source: RFC 3986, 2.1; HTML, "application/x-www-form-urlencoded", for `+`.
fn in_url(text: &str, kept: &str, space: &str) -> String {
    let encode = |byte: u8| match char::from(byte) {
        ' ' => space.to_owned(),
        plain if plain.is_ascii_alphanumeric() || kept.contains(plain) => plain.to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Returns the base64 form, in both alphabets, of a text with `before` bytes of any value in front.
/// Leaves out the characters at both ends, which also depend on the bytes around the text.
///
/// Source: RFC 4648, 4 and 5.
fn in_base64(text: &[u8], before: usize) -> Vec<String> {
    let padded = [&vec![0; before], text].concat();
    // A character holds six bits.
    let own = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
    let encoded = [BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)];
    encoded.iter().map(|text| text[own.clone()].to_owned()).filter(|text| text.len() >= MIN_BASE64).collect()
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn redactor(variables: &[(&str, &str)]) -> Redactor {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Redactor::of(&variables.iter().map(owned).collect())
    }

    #[test]
    fn secrets_are_redacted_in_every_spelling_and_nothing_else_is() {
        let redactor = redactor(&[
            ("DIB_A_PASSWORD", "hunter2"),
            ("DIB_B_PASSWORD", "hunter22"),
            ("DIB_C_TOKEN", "it's me"),
            ("DIB_D_SECRET", "first line\n  second line\n"),
            ("DIB_E_SECRET", "a/b+\"c\" d"),
            ("DIB_PASSWORD_LOGIN", "yes"),
            ("DIB_RELEASE", "bookworm"),
            ("DIB_REPOLOCATION_x", "https://me:pass@git.example/x"),
        ]);
        for (line, expected) in [
            ("+ export DIB_A_PASSWORD=hunter2\n", "+ export DIB_A_PASSWORD=***\n"),
            ("hunter22hunter2", "******"),
            ("hunter", "hunter"),
            (r"+ login 'it'\''s me'", "+ login '***'"),
            ("it's me", "***"),
            ("second line", "***"),
            (r#"{"secret":"a/b+\"c\" d"}"#, r#"{"secret":"***"}"#),
            ("?a=a%2Fb%2B%22c%22%20d&b=a/b%2B%22c%22%20d&c=a%2Fb%2B%22c%22+d", "?a=***&b=***&c=***"),
            ("yes bookworm", "yes bookworm"),
            ("curl --user me:pass https://git.example/x", "curl --user me:*** https://git.example/x"),
            ("cloning https://me:pass@git.example/x", "cloning https://me:***@git.example/x"),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(redactor.apply(line.as_bytes())).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn base64_tells_no_more_than_the_ends_of_a_secret() {
        let secret = "correct-horse-?>battery";
        let redactor = redactor(&[("DIB_PASSWORD", secret)]);
        for before in ["", "u", "us", "user:", "a name: "] {
            for after in ["", "\n", "@x", "and more"] {
                for engine in [&BASE64_STANDARD, &base64::prelude::BASE64_URL_SAFE] {
                    let encoded = engine.encode(format!("{before}{secret}{after}"));
                    let shown = redactor.text(&format!("Authorization: Basic {encoded}"));
                    let parts: Vec<_> = shown.split("***").collect();
                    assert_eq!(parts.len(), 2, "{before} {after}: {shown}");
                    let own = encoded.len() - (parts.concat().len() - "Authorization: Basic ".len());
                    assert!(own + 2 >= secret.len() * 8 / 6, "{before} {after}: {shown}");
                }
            }
        }
    }

    /// Wherever a line is cut, and however its bytes come.
    #[test]
    fn a_secret_across_a_cut_is_redacted() {
        let redactor = redactor(&[("DIB_A_PASSWORD", "hunter2"), ("DIB_B_PASSWORD", "hunter22-long")]);
        let line = b"xxhunter2xhunter22-lonhunter22-longhunter2";
        let expected = b"xx***x***2-lon******".to_vec();
        assert_eq!(redactor.apply(line), expected);
        for first in 0..line.len() {
            for second in first..line.len() {
                let (mut shown, mut held) = (Vec::new(), Vec::new());
                for piece in [&line[..first], &line[first..second]] {
                    held.extend_from_slice(piece);
                    let (redacted, covered) = redactor.apply_to_beginning(&held);
                    shown.extend(redacted);
                    held.drain(..covered);
                    assert!(held.len() < "hunter22-long".len());
                }
                held.extend_from_slice(&line[second..]);
                shown.extend(redactor.apply(&held));
                assert_eq!(shown, expected, "{first} {second}");
            }
        }
    }
}
