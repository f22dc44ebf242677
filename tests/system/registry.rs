//! Registries as they are: Debian's `docker-registry`, skopeo, and a proxy that does to connections what networks do.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::common::fault::{Fault, Proxy};
use crate::common::project::Project;
use crate::common::registry::{Door, ELSEWHERE, PASSWORD, Server, USER};
use crate::common::tunnel::Tunnel;
use plywood::oci::{
    DiffId, Digest, HashingReader, ImageConfig, RawManifest, Repository, TagOrDigest, descriptor,
    image_manifest,
};
use plywood::port::{BlobSource, Direction, Event, Events, How};
use plywood::registry::{
    Access, Client, Credentials, Deletion, HostSettings, Protocol, RegistryError, Remote, Settings,
    TlsTrouble, Transfers, Upload,
};

/// In Go's words.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

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
    let pushed = remote.push_blobs(&[upload], &transfers)?;
    Ok(pushed.first().copied().unwrap_or(How::There))
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

/// Returns settings that trust a guarded registry.
fn guarded(server: &Server) -> Settings {
    let host = HostSettings { ca: Some(server.path().join("ca.crt")), ..HostSettings::default() };
    Settings { hosts: [(server.host(), host)].into(), ..Settings::default() }
}

/// Returns a client that has an account of a guarded registry.
fn known(server: &Server) -> Client {
    Client::new(guarded(server), account(&server.host(), server.path()), Arc::default())
}

/// Returns the test's account for a host, kept in a file in `directory`.
fn account(host: &str, directory: &Path) -> Credentials {
    let config = serde_json::json!({ "auths": { host: { "username": USER, "password": PASSWORD } } });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    Credentials::of_environment(&[("DOCKER_CONFIG".to_owned(), directory.display().to_string())].into())
}

#[test]
fn a_registry_with_tls_and_accounts_wants_both() {
    let server = Server::start(Door::Guarded);
    let settings = guarded(&server);
    let repository = repository(&server, "a");

    let anonymous = client(settings).remote(&repository, Access::Push);
    let error = push(&anonymous, b"x").unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { anonymous: true, .. }), "{error:?}");

    let known = known(&server).remote(&repository, Access::Push);
    assert_eq!(push(&known, b"x").unwrap(), How::Moved);
    assert_eq!(pull(&known, &Digest::of("x"), 1).unwrap(), b"x");
}

#[test]
fn a_registry_that_wants_to_see_a_certificate_is_shown_the_one_for_it() {
    let server = Server::start(Door::Mutual);
    let (repository, at) = (repository(&server, "a"), |name: &str| server.path().join(name));
    let shown = HostSettings {
        ca: Some(at("ca.crt")),
        client: Some((at("client.crt"), at("client.key"))),
        ..HostSettings::default()
    };
    let nothing = HostSettings { client: None, ..shown.clone() };
    let of_host = |host| Settings { hosts: [(server.host(), host)].into(), ..Settings::default() };
    let error = push(&client(of_host(nothing)).remote(&repository, Access::Push), b"x").unwrap_err();
    assert_eq!(error.tls_trouble(), Some(TlsTrouble::Client), "{error:?}");
    assert_eq!(push(&client(of_host(shown)).remote(&repository, Access::Push), b"x").unwrap(), How::Moved);

    // As container engines keep them, under names of their own.
    let kept = at("certs.d").join(server.host());
    std::fs::create_dir_all(&kept).unwrap();
    for (file, name) in [("ca.crt", "lab.crt"), ("client.crt", "me.cert"), ("client.key", "me.key")] {
        std::fs::copy(at(file), kept.join(name)).unwrap();
    }
    let found = Settings { certificates: vec![at("certs.d")], ..Settings::default() };
    assert_eq!(pull(&client(found).remote(&repository, Access::Pull), &Digest::of("x"), 1).unwrap(), b"x");

    let project = Project::new("");
    let keys = ["ca = \"ca.crt\"", "client-cert = \"client.crt\"", "client-key = \"client.key\""].join("\n");
    project.write("plywood.toml", &format!("[registry.\"{}\"]\n{keys}\n", server.host()));
    for name in ["ca.crt", "client.crt", "client.key"] {
        std::fs::copy(at(name), project.path().join(name)).unwrap();
    }
    let said = project.run(&["pull", &format!("{}/a:1", server.host())]).stderr;
    assert!(said.contains("has no image `1`"), "it was let in: {said}");
}

