//! Registries as they are: Debian's `docker-registry`, skopeo, and a proxy that does to connections what networks do.

#![cfg(feature = "system-tests")]

mod common;

use std::sync::Arc;

use common::registry::{Door, PASSWORD, Server, USER};
use plywood::oci::{Digest, RawManifest, Repository, TagOrDigest, descriptor, image_manifest};
use plywood::port::{Direction, Event, Events, How};
use plywood::registry::{
    Access, Client, Credentials, Deletion, HostSettings, RegistryError, Remote, Settings, Transfers, Upload,
};

struct Silent;

impl Events for Silent {
    fn emit(&self, _: Event<'_>) {}
}

fn client(settings: Settings) -> Client {
    Client::new(settings, Credentials::default(), Arc::default())
}

fn repository(server: &Server, name: &str) -> Repository {
    format!("{}/{name}", server.host()).parse().unwrap()
}

fn push(remote: &Remote, content: &[u8]) -> Result<How, RegistryError> {
    push_from(remote, content, None)
}

fn push_from(remote: &Remote, content: &[u8], mount_from: Option<&Repository>) -> Result<How, RegistryError> {
    let bytes = content.len() as u64;
    let transfers = Transfers::start(&Silent, remote.repository(), Direction::Push, [bytes]);
    let upload = Upload { digest: Digest::of(content), bytes, source: &content, mount_from };
    remote.push_blob(&upload, &transfers)
}

fn pull(remote: &Remote, digest: &Digest, bytes: u64) -> Result<Vec<u8>, RegistryError> {
    let transfers = Transfers::start(&Silent, remote.repository(), Direction::Pull, [bytes]);
    remote.read_blob(digest, bytes, &transfers)
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(bytes).collect()
}

fn image(layer: &[u8]) -> RawManifest {
    let layer = descriptor("application/octet-stream", &Digest::of(layer), layer.len() as u64);
    let bytes = image_manifest(b"{}", vec![layer], &Default::default());
    RawManifest::new("", bytes).unwrap()
}

#[test]
fn blobs_manifests_and_tags_go_there_and_come_back() {
    let server = Server::start(Door::Open);
    let client = client(Settings::default());
    let remote = client.remote(&repository(&server, "a/b"), Access::Delete);
    let layer = noise(3_000_000);
    let digest = Digest::of(&layer);
    assert_eq!(remote.head_blob(&digest).unwrap(), None);
    assert_eq!(push(&remote, &layer).unwrap(), How::Moved);
    assert_eq!(push(&remote, &layer).unwrap(), How::There);
    assert_eq!(remote.head_blob(&digest).unwrap(), Some(3_000_000));
    assert!(pull(&remote, &digest, 3_000_000).unwrap() == layer);

    assert_eq!(push(&remote, b"{}").unwrap(), How::Moved);
    let manifest = image(&layer);
    for tag in ["one", "two"] {
        let tag = TagOrDigest::Tag(tag.to_owned());
        assert_eq!(remote.get_manifest(&tag).unwrap(), None);
        assert_eq!(remote.head_manifest(&tag).unwrap(), None);
        assert_eq!(remote.put_manifest(&tag, &manifest).unwrap(), manifest.digest());
        assert_eq!(remote.get_manifest(&tag).unwrap().as_ref(), Some(&manifest));
        assert_eq!(remote.head_manifest(&tag).unwrap(), Some(manifest.digest()));
    }
    assert_eq!(remote.tags().unwrap(), ["one", "two"]);

    let other = client.remote(&repository(&server, "other"), Access::Push);
    assert_eq!(push_from(&other, &layer, Some(remote.repository())).unwrap(), How::Mounted);
    assert_eq!(remote.delete_manifest(&manifest.digest()).unwrap(), Deletion::Deleted);
    assert_eq!(remote.delete_manifest(&manifest.digest()).unwrap(), Deletion::Missing);
    assert_eq!(remote.tags().unwrap(), [""; 0]);
}

#[test]
fn a_registry_with_tls_and_accounts_wants_both() {
    let server = Server::start(Door::Guarded);
    let host = HostSettings { ca: Some(server.path().join("ca.crt")), ..HostSettings::default() };
    let hosts = [(server.host(), host)].into();
    let settings = Settings { hosts, ..Settings::default() };
    let repository = repository(&server, "a");

    let anonymous = client(settings.clone()).remote(&repository, Access::Push);
    let error = push(&anonymous, b"x").unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { anonymous: true, .. }), "{error:?}");

    let config =
        serde_json::json!({ "auths": { server.host(): { "username": USER, "password": PASSWORD } } });
    std::fs::write(server.path().join("config.json"), config.to_string()).unwrap();
    let environment = [("DOCKER_CONFIG".to_owned(), server.path().display().to_string())].into();
    let credentials = Credentials::of_environment(&environment);
    let known = Client::new(settings, credentials, Arc::default()).remote(&repository, Access::Push);
    assert_eq!(push(&known, b"x").unwrap(), How::Moved);
    assert_eq!(pull(&known, &Digest::of("x"), 1).unwrap(), b"x");
}
