//! Keys, signatures, and the trust policy of a project.
//!
//! ```text
//! key        ed25519 keys and their text forms
//! signature  a statement, signed for one purpose
//! policy     a statement and its signature -> accepted, or the reason for distrust
//! ```
//!
//! The signed bytes begin with a label of the purpose, so that a signature for one purpose does not
//! verify for another.
//!
//! Source: RFC 8032, "Edwards-Curve Digital Signature Algorithm (EdDSA)". Verification follows
//! "Taming the many EdDSAs" (2020): it rejects small-order keys, and accepts one encoding of each
//! signature.

mod key;
mod policy;
mod signature;

pub use key::{KeyError, PublicKey, SigningKey};
pub use policy::{Distrust, Policy, Requirement};
pub use signature::{Purpose, Signature};