#[test]
fn a_proxy_of_the_environment_leads_to_the_registry() {
    let server = Server::start(Door::Guarded);
    let tunnel = Tunnel::start();
    let proxy = format!("http://me:sesame@{}", tunnel.host());
    let through = |host: &str| {
        let settings = HostSettings { ca: Some(server.path().join("ca.crt")), ..HostSettings::default() };
        let settings = Settings {
            hosts: [(host.to_owned(), settings)].into(),
            environment: [("HTTPS_PROXY".to_owned(), proxy.clone())].into(),
            ..Settings::default()
        };
        let client = Client::new(settings, account(host, server.path()), Arc::default());
        client.remote(&format!("{host}/a").parse().unwrap(), Access::Push)
    };
    let host = format!("{ELSEWHERE}:{}", server.port());
    let remote = through(&host);
    let content = noise(300_000);
    assert_eq!(push(&remote, &content).unwrap(), How::Moved);
    assert!(pull(&remote, &Digest::of(&content), 300_000).unwrap() == content);
    let seen = tunnel.take();
    assert!(!seen.is_empty());
    for head in seen {
        assert_eq!(head[0], format!("CONNECT {host} HTTP/1.1"));
        let text = head.join("\n").to_ascii_lowercase();
        assert!(text.contains("proxy-authorization: basic bwu6c2vzyw1l"), "{text}");
        assert!(!text.contains("\nauthorization:"), "the registry's account is none of its business: {text}");
    }
    // This machine is reached without.
    assert_eq!(push(&through(&server.host()), &content).unwrap(), How::There);
    assert_eq!(tunnel.take(), Vec::<Vec<String>>::new());
}

#[test]
fn plain_http_is_spoken_through_a_proxy_where_that_is_allowed() {
    let server = Server::start(Door::Open);
    let tunnel = Tunnel::start();
    let host = format!("{ELSEWHERE}:{}", server.port());
    let settings = |protocol| Settings {
        hosts: [(host.clone(), HostSettings { protocol, ..HostSettings::default() })].into(),
        environment: [("ALL_PROXY".to_owned(), format!("http://{}", tunnel.host()))].into(),
        ..Settings::default()
    };
    let remote =
        |protocol| client(settings(protocol)).remote(&format!("{host}/a").parse().unwrap(), Access::Push);
    assert_eq!(push(&remote(Protocol::Plain), b"x").unwrap(), How::Moved);
    let error = push(&remote(Protocol::Secure), b"x").unwrap_err();
    assert_eq!(error.tls_trouble(), Some(TlsTrouble::NoTls), "{error:?}");
}

/// A registry, a proxy in front of it, and a repository through that.
struct Bench {
    server: Server,
    proxy: Proxy,
    remote: Remote,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| HostSettings::default())
    }

    fn with(host: impl Fn(&Server) -> HostSettings) -> Self {
        Self::start(host, Duration::from_secs(20))
    }

    fn patient(patience: Duration) -> Self {
        Self::start(|_| HostSettings::default(), patience)
    }

    fn start(host: impl Fn(&Server) -> HostSettings, patience: Duration) -> Self {
        let server = Server::start(Door::Open);
        let proxy = Proxy::start(server.port());
        let hosts = [(proxy.host(), host(&server))].into();
        let settings = Settings { hosts, patience, ..Settings::default() };
        let repository = format!("{}/a", proxy.host()).parse().unwrap();
        Self { remote: client(settings).remote(&repository, Access::Push), server, proxy }
    }

    /// Puts a blob into the registry, past the proxy.
    fn store(&self, content: &[u8]) -> Digest {
        let direct = client(Settings::default()).remote(&repository(&self.server, "a"), Access::Push);
        push(&direct, content).unwrap();
        Digest::of(content)
    }

    fn store_image(&self) -> RawManifest {
        let direct = client(Settings::default()).remote(&repository(&self.server, "a"), Access::Push);
        push(&direct, b"layer").unwrap();
        push(&direct, b"{}").unwrap();
        let manifest = image(b"layer");
        direct.put_manifest(&tag("latest"), &manifest).unwrap();
        manifest
    }
}

fn tag(name: &str) -> TagOrDigest {
    TagOrDigest::Tag(name.to_owned())
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let bench = Bench::new();
    let content = noise(2_000_000);
    let digest = bench.store(&content);
    bench.proxy.hurt("GET", "blobs", Fault::CutAnswer(500_000), 3);
    assert!(pull(&bench.remote, &digest, 2_000_000).unwrap() == content);
    let ranges: Vec<_> = bench.proxy.take().into_iter().map(|seen| seen.range).collect();
    let from = |position: u64| Some(format!("bytes={position}-"));
    assert_eq!(ranges, [None, from(500_000), from(1_000_000), from(1_500_000)]);
}

#[test]
fn a_registry_without_ranges_is_read_past_the_cut() {
    let bench = Bench::new();
    let content = noise(300_000);
    let digest = bench.store(&content);
    bench.proxy.hurt("GET", "blobs", Fault::CutAnswer(100_000), 1);
    bench.proxy.hurt("GET", "blobs", Fault::DropRange, 1);
    assert!(pull(&bench.remote, &digest, 300_000).unwrap() == content);
}

#[test]
fn a_registry_that_cannot_go_on_in_the_middle_is_read_from_the_start() {
    let bench = Bench::new();
    let content = noise(300_000);
    let digest = bench.store(&content);
    const WRONG: [&str; 1] = ["Content-Range: bytes 0-299999/300000"];
    for fault in [Fault::Answer(416, &[], ""), Fault::Answer(206, &WRONG, "x"), Fault::Answer(206, &[], "x")]
    {
        bench.proxy.hurt("GET", "blobs", Fault::CutAnswer(100_000), 1);
        bench.proxy.hurt("GET", "blobs", fault.clone(), 1);
        bench.proxy.hurt("GET", "blobs", Fault::CutAnswer(200_000), 1);
        assert!(pull(&bench.remote, &digest, 300_000).unwrap() == content, "{fault:?}");
        let ranges = bench.proxy.take().iter().filter(|seen| seen.range.is_some()).count();
        assert_eq!(ranges, 1, "it is not asked again for what it cannot do");
    }
}

