//! Tests of the client with a registry: authentication, manifests, lists, redirects.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::common::bench::{
    ARCHITECTURE, Bench, Server, account, client, image, noise, pull, push, push_from, repository, tag,
};
use crate::common::fault::{Fault, Proxy};
use crate::common::project::Project;
use crate::common::registry::{ELSEWHERE, PASSWORD, USER};
use crate::common::tunnel::Tunnel;
use plywood::oci::{Digest, RawManifest, Tag, TagOrDigest, descriptor};
use plywood::port::How;
use plywood::registry::{
    Access, Client, Credentials, Deletion, HostSettings, Protocol, RegistryError, Remote, Settings,
    TlsTrouble,
};

#[test]
fn blobs_manifests_and_tags_can_be_pushed_and_pulled() {
    let server = Server::open();
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
        let tag = TagOrDigest::Tag(tag.parse().unwrap());
        assert_eq!(remote.get_manifest(&tag).unwrap(), None);
        assert_eq!(remote.head_manifest(&tag).unwrap(), None);
        assert_eq!(remote.put_manifest(&tag, &manifest).unwrap(), manifest.digest());
        assert_eq!(remote.get_manifest(&tag).unwrap().as_ref(), Some(&manifest));
        assert_eq!(remote.head_manifest(&tag).unwrap(), Some(manifest.digest()));
    }
    assert_eq!(tags(&remote), ["one", "two"]);

    let other = client.remote(&repository(&server, "other"), Access::Push);
    assert_eq!(push_from(&other, &layer, Some(remote.repository())).unwrap(), How::Mounted);
    assert_eq!(remote.delete_manifest(&manifest.digest()).unwrap(), Deletion::Deleted);
    assert_eq!(remote.delete_manifest(&manifest.digest()).unwrap(), Deletion::Missing);
    assert_eq!(tags(&remote), [""; 0]);
}

/// Returns the tags as text.
fn tags(remote: &Remote) -> Vec<String> {
    remote.tags().unwrap().iter().map(Tag::to_string).collect()
}

/// Tags beyond the end of such a list would be missing silently.
#[test]
fn a_list_of_tags_that_does_not_end_is_refused() {
    let bench = Bench::new();
    let page = Fault::Answer(
        200,
        &["Content-Type: application/json", "Link: </v2/a/tags/list?last=x>; rel=\"next\""],
        r#"{"tags": ["x"]}"#,
    );
    bench.proxy.hurt("GET", "tags/list", page, usize::MAX);
    let error = bench.remote.tags().unwrap_err();
    assert!(error.to_string().contains("lead back to an earlier one"), "{error}");
    assert_eq!(bench.proxy.lines().len(), 2);
}

#[test]
fn an_unreachable_proxy_is_named() {
    let host = format!("{ELSEWHERE}:5000");
    let error = |proxy: &str| {
        let environment = [("HTTPS_PROXY".to_owned(), proxy.to_owned())].into();
        let settings = Settings { environment, patience: Duration::ZERO, ..Settings::default() };
        let remote = client(settings).remote(&format!("{host}/a").parse().unwrap(), Access::Pull);
        let error = remote.tags().unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
    };
    let port = crate::common::registry::free_port();
    let dead = error(&format!("http://me:sesame@127.0.0.1:{port}"));
    assert!(dead.contains(&format!("through the proxy 127.0.0.1:{port}, which HTTPS_PROXY names")), "{dead}");
    assert!(!dead.contains("sesame"), "{dead}");
    let unknown = error("socks5://127.0.0.1:1");
    assert!(unknown.contains("cannot use the proxy in the variable `HTTPS_PROXY`"), "{unknown}");
}

