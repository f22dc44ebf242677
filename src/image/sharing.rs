//! What machines share, and whom they believe.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oci::Repository;
use crate::trust::{Policy, PublicKey, Requirement};

/// Where built layers are looked for and published beside the store: the table `[cache]`. Repositories are written without tag:
/// `registry.example:5000/team/cache`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CacheSettings {
    /// Repositories of registries that steps are looked up in, the first first. `--cache-from` takes their place.
    #[schemars(with = "Vec<String>")]
    pub from: Vec<Repository>,
    /// The repository that steps are published in after a build. `--cache-to` takes its place.
    #[schemars(with = "Option<String>")]
    pub to: Option<Repository>,
}

/// Whose layers may be used: the table `[trust]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TrustSettings {
    /// The public keys whose signatures count, as `plywood key show` prints them.
    pub keys: BTreeSet<PublicKey>,
    /// If true, a step from a registry needs the signature of one of these keys. A step without one is built here, and a
    /// warning gives the reason. Default: `true` if there are `keys`. With `false`, steps that are not signed, or that other
    /// keys have signed, are used as well, so anybody who may write to the registry can put files into images. A step that was
    /// changed after it was signed is never used.
    pub require: Option<bool>,
    /// The file of the key that published steps are signed with, relative to the project. `--sign-key` takes its place.
    pub sign_with: Option<PathBuf>,
}

impl TrustSettings {
    /// Returns what they say of records from registries.
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
    fn who_names_keys_requires_them_unless_told_otherwise() {
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
    fn repositories_and_keys_are_checked_where_they_are_written() {
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