/// What the registry has under a digest may be less than it should be, and all there is.
#[test]
fn a_blob_that_is_too_short_is_said_to_be() {
    let bench = Bench::new();
    let digest = bench.store(b"content");
    let error = pull(&bench.remote, &digest, 1000).unwrap_err();
    assert!(matches!(error, RegistryError::WrongSize { expected: 1000, found: 7, .. }), "{error:?}");
    let page = Fault::Answer(200, &["Content-Type: text/html"], "<html>log in</html>");
    bench.proxy.hurt("GET", "blobs", page, 1);
    let error = pull(&bench.remote, &digest, 7).unwrap_err();
    assert!(matches!(error, RegistryError::Unexpected { .. }), "{error:?}");
}

/// Its end is not told from a connection that broke.
#[test]
fn an_answer_that_never_ends_is_over_when_all_is_there() {
    let bench = Bench::new();
    let content = noise(300_000);
    let digest = bench.store(&content);
    bench.proxy.hurt("GET", "blobs", Fault::CutEnd, 1);
    assert!(pull(&bench.remote, &digest, 300_000).unwrap() == content);
    assert_eq!(bench.proxy.lines().len(), 1);
}

#[test]
fn a_registry_that_drips_is_given_up() {
    let bench = Bench::patient(Duration::from_secs(2));
    let digest = bench.store(&noise(100_000));
    bench.proxy.hurt("GET", "blobs", Fault::Slow(1), 1);
    let started = Instant::now();
    let error = pull(&bench.remote, &digest, 100_000).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.ends_with("next to nothing came in 2 s"), "{error}: {source}");
}

#[test]
fn what_comes_out_wrong_is_fetched_again_and_never_passed_on() {
    let bench = Bench::new();
    let content = noise(300_000);
    let digest = bench.store(&content);
    for fault in [Fault::Corrupt(123_456), Fault::Short(100_000)] {
        bench.proxy.hurt("GET", "blobs", fault, 1);
        assert!(pull(&bench.remote, &digest, 300_000).unwrap() == content);
        assert_eq!(bench.proxy.lines().len(), 2);
    }
    bench.proxy.hurt("GET", "blobs", Fault::Corrupt(7), usize::MAX);
    let error = pull(&bench.remote, &digest, 300_000).unwrap_err();
    assert!(matches!(error, RegistryError::WrongDigest { .. }), "{error:?}");
    assert_eq!(bench.proxy.lines().len(), 3);
    let error = pull(&bench.remote, &digest, 200_000).unwrap_err();
    assert!(matches!(error, RegistryError::WrongSize { expected: 200_000, .. }), "{error:?}");
}

#[test]
fn a_page_in_place_of_a_blob_is_no_blob() {
    let bench = Bench::new();
    let page = Fault::Answer(200, &["Content-Type: text/html"], "<html>log in</html>");
    bench.proxy.hurt("HEAD", "blobs", page.clone(), 1);
    let error = push(&bench.remote, b"x").unwrap_err();
    assert!(matches!(error, RegistryError::Unexpected { .. }), "{error:?}");
    bench.proxy.take();
    for method in ["GET", "HEAD"] {
        bench.proxy.hurt(method, "manifests", page.clone(), 1);
    }
    let error = bench.remote.get_manifest(&tag("latest")).unwrap_err();
    assert!(matches!(error, RegistryError::Unexpected { .. }), "{error:?}");
    bench.proxy.hurt("GET", "manifests", Fault::Answer(200, &["Content-Type: text/plain"], "hello"), 1);
    let error = bench.remote.get_manifest(&tag("latest")).unwrap_err();
    assert!(matches!(error, RegistryError::NoManifest { .. }), "{error:?}");
    assert!(bench.remote.head_manifest(&tag("latest")).is_err());
}

#[test]
fn manifests_that_are_wrong_are_refused() {
    let bench = Bench::new();
    let manifest = bench.store_image();
    bench.proxy.hurt("GET", "manifests", Fault::Corrupt(20), 1);
    assert_eq!(bench.remote.get_manifest(&tag("latest")).unwrap(), Some(manifest));

    let other = TagOrDigest::Digest(Digest::of("other"));
    let lie = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
    bench.proxy.hurt("GET", "manifests", Fault::Answer(200, &[], lie), usize::MAX);
    let error = bench.remote.get_manifest(&other).unwrap_err();
    assert!(
        matches!(&error, RegistryError::GaveUp { source, .. } if matches!(**source, RegistryError::WrongDigest { .. })),
        "{error:?}"
    );
    bench.proxy.take();

    static LARGE: LazyLock<String> = LazyLock::new(|| " ".repeat((4 << 20) + 1));
    bench.proxy.hurt("GET", "manifests", Fault::Answer(200, &[], &LARGE), 1);
    let error = bench.remote.get_manifest(&tag("latest")).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
}

#[test]
fn a_document_that_would_fill_the_memory_is_not_even_asked_for() {
    let bench = Bench::new();
    let error = pull(&bench.remote, &Digest::of("config"), 1 << 40).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
    assert_eq!(bench.proxy.take(), []);
}

