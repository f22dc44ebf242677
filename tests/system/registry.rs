//! Tests of registries with certificates and accounts, and of layers that are larger than memory or
//! disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::bench::{ARCHITECTURE, Silent, account, client, noise, pull, push, repository, tag};
use crate::common::project::Project;
use crate::common::registry::{Door, ELSEWHERE, PASSWORD, Server, USER};
use crate::common::tunnel::Tunnel;
use plywood::oci::{DiffId, Digest, HashingReader, ImageConfig, RawManifest, descriptor, image_manifest};
use plywood::port::{BlobSource, Direction, How};
use plywood::registry::{
    Access, Client, HostSettings, RegistryError, Remote, Settings, TlsTrouble, Transfers, Upload,
};

/// Returns settings that trust the authority of a guarded registry.
fn guarded(server: &Server) -> Settings {
    let host = HostSettings { ca: Some(server.path().join("ca.crt")), ..HostSettings::default() };
    Settings { hosts: [(server.host(), host)].into(), ..Settings::default() }
}

/// Returns a client with an account of a guarded registry.
fn known(server: &Server) -> Client {
    Client::new(guarded(server), account(&server.host(), server.path()), Arc::default())
}

#[test]
fn a_registry_with_tls_and_accounts_requires_both() {
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
fn a_registry_that_requests_a_client_certificate_gets_the_configured_one() {
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

    // In the directory of container engines, with their file names.
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
fn a_self_signed_certificate_is_trusted_if_it_is_configured() {
    let server = Server::start(Door::SelfSigned);
    let of_host = |ca| {
        let host = HostSettings { ca, ..HostSettings::default() };
        let settings = Settings { hosts: [(server.host(), host)].into(), ..Settings::default() };
        client(settings).remote(&repository(&server, "a"), Access::Push)
    };
    assert_eq!(push(&of_host(Some(server.path().join("server.crt"))), b"x").unwrap(), How::Moved);
    let other = Server::start(Door::SelfSigned);
    let error = push(&of_host(Some(other.path().join("server.crt"))), b"x").unwrap_err();
    assert_eq!(error.tls_trouble(), Some(TlsTrouble::Authority), "{error:?}");
}

#[test]
fn the_proxy_in_the_environment_is_used() {
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
        assert!(!text.contains("\nauthorization:"), "the proxy gets the account of the registry: {text}");
    }
    // Registries on this machine are reached without the proxy.
    assert_eq!(push(&through(&server.host()), &content).unwrap(), How::There);
    assert_eq!(tunnel.take(), Vec::<Vec<String>>::new());
}

#[test]
fn a_credential_helper_is_called_for_the_account() {
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
    // The output of a careless helper may contain a password.
    std::fs::write(&helper, format!("#!/bin/sh\necho '\"{PASSWORD}\"'\n")).unwrap();
    let said = pull(&format!("{}:{path}", directory.display()));
    assert!(said.contains("not the JSON of a credential helper") && !said.contains(PASSWORD), "{said}");
}

/// The reference registry serves a truncated file, and ignores uploads of the same digest.
#[test]
fn a_push_does_not_rely_on_a_truncated_copy() {
    let server = Server::start(Door::Open);
    let remote = client(Settings::default()).remote(&repository(&server, "a/b"), Access::Delete);
    let layer = noise(30_000);
    let digest = Digest::of(&layer);
    assert_eq!(push(&remote, &layer).unwrap(), How::Moved);
    let hex = digest.hex();
    let file = server.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]));
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(20_000).unwrap();
    let error = push(&remote, &layer).unwrap_err();
    assert!(
        matches!(error, RegistryError::KeepsDamaged { expected: 30_000, found: 20_000, .. }),
        "{error:?}"
    );
    std::fs::remove_file(&file).unwrap();
    assert_eq!(push(&remote, &layer).unwrap(), How::Moved);
    assert!(pull(&remote, &digest, 30_000).unwrap() == layer);
}

/// Writes an archive of one file of zeros, as a sparse file. Returns its size.
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

/// Gives the tag `1` to an image of one layer, whose blob is in the registry.
fn tag_image(remote: &Remote, diff_id: &DiffId, media_type: &str, blob: &Digest, bytes: u64) {
    let mut config = ImageConfig::new(ARCHITECTURE, 0).unwrap();
    config.push_step("layer", &[*diff_id]);
    let config = config.to_bytes();
    push(remote, &config).unwrap();
    let manifest = image_manifest(&config, vec![descriptor(media_type, blob, bytes)], &Default::default());
    remote.put_manifest(&tag("1"), &RawManifest::new("", manifest).unwrap()).unwrap();
}

#[test]
fn a_small_blob_that_decodes_to_more_than_the_free_space_is_refused() {
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

    let project = Project::new("");
    std::fs::create_dir_all(project.store()).unwrap();
    let import = project.command(&["import", &format!("{}/bomb:1", server.host()), "bomb"]);
    // A store with little space. The file system ends with the last process in the mount namespace.
    let script = "mount -t tmpfs -o size=64m tmpfs \"$1\"; store=$1; shift
        \"$@\" || echo \"status $?\"; find \"$store/blobs\" \"$store/layers\" \"$store/work\" -type f -size +1k";
    let mut small = std::process::Command::new("unshare");
    small.args(["--mount", "sh", "-ec", script, "sh"]).arg(project.store());
    let run = small.arg(import.get_program()).args(import.get_args()).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), "status 1\n", "{said}");
    assert!(said.contains("bytes of free space in") && said.contains("store gc"), "{said}");
}

/// The memory limit of the process, with the stacks of threads.
const MEMORY_BYTES: u64 = 64 << 20;

#[test]
fn a_layer_that_is_larger_than_memory_can_be_pushed_and_pulled() {
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
    // Another, empty registry.
    let other = Server::start(Door::Open);
    limited(&["push", &source, &format!("{}/large:1", other.host())]);
    let copy = client(Settings::default()).remote(&repository(&other, "large"), Access::Pull);
    assert_eq!(copy.head_blob(&digest).unwrap(), Some(bytes));
}
