//! A registry, a proxy in front of it, and helpers for tests of the client.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fault::Proxy;
use super::registry::{PASSWORD, USER};
use plywood::oci::{Digest, RawManifest, Repository, TagOrDigest, descriptor, image_manifest};
use plywood::port::{Direction, Event, Events, How};
use plywood::registry::{
    Access, Client, Credentials, HostSettings, RegistryError, Remote, Settings, Transfers, Upload,
};

/// A registry without accounts: Debian's in system tests, else one in this process.
#[cfg(feature = "system-tests")]
pub(crate) use super::registry::Server;
#[cfg(not(feature = "system-tests"))]
pub(crate) use super::small_registry::Server;

/// The architecture of this machine, by Go's name.
pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Ignores all events.
pub(crate) struct Silent;

impl Events for Silent {
    fn emit(&self, _: Event<'_>) {}
}

/// Returns a client without an account.
pub(crate) fn client(settings: Settings) -> Client {
    Client::new(settings, Credentials::default(), Arc::default())
}

/// Returns a repository of a registry.
pub(crate) fn repository(server: &Server, name: &str) -> Repository {
    format!("{}/{name}", server.host()).parse().unwrap()
}

/// Uploads a blob. Returns how the registry got it.
pub(crate) fn push(remote: &Remote, content: &[u8]) -> Result<How, RegistryError> {
    push_from(remote, content, None)
}

/// Uploads a blob that another repository may have. Returns how the registry got it.
pub(crate) fn push_from(
    remote: &Remote,
    content: &[u8],
    mount_from: Option<&Repository>,
) -> Result<How, RegistryError> {
    let bytes = content.len() as u64;
    let transfers = Transfers::start(&Silent, remote.repository(), Direction::Push, [bytes]);
    let upload = Upload { digest: Digest::of(content), bytes, source: &content, mount_from };
    let pushed = remote.push_blobs(&[upload], &transfers)?;
    Ok(pushed.first().copied().unwrap_or(How::There))
}

/// Downloads a blob.
pub(crate) fn pull(remote: &Remote, digest: &Digest, bytes: u64) -> Result<Vec<u8>, RegistryError> {
    let transfers = Transfers::start(&Silent, remote.repository(), Direction::Pull, [bytes]);
    remote.read_blob(digest, bytes, &transfers)
}

/// Returns incompressible bytes, always the same.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(bytes).collect()
}

/// Returns the manifest of an image of one layer and an empty config.
pub(crate) fn image(layer: &[u8]) -> RawManifest {
    let layer = descriptor("application/octet-stream", &Digest::of(layer), layer.len() as u64);
    let bytes = image_manifest(b"{}", vec![layer], &Default::default());
    RawManifest::new("", bytes).unwrap()
}

/// Returns the test's account for a host, from a file in `directory`.
pub(crate) fn account(host: &str, directory: &Path) -> Credentials {
    let config = serde_json::json!({ "auths": { host: { "username": USER, "password": PASSWORD } } });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    Credentials::of_environment(&[("DOCKER_CONFIG".to_owned(), directory.display().to_string())].into())
}

/// A registry, a proxy in front of it, and a repository through the proxy.
pub(crate) struct Bench {
    pub server: Server,
    /// The proxy in front of the registry.
    pub proxy: Proxy,
    /// A repository, through the proxy.
    pub remote: Remote,
}

impl Bench {
    /// Starts registry and proxy.
    pub(crate) fn new() -> Self {
        Self::with(|_| HostSettings::default())
    }

    /// Starts registry and proxy, with settings for the host of the proxy.
    pub(crate) fn with(host: impl Fn(&Server) -> HostSettings) -> Self {
        Self::start(host, Duration::from_secs(20))
    }

    /// Starts registry and proxy. The client gives up after `patience`.
    pub(crate) fn patient(patience: Duration) -> Self {
        Self::start(|_| HostSettings::default(), patience)
    }

    fn start(host: impl Fn(&Server) -> HostSettings, patience: Duration) -> Self {
        let server = Server::open();
        let proxy = Proxy::start(server.port());
        let hosts = [(proxy.host(), host(&server))].into();
        let settings = Settings { hosts, patience, ..Settings::default() };
        let repository = format!("{}/a", proxy.host()).parse().unwrap();
        Self { remote: client(settings).remote(&repository, Access::Push), server, proxy }
    }

    /// Stores a blob in the registry without the proxy.
    pub(crate) fn store(&self, content: &[u8]) -> Digest {
        let direct = client(Settings::default()).remote(&repository(&self.server, "a"), Access::Push);
        push(&direct, content).unwrap();
        Digest::of(content)
    }

    /// Stores an image in the registry as `latest`, without the proxy.
    pub(crate) fn store_image(&self) -> RawManifest {
        let direct = client(Settings::default()).remote(&repository(&self.server, "a"), Access::Push);
        push(&direct, b"layer").unwrap();
        push(&direct, b"{}").unwrap();
        let manifest = image(b"layer");
        direct.put_manifest(&tag("latest"), &manifest).unwrap();
        manifest
    }
}

/// Returns a tag.
pub(crate) fn tag(name: &str) -> TagOrDigest {
    TagOrDigest::Tag(name.parse().unwrap())
}
