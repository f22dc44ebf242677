//! Tests of transfers of blobs, through a proxy that breaks connections like networks and
//! registries.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::bench::{Bench, Silent, client, image, noise, pull, push, push_from, tag};
use crate::common::fault::Fault;
use plywood::oci::{Digest, RawManifest, descriptor, image_manifest};
use plywood::port::{BlobSource, Direction, How};
use plywood::registry::{
    Access, Client, Credentials, HostSettings, RegistryError, Settings, Transfers, Upload,
};

#[test]
fn a_download_continues_where_it_was_cut() {
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
fn a_download_without_ranges_skips_the_bytes_before_the_cut() {
    let bench = Bench::new();
    let content = noise(300_000);
    let digest = bench.store(&content);
    bench.proxy.hurt("GET", "blobs", Fault::CutAnswer(100_000), 1);
    bench.proxy.hurt("GET", "blobs", Fault::DropRange, 1);
    assert!(pull(&bench.remote, &digest, 300_000).unwrap() == content);
}

#[test]
fn a_download_restarts_if_the_registry_fails_for_ranges() {
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
        assert_eq!(ranges, 1, "the range is not requested again");
    }
}

/// The copy in the registry may be cut off. Retries do not help then.
#[test]
fn a_blob_that_is_too_short_is_reported() {
    let bench = Bench::new();
    let digest = bench.store(b"content");
    let error = pull(&bench.remote, &digest, 1000).unwrap_err();
    assert!(matches!(error, RegistryError::WrongSize { expected: 1000, found: 7, .. }), "{error:?}");
    let page = Fault::Answer(200, &["Content-Type: text/html"], "<html>log in</html>");
    bench.proxy.hurt("GET", "blobs", page, 1);
    let error = pull(&bench.remote, &digest, 7).unwrap_err();
    assert!(matches!(error, RegistryError::Unexpected { .. }), "{error:?}");
}

/// Without a length, the end of an answer looks like a broken connection.
#[test]
fn an_answer_without_end_ends_when_all_bytes_have_arrived() {
    let bench = Bench::new();
    let content = noise(300_000);
    let digest = bench.store(&content);
    bench.proxy.hurt("GET", "blobs", Fault::CutEnd, 1);
    assert!(pull(&bench.remote, &digest, 300_000).unwrap() == content);
    assert_eq!(bench.proxy.lines().len(), 1);
}

#[test]
fn a_download_that_is_too_slow_is_given_up() {
    let bench = Bench::patient(Duration::from_secs(2));
    let digest = bench.store(&noise(100_000));
    bench.proxy.hurt("GET", "blobs", Fault::Slow(1), 1);
    let started = Instant::now();
    let error = pull(&bench.remote, &digest, 100_000).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.ends_with("less than 16 KiB came in 2 s"), "{error}: {source}");
}

/// A registry that accepts connections and never answers must not block a build that can continue
/// without it.
#[test]
fn a_registry_that_never_answers_is_given_up_when_patience_ends() {
    let bench = Bench::patient(Duration::from_millis(300));
    bench.store_image();
    bench.proxy.hurt("GET", "manifests", Fault::Late(Duration::from_secs(30)), usize::MAX);
    let started = Instant::now();
    let error = bench.remote.get_manifest(&tag("latest")).unwrap_err();
    assert!(error.to_string().starts_with("gave up reading manifest latest"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn an_interrupt_ends_the_wait_for_an_answer() {
    let bench = Bench::new();
    bench.store_image();
    bench.proxy.hurt("GET", "manifests", Fault::Late(Duration::from_secs(30)), usize::MAX);
    let interrupted = Arc::new(AtomicBool::new(false));
    let client = Client::new(Settings::default(), Credentials::default(), Arc::clone(&interrupted));
    let remote = client.remote(bench.remote.repository(), Access::Pull);
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(300));
            interrupted.store(true, Ordering::Relaxed);
        });
        let error = remote.get_manifest(&tag("latest")).unwrap_err();
        assert!(matches!(error, RegistryError::Interrupted), "{error}");
    });
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_damaged_blob_is_downloaded_again_and_never_passed_on() {
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
fn a_document_that_would_fill_the_memory_is_not_requested() {
    let bench = Bench::new();
    let error = pull(&bench.remote, &Digest::of("config"), 1 << 40).unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error:?}");
    assert_eq!(bench.proxy.take(), []);
}

