//! Whose signatures count.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::{PublicKey, Purpose, Signature};

/// Whether a statement needs a good signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Statements without a signature are accepted. A signature that is there must still be right.
    #[default]
    Optional,
    /// A statement counts only if a trusted key has signed it.
    Required,
}

/// Which keys are trusted, and whether one of them has to have signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The trusted keys.
    pub keys: BTreeSet<PublicKey>,
    /// Whether one of them has to have signed.
    pub requirement: Requirement,
}

/// Why nobody vouches for a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "distrust", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Distrust {
    /// It has no signature.
    #[error("it is not signed")]
    Unsigned,
    /// The signature has no form that is known.
    #[error("its signature cannot be read")]
    Unreadable,
    /// The signing key is not in the list of trusted keys.
    #[error("it is signed by {key}, which is not trusted")]
    Foreign {
        /// The key.
        key: PublicKey,
    },
    /// The statement is not what the key has signed.
    #[error("its signature by {key} is wrong: it was changed after it was signed")]
    Forged {
        /// The key that the signature claims.
        key: PublicKey,
    },
}

impl Policy {
    /// Decides whether `statement` is believed. `signature` is the text of its signature, if it has one.
    ///
    /// # Errors
    /// [`Distrust`] if it is not.
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
    fn a_policy_says_who_is_believed() {
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
            (Some("what"), Some(Distrust::Unreadable), Some(Distrust::Unreadable)),
        ] {
            for (requirement, expected) in [(Required, required), (Optional, optional)] {
                let policy = Policy { keys: [ours].into(), requirement };
                let verdict = policy.judge(Purpose::Step, b"it", signature);
                assert_eq!(verdict.err(), expected, "{signature:?} {requirement:?}");
            }
        }
    }

    #[test]
    fn who_trusts_nobody_and_requires_a_signature_believes_nothing() {
        let key = SigningKey::new([1; 32]);
        let signature = Signature::new(&key, Purpose::Step, b"it").to_string();
        let policy = Policy { requirement: Requirement::Required, ..Policy::default() };
        let verdict = policy.judge(Purpose::Step, b"it", Some(&signature));
        assert_eq!(verdict, Err(Distrust::Foreign { key: key.public() }));
    }
}