#[test]
fn what_may_get_better_is_tried_again_when_the_registry_says() {
    let bench = Bench::new();
    let manifest = bench.store_image();
    for status in [500, 502, 503] {
        bench.proxy.hurt("GET", "manifests", Fault::Answer(status, &[], ""), 2);
        assert_eq!(bench.remote.get_manifest(&tag("latest")).unwrap().as_ref(), Some(&manifest));
    }
    bench.proxy.hurt("GET", "manifests", Fault::Answer(429, &["Retry-After: 2"], ""), 1);
    let started = Instant::now();
    bench.remote.get_manifest(&tag("latest")).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(2));

    bench.proxy.hurt("GET", "manifests", Fault::Answer(503, &["Retry-After: 3600"], "busy"), 1);
    let error = bench.remote.get_manifest(&tag("latest")).unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert!(error.to_string().starts_with("gave up on reading manifest latest of localhost:"), "{error}");

    bench.proxy.take();
    bench.proxy.hurt(
        "GET",
        "manifests",
        Fault::Answer(403, &[], r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
        1,
    );
    let error = bench.remote.get_manifest(&tag("latest")).unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(bench.proxy.lines().len(), 1, "what is forbidden stays forbidden");
}

#[test]
fn an_upload_whose_acknowledgement_got_lost_has_arrived() {
    let bench = Bench::new();
    let content = noise(1_000_000);
    bench.proxy.hurt("PUT", "blobs/uploads", Fault::LoseAnswer, 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    let methods: Vec<_> =
        bench.proxy.lines().into_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD"]);

    push(&bench.remote, b"layer").unwrap();
    push(&bench.remote, b"{}").unwrap();
    bench.proxy.hurt("PUT", "manifests", Fault::LoseAnswer, 1);
    bench.remote.put_manifest(&tag("latest"), &image(b"layer")).unwrap();
}

#[test]
fn an_upload_that_is_cut_starts_again() {
    let bench = Bench::new();
    let content = noise(3_000_000);
    bench.proxy.hurt("PUT", "blobs/uploads", Fault::CutRequest(1_000_000), 2);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    assert!(pull(&bench.remote, &Digest::of(&content), 3_000_000).unwrap() == content);
}

#[test]
fn an_upload_waits_for_a_registry_that_is_busy_and_believes_no_page() {
    let bench = Bench::new();
    bench.proxy.hurt("POST", "blobs/uploads", Fault::Answer(429, &["Retry-After: 1"], ""), 1);
    bench.proxy.hurt("PUT", "blobs/uploads", Fault::Answer(502, &[], ""), 1);
    let started = Instant::now();
    assert_eq!(push(&bench.remote, &noise(10_000)).unwrap(), How::Moved);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let page = Fault::Answer(201, &["Content-Type: text/html; charset=utf-8"], "<html>log in</html>");
    bench.proxy.hurt("PUT", "blobs/uploads", page, 1);
    let error = push(&bench.remote, b"x").unwrap_err();
    assert!(matches!(error, RegistryError::Unexpected { .. }), "{error:?}");
}

/// Whoever sends all of it first never hears why it was refused.
#[test]
fn a_refusal_of_a_large_upload_is_heard() {
    let bench = Bench::new();
    let content = noise(8_000_000);
    bench.proxy.hurt("PUT", "blobs/uploads", Fault::Deaf(413), 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    let lines = bench.proxy.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("PATCH")).count(), 1, "{lines:?}");
}

#[test]
fn blobs_go_in_pieces_where_they_have_to() {
    let bench = Bench::with(|_| HostSettings { chunk_bytes: Some(1 << 20), ..HostSettings::default() });
    let content = noise(2_500_000);
    bench.proxy.hurt("PATCH", "blobs/uploads", Fault::CutRequest(1000), 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    let pieces = bench.proxy.lines().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(pieces, 4, "one was cut, then three");
    assert!(pull(&bench.remote, &Digest::of(&content), 2_500_000).unwrap() == content);

    let bench = Bench::new();
    bench.proxy.hurt("PUT", "blobs/uploads", Fault::Answer(413, &[], "too large"), 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    let lines = bench.proxy.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("PATCH")).count(), 1, "{lines:?}");
}

#[test]
fn a_registry_without_mounts_gets_the_bytes() {
    let bench = Bench::new();
    let content = noise(10_000);
    bench.store(&content);
    let other = client(Settings::default())
        .remote(&format!("{}/b", bench.proxy.host()).parse().unwrap(), Access::Push);
    for status in [404, 405] {
        bench.proxy.hurt("POST", "mount=", Fault::Answer(status, &[], ""), 1);
        let remote = client(Settings::default())
            .remote(&format!("{}/b{status}", bench.proxy.host()).parse().unwrap(), Access::Push);
        assert_eq!(push_from(&remote, &content, Some(bench.remote.repository())).unwrap(), How::Moved);
    }
    bench.proxy.take();
    assert_eq!(push_from(&other, &content, Some(bench.remote.repository())).unwrap(), How::Mounted);
    let lines = bench.proxy.lines();
    assert!(!lines.iter().any(|line| line.starts_with("PUT")), "{lines:?}");
}