#[test]
fn an_upload_whose_answer_is_lost_is_not_repeated() {
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
fn an_upload_waits_for_a_busy_registry_and_does_not_accept_a_page_as_success() {
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

/// A client that sends the whole body first never reads the refusal.
#[test]
fn a_refusal_of_a_large_upload_is_reported() {
    let bench = Bench::new();
    let content = noise(8_000_000);
    bench.proxy.hurt("PUT", "blobs/uploads", Fault::Deaf(413), 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    let lines = bench.proxy.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("PATCH")).count(), 1, "{lines:?}");
}

/// The file of a blob has changed since it was verified.
#[test]
fn an_upload_of_a_blob_with_a_wrong_digest_is_aborted() {
    let (content, other) = (noise(2_500_000), noise(2_500_001));
    for chunk_bytes in [None, Some(1 << 20)] {
        let bench = Bench::with(|_| HostSettings { chunk_bytes, ..HostSettings::default() });
        for bytes in [other[1..].to_vec(), content[..2_000_000].to_vec()] {
            let (source, digest) = (bytes.as_slice(), Digest::of(&content));
            let upload = Upload { digest, bytes: 2_500_000, source: &source, mount_from: None };
            let transfers =
                Transfers::start(&Silent, bench.remote.repository(), Direction::Push, [2_500_000]);
            let error = bench.remote.push_blobs(&[upload], &transfers).unwrap_err();
            assert!(matches!(&error, RegistryError::Source { digest: of, .. } if *of == digest), "{error:?}");
            assert_eq!(bench.remote.head_blob(&digest).unwrap(), None);
        }
        assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    }
}

/// A registry whose disk was full may have an empty copy. Some registries and proxies report no
/// size.
#[test]
fn a_copy_without_a_reported_size_is_checked() {
    let bench = Bench::new();
    let content = noise(10_000);
    let no_size = || Fault::Answer(200, &["Content-Length: 0"], "");
    bench.proxy.hurt("HEAD", "blobs", no_size(), 1);
    bench.proxy.hurt("GET", "blobs", no_size(), 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    bench.proxy.hurt("HEAD", "blobs", no_size(), 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::There);

    bench.proxy.hurt("HEAD", "blobs", no_size(), usize::MAX);
    bench.proxy.hurt("GET", "blobs", no_size(), usize::MAX);
    let error = push(&bench.remote, &content).unwrap_err();
    assert!(matches!(error, RegistryError::KeepsDamaged { found: 0, .. }), "{error:?}");
}

#[test]
fn blobs_are_uploaded_in_chunks_if_necessary() {
    let bench = Bench::with(|_| HostSettings { chunk_bytes: Some(1 << 20), ..HostSettings::default() });
    let content = noise(2_500_000);
    bench.proxy.hurt("PATCH", "blobs/uploads", Fault::CutRequest(1000), 1);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    let pieces = bench.proxy.lines().iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(pieces, 4, "one chunk was cut, and then three were sent");
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
fn a_registry_without_chunks_gets_the_whole_blob() {
    let bench = Bench::new();
    bench.proxy.hurt("PATCH", "blobs/uploads", Fault::Answer(405, &[], "{}"), usize::MAX);
    let content = noise(2_500_000);
    assert_eq!(push(&bench.remote, &content).unwrap(), How::Moved);
    assert!(pull(&bench.remote, &Digest::of(&content), 2_500_000).unwrap() == content);
}

#[test]
fn an_image_that_the_registry_has_is_not_uploaded() {
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

/// Pushing an image that the registry has takes one round trip for the manifest and one for all
/// blobs.
#[test]
fn all_blobs_are_looked_up_at_once() {
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
fn a_blob_that_an_image_names_twice_is_uploaded_once() {
    let bench = Bench::new();
    let content = noise(100_000);
    let (source, digest) = (content.as_slice(), Digest::of(&content));
    let upload = || Upload { digest, bytes: 100_000, source: &source, mount_from: None };
    let transfers = Transfers::start(&Silent, bench.remote.repository(), Direction::Push, [100_000; 3]);
    let pushed = bench.remote.push_blobs(&[upload(), upload(), upload()], &transfers).unwrap();
    assert_eq!(pushed, [How::Moved]);
    assert_eq!(bench.proxy.lines().iter().filter(|line| line.starts_with("PUT")).count(), 1);
}

/// A source of a thousand bytes per millisecond.
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

/// The slow transfer would take ten seconds.
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
