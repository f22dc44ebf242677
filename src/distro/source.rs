//! The source of a base's root file system.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::Architecture;
use crate::oci::Digest;

/// The source of a base's root file system: one table `[source.<kind>]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSource {
    /// Bootstrapped by `mmdebstrap`. The packages come from the mirrors that the caller names
    /// (`DIB_DISTRIBUTION_MIRROR`), else from those in the build host's apt configuration, else
    /// from those named here.
    Mmdebstrap(Mmdebstrap),
    /// Bootstrapped by `dnf`, which plywood runs in a root of its own: the build host needs neither
    /// dnf nor rpm.
    Dnf(Dnf),
    /// The image in an OCI layout directory. `digest` is the digest of its manifest; its layers
    /// become the lowest layers.
    OciLayout(StoredFile),
    /// The image in an archive of `docker save` or `skopeo`. `digest` is the digest of the archive.
    DockerArchive(StoredFile),
    /// A root file system in a tar file, uncompressed or compressed with gzip or zstd. `digest` is
    /// the digest of the file.
    RootfsTar(StoredFile),
    /// An image in plywood's own store, written by `plywood import`.
    Stored {
        /// Digest of its manifest.
        #[schemars(with = "String")]
        digest: Digest,
        /// The registry reference that it was imported from, if any, with the digest of its tag. If
        /// the store lacks the image, plywood fetches it from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
}

impl BaseSource {
    /// Returns the source if it is bootstrapped.
    pub fn mmdebstrap(&self) -> Option<&Mmdebstrap> {
        match self {
            BaseSource::Mmdebstrap(source) => Some(source),
            _ => None,
        }
    }

    /// Returns true if the base has layers and an image config already.
    pub fn comes_as_layers(&self) -> bool {
        match self {
            BaseSource::Mmdebstrap(_) | BaseSource::Dnf(_) => false,
            BaseSource::OciLayout(_)
            | BaseSource::DockerArchive(_)
            | BaseSource::RootfsTar(_)
            | BaseSource::Stored { .. } => true,
        }
    }
}

/// A base bootstrapped by `mmdebstrap`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mmdebstrap {
    /// The packages that it contains besides `include`.
    pub variant: Variant,
    /// Suites of the package repositories. The first is the release itself; the others extend it
    /// (`bookworm-updates`, `bookworm-security`).
    pub suites: Vec<String>,
    /// Components of each suite.
    #[serde(default = "main_component")]
    pub components: Vec<String>,
    /// Further packages.
    #[serde(default)]
    pub include: Vec<String>,
    /// The archive of the distribution. It becomes the image's own package source, whatever mirror
    /// the build uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// The archive of suites whose names end in `-security`, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_mirror: Option<String>,
    /// The archive of all suites for architectures other than `amd64`, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_mirror: Option<String>,
    /// The file on the build host with the keys that sign the archives, unless the build host's
    /// apt configuration or `DIB_APT_KEYRING` names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<PathBuf>,
    /// Hook directories of mmdebstrap, by their names in `/usr/share/mmdebstrap/hooks`. Releases
    /// before Debian 9 and Ubuntu 18.04 need `maybe-jessie-or-older`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
}

impl Mmdebstrap {
    /// Returns all archives that the definition names.
    pub fn archives(&self) -> BTreeSet<&str> {
        let all = [&self.mirror, &self.security_mirror, &self.ports_mirror];
        all.into_iter().flatten().map(String::as_str).collect()
    }

    /// Returns the archive that the definition names for a suite, if any.
    pub fn archive_of(&self, suite: &str, architecture: Architecture) -> Option<&str> {
        let ports = self.ports_mirror.as_ref().filter(|_| architecture != Architecture::Amd64);
        let security = self.security_mirror.as_ref().filter(|_| is_security(suite));
        ports.or(security).or(self.mirror.as_ref()).map(String::as_str)
    }
}

/// Returns true if a suite has the security updates of a release. Before bullseye, Debian's were
/// named `<release>/updates`.
fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

fn main_component() -> Vec<String> {
    vec!["main".to_owned()]
}

