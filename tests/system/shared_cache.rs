//! Tests of layers that are shared through a registry: a machine does not build steps that another
//! has built, and refuses untrusted steps. They need root, a package mirror, docker-registry, QEMU.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::fault::{Fault, Proxy};
use crate::common::project::{Build, Project, Run};
use crate::common::registry::{Door, Server, free_port};
use plywood::oci::{RawManifest, Repository, Tag, TagOrDigest};
use plywood::registry::{Access, Client, Credentials, Remote, Settings};
use serde_json::Value;

const NOTHING: [&str; 0] = [];
const ALL: [&str; 4] = ["base:debian-bookworm", "a", "b", "image:final"];

/// Returns an image of two elements.
fn project() -> Project {
    let project =
        Project::new("elements = [\"a\", \"b\"]\npackages = [\"hello\"]\noutputs = [\"oci\", \"tar\"]");
    ["a", "b"].iter().for_each(|name| project.element(name));
    project
}

/// Returns an image of two elements that builds quickly. The store has its base.
fn small() -> Project {
    Project::of_elements(&["a", "b"]).with_small_base()
}

/// Builds without access to a package mirror.
fn build_cut_off(project: &Project, args: &[&str]) -> Build {
    let out = project.out();
    let common = ["build", "--progress", "json", "-o", out.to_str().unwrap()];
    let mut command = project.command(&[&common, args].concat());
    for name in ["http_proxy", "https_proxy"] {
        command.env(name, "http://127.0.0.1:9");
    }
    let run = Run::of(command.env("no_proxy", "localhost").output().unwrap(), &project.path());
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    Build { events: run.json_lines() }
}

