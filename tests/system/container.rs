//! Tests of containers with skopeo, umoci and a Docker engine. They need root, a package mirror and
//! these programs.

use std::fs;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::common::project::Project;
use crate::common::work::{Run, Work};
use serde_json::{Value, json};

const IMAGE: &str = r#"
elements = ["greeting"]
packages = ["gcc", "libc6-dev"]
outputs = ["qcow2", "oci", "docker-archive"]

[image.tiny.container]
entrypoint = ["/bin/sh", "-c"]
cmd = ["cat /etc/greeting"]
user = "nobody"
workdir = "/tmp"
env = { LANG = "C.UTF-8" }
labels = { "org.example.purpose" = "test" }
"#;

/// Returns an image with a compiler, which is built once as disk and as container.
fn built() -> &'static Project {
    static PROJECT: OnceLock<Project> = OnceLock::new();
    PROJECT.get_or_init(|| {
        let project = Project::new(IMAGE).with_base();
        project.element("greeting");
        project.build(&[]);
        project
    })
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs the program `{program}`: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn path(name: &str) -> String {
    built().out().join(name).display().to_string()
}

/// Returns the config as skopeo reads it.
fn config(image: &str) -> Value {
    serde_json::from_slice(&run("skopeo", &["inspect", "--config", image]).stdout).unwrap()
}

#[test]
fn a_disk_and_the_containers_of_an_image_consist_of_the_same_layers() {
    let manifest = built().manifest();
    let layers: Value = built().layers().into_iter().map(|(_, id)| id).collect();
    let outputs = manifest["outputs"].as_array().unwrap();
    let formats: Vec<_> = outputs.iter().map(|output| output["format"].as_str().unwrap()).collect();
    assert_eq!(formats, ["qcow2", "oci", "docker-archive"]);
    for output in outputs {
        assert_eq!(output["diff-ids"], layers, "{output}");
    }
    assert_eq!(config(&format!("oci:{}", path("tiny.oci")))["rootfs"]["diff_ids"], layers);
    assert_eq!(config(&format!("docker-archive:{}", path("tiny.docker.tar")))["rootfs"]["diff_ids"], layers);
}

#[test]
fn a_config_has_the_values_of_the_definition_and_one_entry_of_history_per_step() {
    let config = config(&format!("oci:{}", path("tiny.oci")));
    assert_eq!(
        config["config"],
        json!({
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["cat /etc/greeting"],
            "User": "nobody",
            "WorkingDir": "/tmp",
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"],
            "Labels": { "org.example.purpose": "test" },
        })
    );
    let history: Vec<_> =
        config["history"].as_array().unwrap().iter().map(|entry| &entry["created_by"]).collect();
    let steps = [
        "plywood base:debian-bookworm",
        "plywood element greeting",
        "plywood image:packages",
        "plywood image:final",
    ];
    assert_eq!(history, steps);
    assert_eq!(config["created"], "1980-01-01T00:00:00Z");
}

#[test]
fn skopeo_copies_and_umoci_unpacks_an_oci_layout() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            &format!("oci:{}", path("tiny.oci")),
            &format!("oci:{}:copy", at("copy")),
        ],
    );
    run("umoci", &["unpack", "--image", &format!("{}:copy", at("copy")), &at("bundle")]);
    let root = directory.path().join("bundle/rootfs");
    assert_eq!(fs::read_to_string(root.join("etc/greeting")).unwrap(), "greeting\n");
    assert!(root.join("usr/bin/gcc").exists());
    let bundle: Value =
        serde_json::from_slice(&fs::read(directory.path().join("bundle/config.json")).unwrap()).unwrap();
    assert_eq!(bundle["process"]["args"], json!(["/bin/sh", "-c", "cat /etc/greeting"]));
    assert_eq!(
        (&bundle["process"]["cwd"], &bundle["process"]["user"]["uid"]),
        (&json!("/tmp"), &json!(65534))
    );
}

#[test]
fn a_docker_engine_loads_the_archive_and_compiles_c_in_it() {
    let script = |name: &str| format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    let output = run(&script("with-docker-engine"), &[&script("try-container"), &path("tiny.docker.tar")]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("Hello from C, compiled by gcc 12"), "{said}");
}

#[test]
fn an_image_of_type_docker_is_loaded_into_the_engine_and_runs_there() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "echo web >/etc/web; echo \"$DOCKER_TARGET\" >/etc/target");
    work.hook("web", "finalise.d/50-last", "echo last >/etc/last");
    let command = work.command("disk-image-create", &[]);
    let script = r#"
        "$0" -n -t docker,tar --docker-target lab/web:1.0 -o x tiny web
        "$0" -n -t docker --docker-target lab/web -o x tiny web
        docker run --rm --network none lab/web:1.0 cat /etc/web /etc/target /etc/last
        docker run --rm --network none lab/web find /dev /proc/self/fd -maxdepth 0
        docker image ls --format '{{.Repository}}:{{.Tag}}' lab/web | sort"#;
    let mut engine = Command::new(format!("{}/scripts/with-docker-engine", env!("CARGO_MANIFEST_DIR")));
    engine.args(["sh", "-euc", script]).arg(command.get_program()).current_dir(work.path());
    engine.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let stdout = Run::of(engine.output().unwrap()).expect_success();
    let from_engine = stdout.rsplit_once("Build completed successfully\n").unwrap().1;
    let expected = "web\nlab/web:1.0\nlast\n/dev\n/proc/self/fd\nlab/web:1.0\nlab/web:latest\n";
    assert_eq!(from_engine, expected, "{stdout}");
    assert_eq!(work.files("."), ["x.tar"]);
}
