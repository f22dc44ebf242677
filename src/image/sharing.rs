//! Sharing built steps between hosts, and the keys to trust.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oci::Repository;
use crate::trust::{Policy, PublicKey, Requirement};

/// Registries in which built layers are looked up and published, in addition to the store: the
/// table `[cache]`. Repositories are written without tag: `registry.example:5000/team/cache`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CacheSettings {
    /// The repositories in which steps are looked up, in order. `--cache-from` replaces them.
    #[schemars(with = "Vec<String>")]
    pub from: Vec<Repository>,
    /// The repository to which steps are published after a build. `--cache-to` replaces it.
    #[schemars(with = "Option<String>")]
    pub to: Option<Repository>,
}

/// The keys whose layers plywood uses: the table `[trust]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TrustSettings {
    /// The public keys whose signatures are trusted, as `plywood key show` prints them.
    pub keys: BTreeSet<PublicKey>,
    /// If true, a step from a registry needs the signature of one of these keys. A step without
    /// such a signature is built here, and a warning gives the reason. Default: `true` if there are
    /// `keys`. With `false`, steps that are unsigned, or signed by other keys, are used as well, so
    /// everyone who may write to the registry can put files into images. A step that was changed
    /// after it was signed is never used.
    pub require: Option<bool>,
    /// The file of the key that signs published steps, relative to the project. `--sign-key`
    /// replaces it.
    pub sign_with: Option<PathBuf>,
}

impl TrustSettings {
    /// Returns the policy for records from registries.
    pub fn policy(&self) -> Policy {
        let requirement = match self.require.unwrap_or(!self.keys.is_empty()) {
            true => Requirement::Required,
            false => Requirement::Optional,
        };
        Policy { keys: self.keys.clone(), requirement }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Project;
    use crate::trust::SigningKey;

    #[test]
    fn keys_require_signatures_unless_require_is_false() {
        let key = SigningKey::new([1; 32]).public();
        for (text, expected) in [
            (String::new(), Requirement::Optional),
            (format!("keys = ['{key}']"), Requirement::Required),
            (format!("keys = ['{key}']\nrequire = false"), Requirement::Optional),
            ("require = true".to_owned(), Requirement::Required),
        ] {
            let settings: TrustSettings = toml::from_str(&text).unwrap();
            assert_eq!(settings.policy().requirement, expected, "{text}");
        }
    }

    #[test]
    fn invalid_repositories_and_keys_are_rejected_with_their_line() {
        for (text, reason) in [
            ("[cache]\nfrom = ['r.example/cache:tag']", "without tag"),
            ("[cache]\nto = 'r.example/Cache'", "is not a reference"),
            ("[trust]\nkeys = ['ed25519:00']", "is not a public key"),
        ] {
            let error = toml::from_str::<Project>(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let project: Project =
            toml::from_str("[cache]\nfrom = ['localhost:5000/a']\nto = 'r.example/b'").unwrap();
        assert_eq!(project.cache.from[0].to_string(), "localhost:5000/a");
        assert_eq!(project.cache.to.unwrap().to_string(), "r.example/b");
    }
}