#[test]
fn plain_http_goes_through_a_proxy_if_the_host_allows_it() {
    let server = Server::open();
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

#[test]
fn a_page_instead_of_a_blob_is_refused() {
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
fn transient_failures_are_retried_after_the_time_that_the_registry_names() {
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
    assert!(error.to_string().starts_with("gave up reading manifest latest of localhost:"), "{error}");

    bench.proxy.take();
    bench.proxy.hurt(
        "GET",
        "manifests",
        Fault::Answer(403, &[], r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
        1,
    );
    let error = bench.remote.get_manifest(&tag("latest")).unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
    assert_eq!(bench.proxy.lines().len(), 1, "a refusal is not retried");
}

#[test]
fn a_layer_is_never_fetched_from_the_urls_of_a_manifest() {
    let bench = Bench::new();
    let elsewhere = Proxy::start(bench.server.port());
    // An empty archive.
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
        missing.stderr.contains("is stored outside of the registry, and plywood does not fetch such layers"),
        "{}",
        missing.stderr
    );
    // A registry may have the blob in spite of its media type.
    bench.store(&layer);
    assert_eq!(pull().status, Some(0));
    assert_eq!(elsewhere.take(), []);
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let content = noise(1000);
    // One registry redirects to the other, which plays a storage server.
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
fn redirects_from_tls_to_plain_http_are_not_followed() {
    let bench = Bench::new();
    let digest = bench.store(b"content");
    bench.proxy.hurt("GET", "blobs", Fault::Redirect(format!("http://{ELSEWHERE}/blob")), 1);
    let error = pull(&bench.remote, &digest, 7).unwrap_err();
    assert!(matches!(&error, RegistryError::PlainHttp { host } if host == ELSEWHERE), "{error:?}");
    assert_eq!(bench.proxy.lines().len(), 1, "the request is not retried");
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
fn referrers_are_listed_also_if_the_registry_keeps_no_list() {
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
fn referrers_that_are_added_at_the_same_time_all_stay() {
    let bench = Bench::new();
    let subject = bench.store_image();
    // Three clients, each of which writes two referrers at once.
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
fn tokens_are_fetched_for_each_access_and_renewed_during_a_transfer() {
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

    // The tokens of HEAD, POST and PUT are all used up.
    assert_eq!(push(&bench.remote, &noise(50_000)).unwrap(), How::Moved);

    let anonymous = bench.remote.clone();
    bench.proxy.hurt("GET", "/token", Fault::Answer(403, &[], r#"{"details":"go away"}"#), 1);
    let error = pull(&anonymous, &digest, 1_000_000).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(matches!(error, RegistryError::NoToken { .. }) && text.contains("go away"), "{text}");
}

#[test]
fn texts_of_a_registry_are_escaped_and_never_put_into_urls() {
    let bench = Bench::new();
    let project = Project::new("");
    let repository = format!("{}/a", bench.proxy.host());
    let prune = |tags: &'static str| {
        bench.proxy.hurt(
            "GET",
            "tags/list",
            Fault::Answer(200, &["Content-Type: application/json"], tags),
            1,
        );
        project.run(&["cache", "prune", "--older-than", "1", &repository])
    };
    for (tags, shown) in [
        (r#"{"tags":["k-1","i-a\nb"]}"#, r"`i-a\nb` is not a tag"),
        (r#"{"tags":["\u001b]0;owned\u0007"]}"#, r"`\u{1b}]0;owned\u{7}` is not a tag"),
        (r#"{"tags":["i-../../x/manifests/y"]}"#, "`i-../../x/manifests/y` is not a tag"),
    ] {
        let run = prune(tags);
        assert_eq!(run.status, Some(1), "{}", run.stderr);
        assert!(run.stderr.contains(shown), "{}", run.stderr);
        assert!(!run.stderr.contains(|c: char| c.is_control() && c != '\n'), "{:?}", run.stderr);
        assert_eq!(bench.proxy.lines(), ["GET /v2/a/tags/list"]);
    }
}

/// Some services issue tokens for seconds or a few requests. With many workers, other workers use
/// up each token.
#[test]
fn short_lived_tokens_last_for_many_workers() {
    let bench = Bench::new();
    let content: Vec<_> = (0..48u8).map(|number| vec![number; 1000]).collect();
    let digests: Vec<_> = content.iter().map(|content| bench.store(content)).collect();
    let pull_all = |workers: usize| {
        let remote = client(Settings::default()).remote(bench.remote.repository(), Access::Pull);
        std::thread::scope(|scope| {
            for worker in 0..workers {
                let (remote, content, digests) = (&remote, &content, &digests);
                scope.spawn(move || {
                    for number in (worker..content.len()).step_by(workers) {
                        assert!(pull(remote, &digests[number], 1000).unwrap() == content[number]);
                    }
                });
            }
        });
        let seen = bench.proxy.take();
        seen.iter().filter(|seen| seen.line.starts_with("GET /token")).count()
    };
    bench.proxy.guard(100);
    assert_eq!(pull_all(32), 1, "one refresh for all workers");
    for (uses, life) in [(1, Duration::MAX), (3, Duration::MAX), (usize::MAX, Duration::from_millis(300))] {
        bench.proxy.guard_for(uses, life);
        bench.proxy.hurt("GET", "blobs", Fault::Late(Duration::from_millis(30)), usize::MAX);
        for workers in [4, 32] {
            pull_all(workers);
        }
    }
    // If a registry refuses every token, the client gives up.
    bench.proxy.guard(0);
    let error = pull(&bench.remote, &digests[0], 1000).unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert!(bench.proxy.take().len() < 10);
}

#[test]
fn accounts_are_sent_to_the_token_service_in_the_right_form() {
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
fn credentials_are_neither_shown_nor_stored() {
    // Name and password as in the header of requests.
    const ENCODED: &str = "dGVzdGVyOnBhc3M6d29yZA==";
    let bench = Bench::new();
    bench.store_image();
    bench.proxy.guard(usize::MAX);
    account(&bench.proxy.host(), bench.server.path());
    let project = Project::new("");
    let run = |tag: &str| {
        let reference = format!("{}/a:{tag}", bench.proxy.host());
        let mut command = project.command(&["-vv", "pull", "--progress", "json", &reference]);
        let output = command.env("DOCKER_CONFIG", bench.server.path()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let mut shown = vec![run("latest"), run("absent")];
    assert!(bench.proxy.take().iter().filter(|seen| seen.authorized).count() > 4);
    bench.proxy.hurt("GET", "/token", Fault::Answer(401, &[], r#"{"details":"wrong password"}"#), 1);
    shown.push(run("latest"));
    assert!(shown[1].contains("has no image `absent`") && shown[2].contains("wrong password"), "{shown:?}");
    // The trace shows requests and answers.
    let traced = &shown[0];
    for told in
        [r#"{"event":"trace","#, "status=401", "status=200", "www-authenticate: ", "has_credentials=true"]
    {
        assert!(traced.contains(told), "{told}: {traced}");
    }
    let latest = bench.remote.head_manifest(&tag("latest")).unwrap().unwrap();
    assert!(traced.contains(&format!("docker-content-digest: {latest}")), "{traced}");
    for secret in [PASSWORD, ENCODED, "token-"] {
        assert!(!shown.iter().any(|text| text.contains(secret)), "{secret}: {shown:?}");
    }
    let search = ["-raF", "-e", PASSWORD, "-e", ENCODED];
    let kept = std::process::Command::new("grep").args(search).arg(project.store()).output().unwrap();
    assert_eq!((kept.status.code(), kept.stdout), (Some(1), Vec::new()), "credentials are found");
}
