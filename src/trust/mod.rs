//! Whose word counts: keys, signatures, and the policy of a project.
//!
//! ```text
//! key        ed25519 keys and their text forms
//! signature  a statement, signed for one purpose
//! policy     a statement and its signature -> the key that counts, or the reason for distrust
//! ```
//!
//! What is signed is a text of a fixed form behind a label that says what it is for: a signature made for one purpose is none
//! for another.
//!
//! Source: RFC 8032, "Edwards-Curve Digital Signature Algorithm (EdDSA)"; verified as "Taming the many EdDSAs" (2020) advises:
//! no small-order keys, one encoding of each signature.

mod key;
mod policy;
mod signature;

pub use key::{KeyError, PublicKey, SigningKey};
pub use policy::{Distrust, Policy, Requirement};
pub use signature::{Purpose, Signature};