/// Makes a key in a file. Returns the file and the public key.
fn key(project: &Project, name: &str) -> (PathBuf, String) {
    let path = project.out().with_file_name(name);
    let made = project.run(&["key", "generate", "--out", path.to_str().unwrap()]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    (path, made.stdout.trim().to_owned())
}

/// Adds `[trust]` with one key to the definition of a project.
fn trust(project: &Project, public: &str) {
    let definition = fs::read_to_string(project.path().join("plywood.toml")).unwrap();
    project.write("plywood.toml", &format!("{definition}\n[trust]\nkeys = [\"{public}\"]\n"));
}

fn remote(repository: &str) -> Remote {
    let repository: Repository = repository.parse().unwrap();
    let client = Client::new(Settings::default(), Credentials::default(), Arc::default());
    client.remote(&repository, Access::Delete)
}

fn tags(repository: &str, kind: &str) -> Vec<String> {
    let tags = remote(repository).tags().unwrap();
    tags.iter().map(Tag::to_string).filter(|tag| tag.starts_with(kind)).collect()
}

fn digests(project: &Project) -> Vec<(String, String)> {
    let manifest = project.manifest();
    let outputs = manifest["outputs"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    outputs.map(|output| (text(&output["file"]), text(&output["digest"]))).collect()
}

#[test]
fn steps_that_one_machine_has_built_are_only_downloaded_by_another() {
    let server = Server::start(Door::Open);
    let repository = format!("{}/team/cache", server.host());
    let a = project().with_base();
    let made = a.build(&["--cache-to", &repository]);
    let all = ["base:debian-bookworm", "a", "b", "image:packages", "image:final"];
    assert_eq!(made.made(), all[1..]);
    let published: Vec<_> = made.of("steps-published").collect();
    assert_eq!((published.len(), &published[0]["steps"], &published[0]["new"]), (1, &5.into(), &5.into()));

    let b = project();
    let from = ["--cache-from", repository.as_str()];
    let plan = b.run(&[&["plan"], from.as_slice()].concat()).stdout;
    assert_eq!(plan.matches("hit (registry)").count(), 4, "{plan}");
    let build = build_cut_off(&b, &from);
    assert_eq!((build.made().as_slice(), build.of("task-started").count()), (NOTHING.as_slice(), 0));
    assert_eq!(build.hits("input"), all);
    assert!(build.of("step-hit").all(|hit| hit["from"] == repository.as_str()));
    let downloads = b.store().join("cache/apt/packages");
    assert!(!downloads.exists() || fs::read_dir(downloads).unwrap().count() == 0);
    assert_eq!((a.layers(), digests(&a)), (b.layers(), digests(&b)));

    // The store has all steps now, so no registry is asked.
    drop(server);
    let again = b.build(&from);
    assert!(again.of("step-hit").all(|hit| hit["from"] == "store"));
    let warnings = again.warnings();
    assert!(warnings.iter().all(|warning| warning.contains("has no command")), "{warnings:?}");
}

#[test]
fn the_whole_plan_is_looked_up_at_once() {
    let server = Server::start(Door::Open);
    let far = Proxy::start(server.port());
    far.hurt("GET", "manifests/", Fault::Late(Duration::from_millis(300)), usize::MAX);
    let names: Vec<_> = ('a'..='l').map(String::from).collect();
    let project = Project::of_elements(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let started = Instant::now();
    let plan = project.run(&["plan", "--cache-from", &format!("{}/cache", far.host())]);
    assert_eq!((plan.status, plan.stdout.matches("miss").count()), (Some(0), names.len() + 1));
    // Look-ups in sequence would take more than four seconds.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let asked: Vec<_> = far.lines().into_iter().filter(|line| line.contains("/manifests/k-")).collect();
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), names.len() + 2, "the base, the final stage");
    assert_eq!(asked.len(), names.len() + 2, "each once");
}

#[test]
fn a_base_that_only_one_machine_has_is_shared_like_other_layers() {
    const OUTPUTS: &str = "elements = [\"a\", \"b\"]\noutputs = [\"oci\"]";
    let server = Server::start(Door::Open);
    let repository = format!("{}/cache", server.host());
    let a = small();
    a.define(OUTPUTS);
    a.build(&["--cache-to", &repository]);

    let b = Project::of_elements(&["a", "b"]).with_base_of(&a);
    b.define(OUTPUTS);
    let alone = b.refused(&[]);
    assert!(alone.stderr.contains("is not in the store"), "{}", alone.stderr);
    // `plywood shell` finds it too.
    let from = format!("[cache]\nfrom = [\"{repository}\"]\n");
    b.define(&format!("{OUTPUTS}\n{from}"));
    let shell = b.run(&["shell", "tiny", "--", "cat", "/etc/a", "/etc/tiny"]);
    assert_eq!((shell.status, shell.stdout.as_str()), (Some(0), "a\ntiny\n"), "{}", shell.stderr);

    let build = b.build(&[]);
    assert_eq!((build.made(), build.hits("input")), (vec![], ALL.to_vec()));
    assert_eq!((a.layers(), digests(&a)), (b.layers(), digests(&b)));
    let elsewhere = Project::of_elements(&["a", "b"]).with_base_of(&a);
    elsewhere.define(OUTPUTS);
    let build = elsewhere.build(&["--cache-from", &repository]);
    assert!(build.of("step-hit").all(|hit| hit["from"] == repository.as_str()));
    assert_eq!(digests(&elsewhere), digests(&a), "the config of the base was downloaded too");
}

#[test]
fn a_change_downloads_the_layers_below_and_is_explained_by_the_published_build() {
    let server = Server::start(Door::Open);
    let repository = format!("{}/cache", server.host());
    small().build(&["--cache-to", &repository]);
    let b = small();
    b.hook("elements/b/install.d/50-b", "echo other >/etc/b");
    let explained = b.run(&["explain", "tiny", "b", "--cache-from", &repository]).stdout;
    assert!(explained.starts_with("b  miss  file install.d/50-b changed: 0755 "), "{explained}");
    let build = b.build(&["--cache-from", &repository, "--cache-to", &repository]);
    assert_eq!((build.hits("input"), build.made()), (ALL[..2].to_vec(), ALL[2..].to_vec()));
    assert_eq!(build.of("steps-published").next().unwrap()["new"], 2);
    // A hit by content: the comment changes the key, but not the layer.
    let c = small();
    c.hook("elements/a/install.d/50-a", "# why\necho a >/etc/a");
    let build = c.build(&["--cache-from", &repository]);
    assert_eq!((build.made(), build.hits("content")), (vec!["a"], ALL[2..].to_vec()));
}

#[test]
fn untrusted_steps_are_built_and_the_reason_is_explained() {
    let server = Server::start(Door::Open);
    let a = small();
    let (signing, public) = key(&a, "ours");
    let (foreign, stranger) = key(&a, "theirs");
    let publish = |name: &str, key: Option<&Path>| {
        let repository = format!("{}/{name}", server.host());
        let mut args = vec!["--cache-to", &repository];
        args.extend(key.iter().flat_map(|key| ["--sign-key", key.to_str().unwrap()]));
        a.build(&args);
        repository
    };
    let tampered = publish("tampered", Some(&signing));
    tamper(&tampered);
    let cases = [
        (publish("unsigned", None), "it is not signed".to_owned()),
        (publish("foreign", Some(&foreign)), format!("it is signed by {stranger}, which is not trusted")),
        (tampered, format!("its signature by {public} is wrong: it was changed after it was signed")),
    ];
    for (repository, why) in cases {
        let b = small();
        trust(&b, &public);
        let explained = b.run(&["explain", "tiny", "a", "--cache-from", &repository]).stdout;
        let expected = format!("the step published in `{repository}` is not used: {why}");
        assert!(explained.contains(&expected), "{explained}");
        assert_eq!(b.build(&["--cache-from", &repository]).made(), ALL[1..], "{why}");
        assert_eq!(b.layers(), a.layers(), "{why}");
    }
    let b = small();
    trust(&b, &public);
    let good = publish("good", Some(&signing));
    assert_eq!(b.build(&["--cache-from", &good]).made(), NOTHING);
    assert_eq!(b.layers(), a.layers());
}

/// Gives every key of a repository the layer of another step, as a hostile registry might.
fn tamper(repository: &str) {
    let remote = remote(repository);
    let read = |tag: &String| -> Value {
        let manifest = remote.get_manifest(&TagOrDigest::Tag(tag.parse().unwrap())).unwrap().unwrap();
        serde_json::from_slice(&manifest.bytes).unwrap()
    };
    let tags: Vec<_> = [tags(repository, "k-"), tags(repository, "c-")].concat();
    let layers_of = |step: &str| -> Value {
        let mut manifests = tags.iter().map(read);
        manifests.find(|manifest| manifest["annotations"]["plywood.step"] == step).unwrap()["layers"].take()
    };
    let (a, b) = (layers_of("a"), layers_of("b"));
    for tag in &tags {
        let mut manifest = read(tag);
        manifest["layers"] = if manifest["annotations"]["plywood.step"] == "b" { &a } else { &b }.clone();
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        remote
            .put_manifest(&TagOrDigest::Tag(tag.parse().unwrap()), &RawManifest { media_type, bytes })
            .unwrap();
    }
}

/// Returns the file of the layer above the base in a registry to which `project` has published.
fn blob_of_a(server: &Server, project: &Project) -> PathBuf {
    let layers = project.run(&["layers", "tiny", "--json"]).json();
    let digest = layers["layers"][1]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    server.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]))
}

