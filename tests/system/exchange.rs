//! Tests of the exchange of images through a registry between plywood, skopeo, umoci, podman and a
//! Docker engine. They need root, a package mirror and these programs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::common::fault::Proxy;
use crate::common::project::Project;
use crate::common::registry::{Door, Server};
use serde_json::Value;

/// A registry with a container that was built and pushed to it.
struct Pushed {
    server: Server,
    project: Project,
    /// The output of `plywood push`: the repository and the digest.
    reference: String,
}

fn pushed() -> &'static Pushed {
    static PUSHED: OnceLock<Pushed> = OnceLock::new();
    PUSHED.get_or_init(|| {
        let server = Server::start(Door::Open);
        let project = Project::new("elements = [\"greeting\"]\noutputs = [\"oci\", \"qcow2\"]").with_base();
        project.element("greeting");
        project.build(&[]);
        let push = project.run(&["push", "tiny", &format!("{}/team/tiny:1", server.host())]);
        assert_eq!(push.status, Some(0), "{}", push.stderr);
        Pushed { reference: push.stdout.trim().to_owned(), server, project }
    })
}

impl Pushed {
    fn reference(&self) -> String {
        format!("{}/team/tiny:1", self.server.host())
    }

    /// Returns the DiffIDs of the pushed container.
    fn container(&self) -> Vec<String> {
        let config = inspect(&["--config", &format!("docker://{}", self.reference())]);
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap().iter();
        diff_ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Returns the DiffIDs of the built layers.
    fn diff_ids(&self) -> Vec<String> {
        self.project.layers().into_iter().map(|(_, diff_id)| diff_id).collect()
    }
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs the program `{program}`: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn inspect(args: &[&str]) -> Value {
    serde_json::from_slice(&run("skopeo", &[&["inspect", "--tls-verify=false"], args].concat()).stdout)
        .unwrap()
}

#[test]
fn skopeo_and_umoci_read_images_that_plywood_pushed() {
    let pushed = pushed();
    let image = format!("docker://{}", pushed.reference());
    assert!(pushed.container().starts_with(&pushed.diff_ids()));
    let digest = inspect(&[&image])["Digest"].as_str().unwrap().to_owned();
    assert!(pushed.reference.ends_with(&format!("/team/tiny@{digest}")), "{}", pushed.reference);

    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let copy = format!("oci:{}:copy", at("copy"));
    run("skopeo", &["copy", "--insecure-policy", "--src-tls-verify=false", &image, &copy]);
    run("umoci", &["unpack", "--image", &format!("{}:copy", at("copy")), &at("bundle")]);
    assert_eq!(
        fs::read_to_string(directory.path().join("bundle/rootfs/etc/greeting")).unwrap(),
        "greeting\n"
    );
}

#[test]
fn plywood_and_a_docker_engine_pull_images_that_the_other_pushed() {
    let pushed = pushed();
    let (ours, theirs) = (pushed.reference(), format!("{}/team/docker:1", pushed.server.host()));
    let script = format!(
        "docker pull --quiet {ours} >/dev/null
         docker run --name box {ours} sh -c 'echo more >/etc/more; cat /etc/greeting'
         docker commit box {theirs} >/dev/null
         docker push --quiet {theirs} >/dev/null"
    );
    let engine = format!("{}/scripts/with-docker-engine", env!("CARGO_MANIFEST_DIR"));
    let script = script.replace("docker run ", "docker run --network none ");
    let said = run(&engine, &["sh", "-ec", &script]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "greeting\n");

    // Docker writes its own form of manifests, and compresses with gzip.
    is_a_base(&theirs, "from-docker");
}

/// Imports an image and builds on it. The build uses files of all programs that have changed the
/// image.
#[track_caller]
fn is_a_base(reference: &str, name: &str) {
    let project = Project::new("elements = [\"top\"]\noutputs = [\"tar\"]");
    project.hook("elements/top/install.d/50-top", "cat /etc/greeting /etc/more >/etc/top");
    project.write("elements/top/README.md", "# top\n");
    let import = project.run(&["import", reference, name]);
    assert_eq!(import.status, Some(0), "{}", import.stderr);
    project.write(
        "plywood.toml",
        &format!("[image.tiny]\nbase = \"{name}\"\nelements = [\"top\"]\noutputs = [\"tar\"]\n"),
    );
    project.build(&[]);
    let tar = project.out().join("tiny.tar").display().to_string();
    let top = run("tar", &["-xOf", &tar, "etc/top"]);
    assert_eq!(String::from_utf8_lossy(&top.stdout), "greeting\nmore\n");
}

/// Podman's mounts and files in shared memory end with the script.
#[test]
fn plywood_and_podman_pull_images_that_the_other_pushed() {
    let pushed = pushed();
    let (ours, theirs) = (pushed.reference(), format!("{}/team/podman:1", pushed.server.host()));
    let script = format!(
        "mount -t tmpfs tmpfs /dev/shm
         podman() {{
             command podman --root \"$1/root\" --runroot \"$1/run\" --tmpdir \"$1/tmp\" \
                 --storage-driver overlay --events-backend none \"${{@:2}}\"
         }}
         podman \"$1\" pull --quiet --tls-verify=false {ours} >/dev/null
         cat \"$(podman \"$1\" image mount {ours})/etc/greeting\"
         box=$(podman \"$1\" create --network none {ours} sh)
         echo more >\"$1/more\"
         podman \"$1\" cp \"$1/more\" \"$box:/etc/more\"
         podman \"$1\" commit --quiet \"$box\" {theirs} >/dev/null
         podman \"$1\" push --quiet --tls-verify=false {theirs}"
    );
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = directory.path().to_str().unwrap();
    let said = run("unshare", &["--mount", "bash", "-euc", &script, "bash", place]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "greeting\n");
    is_a_base(&theirs, "from-podman");
}

#[test]
fn images_with_every_compression_of_skopeo_can_be_bases() {
    let pushed = pushed();
    let source = format!("docker://{}", pushed.reference());
    for (name, args) in [
        ("gzip", vec!["--dest-compress-format", "gzip"]),
        ("zstd", vec!["--dest-compress-format", "zstd"]),
        ("schema2", vec!["--format", "v2s2"]),
    ] {
        let target = format!("{}/team/{name}:1", pushed.server.host());
        let image = format!("docker://{target}");
        let common = ["copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        run("skopeo", &[&common[..], &args, &[&source, &image]].concat());
        let project = Project::new("");
        let pull = project.run(&["pull", &target]);
        assert_eq!(pull.status, Some(0), "{name}: {}", pull.stderr);
        let import = project.run(&["import", &target, name]);
        assert_eq!(import.status, Some(0), "{name}: {}", import.stderr);
        let base = fs::read_to_string(project.path().join(format!("layers/{name}.toml"))).unwrap();
        let digest = inspect(&[&image])["Digest"].as_str().unwrap().to_owned();
        assert!(base.contains(&format!("reference = \"{target}@{digest}\"")), "{base}");

        // Another machine has the project, but not the image.
        project.write("plywood.toml", &format!("[image.tiny]\nbase = \"{name}\"\noutputs = [\"oci\"]\n"));
        let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let project = project.with_store(elsewhere.path());
        project.build(&[]);
        assert!(project.layers().iter().map(|(_, diff_id)| diff_id).eq(&pushed.container()));
    }
}

#[test]
fn a_second_push_uploads_nothing_and_a_second_pull_downloads_nothing() {
    let pushed = pushed();
    let proxy = Proxy::start(pushed.server.port());
    let reference = format!("{}/team/tiny:1", proxy.host());
    let push = pushed.project.run(&["push", "tiny", &reference]);
    assert_eq!(push.status, Some(0), "{}", push.stderr);
    let lines = proxy.lines();
    assert!(lines.len() <= pushed.diff_ids().len() + 1 + 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("HEAD")), "{lines:?}");

    let project = Project::new("");
    project.run(&["pull", &reference]);
    proxy.take();
    let pull = project.run(&["pull", "--progress", "json", &reference]);
    assert_eq!(pull.status, Some(0), "{}", pull.stderr);
    let layers = pull.json_lines().into_iter().filter(|event| event["event"] == "transfer-finished");
    let moved: Vec<_> = layers.filter(|event| event["how"] == "moved").collect();
    assert!(moved.is_empty(), "{moved:?}");
    assert_eq!(proxy.lines().len(), 1, "the manifest");
}

/// Returns another project with the elements and the store of the pushed one.
fn neighbour(pushed: &Pushed, definitions: &str) -> Project {
    let project = Project::new("").with_store(pushed.project.store());
    project.element("greeting");
    project.write("plywood.toml", definitions);
    project
}

#[test]
fn a_container_that_was_not_built_is_assembled_from_layers_of_the_store() {
    let pushed = pushed();
    let image = |name: &str, elements: &str| {
        format!(
            "[image.{name}]\nbase = \"debian-bookworm\"\nelements = [{elements}]\noutputs = [\"qcow2\"]\n"
        )
    };
    let definitions = image("twin", "\"greeting\"")
        + &image("topped", "\"greeting\", \"last\"")
        + &image("unbuilt", "\"greeting\", \"other\"")
        + &image("owned", "\"greeting\"")
        + "container = { user = \"absent\" }\n";
    let project = neighbour(pushed, &definitions);
    project.element("other");
    project.hook("elements/last/finalise.d/50-last", "echo last >/etc/last");
    project.write("elements/last/README.md", "# last\n");
    let reference = |image: &str| format!("{}/made/{image}:1", pushed.server.host());
    let push = |image: &str| project.run(&["push", image, &reference(image)]);

    let twin = push("twin");
    assert_eq!(twin.status, Some(0), "{}", twin.stderr);
    let digest = |said: &str| said.trim().split_once('@').unwrap().1.to_owned();
    assert_eq!(digest(&twin.stdout), digest(&pushed.reference));

    // The store has its stack, but not the changes of the final stage.
    let topped = push("topped");
    assert_eq!(topped.status, Some(0), "{}", topped.stderr);
    let config = inspect(&["--config", &format!("docker://{}", reference("topped"))]);
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
    let stack = pushed.diff_ids();
    assert!(layers.len() > stack.len() && layers.iter().zip(&stack).all(|(layer, below)| layer == below));
    assert_ne!(digest(&topped.stdout), digest(&twin.stdout));

    let unbuilt = push("unbuilt");
    assert_eq!(unbuilt.status, Some(1));
    let hint = "step `other` of image `unbuilt` is not in the store";
    assert!(unbuilt.stderr.contains(hint) && unbuilt.stderr.contains(" build unbuilt"), "{}", unbuilt.stderr);
    let owned = push("owned");
    assert_eq!(owned.status, Some(1));
    let place =
        "plywood.toml:17:22: image `owned`: its container would not start, as it runs as user `absent`";
    assert!(owned.stderr.contains(place), "{}", owned.stderr);
    let unknown = push("unknown");
    assert!(
        unknown.stderr.contains("image `unknown` is neither defined in the project nor pulled"),
        "{}",
        unknown.stderr
    );
}

/// Pushes. Returns the number of blobs that were mounted from `from`, the number of uploaded blobs,
/// and the uploaded bytes.
fn mounted(project: &Project, proxy: &Proxy, image: &str, to: &str, from: &str) -> (usize, usize, u64) {
    proxy.take();
    let push = project.run(&["push", "--progress", "json", image, &format!("{}/{to}:1", proxy.host())]);
    assert_eq!(push.status, Some(0), "{}", push.stderr);
    let lines: Vec<_> = proxy.take().into_iter().map(|seen| seen.line).collect();
    let asked = |line: &&String| line.starts_with("POST") && line.ends_with(&format!("&from={from}"));
    let sent = lines.iter().filter(|line| line.starts_with("PUT") && line.contains("/blobs/")).count();
    let events = push.json_lines();
    let of = |kind: &'static str| events.iter().filter(move |event| event["event"] == kind);
    let mounted = of("transfer-finished").filter(|event| event["how"] == "mounted").count();
    assert!(lines.iter().filter(asked).count() >= mounted, "{lines:?}");
    let bytes = of("transfers-finished").map(|event| event["moved"].as_u64().unwrap()).sum();
    (mounted, sent, bytes)
}

#[test]
fn blobs_of_another_repository_of_the_registry_are_mounted() {
    let pushed = pushed();
    let proxy = Proxy::start(pushed.server.port());
    let source = format!("{}/team/tiny:1", proxy.host());
    let layers = pushed.container().len();

    let project = Project::new("");
    let pull = project.run(&["pull", &source]);
    assert_eq!(pull.status, Some(0), "{}", pull.stderr);
    let from = "team%2Ftiny";
    assert_eq!(mounted(&project, &proxy, &source, "mounted/pulled", from), (layers + 1, 0, 0));

    // The layers of a base. The config of the image on it is new.
    let project = Project::new("");
    let import = project.run(&["import", &source, "imported"]);
    assert_eq!(import.status, Some(0), "{}", import.stderr);
    project.write("plywood.toml", "[image.tiny]\nbase = \"imported\"\noutputs = [\"oci\"]\n");
    project.build(&[]);
    let (of_base, sent, bytes) = mounted(&project, &proxy, "tiny", "mounted/based", from);
    assert!(of_base == layers && sent <= 2 && bytes < 100_000, "{of_base} {sent} {bytes}");

    // Layers that were published as steps.
    let project = neighbour(
        pushed,
        &format!(
            "[cache]\nto = \"{}/team/cache\"\n[image.tiny]\nbase = \"debian-bookworm\"\n\
             elements = [\"greeting\"]\noutputs = [\"oci\"]\n",
            proxy.host()
        ),
    );
    project.build(&[]);
    let (of_cache, sent, bytes) = mounted(&project, &proxy, "tiny", "mounted/cached", "team%2Fcache");
    assert!(of_cache == layers && sent == 1 && bytes < 100_000, "{of_cache} {sent} {bytes}");
}

#[test]
fn an_index_for_several_platforms_gives_the_image_for_this_machine() {
    let pushed = pushed();
    let own: Value = serde_json::from_slice(
        &run(
            "skopeo",
            &["inspect", "--tls-verify=false", "--raw", &format!("docker://{}", pushed.reference())],
        )
        .stdout,
    )
    .unwrap();
    let host = pushed.server.host();
    let architecture =
        inspect(&["--config", &format!("docker://{}", pushed.reference())])["architecture"].clone();
    let (_, digest) = pushed.reference.split_once('@').unwrap();
    let entry = |architecture: &Value, digest: &str| {
        serde_json::json!({
            "mediaType": own["mediaType"], "size": own.to_string().len(), "digest": digest,
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let index = |entries: Vec<Value>| {
        serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
        })
    };
    let put = |tag: &str, index: &Value| {
        let url = format!("http://{host}/v2/team/tiny/manifests/{tag}");
        let kind = "Content-Type: application/vnd.oci.image.index.v1+json";
        run("curl", &["-sSf", "-X", "PUT", "-H", kind, "--data-binary", &index.to_string(), &url]);
    };
    put("many", &index(vec![entry(&"sparc64".into(), digest), entry(&architecture, digest)]));
    put("foreign", &index(vec![entry(&"sparc64".into(), digest)]));
    let project = Project::new("");
    let pull = project.run(&["pull", &format!("{host}/team/tiny:many")]);
    assert_eq!(pull.status, Some(0), "{}", pull.stderr);
    assert!(pull.stdout.contains(digest), "{}", pull.stdout);
    let pull = project.run(&["pull", &format!("{host}/team/tiny:foreign")]);
    assert_eq!(pull.status, Some(1));
    assert!(
        pull.stderr.contains("no image for linux/") && pull.stderr.contains("linux/sparc64"),
        "{}",
        pull.stderr
    );
}

#[test]
fn a_disk_is_pushed_as_an_artifact_and_as_a_containerdisk_for_kubevirt() {
    let pushed = pushed();
    let disk = pushed.project.out().join("tiny.qcow2");
    let out = pushed.project.out().display().to_string();
    let push = |format: &str| {
        let reference = format!("{}/team/disk:{format}", pushed.server.host());
        let push = pushed.project.run(&["push", "tiny", &reference, "-f", format, "-o", &out]);
        assert_eq!(push.status, Some(0), "{}", push.stderr);
        reference
    };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();

    let artifact = push("qcow2");
    let pull = pushed.project.run(&["pull", &artifact]);
    assert!(pull.status == Some(1) && pull.stderr.contains("pull -o"), "{}", pull.stderr);
    let pull = pushed.project.run(&["pull", &artifact, "-o", &at("pulled")]);
    assert_eq!(pull.status, Some(0), "{}", pull.stderr);
    run("cmp", &[disk.to_str().unwrap(), &at("pulled/tiny.qcow2")]);

    let image = format!("docker://{}", push("containerdisk"));
    let copy = format!("oci:{}:copy", at("copy"));
    run("skopeo", &["copy", "--insecure-policy", "--src-tls-verify=false", &image, &copy]);
    run("umoci", &["unpack", "--image", &format!("{}:copy", at("copy")), &at("bundle")]);
    let inside = directory.path().join("bundle/rootfs/disk/tiny.qcow2");
    run("cmp", &[disk.to_str().unwrap(), inside.to_str().unwrap()]);
    // As in KubeVirt's user guide: FROM scratch, ADD --chown=107:107 to /disk/. This is the user of
    // QEMU there.
    let metadata = fs::metadata(&inside).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (107, 107, 0o440));
    let names = |path: &str| -> Vec<_> {
        let entries = fs::read_dir(directory.path().join("bundle/rootfs").join(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!((names(""), names("disk")), (vec!["disk".to_owned()], vec!["tiny.qcow2".to_owned()]));
    let config = inspect(&["--config", &image]);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    assert_eq!((&config["os"], config["architecture"].is_string()), (&"linux".into(), true));
}
