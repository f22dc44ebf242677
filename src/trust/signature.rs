//! Signatures.
//!
//! ```text
//! "plywood signature" NUL version (u32, little endian) purpose NUL statement     signed bytes
//! ed25519:<public key, 64 hex digits>:<signature, 128 hex digits>                text form
//! ```

use std::fmt;
use std::str::FromStr;

use super::{PublicKey, SigningKey};
use crate::oci::{decode_hex, encode_hex};

/// Version of the signed form.
const VERSION: u32 = 1;

/// The purpose of a signature. A signature for another purpose does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A published step.
    Step,
}

impl Purpose {
    const fn label(self) -> &'static str {
        match self {
            Purpose::Step => "step",
        }
    }
}

/// A signature and the key that it claims.
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

    /// Returns the key that the signature claims. Only [`Signature::verifies`] checks the claim.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns true if the key has signed `statement` for `purpose`.
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

/// A text that is not a signature.
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
        // A signature over the bare statement, without the label of the purpose, does not verify.
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