/// Changes one byte of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// A registry does not replace an existing blob, so the layer is published in a blob with another
/// digest.
#[test]
fn a_damaged_layer_is_published_again_by_the_next_build() {
    let cut = |file: &Path| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(20).unwrap();
    let ways: [&dyn Fn(&Path); 2] = [&damage, &cut];
    for damage in ways {
        let server = Server::start(Door::Open);
        let repository = format!("{}/cache", server.host());
        let a = small();
        a.build(&["--cache-to", &repository]);
        damage(&blob_of_a(&server, &a));
        let b = small();
        let build = b.build(&["--cache-from", &repository, "--cache-to", &repository]);
        assert_eq!(build.made(), ["a"]);
        let c = small();
        assert_eq!(c.build(&["--cache-from", &repository]).made(), NOTHING);
        assert_eq!(c.layers(), a.layers());
    }
}

#[test]
fn the_step_of_a_changed_blob_is_built_and_the_others_are_hits() {
    let server = Server::start(Door::Open);
    let repository = format!("{}/cache", server.host());
    let a = small();
    a.build(&["--cache-to", &repository]);
    damage(&blob_of_a(&server, &a));

    let b = small();
    let build = b.build(&["--cache-from", &repository]);
    assert_eq!((build.made(), build.hits("input")), (vec!["a"], vec![ALL[0], "b", "image:final"]));
    let warnings: Vec<_> = build.of("warning").map(|event| event["message"].to_string()).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("step `a`: the step published in `")
            && warnings[0].contains("cannot use the layer from the registry")
    );
    assert_eq!(b.layers(), a.layers());
}

#[test]
fn a_secret_is_in_no_published_blob_or_manifest() {
    const SECRET: &str = "correct-horse-battery-staple";
    let server = Server::start(Door::Open);
    let repository = format!("{}/cache", server.host());
    let project = small();
    project.hook("elements/b/install.d/50-b", "echo \"$DIB_B_PASSWORD\" >/etc/b");
    project.define(&format!(
        "elements = [\"a\", \"b\"]\noutputs = [\"tar\"]\nenv = {{ DIB_B_PASSWORD = \"{SECRET}\" }}"
    ));
    let build = project.build(&["--cache-to", &repository]);
    let published = build.of("steps-published").next().unwrap();
    assert_eq!((&published["steps"], &published["withheld"]), (&2.into(), &"b".into()));
    // Searches every blob and manifest, decompressed if it is compressed.
    let script = "find \"$1\" -type f -exec zstd -dcfq {} + | grep -c \"$2\"";
    let data = server.path().join("data");
    let count = |text: &str| {
        let found = Command::new("sh").args(["-c", script, "sh"]).arg(&data).arg(text).output().unwrap();
        String::from_utf8(found.stdout).unwrap().trim().to_owned()
    };
    assert_ne!(count("plywood.input-key"), "0", "the search works");
    assert_eq!(count(SECRET), "0");
}

