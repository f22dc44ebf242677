//! Keys and their text forms.
//!
//! ```text
//! ed25519:<64 hex digits>           a public key, in definitions and messages
//! ed25519-secret:<64 hex digits>    a signing key: the only line of its file besides comments
//! ```

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oci::{decode_hex, encode_hex};

const PUBLIC: &str = "ed25519:";
const SECRET: &str = "ed25519-secret:";

/// A text that is not a key. Messages never show a text that may be a signing key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not a public key.
    #[error(
        "`{text}` is not a public key: expected `ed25519:` and 64 hex digits, as `plywood key show` prints it"
    )]
    Public {
        /// The text, unless it looks like a signing key.
        text: String,
    },
    /// It is not a signing key.
    #[error(
        "not a signing key: expected a line of `ed25519-secret:` and 64 hex digits, as `plywood key generate` writes it"
    )]
    Secret,
}

/// A key that verifies signatures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("type" = "string", "pattern" = "^ed25519:[0-9a-f]{64}$"))]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Returns the first 12 hex digits, for messages.
    pub fn short(&self) -> String {
        encode_hex(&self.0[..6])
    }

    /// Returns true if this key has made `signature` over `message`. Returns false for a key that
    /// is not a point of the curve.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let shown = if text.starts_with(SECRET) { "…" } else { text };
        let error = || KeyError::Public { text: shown.to_owned() };
        let bytes = text.strip_prefix(PUBLIC).and_then(decode_hex).ok_or_else(error)?;
        // Refuses keys of small order, for which one signature verifies many messages, and texts
        // that are not a point of the curve.
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            _ => Err(error()),
        }
    }
}

crate::serde_by_text!(PublicKey);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", encode_hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that makes signatures. Dropping it overwrites its bytes in memory, and debug output does
/// not show them.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes a key from 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Returns the public key of this key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Returns the text of a key file: a comment with the public key, and the secret.
    pub fn to_text(&self) -> String {
        let (public, secret) = (self.public(), encode_hex(self.0.as_bytes()));
        format!("# Signing key of plywood: keep it secret. The public key is\n# {public}\n{SECRET}{secret}\n")
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl FromStr for SigningKey {
    type Err = KeyError;

    /// Reads the text of a key file.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match (lines.next().and_then(|line| line.strip_prefix(SECRET)).and_then(decode_hex), lines.next()) {
            (Some(seed), None) => Ok(Self::new(seed)),
            _ => Err(KeyError::Secret),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of RFC 8032, section 7.1.
    #[test]
    fn keys_and_signatures_match_the_test_vector() {
        let seed = decode_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = SigningKey::new(seed);
        let public = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(key.public().to_string(), public);
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(encode_hex(&key.sign(b"")), signature);
    }

    #[test]
    fn a_key_is_parsed_from_its_text_and_shown_nowhere_else() {
        let key = SigningKey::new([7; 32]);
        let text = key.to_text();
        assert_eq!(text.parse::<SigningKey>().unwrap().public(), key.public());
        let secret = encode_hex(&[7; 32]);
        assert!(text.contains(&secret) && !format!("{key:?}").contains(&secret));
        for broken in ["", "# nothing", &text.replace("secret:0", "secret:"), &format!("{text}{text}")] {
            assert_eq!(broken.parse::<SigningKey>().unwrap_err(), KeyError::Secret);
        }
        let misplaced = format!("{SECRET}{secret}").parse::<PublicKey>().unwrap_err();
        assert!(!misplaced.to_string().contains(&secret), "{misplaced}");
    }

    #[test]
    fn malformed_and_weak_public_keys_are_refused() {
        let good = SigningKey::new([1; 32]).public().to_string();
        assert_eq!(good.parse::<PublicKey>().unwrap().to_string(), good);
        let small_order = format!("{PUBLIC}01{}", "00".repeat(31));
        for text in ["", "ed25519:", &good[..70], &good.to_uppercase(), &small_order] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
