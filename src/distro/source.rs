//! The source of a base's root file system.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oci::Digest;

/// The source of a base's root file system: one table `[source.<kind>]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSource {
    /// Bootstrapped by `mmdebstrap`, from the package repositories that the build host's apt
    /// configuration has for these suites.
    Mmdebstrap(Mmdebstrap),
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
    /// Returns true if the base has layers and an image config already.
    pub fn comes_as_layers(&self) -> bool {
        match self {
            BaseSource::Mmdebstrap(_) => false,
            BaseSource::OciLayout(_)
            | BaseSource::DockerArchive(_)
            | BaseSource::RootfsTar(_)
            | BaseSource::Stored { .. } => true,
        }
    }
}

/// A base bootstrapped by `mmdebstrap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
}

fn main_component() -> Vec<String> {
    vec!["main".to_owned()]
}

/// A choice of packages. Source: mmdebstrap(1), "VARIANTS".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// Essential packages and apt.
    Apt,
    /// `apt`, and all packages of priority `required`.
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
