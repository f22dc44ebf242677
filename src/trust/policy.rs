//! The trusted keys, and the decision about a signature.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::{PublicKey, Purpose, Signature};

/// Decides whether a statement needs a signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Statements without a signature by a trusted key are accepted. A wrong signature is still
    /// refused.
    #[default]
    Optional,
    /// Only statements that a trusted key has signed are accepted.
    Required,
}

/// The trust policy of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    pub keys: BTreeSet<PublicKey>,
    pub requirement: Requirement,
}

/// The reason for rejecting a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "distrust", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Distrust {
    /// The statement has no signature.
    #[error("it is not signed")]
    Unsigned,
    /// The signature has an unknown form.
    #[error("its signature cannot be read")]
    Unreadable,
    /// The signing key is not in the list of trusted keys.
    #[error("it is signed by {key}, which is not trusted")]
    Foreign { key: PublicKey },
    /// The statement differs from the one that the key has signed.
    #[error("its signature by {key} is wrong: it was changed after it was signed")]
    Forged {
        /// The key that the signature claims.
        key: PublicKey,
    },
}

impl Policy {
    /// Verifies `statement`. `signature` is the text of its signature, if it has one.
    ///
    /// # Errors
    /// [`Distrust`] if the policy rejects the statement.
    pub fn judge(&self, purpose: Purpose, statement: &[u8], signature: Option<&str>) -> Result<(), Distrust> {
        match self.verify(purpose, statement, signature) {
            Err(Distrust::Unsigned | Distrust::Foreign { .. })
                if self.requirement == Requirement::Optional =>
            {
                Ok(())
            }
            verdict => verdict,
        }
    }

    fn verify(&self, purpose: Purpose, statement: &[u8], signature: Option<&str>) -> Result<(), Distrust> {
        let text = signature.ok_or(Distrust::Unsigned)?;
        let signature: Signature = text.parse().map_err(|_| Distrust::Unreadable)?;
        let key = *signature.key();
        match signature.verifies(purpose, statement) {
            false => Err(Distrust::Forged { key }),
            true if self.keys.contains(&key) => Ok(()),
            true => Err(Distrust::Foreign { key }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SigningKey;
    use super::*;

    #[test]
    fn a_required_signature_must_be_by_a_trusted_key() {
        use Requirement::{Optional, Required};
        let (ours, theirs) = (SigningKey::new([1; 32]), SigningKey::new([2; 32]));
        let sign = |key: &SigningKey, text: &[u8]| Signature::new(key, Purpose::Step, text).to_string();
        let (good, foreign, forged) = (sign(&ours, b"it"), sign(&theirs, b"it"), sign(&ours, b"other"));
        let (ours, theirs) = (ours.public(), theirs.public());
        for (signature, required, optional) in [
            (Some(good.as_str()), None, None),
            (None, Some(Distrust::Unsigned), None),
            (Some(&foreign), Some(Distrust::Foreign { key: theirs }), None),
            (Some(&forged), Some(Distrust::Forged { key: ours }), Some(Distrust::Forged { key: ours })),
            (Some("nonsense"), Some(Distrust::Unreadable), Some(Distrust::Unreadable)),
        ] {
            for (requirement, expected) in [(Required, required), (Optional, optional)] {
                let policy = Policy { keys: [ours].into(), requirement };
                let verdict = policy.judge(Purpose::Step, b"it", signature);
                assert_eq!(verdict.err(), expected, "{signature:?} {requirement:?}");
            }
        }
    }

    #[test]
    fn a_required_signature_without_trusted_keys_rejects_everything() {
        let key = SigningKey::new([1; 32]);
        let signature = Signature::new(&key, Purpose::Step, b"it").to_string();
        let policy = Policy { requirement: Requirement::Required, ..Policy::default() };
        let verdict = policy.judge(Purpose::Step, b"it", Some(&signature));
        assert_eq!(verdict, Err(Distrust::Foreign { key: key.public() }));
    }
}
