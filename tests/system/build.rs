//! Tests of builds on a real Debian: hits, misses and messages. They need root and a package
//! mirror.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::bookworm;
use crate::common::project::Project;

const NOTHING: [&str; 0] = [];

/// Returns a built image of three elements.
fn built() -> Project {
    let project = Project::of_elements(&["a", "b", "c"]).with_base();
    assert_eq!(project.build(&[]).made(), ["a", "b", "c", "image:final"]);
    project
}

/// Returns the files of a store that a build may write, with their inodes. A rewritten file has
/// another inode.
fn contents(store: &Path) -> BTreeSet<(String, u64)> {
    let parts = [
        "blobs/sha256",
        "layers",
        "records/input",
        "records/content",
        "records/evidence",
        "snapshots",
        "cache/apt/packages",
        "logs/tiny/a",
    ];
    let entries =
        parts.into_iter().flat_map(|part| fs::read_dir(store.join(part)).unwrap()).map(Result::unwrap);
    entries.map(|entry| (entry.path().to_string_lossy().into_owned(), entry.ino())).collect()
}

#[test]
fn an_unchanged_image_runs_nothing_fetches_nothing_and_writes_no_layer() {
    let project = Project::new("elements = [\"a\"]\npackages = [\"hello\"]\noutputs = [\"oci\"]").with_base();
    project.element("a");
    assert_eq!(project.build(&[]).made(), ["a", "image:packages", "image:final"]);
    let before = contents(&project.store());

    let again = project.build(&[]);
    assert_eq!(again.made(), NOTHING);
    assert_eq!(again.of("task-started").count(), 0);
    assert_eq!(again.hits("input"), ["base:debian-bookworm", "a", "image:packages", "image:final"]);
    let written: Vec<_> = contents(&project.store()).symmetric_difference(&before).cloned().collect();
    assert_eq!(written, []);

    let started = Instant::now();
    assert_eq!(project.run(&["plan"]).status, Some(0));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn an_element_of_the_user_runs_a_hook_after_all_elements_by_its_slot() {
    let project = Project::of_elements(&["a", "b"]).with_small_base();
    project.hook("elements/a/post-install.d/95-index", "echo /etc/[ab] >/etc/index");
    let index = || {
        let run =
            project.run(&["shell", "tiny", "--", "sh", "-c", "read -r line </etc/index; echo \"$line\""]);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        run.stdout
    };
    assert_eq!(project.build(&[]).made(), ["a", "b", "image:final"]);
    assert_eq!(index(), "/etc/a\n");

    project.write("elements/a/plywood-slots", "post-install.d/95- late\n");
    assert_eq!(project.build(&[]).made(), ["a", "b", "image:late", "image:final"]);
    assert_eq!(index(), "/etc/a /etc/b\n");
    assert_eq!(project.build(&[]).made(), NOTHING);
}

/// The final stage has no layer that could keep them, and `plywood build` has no directory of the
/// caller.
#[test]
fn files_that_hooks_of_the_final_stage_leave_beside_the_image_are_lost_with_a_warning() {
    let project = Project::of_elements(&["a"]).with_small_base();
    project.hook("elements/a/extra-data.d/50-kept", "echo kept >kept");
    project.hook("elements/a/cleanup.d/50-lost", "echo lost >lost; cat kept");
    let warning = "hook `cleanup.d/50-lost` left `lost` beside the image, which `plywood build` does not keep: hooks up to \
                   `post-root.d` can leave files there, and with `disk-image-create` all can";
    assert_eq!(project.build(&[]).warnings(), [warning]);
    assert!(project.out().join("kept").is_file() && !project.out().join("lost").exists());
}

/// The name of a change, the change, the steps that are built again, and the hits by content.
type Change = (&'static str, fn(&Project), &'static [&'static str], &'static [&'static str]);

#[test]
fn a_change_rebuilds_its_step_and_those_above_unless_the_layer_is_the_same() {
    let table: [Change; 7] = [
        ("a README", |project| project.write("elements/a/README.md", "# a\n\nOther words.\n"), &[], &[]),
        (
            "a line of the last element",
            |project| project.hook("elements/c/install.d/50-c", "echo other >/etc/c"),
            &["c", "image:final"],
            &[],
        ),
        (
            "a line of an element in the middle",
            |project| project.hook("elements/b/install.d/50-b", "echo other >/etc/b"),
            &["b", "c", "image:final"],
            &[],
        ),
        (
            "a comment in a hook",
            |project| project.hook("elements/a/install.d/50-a", "# why\necho a >/etc/a"),
            &["a"],
            &["b", "c", "image:final"],
        ),
        (
            "another way to the same result",
            |project| project.hook("elements/b/install.d/50-b", "printf 'b\\n' >/etc/b; touch /etc/b"),
            &["b"],
            &["c", "image:final"],
        ),
        (
            "a hook that does nothing more",
            |project| project.hook("elements/b/post-install.d/90-look", "ls -lR / >/dev/null 2>&1 || true"),
            &["b"],
            &["c", "image:final"],
        ),
        (
            "a variable that nothing names",
            |project| {
                project
                    .define("elements = [\"a\", \"b\", \"c\"]\noutputs = [\"tar\"]\nenv = { DIB_X = \"1\" }")
            },
            &[],
            &[],
        ),
    ];
    let project = built();
    let original = project.layers();
    for (name, change, made, by_content) in table {
        change(&project);
        let build = project.build(&[]);
        assert_eq!((build.made().as_slice(), build.hits("content").as_slice()), (made, by_content), "{name}");
        // The original state: all steps are hits.
        for element in ["a", "b", "c"] {
            fs::remove_dir_all(project.path().join("elements").join(element)).unwrap();
            project.element(element);
        }
        assert_eq!(project.build(&[]).made(), NOTHING, "back from {name}");
        assert_eq!(project.layers(), original, "back from {name}");
    }
}

#[test]
fn a_variable_changes_the_layers_of_hooks_that_name_it_and_those_above() {
    let project = built();
    project.hook("elements/b/install.d/50-b", "echo \"${DIB_B_NAME:-nobody}\" >/etc/b");
    let with = |name: &str| {
        let env = format!("env = {{ DIB_B_NAME = \"{name}\" }}");
        project.define(&format!("elements = [\"a\", \"b\", \"c\"]\noutputs = [\"tar\"]\n{env}"));
        let made = project.build(&[]).made().into_iter().map(str::to_owned).collect::<Vec<_>>();
        (made, project.layers())
    };
    let (_, alice) = with("alice");
    let (made, bob) = with("bob");
    assert_eq!(made, ["b", "c", "image:final"]);
    let differing: Vec<_> =
        alice.iter().zip(&bob).filter(|(a, b)| a != b).map(|((step, _), _)| step).collect();
    // The layers above are built again, and are equal.
    assert_eq!(differing, ["b"]);

    let plan = project.run(&["plan"]);
    assert!(!plan.stdout.contains("miss"), "{}", plan.stdout);
    project.define("elements = [\"a\", \"b\", \"c\"]\noutputs = [\"tar\"]\nenv = { DIB_B_NAME = \"carol\" }");
    let plan = project.run(&["plan"]).stdout;
    assert!(plan.contains("miss  variable DIB_B_NAME changed: "), "{plan}");
    assert!(plan.contains("hit if `b` comes out the same"), "{plan}");
    let explained = project.run(&["explain", "tiny", "b", "--json"]).json();
    let reason = &explained["steps"][0]["outcome"]["reasons"][0];
    assert_eq!((&reason["field"], &reason["new"]), (&"variable DIB_B_NAME".into(), &"carol".into()));
    assert!(["alice", "bob"].contains(&reason["old"].as_str().unwrap()), "{reason}");
}

#[test]
fn no_cache_rebuilds_equal_layers_and_fail_on_miss_runs_nothing() {
    let project = Project::of_elements(&["a"]).with_base();
    let refused = project.refused(&["--fail-on-miss"]);
    assert!(
        refused.stderr.contains("error: step `a` of image `tiny` is not in the store"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("task-started"), "{}", refused.stderr);

    project.build(&[]);
    let before = project.layers();
    assert_eq!(project.build(&["--fail-on-miss"]).made(), NOTHING);
    let again = project.build(&["--no-cache"]);
    assert_eq!(again.made(), ["base:debian-bookworm", "a", "image:final"]);
    assert_eq!(project.layers(), before);
}

#[test]
fn a_secret_reaches_its_hook_and_is_written_nowhere() {
    const SECRET: &str = "correct horse 'battery' staple";
    let project = Project::of_elements(&["a"]).with_base();
    project.hook(
        "elements/a/install.d/50-a",
        "set -x\necho \"$DIB_A_PASSWORD\"\nprintf %s \"$DIB_A_PASSWORD\" | sha256sum >/etc/a",
    );
    project.write("elements/a/environment.d/10-a.bash", "export DIB_A_PASSWORD=${DIB_A_PASSWORD:-}\n");
    project.define(&format!(
        "elements = [\"a\"]\noutputs = [\"oci\"]\nenv = {{ DIB_A_PASSWORD = \"{SECRET}\" }}"
    ));
    let run = project.run_build(&["-v"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("***"), "the hook printed it: {}", run.stderr);
    for words in ["correct horse", "staple"] {
        assert!(!run.stderr.contains(words), "{}", run.stderr);
        let grep = ["records", "logs", "layers", "index.json"].map(|part| project.store().join(part));
        let found = Command::new("grep").args(["-rl", words]).args(grep).arg(project.out()).output();
        assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
    }
    let hash = project.run(&["shell", "tiny", "--", "cat", "/etc/a"]).stdout;
    let expected = Command::new("sh").args(["-c", "printf %s \"$1\" | sha256sum", "sh", SECRET]).output();
    assert_eq!(hash, String::from_utf8(expected.unwrap().stdout).unwrap());
}

#[test]
fn the_error_of_a_failed_hook_has_output_and_log_and_the_step_is_not_cached() {
    let project = Project::of_elements(&["a", "b"]).with_base();
    project.hook("elements/b/install.d/50-b", "seq 1 30\necho 'no such package: foo' >&2\nexit 7");
    let failed = project.run(&["build", "-o", project.out().to_str().unwrap()]);
    assert_eq!(failed.status, Some(1));
    let error = &failed.stderr[failed.stderr.find("error: ").unwrap()..];
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "error: hook `install.d/50-b` of element `b` failed with exit status 7");
    assert_eq!((lines[1], lines[20]), ("  | 12", "  | no such package: foo"));
    assert_eq!(lines[21], "  all of its output: DIR/store/logs/tiny/b/install.d-50-b.log");
    assert_eq!(
        lines[23],
        "hint: to open a shell on the state that it left: plywood --project DIR/project --store DIR/store build tiny --on-error shell; \
         on the state before it: plywood --project DIR/project --store DIR/store shell tiny --at b:install.d/50-b"
    );
    let log = fs::read_to_string(project.store().join("logs/tiny/b/install.d-50-b.log")).unwrap();
    assert!(log.starts_with("1\n2\n") && log.ends_with("no such package: foo\n"), "{log}");

    // The shell shows the root as hooks of the element find it: with the layers below and its
    // files, without its own result.
    let inside = "cat /etc/a; ls /etc/b /tmp/in_target.d/install.d; echo >/etc/lost";
    let shell = project.run(&["shell", "tiny", "--at", "b", "--", "sh", "-c", inside]);
    assert_eq!(shell.stdout, "a\n/tmp/in_target.d/install.d:\n50-b\n");
    assert_eq!(project.run(&["shell", "tiny", "--at", "b", "--", "test", "-e", "/etc/lost"]).status, Some(1));
    assert_eq!(project.run(&["shell", "tiny", "--at", "b", "--", "sh", "-c", "exit 42"]).status, Some(42));

    let again = project.run_build(&[]);
    assert_eq!(again.status, Some(1));
    assert!(again.stderr.contains("\"task\":\"50-b\""), "the hook ran again: {}", again.stderr);
    project.element("b");
    assert_eq!(project.build(&[]).made(), ["b", "image:final"]);
}

#[test]
fn an_image_of_a_base_alone_is_built() {
    let project = Project::new("outputs = [\"tar\"]").with_base();
    assert_eq!(project.build(&[]).made(), ["image:final"]);
    assert_eq!(project.layers().len(), 1);
    let layers = &project.run(&["layers", "tiny", "--json"]).json()["layers"];
    assert_eq!(layers[0]["diff-id"], project.layers()[0].1.as_str());
    assert_eq!((&layers[0]["index"], &layers[0]["step"]), (&0.into(), &"base:debian-bookworm".into()));
    assert!(layers[0]["entries"].as_u64().unwrap() > 1000, "{layers}");
}

#[test]
fn unused_steps_are_collected_and_the_rest_is_sound() {
    let project = built();
    let before = project.layers();
    project.hook("elements/c/install.d/50-c", "echo other >/etc/c");
    project.build(&[]);
    let kept = project.run(&["store", "gc"]);
    assert!(kept.stdout.starts_with("removed 0 records, 0 layers"), "{}", kept.stdout);
    let emptied = project.run(&["store", "gc", "--older-than", "0"]);
    assert_eq!(emptied.status, Some(0), "{}", emptied.stderr);
    assert!(!emptied.stdout.starts_with("removed 0 records"), "{}", emptied.stdout);
    let check = project.run(&["store", "check"]);
    assert_eq!((check.status, check.stdout.ends_with("sound\n")), (Some(0), true), "{}", check.stdout);
    project.element("c");
    project.build(&[]);
    assert_eq!(project.layers(), before);
}

fn skopeo_config(layout: &Path) -> serde_json::Value {
    let image = format!("oci:{}", layout.display());
    let run = Command::new("skopeo").args(["inspect", "--config", &image]).output();
    serde_json::from_slice(&run.expect("this test needs the program `skopeo`").stdout).unwrap()
}

#[test]
fn an_image_can_be_built_on_imported_bases() {
    let project =
        Project::new("elements = [\"a\"]\noutputs = [\"oci\", \"docker-archive\", \"tar\"]\ncontainer = { env = { SAID_BY = \"base\" } }").with_base();
    project.element("a");
    project.build(&[]);
    let below = project.layers();
    let out = project.out();
    let sources = [
        ("from-oci", format!("oci:{}", out.join("tiny.oci").display())),
        ("from-docker", format!("docker-archive:{}", out.join("tiny.docker.tar").display())),
        ("from-tar", out.join("tiny.tar").display().to_string()),
    ];
    project.element("b");
    for (name, source) in &sources {
        let imported = project.run(&["import", source, name]);
        assert_eq!(imported.status, Some(0), "{name}: {}", imported.stderr);
        let base = fs::read_to_string(project.path().join(format!("layers/{name}.toml"))).unwrap();
        assert!(base.contains("distro = \"debian\"") && base.contains("release = \"bookworm\""), "{base}");
        project.write(
            "plywood.toml",
            &format!("[image.tiny]\nbase = \"{name}\"\nelements = [\"b\"]\noutputs = [\"oci\"]\n"),
        );
        project.build(&[]);
        let layers = project.layers();
        if *name != "from-tar" {
            let ids =
                |layers: &[(String, String)]| layers.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&layers)[..2], ids(&below), "{name}");
            let config = skopeo_config(&out.join("tiny.oci"));
            assert_eq!(config["config"]["Env"][1], "SAID_BY=base", "{name}");
            assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3, "{name}");
            assert_eq!(config["history"][1]["created_by"], "plywood element a", "{name}");
        }
        assert_eq!(
            project.run(&["shell", "tiny", "--", "cat", "/etc/a", "/etc/b"]).stdout,
            "a\nb\n",
            "{name}"
        );
    }
}

#[test]
fn a_base_that_is_missing_or_has_another_digest_is_refused() {
    let project = Project::new("");
    project.write("plywood.toml", "[image.tiny]\nbase = \"mine\"\noutputs = []\n");
    let digest = "0".repeat(64);
    let base = "distro = \"debian\"\nrelease = \"bookworm\"\nfamily = \"debian\"\n";
    let source = format!("[source.rootfs-tar]\npath = \"x.tar\"\ndigest = \"sha256:{digest}\"\n");
    project.write("layers/mine.toml", &format!("{base}{source}"));
    let absent = project.refused(&[]);
    let expected = "error: cannot build the base from `DIR/project/layers/x.tar`: \
                    No such file or directory (os error 2)\n\n\
                    hint: correct its path, which is relative to the file in `layers/` that names it\n";
    assert_eq!(absent.stderr, expected, "no step may have been started");
    project.write("layers/x.tar", "");
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let run = project.refused(&[]);
    let expected = format!(
        "error: `DIR/project/layers/x.tar` has digest {empty}, but the base is defined by sha256:{digest}\n\n\
         hint: get the file with the expected digest, or write `digest = \"{empty}\"` into the base's definition\n"
    );
    assert!(run.stderr.ends_with(&expected), "{}", run.stderr);
}

/// Makes an archive of the bookworm root without the mounts of a running system, and with its own
/// `/etc/mark`.
fn archive(project: &Project, mark: &str) -> PathBuf {
    let tree = project.path().join("tree");
    let path = project.path().join("root.tar");
    project.write("tree/etc/mark", mark);
    let pack = |from: &Path, args: &[&str]| {
        let mut tar = Command::new("tar");
        tar.args(args).arg("-f").arg(&path).arg("-C").arg(from).arg(".");
        assert!(tar.status().unwrap().success());
    };
    pack(bookworm(), &["-c", "--exclude=./proc", "--exclude=./sys", "--exclude=./dev", "--exclude=./run"]);
    pack(&tree, &["-r"]);
    path
}

#[test]
fn a_base_stays_if_another_project_imports_one_of_the_same_name() {
    let one = Project::of_elements(&["a"]);
    let two = Project::of_elements(&["a"]).with_store(one.store());
    for (project, mark) in [(&one, "1"), (&two, "2")] {
        project.write(
            "plywood.toml",
            "[image.tiny]\nbase = \"mine\"\nelements = [\"a\"]\noutputs = [\"tar\"]\n",
        );
        let import = project.run(&["import", archive(project, mark).to_str().unwrap(), "mine"]);
        assert_eq!(import.status, Some(0), "{}", import.stderr);
    }
    for _ in 0..2 {
        assert_eq!(one.run(&["store", "gc", "--older-than", "0"]).status, Some(0));
        std::thread::sleep(Duration::from_secs(1));
    }
    for (project, mark) in [(&one, "1"), (&two, "2")] {
        project.build(&[]);
        assert_eq!(project.run(&["shell", "tiny", "--", "cat", "/etc/mark"]).stdout, mark);
    }
}

#[test]
fn an_import_does_not_replace_a_base_that_a_user_wrote() {
    let project = Project::new("outputs = []");
    let written = "distro = \"debian\"\nrelease = \"bookworm\"\nfamily = \"debian\"\n\
                   [source.mmdebstrap]\nvariant = \"minbase\"\nsuites = [\"bookworm\"]\n";
    project.write("layers/mine.toml", written);
    let import = project.run(&["import", "root.tar", "mine"]);
    assert_eq!(
        import.stderr,
        "error: `DIR/project/layers/mine.toml` defines a base that was not imported\n\n\
         hint: choose another name, or remove that file\n"
    );
    assert_eq!(fs::read_to_string(project.path().join("layers/mine.toml")).unwrap(), written);
}

#[test]
fn an_image_may_have_an_rpm_that_lists_nothing() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let applet = r"printf '#!/bin/sh\nexit 1\n' >/bin/rpm; chmod +x /bin/rpm";
    project.hook("elements/a/install.d/50-a", applet);
    project.build(&[]);
}

#[test]
fn a_base_without_a_shell_is_written() {
    let project = Project::new("outputs = [\"tar\", \"oci\"]");
    project.write("root/app", "one program\n");
    let archive = project.path().join("root.tar").display().to_string();
    let root = project.path().join("root");
    let made = Command::new("tar").args(["-cf", &archive, "-C"]).arg(root).arg(".").status().unwrap();
    assert!(made.success());
    let import =
        project.run(&["import", &archive, "debian-bookworm", "--distro=debian", "--release=bookworm"]);
    assert_eq!(import.status, Some(0), "{}", import.stderr);
    project.build(&[]);
    assert_eq!(project.manifest()["packages"], serde_json::json!([]));
}

#[test]
fn a_manifest_lists_stale_outputs() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let files = |key: &str| -> Vec<String> {
        let manifest = project.manifest();
        let outputs = manifest[key].as_array().cloned().unwrap_or_default();
        outputs.iter().map(|output| output["file"].as_str().unwrap().to_owned()).collect()
    };
    project.build(&["-f", "tar"]);
    project.build(&["-f", "oci"]);
    assert_eq!((files("outputs"), files("stale-outputs")), (names(&["tiny.oci", "tiny.tar"]), names(&[])));
    project.hook("elements/a/install.d/50-a", "echo changed >/etc/a");
    let warnings = project.build(&["-f", "oci"]);
    assert_eq!((files("outputs"), files("stale-outputs")), (names(&["tiny.oci"]), names(&["tiny.tar"])));
    let warnings: Vec<_> = warnings.of("warning").map(|event| event["message"].to_string()).collect();
    let is_named = |warning: &String| warning.contains("tiny.tar` is from an earlier build");
    assert!(warnings.iter().any(is_named), "{warnings:?}");
    project.build(&["-f", "tar"]);
    assert_eq!((files("outputs"), files("stale-outputs")), (names(&["tiny.tar", "tiny.oci"]), names(&[])));
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