#[test]
fn a_registry_that_takes_no_pieces_gets_the_whole() {
    let bench = Bench::new();
    bench.proxy.hurt("PATCH", "blobs/uploads", Fault::Answer(405, &[], "{}"), usize::MAX);
    let content = noise(2_500_000);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    assert!(pull(&bench.remote, &Digest::of(&content), 2_500_000).unwrap() == content);
}

#[test]
fn what_a_manifest_only_links_to_is_never_fetched() {
    let bench = Bench::new();
    let elsewhere = Proxy::start(bench.server.port());
    // The end of an archive.
    let layer = [0; 1024];
    let digest = Digest::of(layer);
    let config = format!(
        r#"{{"architecture":"{ARCHITECTURE}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    bench.store(config.as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &Digest::of(&config), config.len() as u64),
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "digest": digest,
            "size": layer.len(),
            "urls": [format!("http://{}/v2/a/blobs/{digest}", elsewhere.host())],
        }],
    });
    let served = Fault::Answer(200, &[], manifest.to_string().leak());
    bench.proxy.hurt("GET", "manifests/1", served, usize::MAX);
    let project = Project::new("");
    let pull = || project.run(&["pull", &format!("{}/a:1", bench.proxy.host())]);
    let missing = pull();
    assert_eq!(missing.status, Some(1));
    assert!(
        missing.stderr.contains("is to be fetched from elsewhere, which is not done"),
        "{}",
        missing.stderr
    );
    // A registry may have it all the same.
    bench.store(&layer);
    assert_eq!(pull().status, Some(0));
    assert_eq!(elsewhere.take(), []);
}

#[test]
fn nothing_is_sent_when_all_is_there() {
    let bench = Bench::new();
    let layers: Vec<_> = (0..6u8).map(|number| noise(1000 + usize::from(number))).collect();
    let mut blobs: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let described = blobs.iter().map(|blob| descriptor("a/b", &Digest::of(blob), blob.len() as u64));
    let manifest = image_manifest(b"{}", described.collect(), &Default::default());
    let manifest = RawManifest::new("", manifest).unwrap();
    blobs.push(b"{}");
    let uploads: Vec<_> = blobs
        .iter()
        .map(|blob| Upload {
            digest: Digest::of(blob),
            bytes: blob.len() as u64,
            source: blob,
            mount_from: None,
        })
        .collect();
    let push = || bench.remote.push_image(&tag("latest"), &manifest, &uploads, &Silent).unwrap();
    push();
    bench.proxy.take();
    assert_eq!(push(), manifest.digest());
    let lines = bench.proxy.lines();
    assert!(lines.len() <= layers.len() + 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("HEAD")), "{lines:?}");
}

/// Takes one round trip for the manifest and one for all blobs, where each request takes as long as the slowest.
#[test]
fn what_is_there_is_asked_all_at_once() {
    const LATENCY: Duration = Duration::from_millis(300);
    let bench = Bench::new();
    let blobs: Vec<_> = (0..20u8).map(|number| vec![number; 100]).collect();
    let described = blobs.iter().map(|blob| descriptor("a/b", &Digest::of(blob), 100));
    let manifest = image_manifest(b"{}", described.collect(), &Default::default());
    let manifest = RawManifest::new("", manifest).unwrap();
    let sources: Vec<_> = blobs.iter().map(Vec::as_slice).chain([b"{}".as_slice()]).collect();
    let uploads: Vec<_> = sources
        .iter()
        .map(|source| Upload {
            digest: Digest::of(source),
            bytes: source.len() as u64,
            source,
            mount_from: None,
        })
        .collect();
    let push = || bench.remote.push_image(&tag("latest"), &manifest, &uploads, &Silent).unwrap();
    push();
    bench.proxy.take();
    bench.proxy.hurt("HEAD", "", Fault::Late(LATENCY), usize::MAX);
    let started = Instant::now();
    push();
    assert!(started.elapsed() < 3 * LATENCY, "{:?}", started.elapsed());
    assert!(bench.proxy.lines().len() <= blobs.len() + 3);
}

#[test]
fn a_blob_that_an_image_names_twice_is_sent_once() {
    let bench = Bench::new();
    let content = noise(100_000);
    let (source, digest) = (content.as_slice(), Digest::of(&content));
    let upload = || Upload { digest, bytes: 100_000, source: &source, mount_from: None };
    let transfers = Transfers::start(&Silent, bench.remote.repository(), Direction::Push, [100_000; 3]);
    let pushed = bench.remote.push_blobs(&[upload(), upload(), upload()], &transfers).unwrap();
    assert_eq!(pushed, [How::Moved]);
    assert_eq!(bench.proxy.lines().iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

/// Bytes that come a thousand in a millisecond.
struct Dripping<'a>(&'a [u8]);

impl BlobSource for Dripping<'_> {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(Dripping(&self.0[offset as usize..])))
    }
}

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        let wanted = buffer.len().min(1000);
        self.0.read(&mut buffer[..wanted])
    }
}

