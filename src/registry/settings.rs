//! How each registry is spoken to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::certificate::Certificates;
use crate::oci::{is_loopback, split_port};

/// Where container engines keep certificates for single registries: `<directory>/<host:port>/ca.crt`.
pub const CERTIFICATE_DIRECTORIES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Everything that is not in a request itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is special about some registries, by host and port as references write them.
    pub hosts: BTreeMap<String, HostSettings>,
    /// Where certificates for single registries are looked for, where none are set: the first directory first.
    pub certificates: Vec<PathBuf>,
    /// The caller's environment variable of a name: proxies and certificates.
    pub environment: BTreeMap<String, String>,
    /// How long to go on without any progress.
    pub patience: Duration,
    /// How many blobs move at a time.
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

/// What is special about one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// What it speaks.
    pub protocol: Protocol,
    /// A PEM file with certificate authorities, trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// PEM files with the certificate to show, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Send blobs in pieces of this many bytes. `None`: whole, and in pieces of 64 MiB where the registry finds that
    /// too large.
    pub chunk_bytes: Option<u64>,
}

/// What a registry speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTPS; on this machine plain HTTP.
    #[default]
    Secure,
    /// Plain HTTP: the user said so.
    Plain,
}

impl Settings {
    /// Returns the settings of a host and port.
    pub(super) fn host(&self, host: &str) -> HostSettings {
        self.hosts.get(host).cloned().unwrap_or_default()
    }

    /// Returns the certificates for a host and port.
    pub(super) fn certificates(&self, host: &str) -> Certificates {
        let HostSettings { ca, client, .. } = self.host(host);
        let set = Certificates { authorities: ca.into_iter().collect(), client };
        set.or(Certificates::find(&self.certificates, host))
    }

    /// Returns `http` or `https` for a host and port. A registry on this machine has HTTPS where there are certificates for it.
    pub(super) fn scheme(&self, host: &str) -> &'static str {
        let is_local = || is_loopback(split_port(host).0) && self.certificates(host).is_empty();
        if self.host(host).protocol == Protocol::Plain || is_local() { "http" } else { "https" }
    }

    /// Returns whether what `from` answers may lead to a host and port that is spoken to without encryption. What listens on this
    /// machine is often for its users alone, and no registry elsewhere has any business there.
    pub(super) fn may_lead_to_plain(&self, from: &str, host: &str) -> bool {
        let is_here = |host: &str| is_loopback(split_port(host).0);
        self.host(host).protocol == Protocol::Plain || (is_here(from) && is_here(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_or_where_it_was_asked_for() {
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
