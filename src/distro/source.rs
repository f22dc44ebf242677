//! Where a base's root file system comes from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oci::Digest;

/// Where a base's root file system comes from: one table `[source.<kind>]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSource {
    /// Made by `mmdebstrap`, from the package repositories that the machine's own apt configuration has for these
    /// suites.
    Mmdebstrap(Mmdebstrap),
    /// The image in an OCI layout directory. `digest` is that of its manifest; its layers become the lowest layers.
    OciLayout(StoredFile),
    /// The image in an archive that `docker save` or `skopeo` wrote. `digest` is that of the archive.
    DockerArchive(StoredFile),
    /// A root file system in a tar file, plain or compressed by gzip or zstd. `digest` is that of the file.
    RootfsTar(StoredFile),
    /// An image in plywood's own store, as `plywood import` left it there.
    Stored {
        /// Digest of its manifest.
        #[schemars(with = "String")]
        digest: Digest,
        /// Where it was imported from, if that was a registry: with the digest that the tag had. A store that does not have
        /// the image fetches it from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
}

impl BaseSource {
    /// Returns true if the base comes as layers with an image config, not as a root file system that is made.
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

/// A base made by `mmdebstrap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mmdebstrap {
    /// Which packages are in it beside `include`.
    pub variant: Variant,
    /// Suites of the package repositories. The first is the release itself, the others add to it
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
    /// The same, and all of priority `required`.
    Minbase,
    /// Minbase and `build-essential`.
    Buildd,
    /// Minbase and all of priority `important`.
    Important,
    /// Important and all of priority `standard`.
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

/// A file or directory of the machine whose content is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoredFile {
    /// Where it is; relative paths count from the directory of the definition.
    pub path: PathBuf,
    /// What it has to be: `sha256:` and 64 hex digits.
    #[schemars(with = "String")]
    pub digest: Digest,
}