/// The slow one would take ten seconds.
#[test]
fn transfers_are_stopped_when_another_one_fails_for_good() {
    let bench = Bench::new();
    let (slow, bad) = (noise(10_000_000), noise(1000));
    let blobs = [&slow, &bad].map(|blob| (Digest::of(blob), blob.len() as u64));
    let transfers = |direction| {
        Transfers::start(&Silent, bench.remote.repository(), direction, blobs.map(|(_, bytes)| bytes))
    };
    let refuse_bad = |method| {
        let refusal = Fault::Answer(403, &["Connection: close"], "");
        bench.proxy.hurt(method, &format!("blobs/{}", blobs[1].0), refusal, 1);
    };
    let failed_soon = |failed: Result<(), RegistryError>, started: Instant| {
        assert!(matches!(failed, Err(RegistryError::Unauthorized { .. })), "{failed:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    };

    refuse_bad("HEAD");
    let sources: [&dyn BlobSource; 2] = [&Dripping(&slow), &bad.as_slice()];
    let upload = |((digest, bytes), source)| Upload { digest, bytes, source, mount_from: None };
    let uploads: Vec<_> = blobs.into_iter().zip(sources).map(upload).collect();
    let started = Instant::now();
    failed_soon(bench.remote.push_blobs(&uploads, &transfers(Direction::Push)).map(drop), started);
    assert_eq!(bench.remote.head_blob(&blobs[0].0).unwrap(), None);

    bench.store(&slow);
    bench.proxy.hurt("GET", &format!("blobs/{}", blobs[0].0), Fault::Slow(1000), 1);
    refuse_bad("GET");
    let (started, transfers) = (Instant::now(), transfers(Direction::Pull));
    let pull = |(digest, bytes): &(Digest, u64)| bench.remote.read_blob(digest, *bytes, &transfers);
    failed_soon(transfers.each(2, &blobs, pull).map(drop), started);
}

#[test]
fn no_other_host_hears_who_asks() {
    let content = noise(1000);
    // One registry redirects to the other, as to a storage.
    let (bench, storage) = (Bench::new(), Bench::new());
    let digest = storage.store(&content);
    let url = format!("http://{}/v2/a/blobs/{digest}", storage.proxy.host());
    bench.proxy.hurt("GET", "blobs", Fault::Answer(401, &["WWW-Authenticate: Basic realm=\"x\""], ""), 1);
    bench.proxy.hurt("GET", "blobs", Fault::Redirect(url), 1);
    let credentials = account(&bench.proxy.host(), bench.server.path());
    let client = Client::new(Settings::default(), credentials, Arc::default());
    let remote = client.remote(bench.remote.repository(), Access::Pull);
    assert!(pull(&remote, &digest, 1000).unwrap() == content);
    let authorized = |proxy: &Proxy| proxy.take().iter().map(|seen| seen.authorized).collect::<Vec<_>>();
    assert_eq!((authorized(&bench.proxy), authorized(&storage.proxy)), (vec![false, true], vec![false]));
}

#[test]
fn no_redirect_leads_out_of_encryption() {
    let bench = Bench::new();
    let digest = bench.store(b"content");
    bench.proxy.hurt("GET", "blobs", Fault::Redirect(format!("http://{ELSEWHERE}/blob")), 1);
    let error = pull(&bench.remote, &digest, 7).unwrap_err();
    assert!(matches!(&error, RegistryError::PlainHttp { host } if host == ELSEWHERE), "{error:?}");
    assert_eq!(bench.proxy.lines().len(), 1, "it is not tried again");
}

/// Returns a manifest that refers to another one.
fn referrer(subject: &RawManifest, kind: &str, number: usize) -> RawManifest {
    let document = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind,
        "config": descriptor("application/vnd.oci.empty.v1+json", &Digest::of("{}"), 2),
        "layers": [descriptor("a/b", &Digest::of("layer"), 5)],
        "subject": descriptor(&subject.media_type, &subject.digest(), subject.bytes.len() as u64),
        "annotations": { "number": number.to_string() },
    });
    RawManifest::new("", document.to_string().into_bytes()).unwrap()
}

#[test]
fn referrers_are_listed_also_where_the_registry_keeps_no_list() {
    let bench = Bench::new();
    let subject = bench.store_image();
    for (number, kind) in ["application/a", "application/b"].into_iter().enumerate() {
        let referrer = referrer(&subject, kind, number);
        for _ in 0..2 {
            bench.remote.put_manifest(&referrer.digest().into(), &referrer).unwrap();
        }
    }
    assert_eq!(bench.remote.referrers(&subject.digest(), None).unwrap().len(), 2);
    let of_kind = bench.remote.referrers(&subject.digest(), Some("application/b")).unwrap();
    let [one] = of_kind.as_slice() else { panic!("{of_kind:?}") };
    assert_eq!(one.annotations().as_ref().unwrap()["number"], "1");
    assert!(bench.remote.referrers(&Digest::of("nobody"), None).unwrap().is_empty());
}

#[test]
fn who_adds_a_referrer_at_the_same_time_as_others_overwrites_none() {
    let bench = Bench::new();
    let subject = bench.store_image();
    // Three programs, each of which writes two at once.
    std::thread::scope(|scope| {
        for program in 0..3 {
            let remote = client(Settings::default()).remote(bench.remote.repository(), Access::Push);
            for number in [2 * program, 2 * program + 1] {
                let (remote, referrer) = (remote.clone(), referrer(&subject, "application/a", number));
                scope.spawn(move || remote.put_manifest(&referrer.digest().into(), &referrer).unwrap());
            }
        }
    });
    assert_eq!(bench.remote.referrers(&subject.digest(), None).unwrap().len(), 6);
}

