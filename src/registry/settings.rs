//! Settings of the client and of single registries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::certificate::Certificates;
use crate::oci::{is_loopback, split_port};

/// The directories in which container engines keep certificates for single registries:
/// `<directory>/<host:port>/ca.crt`.
pub const CERTIFICATE_DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Settings of single registries, by host and port as in references.
    pub hosts: BTreeMap<String, HostSettings>,
    /// Directories with certificates of registries, used if `hosts` has none. They are searched in
    /// order.
    pub certificates: Vec<PathBuf>,
    /// The caller's environment, for the variables of proxies and certificates.
    pub environment: BTreeMap<String, String>,
    /// Longest time without progress before a request is given up.
    pub patience: Duration,
    /// Number of concurrent transfers of blobs.
    pub jobs: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            certificates: CERTIFICATE_DIRECTORIES.map(PathBuf::from).into(),
            environment: BTreeMap::new(),
            patience: Duration::from_secs(120),
            jobs: 4,
        }
    }
}

/// Settings of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSettings {
    pub protocol: Protocol,
    /// A PEM file with authorities that are trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// PEM files with the client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Size of pieces in bytes. `None`: blobs are uploaded whole, or in pieces of 64 MiB once the
    /// registry has refused a whole one as too large.
    pub chunk_bytes: Option<u64>,
}

/// The protocol of a registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTPS; plain HTTP for loopback addresses.
    #[default]
    Secure,
    /// Plain HTTP, because the user has set `insecure = true`.
    Plain,
}

impl Settings {
    pub(super) fn host(&self, host: &str) -> HostSettings {
        self.hosts.get(host).cloned().unwrap_or_default()
    }

    /// Returns the certificates for a host and port: those of its settings, otherwise those of the
    /// directories.
    pub(super) fn certificates(&self, host: &str) -> Certificates {
        let HostSettings { ca, client, .. } = self.host(host);
        let set = Certificates { authorities: ca.into_iter().collect(), client };
        set.or(Certificates::find(&self.certificates, host))
    }

    /// Returns `http` or `https` for a host and port. A registry on a loopback address uses HTTPS
    /// if there are certificates for it.
    pub(super) fn scheme(&self, host: &str) -> &'static str {
        let is_local = || is_loopback(split_port(host).0) && self.certificates(host).is_empty();
        if self.host(host).protocol == Protocol::Plain || is_local() { "http" } else { "https" }
    }

    /// Returns true if an answer of `from` may lead to `host` over plain HTTP. Loopback addresses
    /// are allowed only for registries on loopback addresses: a remote registry must not make
    /// plywood send requests to local services, which often trust every local user.
    pub(super) fn may_lead_to_plain(&self, from: &str, host: &str) -> bool {
        let is_here = |host: &str| is_loopback(split_port(host).0);
        self.host(host).protocol == Protocol::Plain || (is_here(from) && is_here(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_used_for_loopback_and_for_insecure_hosts() {
        let plain = HostSettings { protocol: Protocol::Plain, ..HostSettings::default() };
        let ca = HostSettings { ca: Some("ca.crt".into()), ..HostSettings::default() };
        let hosts = [("lab.example:5000", plain), ("localhost:5443", ca)];
        let hosts = hosts.map(|(host, settings)| (host.to_owned(), settings)).into();
        let settings = Settings { hosts, ..Settings::default() };
        let cases = [
            ("registry.example", "https", false, false),
            ("lab.example:5000", "http", true, true),
            ("lab.example", "https", false, false),
            ("localhost:5000", "http", true, false),
            ("[::1]:5000", "http", true, false),
            ("localhost:5443", "https", true, false),
            ("127.0.0.1.example:5000", "https", false, false),
        ];
        for (host, scheme, from_here, from_elsewhere) in cases {
            let leads = |from| settings.may_lead_to_plain(from, host);
            let found = (settings.scheme(host), leads("127.0.0.1"), leads("registry.example"));
            assert_eq!(found, (scheme, from_here, from_elsewhere), "{host}");
        }
    }
}
