//! Signatures.
//!
//! ```text
//! "plywood signature" NUL version (u32, little endian) purpose NUL statement     what is signed
//! ed25519:<public key, 64 hex digits>:<signature, 128 hex digits>                what is kept
//! ```

use std::fmt;
use std::str::FromStr;

use super::{PublicKey, SigningKey};
use crate::oci::{decode_hex, encode_hex};

/// Version of the signed form.
const VERSION: u32 = 1;

/// What a signature is for. One made for another purpose does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A built step, as it is shared through a registry.
    Step,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Purpose::Step => "step",
        }
    }
}

/// Who signed, and the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
    bytes: [u8; 64],
}

impl Signature {
    /// Signs `statement`. The same statement and key always give the same signature.
    pub fn new(key: &SigningKey, purpose: Purpose, statement: &[u8]) -> Self {
        Self { key: key.public(), bytes: key.sign(&message(purpose, statement)) }
    }

    /// Returns the key that it claims to be made with.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns true if that key has signed `statement` for `purpose`.
    pub fn verifies(&self, purpose: Purpose, statement: &[u8]) -> bool {
        self.key.verifies(&message(purpose, statement), &self.bytes)
    }
}

fn message(purpose: Purpose, statement: &[u8]) -> Vec<u8> {
    [b"plywood signature\0", &VERSION.to_le_bytes()[..], purpose.label().as_bytes(), b"\0", statement]
        .concat()
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, encode_hex(&self.bytes))
    }
}

/// A text that is no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signature: expected `ed25519:`, a public key and a signature in hex digits")]
pub struct SignatureError;

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let (key, bytes) = text.rsplit_once(':').ok_or(SignatureError)?;
        let key = key.parse().map_err(|_| SignatureError)?;
        Ok(Self { key, bytes: decode_hex(bytes).ok_or(SignatureError)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_statement_alone() {
        let key = SigningKey::new([1; 32]);
        let signature = Signature::new(&key, Purpose::Step, b"statement");
        assert!(signature.verifies(Purpose::Step, b"statement"));
        assert!(!signature.verifies(Purpose::Step, b"Statement"));
        let foreign = Signature { key: SigningKey::new([2; 32]).public(), ..signature };
        assert!(!foreign.verifies(Purpose::Step, b"statement"));
        // The bare statement is not what is signed: a signature over another text must not count
        // for a step.
        assert!(
            !Signature { bytes: key.sign(b"statement"), ..signature }.verifies(Purpose::Step, b"statement")
        );
        assert_eq!(signature, Signature::new(&key, Purpose::Step, b"statement"));
    }

    #[test]
    fn the_text_form_round_trips_and_rejects_everything_else() {
        let signature = Signature::new(&SigningKey::new([1; 32]), Purpose::Step, b"statement");
        let text = signature.to_string();
        assert_eq!(text.parse(), Ok(signature));
        for broken in ["", "ed25519:", &text[..text.len() - 1], &text.replace("ed25519", "rsa")] {
            assert_eq!(broken.parse::<Signature>(), Err(SignatureError), "{broken}");
        }
    }
}