#[test]
fn tokens_are_fetched_for_what_is_done_and_again_while_a_transfer_runs() {
    let bench = Bench::new();
    let content = noise(1_000_000);
    let digest = bench.store(&content);
    bench.proxy.guard(1);
    bench.proxy.hurt("GET", "blobs", Fault::CutAnswer(300_000), 2);
    assert!(pull(&bench.remote, &digest, 1_000_000).unwrap() == content);
    let seen = bench.proxy.take();
    let tokens: Vec<_> = seen.iter().filter(|seen| seen.line.starts_with("GET /token")).collect();
    assert!(tokens.len() >= 2, "{seen:?}");
    let form = "client_id=plywood&service=test&scope=repository%3Aa%3Apull%2Cpush";
    assert!(tokens.iter().all(|seen| seen.line.ends_with(form) && !seen.authorized), "{tokens:?}");

    // Each of HEAD, POST and PUT finds its token used up.
    assert_eq!(push(&bench.remote, &noise(50_000)).unwrap(), How::Moved);

    let anonymous = bench.remote.clone();
    bench.proxy.hurt("GET", "/token", Fault::Answer(403, &[], r#"{"details":"go away"}"#), 1);
    let error = pull(&anonymous, &digest, 1_000_000).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(matches!(error, RegistryError::NoToken { .. }) && text.contains("go away"), "{text}");
}

#[test]
fn accounts_reach_the_token_service_as_it_wants_them() {
    let bench = Bench::new();
    let digest = bench.store(b"content");
    bench.proxy.guard(100);
    let client = |entry: serde_json::Value| {
        let config = serde_json::json!({ "auths": { bench.proxy.host(): entry } });
        std::fs::write(bench.server.path().join("config.json"), config.to_string()).unwrap();
        let path = bench.server.path().display().to_string();
        let credentials = Credentials::of_environment(&[("DOCKER_CONFIG".to_owned(), path)].into());
        Client::new(Settings::default(), credentials, Arc::default())
    };
    let cases = [
        (serde_json::json!({ "username": USER, "password": PASSWORD }), "GET /token?", true),
        (serde_json::json!({ "identitytoken": "secret" }), "POST /token", false),
    ];
    for (entry, line, authorized) in cases {
        let remote = client(entry).remote(bench.remote.repository(), Access::Pull);
        assert_eq!(pull(&remote, &digest, 7).unwrap(), b"content");
        let seen = bench.proxy.take();
        let token = seen.iter().find(|seen| seen.line.contains("/token")).unwrap();
        assert!(token.line.starts_with(line) && token.authorized == authorized, "{seen:?}");
        assert!(!format!("{seen:?}").contains("secret"), "{seen:?}");
    }
}

#[test]
fn no_credential_is_in_anything_that_is_shown_or_kept() {
    // Name and password as requests carry them.
    const ENCODED: &str = "dGVzdGVyOnBhc3M6d29yZA==";
    let bench = Bench::new();
    bench.store_image();
    bench.proxy.guard(usize::MAX);
    account(&bench.proxy.host(), bench.server.path());
    let project = Project::new("");
    let run = |tag: &str| {
        let reference = format!("{}/a:{tag}", bench.proxy.host());
        let mut command = project.command(&["-v", "pull", "--progress", "json", &reference]);
        let output = command.env("DOCKER_CONFIG", bench.server.path()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let mut shown = vec![run("latest"), run("absent")];
    assert!(bench.proxy.take().iter().filter(|seen| seen.authorized).count() > 4);
    bench.proxy.hurt("GET", "/token", Fault::Answer(401, &[], r#"{"details":"wrong password"}"#), 1);
    shown.push(run("latest"));
    assert!(shown[1].contains("has no image `absent`") && shown[2].contains("wrong password"), "{shown:?}");
    for secret in [PASSWORD, ENCODED, "token-"] {
        assert!(!shown.iter().any(|text| text.contains(secret)), "{secret}: {shown:?}");
    }
    let search = ["-raF", "-e", PASSWORD, "-e", ENCODED];
    let kept = std::process::Command::new("grep").args(search).arg(project.store()).output().unwrap();
    assert_eq!((kept.status.code(), kept.stdout), (Some(1), Vec::new()), "nothing is found");
}

#[test]
fn a_helper_is_asked_for_the_account() {
    let server = Server::start(Door::Guarded);
    let directory = server.path();
    let helper = directory.join("docker-credential-test");
    let answer = format!(r#"{{"ServerURL":"x","Username":"{USER}","Secret":"{PASSWORD}"}}"#);
    let script =
        format!("#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {} ] && echo '{answer}'\n", server.host());
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = serde_json::json!({ "credHelpers": { server.host(): "test" } });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let project = Project::new("");
    project.write("plywood.toml", &format!("[registry.\"{}\"]\nca = \"ca.crt\"\n", server.host()));
    std::fs::copy(directory.join("ca.crt"), project.path().join("ca.crt")).unwrap();
    let pull = |path: &str| {
        let mut command = project.command(&["pull", &format!("{}/a:1", server.host())]);
        command.env("DOCKER_CONFIG", directory).env("PATH", path);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let path = std::env::var("PATH").unwrap();
    let said = pull(&format!("{}:{path}", directory.display()));
    assert!(said.contains("has no image `1`"), "it was let in: {said}");
    let said = pull(&path);
    assert!(said.contains("docker-credential-test") && !said.contains(PASSWORD), "{said}");
    // A program that takes no care: what it says may be a password.
    std::fs::write(&helper, format!("#!/bin/sh\necho '\"{PASSWORD}\"'\n")).unwrap();
    let said = pull(&format!("{}:{path}", directory.display()));
    assert!(said.contains("not what helpers answer") && !said.contains(PASSWORD), "{said}");
}

/// Writes an archive of one file of zeros, which takes no room; returns its size.
fn write_zeros(path: &Path, content: u64) -> u64 {
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_size(content);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    std::fs::write(path, header.as_bytes()).unwrap();
    let bytes = 512 + content.next_multiple_of(512) + 1024;
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
    bytes
}

/// Gives the tag `1` to an image of one layer, whose blob is there.
fn tag_image(remote: &Remote, diff_id: &DiffId, media_type: &str, blob: &Digest, bytes: u64) {
    let mut config = ImageConfig::new(ARCHITECTURE, 0).unwrap();
    config.push_step("layer", &[*diff_id]);
    let config = config.to_bytes();
    push(remote, &config).unwrap();
    let manifest = image_manifest(&config, vec![descriptor(media_type, blob, bytes)], &Default::default());
    remote.put_manifest(&tag("1"), &RawManifest::new("", manifest).unwrap()).unwrap();
}

#[test]
fn a_small_blob_that_holds_more_than_there_is_room_for_is_refused() {
    let server = Server::start(Door::Open);
    let archive = server.path().join("layer.tar");
    write_zeros(&archive, 512 << 20);
    let packed = std::process::Command::new("zstd").arg("-cq").arg(&archive).output();
    let bomb = packed.expect("this test needs the program `zstd`").stdout;
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let remote = client(Settings::default()).remote(&repository(&server, "bomb"), Access::Push);
    push(&remote, &bomb).unwrap();
    let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
    tag_image(&remote, &DiffId::new(Digest::of("any")), kind, &Digest::of(&bomb), bomb.len() as u64);

    let project = crate::common::project::Project::new("");
    std::fs::create_dir_all(project.store()).unwrap();
    let import = project.command(&["import", &format!("{}/bomb:1", server.host()), "bomb"]);
    // A store with little room, which vanishes with the last process that sees it.
    let script = "mount -t tmpfs -o size=64m tmpfs \"$1\"; store=$1; shift
        \"$@\" || echo \"status $?\"; find \"$store/blobs\" \"$store/layers\" \"$store/work\" -type f -size +1k";
    let mut small = std::process::Command::new("unshare");
    small.args(["--mount", "sh", "-ec", script, "sh"]).arg(project.store());
    let run = small.arg(import.get_program()).args(import.get_args()).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "status 1\n", "{said}");
    assert!(said.contains("that there is room for in") && said.contains("store gc"), "{said}");
}

/// The kernel refuses the process more memory than this, stacks of threads included.
const MEMORY_BYTES: u64 = 64 << 20;

#[test]
fn a_layer_that_is_larger_than_memory_goes_both_ways() {
    struct OnDisk(PathBuf);

    impl BlobSource for OnDisk {
        fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + '_>> {
            let mut file = File::open(&self.0)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(Box::new(file))
        }
    }

    let server = Server::start(Door::Open);
    let layer = server.path().join("layer.tar");
    let bytes = write_zeros(&layer, 600_000_256);
    let mut hashing = HashingReader::new(File::open(&layer).unwrap());
    io::copy(&mut hashing, &mut io::sink()).unwrap();
    let digest = hashing.finish().0;

    let remote = client(Settings::default()).remote(&repository(&server, "large"), Access::Push);
    let transfers = Transfers::start(&Silent, remote.repository(), Direction::Push, [bytes]);
    let upload = Upload { digest, bytes, source: &OnDisk(layer), mount_from: None };
    remote.push_blobs(&[upload], &transfers).unwrap();
    tag_image(&remote, &DiffId::new(digest), "application/vnd.oci.image.layer.v1.tar", &digest, bytes);

    let project = Project::new("");
    let limited = |args: &[&str]| {
        let program = project.command(args);
        let mut command = std::process::Command::new("prlimit");
        command.arg(format!("--data={MEMORY_BYTES}")).arg(program.get_program()).args(program.get_args());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let source = format!("{}/large:1", server.host());
    limited(&["pull", &source]);
    // Another registry, which has nothing yet.
    let other = Server::start(Door::Open);
    limited(&["push", &source, &format!("{}/large:1", other.host())]);
    let copy = client(Settings::default()).remote(&repository(&other, "large"), Access::Pull);
    assert_eq!(copy.head_blob(&digest).unwrap(), Some(bytes));
}