/// A choice of packages. Source: mmdebstrap(1), "VARIANTS".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Essential packages and apt.
    Apt,
    /// `apt`, and all packages of priority `required`.
    #[default]
    Minbase,
    /// Minbase and `build-essential`.
    Buildd,
    /// `minbase`, and all packages of priority `important`.
    Important,
    /// `important`, and all packages of priority `standard`.
    Standard,
}

impl Variant {
    /// Returns the value of `--variant`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Variant::Apt => "apt",
            Variant::Minbase => "minbase",
            Variant::Buildd => "buildd",
            Variant::Important => "important",
            Variant::Standard => "standard",
        }
    }
}

/// A base bootstrapped by `dnf`. Packages have to be signed by one of the keys of their repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dnf {
    /// The value of `$releasever`.
    pub releasever: String,
    /// The address that all `path`s of repositories start at. The caller's
    /// `DIB_DISTRIBUTION_MIRROR` takes its place.
    pub mirror: String,
    /// The package repositories.
    #[serde(deserialize_with = "repositories")]
    pub repositories: Vec<Repository>,
    /// The packages of the root file system.
    #[serde(deserialize_with = "package_names")]
    pub packages: Vec<String>,
    /// The platform that modules of packages are built for (`platform:el9`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_platform_id: Option<String>,
    /// The directory of the rpm database in the image. rpm of the build host's tools has another
    /// default.
    #[serde(default = "rpm_database")]
    pub rpm_database: String,
}

fn rpm_database() -> String {
    "/var/lib/rpm".to_owned()
}

/// A repository of rpm packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repository {
    /// Its name in the image's own `/etc/yum.repos.d`, so that a mirror of the caller also serves
    /// later installations.
    #[serde(deserialize_with = "repository_id")]
    pub id: String,
    /// Its place below the mirror. `$basearch` and `$releasever` are replaced.
    pub path: String,
    /// An address that returns mirrors. Used unless the caller names a mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metalink: Option<String>,
    /// The keys that sign its packages, in ASCII armor: files, relative to the directory of the
    /// definition, the keys themselves, or their addresses.
    pub keys: Vec<String>,
    /// The fingerprints of keys that are fetched from addresses. Only these keys are trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fingerprints: Vec<String>,
    /// Whether its index (`repomd.xml`) is signed, too. If it is, the signature has to be right.
    #[serde(default)]
    pub signed_index: bool,
}

fn repositories<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Repository>, D::Error> {
    let repositories = Vec::<Repository>::deserialize(deserializer)?;
    match repositories.is_empty() {
        true => Err(D::Error::custom("a base by dnf needs at least one repository")),
        false => Ok(repositories),
    }
}

/// The name becomes the head of a section in dnf's configuration.
fn repository_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    match !id.is_empty() && id.chars().all(is_plain) {
        true => Ok(id),
        false => Err(D::Error::custom(format!(
            "{id:?} is not the id of a repository: expected letters, digits and `-_.:`"
        ))),
    }
}

/// dnf would take a name that starts with `-` for an option.
fn package_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    match names.iter().find(|name| name.is_empty() || name.starts_with('-')) {
        Some(name) => Err(D::Error::custom(format!("`{name}` is not a valid package name"))),
        None => Ok(names),
    }
}

impl Repository {
    /// Returns the keys that are named by file.
    pub fn key_files(&mut self) -> impl Iterator<Item = &mut String> {
        self.keys.iter_mut().filter(|key| !key.contains(KEY_MARK) && !is_address(key))
    }

    /// Returns the addresses of keys.
    pub fn key_addresses(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str).filter(|key| is_address(key))
    }
}

pub(super) fn is_address(key: &str) -> bool {
    key.starts_with("https://") || key.starts_with("http://")
}

/// The first line of a key in ASCII armor.
pub(super) const KEY_MARK: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// A file or directory of the build host with known content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoredFile {
    /// The path; a relative path starts at the directory of the definition.
    pub path: PathBuf,
    /// The expected digest: `sha256:` and 64 hex digits.
    #[schemars(with = "String")]
    pub digest: Digest,
}
