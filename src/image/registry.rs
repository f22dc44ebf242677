//! Connections to registries.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of one registry: a table `[registry."<host>:<port>"]`. Without a table, plywood
/// uses HTTPS, or plain HTTP if the registry is on the build host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RegistrySettings {
    /// Use plain HTTP, which shows credentials and content to everyone on the network path.
    pub insecure: bool,
    /// A PEM file with certificate authorities to trust in addition to the system's, relative to
    /// the project.
    pub ca: Option<PathBuf>,
    /// A PEM file with the client certificate to present, relative to the project. Needs
    /// `client-key`.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with the key of `client-cert`, without password.
    pub client_key: Option<PathBuf>,
    /// Upload blobs in pieces of this many MiB, at least 1. Default: whole blobs, or pieces of 64
    /// MiB if the registry rejects a blob as too large.
    #[schemars(range(min = 1))]
    pub chunk_mib: Option<u32>,
}