#[test]
fn an_unreachable_registry_causes_a_warning_and_publishing_there_fails_the_command() {
    let project = small();
    let nowhere = format!("localhost:{}/cache", free_port());
    let started = Instant::now();
    let build = project.build(&["--cache-from", &nowhere]);
    assert_eq!(build.made(), ALL[1..]);
    let warnings: Vec<_> = build.of("warning").map(|event| event["message"].to_string()).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&format!("cannot look up steps in `{nowhere}`")), "{warnings:?}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());

    fs::remove_dir_all(project.out()).unwrap();
    let run = project.run_build(&["--cache-to", &nowhere]);
    assert_eq!(run.status, Some(1));
    assert!(project.out().join("tiny.manifest.json").exists());
    let failed = run.json_lines().pop().unwrap();
    let message = "image `tiny` is built and its outputs are written, but its steps are not published";
    assert_eq!((&failed["event"], &failed["message"]), (&"failed".into(), &message.into()), "{}", run.stderr);
}

#[test]
fn old_steps_are_pruned_and_the_last_build_stays() {
    let server = Server::start(Door::Open);
    let repository = format!("{}/cache", server.host());
    let project = small();
    let nothing = project.run(&["cache", "prune", repository.as_str(), "--older-than", "0"]);
    assert_eq!(
        nothing.stdout,
        format!("nothing to delete: {repository} holds no steps\n"),
        "{}",
        nothing.stderr
    );
    project.build(&["--cache-to", &repository]);
    let young = project.run(&["cache", "prune", repository.as_str(), "--older-than", "1"]);
    assert!(young.stdout.starts_with("nothing to delete: none of the 4 steps in "), "{}", young.stdout);
    project.hook("elements/b/install.d/50-b", "echo other >/etc/b");
    project.build(&["--cache-to", &repository]);
    assert_eq!(tags(&repository, "k-").len(), 6);
    // Steps that were published in the current second are not older than now.
    std::thread::sleep(Duration::from_secs(1));
    let prune = ["cache", "prune", repository.as_str(), "--older-than", "0"];
    let told = project.run(&[prune.as_slice(), &["--dry-run"]].concat());
    assert_eq!(told.stdout, format!("would delete 2 of 6 steps from {repository}\n"), "{}", told.stderr);
    let forbidding = Proxy::start(server.port());
    let unsupported = r#"{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}"#;
    forbidding.hurt("DELETE", "manifests", Fault::Answer(405, &[], unsupported), usize::MAX);
    let forbidden = format!("{}/cache", forbidding.host());
    let kept = project.run(&["cache", "prune", &forbidden, "--older-than", "0"]);
    assert_eq!((kept.status, kept.stdout.as_str()), (Some(1), ""));
    assert!(
        kept.stderr.contains(&format!("registry of `{forbidden}` does not allow manifests to be deleted")),
        "{}",
        kept.stderr
    );
    assert!(kept.stderr.contains("REGISTRY_STORAGE_DELETE_ENABLED"), "{}", kept.stderr);
    assert_eq!(tags(&repository, "k-").len(), 6);
    let pruned = project.run(&prune);
    assert!(pruned.stdout.starts_with("deleted 2 of 6 steps"), "{}{}", pruned.stdout, pruned.stderr);
    assert_eq!(tags(&repository, "k-").len(), 4);
    let b = small();
    b.hook("elements/b/install.d/50-b", "echo other >/etc/b");
    assert_eq!(b.build(&["--cache-from", &repository]).made(), NOTHING);
}

#[test]
fn the_disk_that_another_machine_writes_boots() {
    let server = Server::start(Door::Open);
    let repository = format!("{}/cache", server.host());
    let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = tempfile::tempdir_in(tests).unwrap();
    let plywood = |store: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plywood"));
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cloud-vm");
        command.arg("--project").arg(example).arg("--store").arg(store);
        command.args(["build", "bookworm", "--progress", "json", "-o"]).arg(directory.path());
        command
    };
    let run = |command: &mut Command| {
        let run = Run::of(command.output().unwrap(), directory.path());
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        Build { events: run.json_lines() }
    };
    // Uses the store that test runs share.
    run(plywood(&tests.join("store")).args(["--format", "oci", "--cache-to", &repository]));
    let store = directory.path().join("store");
    let mut cut_off = plywood(&store);
    cut_off.env("http_proxy", "http://127.0.0.1:9").env("no_proxy", "localhost");
    let build = run(cut_off.args(["--format", "qcow2", "--cache-from", &repository]));
    assert_eq!(build.made(), NOTHING);
    let disk = directory.path().join("bookworm.qcow2");
    let mut boot = Command::new(env!("CARGO_BIN_EXE_plywood"));
    let boot = boot.arg("boot").arg(disk).args(["--expect", "login:", "--timeout", "600"]).output().unwrap();
    assert!(boot.status.success(), "{}", String::from_utf8_lossy(&boot.stderr));
}
