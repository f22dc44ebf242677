//! How registries are spoken to.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is special about one registry: a table `[registry."<host>:<port>"]`. A registry without a table is spoken to by HTTPS, or
/// by plain HTTP if it is on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RegistrySettings {
    /// Speak plain HTTP, which shows credentials and content to everybody on the way.
    pub insecure: bool,
    /// A PEM file with certificate authorities to trust beside the system's, relative to the project.
    pub ca: Option<PathBuf>,
    /// A PEM file with the certificate to show, relative to the project. Needs `client-key`.
    pub client_cert: Option<PathBuf>,
    /// A PEM file with the key of `client-cert`, without password.
    pub client_key: Option<PathBuf>,
    /// Send blobs in pieces of this many MiB, at least 1. Default: whole, and in pieces of 64 MiB where the registry finds that too
    /// large.
    #[schemars(range(min = 1))]
    pub chunk_mib: Option<u32>,
}
