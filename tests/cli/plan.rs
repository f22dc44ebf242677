//! Tests of `plan` and `explain`: keys and warnings.

use std::collections::BTreeMap;

use crate::common::project::Project;

/// The name of a change, the change, and the steps with a different key after it.
type Change = (&'static str, fn(&Project), &'static [&'static str]);

#[test]
fn files_that_look_like_hooks_but_do_not_run_are_warnings() {
    let project = Project::of_elements(&["one"]);
    project.hook("elements/one/install.d/60-dotted.sh", "true");
    project.write("elements/one/install.d/70-plain", "#!/bin/sh\ntrue\n");
    let run = project.run(&["plan"]);
    assert_eq!(run.status, Some(0));
    assert_eq!(
        run.stderr,
        "warning: element `one`: `install.d/60-dotted.sh` has '.' in its name, so it does not run\n\
         warning: element `one`: `install.d/70-plain` is not executable, so it does not run\n"
    );
    let check = project.run(&["elements", "check", "one"]);
    assert_eq!(
        (check.status, check.stderr.as_str()),
        (Some(0), "0 errors, 2 warnings\n"),
        "{}",
        check.stdout
    );
}

#[test]
fn a_plan_warns_about_files_that_more_users_can_read_in_the_image() {
    let project = Project::of_elements(&["one"]);
    project.write("elements/one/static/etc/ssl/k.pem", "secret\n");
    project.write("elements/one/static/etc/motd", "hello\n");
    project.chmod("elements/one", 0o755);
    project.chmod("elements/one/static/etc/motd", 0o644);
    project.chmod("elements/one/static/etc/ssl/k.pem", 0o600);
    let message = "`static/etc/ssl/k.pem` has the mode 0644 in the image, although other users may not read it on the build host: \
                   set its mode in a hook";
    assert_eq!(project.run(&["plan"]).stderr, format!("warning: element `one`: {message}\n"));
    let check = project.run(&["elements", "check", "one"]);
    assert_eq!(check.stdout, format!("warning: one/static/etc/ssl/k.pem: {message}\n"));
    project.chmod("elements/one", 0o700);
    assert_eq!(project.run(&["plan"]).stderr, "", "a checkout with the umask 077");
}

#[test]
fn a_plan_warns_about_settings_that_nothing_reads() {
    let project = Project::of_elements(&["one"]);
    project.hook(
        "elements/one/install.d/60-user",
        "echo $DIB_DEV_USER_USERNAME; cat /tmp/in_target.d/files/$DIB_KEY",
    );
    project.write("key.pub", "");
    let env = "env = { DIB_DEV_USER_USRNAME = \"joe\", DIB_KEY = \"me.pub\", DIB_NOTHING_LIKE_IT = \"1\", DIB_OFFLINE = \"\", http_proxy = \"\" }";
    let files = "files = { \"me.pub\" = \"key.pub\", \"mee.pub\" = \"key.pub\" }";
    project.define(&format!("elements = [\"one\"]\n{env}\n{files}"));
    assert_eq!(
        project.run(&["plan"]).stderr,
        "warning: no element of this image reads DIB_DEV_USER_USRNAME: did you mean DIB_DEV_USER_USERNAME?\n\
         warning: no element of this image reads DIB_NOTHING_LIKE_IT\n\
         warning: no hook sees `mee.pub` of `files`: set a variable that an element of this image reads to that name\n"
    );
}

#[test]
fn without_a_store_every_step_of_a_plan_is_a_miss() {
    let run = Project::of_elements(&["one", "two"]).run(&["plan"]);
    let words: Vec<_> = run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(words[0], ["tiny"]);
    for (line, step) in words[1..].iter().zip(["base:debian-bookworm", "one", "two"]) {
        assert_eq!((line[0], &line[2..]), (step, ["miss", "not", "built", "yet"].as_slice()));
    }
    assert_eq!((run.status, words.len()), (Some(0), 4));
}

/// Returns the input key of each step.
fn keys(project: &Project) -> BTreeMap<String, String> {
    let forecast = project.run(&["plan", "--json"]).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let steps = forecast["images"][0]["steps"].as_array().unwrap().iter();
    steps.map(|step| (text(&step["step"]), text(&step["input-key"]))).collect()
}

/// Returns the steps whose keys differ.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    assert!(before.keys().eq(after.keys()), "{before:?} {after:?}");
    after.iter().filter(|(step, key)| before[*step] != **key).map(|(step, _)| step.clone()).collect()
}

#[test]
fn a_key_depends_only_on_inputs_that_its_hooks_can_see() {
    const IMAGE: &str = "elements = [\"a\", \"b\", \"c\"]";
    let table: [Change; 8] = [
        ("a README", |project| project.write("elements/b/README.md", "# other\n"), &[]),
        (
            "a variable that nothing names",
            |project| project.define(&format!("{IMAGE}\nenv = {{ DIB_UNHEARD_OF = \"1\" }}")),
            &[],
        ),
        (
            "a variable that a hook names",
            |project| project.define(&format!("{IMAGE}\nenv = {{ DIB_B_NAME = \"other\" }}")),
            &["b", "c"],
        ),
        (
            "another image's elements",
            |project| {
                let text = std::fs::read_to_string(project.path().join("plywood.toml")).unwrap();
                project.write("plywood.toml", &format!("{text}[image.zoo]\nbase = \"debian-trixie\"\n"));
            },
            &[],
        ),
        (
            "a comment in a hook",
            |project| project.hook("elements/b/install.d/50-b", "# why\ntrue"),
            &["b", "c"],
        ),
        ("a mode that git does not keep", |project| project.chmod("elements/b/install.d/50-b", 0o700), &[]),
        ("a file in `static`", |project| project.write("elements/c/static/etc/motd", "hi\n"), &["c"]),
        (
            "the epoch",
            |project| {
                let text = std::fs::read_to_string(project.path().join("plywood.toml")).unwrap();
                project.write("plywood.toml", &format!("{text}[project]\nsource-date-epoch = 1\n"));
            },
            &["a", "b", "base:debian-bookworm", "c"],
        ),
    ];
    for (name, change, expected) in table {
        let project = Project::of_elements(&["a", "b", "c"]);
        project.define(IMAGE);
        project.hook("elements/b/install.d/50-b", "echo \"${DIB_B_NAME:-}\" >/etc/b");
        let before = keys(&project);
        change(&project);
        assert_eq!(changed(&before, &keys(&project)), expected, "{name}");
    }
}

#[test]
fn a_key_does_not_depend_on_user_or_directory() {
    let here = Project::of_elements(&["a", "b"]);
    let there = Project::of_elements(&["b", "a"]);
    there.define("elements = [\"a\", \"b\"]");
    let mut command = there.command(&["plan", "--json"]);
    command.envs([("TZ", "Asia/Tokyo"), ("LC_ALL", "de_DE.UTF-8"), ("HOME", "/nonexistent"), ("DIB_X", "1")]);
    let output = command.output().unwrap();
    let there: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(here.run(&["plan", "--json"]).json(), there);
}

#[test]
fn a_secret_is_in_the_key_and_never_shown() {
    let project = Project::of_elements(&["one"]);
    project.hook("elements/one/install.d/50-one", "echo \"$DIB_ONE_PASSWORD\" | sha256sum >/etc/one");
    let with = |password: &str| {
        project.define(&format!("elements = [\"one\"]\nenv = {{ DIB_ONE_PASSWORD = \"{password}\" }}"));
        let explained = project.run(&["explain", "tiny", "one"]);
        assert!(explained.stdout.contains("variable DIB_ONE_PASSWORD = sealed "), "{}", explained.stdout);
        let shown = [&["plan", "--json"][..], &["explain", "tiny", "--json"], &["elements", "show", "one"]];
        let shown = shown.map(|args| project.run(args).stdout).concat() + &explained.stdout;
        assert!(!shown.contains(password), "{shown}");
        keys(&project)
    };
    assert_eq!(changed(&with("correct horse"), &with("battery staple")), ["one"]);
}

#[test]
fn a_plan_warns_about_too_many_layers_for_docker() {
    let project = Project::of_elements(&["one"]);
    let directory = project.path().join("many");
    std::fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = plywood::oci::Digest::of(bytes);
        std::fs::write(directory.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        serde_json::json!({ "digest": digest, "size": bytes.len() })
    };
    let layers: Vec<_> = (0..124).map(archive_of).collect();
    let diff_ids: Vec<_> = layers.iter().map(plywood::oci::Digest::of).collect();
    let config = serde_json::json!({ "os": "linux", "architecture": crate::architecture(), "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let typed = |mut blob: serde_json::Value, kind: &str| {
        blob["mediaType"] = format!("application/vnd.oci.image.{kind}").into();
        blob
    };
    let layers: Vec<_> = layers.iter().map(|layer| typed(blob(layer), "layer.v1.tar")).collect();
    let config = typed(blob(config.to_string().as_bytes()), "config.v1+json");
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let manifest = typed(blob(manifest.to_string().as_bytes()), "manifest.v1+json");
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [manifest] });
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    let source = format!("oci:{}", directory.display());
    let import = project.run(&["import", &source, "many", "--distro", "debian", "--release", "bookworm"]);
    assert_eq!(import.status, Some(0), "{}", import.stderr);
    let warning = |outputs: &str| {
        project.write(
            "plywood.toml",
            &format!("[image.tiny]\nbase = \"many\"\nelements = [\"one\"]\noutputs = {outputs}\n"),
        );
        let plan = project.run(&["plan"]);
        assert_eq!(plan.status, Some(0), "{}", plan.stderr);
        plan.stderr.contains("the container image has up to 126 layers")
    };
    assert!(warning("[\"qcow2\", \"oci\"]"));
    assert!(!warning("[\"qcow2\"]"));
}

/// Returns a layer of one directory.
fn archive_of(number: u8) -> Vec<u8> {
    use plywood::layer::{Encoder, Entry, Kind, Meta};
    let mut encoder = Encoder::new(Vec::new());
    let path = format!("directory-{number}").into_bytes();
    encoder.append(&Entry { path, kind: Kind::Directory, meta: Meta::IMPLIED_DIRECTORY }).unwrap();
    encoder.finish().unwrap().0
}
