//! The command line as a user sees it, where it needs neither root nor network: messages, hints, exit status, and what
//! `plan`, `explain` and `elements` say.

mod common;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use common::project::Project;

/// What is wrong, how it came to be, what is asked, and what is said to it.
type Case = (&'static str, fn(&Project), &'static [&'static str], &'static str);

/// What is changed, how, and which steps have another key then.
type Change = (&'static str, fn(&Project), &'static [&'static str]);

#[track_caller]
fn assert_refused(cases: &[Case]) {
    for (name, spoil, args, expected) in cases {
        let project = Project::of_elements(&["one"]);
        spoil(&project);
        let run = project.run(args);
        assert_eq!(run.stderr.trim_end(), *expected, "{name}");
        assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{name}");
    }
}

#[test]
fn a_wrong_definition_is_refused_with_its_place_and_a_hint() {
    assert_refused(&[
        (
            "no project",
            |project| std::fs::remove_file(project.path().join("plywood.toml")).unwrap(),
            &["plan"],
            "error: `DIR/project` has no `plywood.toml`\n\nhint: name the project's directory with `--project DIR`",
        ),
        (
            "no image",
            |project| project.write("plywood.toml", ""),
            &["plan"],
            "error: `DIR/project/plywood.toml` defines no image\n\n\
             hint: add a table such as `[image.builder]` with `base = \"debian-bookworm\"`",
        ),
        (
            "an empty image",
            |project| project.write("plywood.toml", "[image.tiny]\n"),
            &["plan"],
            "error: image `tiny` has no base\n\n\
             hint: add `base = \"debian-bookworm\"`, or the name of another file of `layers/`",
        ),
        (
            "no TOML",
            |project| project.write("plywood.toml", "[image.tiny\n"),
            &["plan"],
            "error: DIR/project/plywood.toml:1:12: unclosed table, expected `]`",
        ),
        (
            "an unknown key",
            |project| project.define("elemnts = []"),
            &["plan"],
            "error: DIR/project/plywood.toml:3:1: unknown key `elemnts`\n\nhint: did you mean `elements`?",
        ),
        (
            "an image that is a path",
            |project| project.write("plywood.toml", "[image.\"a/b\"]\n"),
            &["plan"],
            "error: DIR/project/plywood.toml:1:8: image name `a/b` has a `/`: \
             name the output directory with `-o` instead",
        ),
        (
            "an image that is not defined",
            |_| {},
            &["build", "tyni"],
            "error: image `tyni` is not defined in `DIR/project/plywood.toml`\n\nhint: defined are `tiny`",
        ),
        (
            "an unknown base",
            |project| project.write("plywood.toml", "[image.tiny]\nbase = \"debian-bookwrm\"\n"),
            &["plan"],
            "error: base `debian-bookwrm` not found: \
             there are `debian-bookworm`, `debian-bullseye`, `debian-trixie`\n\n\
             hint: did you mean `debian-bookworm`?",
        ),
        (
            "a disk that no file system fills",
            |project| project.define("disk = { size = \"9999999T\" }"),
            &["plan"],
            "error: DIR/project/plywood.toml:3:17: `9999999T` is too large for a disk: 256T at most",
        ),
        (
            "a disk that its format cannot hold",
            |project| project.define("outputs = [\"vhd\"]\ndisk = { size = \"4T\" }"),
            &["plan"],
            "error: image `tiny`: a disk of 4T is too large for vhd: 2040G at most\n\n\
             hint: set a smaller `size` in `[image.tiny.disk]`, or choose another format",
        ),
        (
            "a file that leads out of the directory of files",
            |project| project.define("files = { \"../x\" = \"plywood.toml\" }"),
            &["plan"],
            "error: DIR/project/plywood.toml:3:11: `../x` in `files` cannot name a file in \
             `/tmp/in_target.d/files`: expected one name without `/` (directories are copied whole)",
        ),
        (
            "a base's digest that is none",
            |project| {
                project.write("plywood.toml", "[image.tiny]\nbase = \"mine\"\n");
                let source = "[source.rootfs-tar]\npath = \"x.tar\"\ndigest = \"sha256:12\"\n";
                let base = "distro = \"debian\"\nrelease = \"bookworm\"\nfamily = \"debian\"\n";
                project.write("layers/mine.toml", &format!("{base}{source}"));
            },
            &["plan"],
            "error: DIR/project/layers/mine.toml:6:10: \
             `sha256:12` is not a digest: expected `sha256:` and 64 hex digits",
        ),
    ]);
}

#[test]
fn elements_that_cannot_be_in_one_image_are_refused_by_name() {
    assert_refused(&[
        (
            "an unknown element",
            |project| project.define("elements = [\"onee\"]"),
            &["plan"],
            "error: element `onee` not found\n\nhint: did you mean `one`?",
        ),
        (
            "an unknown dependency",
            |project| project.write("elements/one/element-deps", "nothing-like-it-anywhere\n"),
            &["plan"],
            "error: element `nothing-like-it-anywhere` not found, which element `one` depends on\n\n\
             hint: plywood --project DIR/project --store DIR/store elements list (directories of elements are named by `elements` in `[project]`)",
        ),
        (
            "a cycle",
            |project| {
                project.element("two");
                project.write("elements/one/element-deps", "two\n");
                project.write("elements/two/element-deps", "one\n");
            },
            &["plan"],
            "error: elements depend on each other: `one` → `two` → `one`\n\n\
             hint: remove one of these names from the file `element-deps` of the element before it, or add `--order phase`, or `order = \"phase\"` to the image",
        ),
        (
            "two providers",
            |project| {
                project.define("elements = [\"one\", \"two\"]");
                project.element("two");
                project.write("elements/one/element-provides", "bread\n");
                project.write("elements/two/element-provides", "bread\n");
            },
            &["plan"],
            "error: `bread` is provided by element `one` and by element `two`\n\n\
             hint: leave one of them out of the image's `elements`, and of the `element-deps` of the others",
        ),
        (
            "a duplicate hook",
            |project| {
                project.define("elements = [\"one\", \"two\"]");
                project.hook("elements/two/install.d/50-one", "true");
            },
            &["plan"],
            "error: elements `one` and `two` both have a file `install.d/50-one`\n\n\
             hint: rename one of them: hooks of one image share a directory",
        ),
        (
            "a hook that makes the root file system",
            |project| project.hook("elements/one/root.d/10-debootstrap", "true"),
            &["plan"],
            "error: element `one` has the hook `root.d/10-debootstrap`, \
             and plywood makes the root file system and the disk itself",
        ),
    ]);
}

#[test]
fn files_of_elements_that_cannot_be_read_are_named_with_line_and_column() {
    assert_refused(&[
        (
            "no YAML",
            |project| project.write("elements/one/package-installs.yaml", "curl:\n  phase: [\n"),
            &["plan"],
            "error: package data of element `one` cannot be used\n  \
             Caused by: `package-installs.yaml` of element `one`, line 2, column 10: unclosed bracket '['",
        ),
        (
            "no JSON",
            |project| project.write("elements/one/package-installs.json", "{\n  \"curl\": nul\n}\n"),
            &["plan"],
            "error: package data of element `one` cannot be used\n  \
             Caused by: `package-installs.json` of element `one`, line 2, column 14: expected ident",
        ),
        (
            "a map that is no JSON",
            |project| project.write("elements/one/pkg-map", "{\"family\": {\"debian\": }}"),
            &["plan"],
            "error: package data of element `one` cannot be used\n  \
             Caused by: `pkg-map` of element `one`, line 1, column 23: expected value",
        ),
        (
            "an unknown key",
            |project| project.write("elements/one/package-installs.yaml", "curl:\n  phaze: install.d\n"),
            &["plan"],
            "error: package data of element `one` cannot be used\n  \
             Caused by: `package-installs.yaml` of element `one`, line 2, column 3: unknown key `phaze`: \
             did you mean `phase`?",
        ),
        (
            "an unknown phase",
            |project| project.write("elements/one/package-installs.yaml", "curl:\n  phase: install\n"),
            &["plan"],
            "error: package data of element `one` cannot be used\n  \
             Caused by: `package-installs.yaml` of element `one`, line 2, column 3: packages are installed in \
             `pre-install.d`, `install.d` and `post-install.d`, not in `install`",
        ),
    ]);
}

#[test]
fn a_store_that_is_none_or_too_new_is_refused() {
    assert_refused(&[
        (
            "somebody else's directory",
            |project| {
                std::fs::create_dir(project.store()).unwrap();
                std::fs::write(project.store().join("thesis.tex"), "").unwrap();
            },
            &["plan"],
            "error: `DIR/store` is not a plywood store: it has no file `plywood-store` but holds `thesis.tex`\n\n\
             hint: choose another with `--store DIR`",
        ),
        (
            "a later version's",
            |project| {
                std::fs::create_dir(project.store()).unwrap();
                std::fs::write(project.store().join("plywood-store"), r#"{"format":99}"#).unwrap();
            },
            &["store", "list"],
            "error: store `DIR/store` has format 99, this plywood knows formats up to 1\n\n\
             hint: choose another with `--store DIR`",
        ),
        (
            "a file",
            |project| std::fs::write(project.store(), "").unwrap(),
            &["plan"],
            "error: `DIR/store` is not a plywood store: it is not a directory\n\n\
             hint: choose another with `--store DIR`",
        ),
    ]);
}

#[test]
fn names_that_do_not_exist_are_answered_by_those_that_do() {
    assert_refused(&[
        (
            "a step",
            |_| {},
            &["explain", "tiny", "two"],
            "error: image `tiny` has no step `two`\n\nhint: its steps are `base:debian-bookworm`, `one`",
        ),
        (
            "an element",
            |_| {},
            &["elements", "show", "onne"],
            "error: element `onne` not found in `DIR/project/elements`, `DATA/elements`\n\n\
             hint: did you mean `one`?",
        ),
        (
            "layers that were never built",
            |_| {},
            &["layers", "tiny"],
            "error: step `base:debian-bookworm` of image `tiny` is not in the store\n\n\
             hint: plywood --project DIR/project --store DIR/store build tiny",
        ),
        (
            "a disk",
            |_| {},
            &["boot", "nothing.qcow2"],
            "error: cannot read disk `nothing.qcow2`: No such file or directory (os error 2)",
        ),
    ]);
}

#[test]
fn hints_can_be_pasted_into_a_shell() {
    let project = Project::of_elements(&["one"]);
    let spaced = project.path().with_file_name("p q");
    std::fs::rename(project.path(), &spaced).unwrap();
    let program = env!("CARGO_BIN_EXE_plywood");
    let run = |args: &[&str]| Command::new(program).args(args).current_dir(&spaced).output().unwrap();
    let args = ["--project", spaced.to_str().unwrap(), "--store", "a store", "layers", "tiny"];
    let printed = String::from_utf8(run(&args).stderr).unwrap();
    let expected = format!("hint: plywood --project '{}' --store 'a store' build tiny\n", spaced.display());
    assert!(printed.ends_with(&expected), "{printed}");
}

#[test]
fn a_wrong_command_line_ends_with_status_2() {
    let project = Project::of_elements(&["one"]);
    let table: [(&[&str], &str); 6] = [
        (&[], "requires a subcommand"),
        (&["biuld"], "unrecognized subcommand 'biuld'"),
        (&["build", "--format", "qcow"], "[possible values: qcow2, raw, "),
        (&["build", "--no-cache", "--fail-on-miss"], "cannot be used with '--fail-on-miss'"),
        (&["store", "gc", "--max-size", "much"], "`much` is not a size"),
        (&["plan", "--verbose", "--quiet"], "cannot be used with"),
    ];
    for (args, message) in table {
        let run = project.run(args);
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(run.stderr.contains(message), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn files_that_look_like_hooks_and_do_not_run_are_warned_of_and_stop_nothing() {
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
fn a_plan_warns_of_files_that_the_image_opens_to_more_users() {
    let project = Project::of_elements(&["one"]);
    project.write("elements/one/static/etc/ssl/k.pem", "secret\n");
    project.write("elements/one/static/etc/motd", "hello\n");
    project.chmod("elements/one", 0o755);
    project.chmod("elements/one/static/etc/motd", 0o644);
    project.chmod("elements/one/static/etc/ssl/k.pem", 0o600);
    let message = "`static/etc/ssl/k.pem` has the mode 0644 in the image, though others may not read it here: \
                   set its mode in a hook";
    assert_eq!(project.run(&["plan"]).stderr, format!("warning: element `one`: {message}\n"));
    let check = project.run(&["elements", "check", "one"]);
    assert_eq!(check.stdout, format!("warning: one/static/etc/ssl/k.pem: {message}\n"));
    project.chmod("elements/one", 0o700);
    assert_eq!(project.run(&["plan"]).stderr, "", "a checkout with the umask 077");
}

#[test]
fn a_plan_warns_of_settings_that_nothing_reads() {
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
         warning: no hook sees `mee.pub` of `files`: set a variable to that name that an element of this image reads\n"
    );
}

#[test]
fn a_plan_without_a_store_builds_everything_and_says_so() {
    let run = Project::of_elements(&["one", "two"]).run(&["plan"]);
    let words: Vec<_> = run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(words[0], ["tiny"]);
    for (line, step) in words[1..].iter().zip(["base:debian-bookworm", "one", "two"]) {
        assert_eq!((line[0], &line[2..]), (step, ["miss", "never", "built", "before"].as_slice()));
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
fn a_key_depends_on_what_its_hooks_can_see_and_on_nothing_else() {
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
fn a_key_does_not_depend_on_who_asks_where() {
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
fn a_secret_is_in_the_key_and_is_shown_nowhere() {
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
fn elements_are_listed_shown_drawn_and_checked() {
    let project = Project::of_elements(&["one", "two"]);
    project.write("elements/two/element-deps", "one\n");
    let packages = "curl:\ngit:\n  when: DIB_X = yes\nvim:\n  uninstall: true\n  arch: amd64\n";
    project.write("elements/two/package-installs.yaml", packages);
    project.write("elements/two/static/etc/motd", "");
    project.write("elements/two/bin/tool", "");
    let list = project.run(&["elements", "list"]);
    assert!(list.stdout.lines().any(|line| line.starts_with("one ") && line.ends_with("Writes `/etc/one`.")));
    assert_eq!(
        project.run(&["elements", "show", "two"]).stdout,
        "two  Writes `/etc/two`.\n  directory: DIR/project/elements/two\n  depends on: one\n  \
         install.d: 50-two\n  static: etc/motd\n  bin: tool\n  \
         packages: curl, git (if DIB_X = yes), vim (removed, if ARCH is amd64)\n  \
         options (default; read by):\n    DIB_X (no default; package-installs.yaml)\n"
    );
    let graph = project.run(&["elements", "graph", "tiny"]);
    assert!(
        graph.stdout.starts_with("digraph") && graph.stdout.contains("\"two\" -> \"one\""),
        "{}",
        graph.stdout
    );
    let check = project.run(&["elements", "check", "two"]);
    assert_eq!((check.status, check.stderr.as_str()), (Some(0), "0 errors, 0 warnings\n"));
    project.write("elements/two/element-deps", "onee\n");
    let check = project.run(&["elements", "check", "two"]);
    assert_eq!(check.status, Some(1));
    assert_eq!(check.stdout, "error: two/element-deps: element `onee` not found: did you mean `one`?\n");
}

#[test]
fn a_key_is_made_once_and_shown_as_definitions_take_it() {
    let project = Project::of_elements(&["one"]);
    let file = project.path().join("keys/signing.key");
    let path = file.to_str().unwrap();
    let made = project.run(&["key", "generate", "--out", path]);
    assert_eq!(made.status, Some(0), "{}", made.stderr);
    assert!(made.stdout.starts_with("ed25519:") && made.stdout.len() == 73, "{}", made.stdout);
    assert!(made.stderr.contains("[trust]\n  keys = [\"ed25519:"), "{}", made.stderr);
    assert_eq!(project.run(&["key", "show", "--sign-key", path]).stdout, made.stdout);
    let definition = std::fs::read_to_string(project.path().join("plywood.toml")).unwrap();
    let public = made.stdout.trim();
    project.write(
        "plywood.toml",
        &format!("{definition}[trust]\nkeys = [\"{public}\"]\nsign-with = \"keys/signing.key\"\n"),
    );
    assert_eq!(project.run(&["key", "show"]).stdout, made.stdout);
    let again = project.run(&["key", "generate", "--out", path]);
    assert_eq!(
        (again.status, again.stderr.as_str()),
        (
            Some(1),
            "error: `DIR/project/keys/signing.key` is there already, and a signing key is never overwritten\n\n\
             hint: plywood --project DIR/project --store DIR/store key show --sign-key DIR/project/keys/signing.key\n"
        )
    );
    let secret = std::fs::read_to_string(&file).unwrap();
    let secret = secret.lines().last().unwrap();
    assert!(secret.starts_with("ed25519-secret:") && !made.stderr.contains(secret));
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let project = Project::of_elements(&["one"]);
    let mut listing =
        project.command(&["elements", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(listing.stdout.take());
    let output = listing.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = project.command(&["elements", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: cannot write to standard output\n  Caused by: No space left on device (os error 28)\n\n\
         hint: free some space on that disk, or name another with `-o DIR` or `--store DIR`\n"
    );
}

#[test]
fn elements_can_be_looked_at_without_a_project() {
    let project = Project::of_elements(&["one"]);
    std::fs::remove_file(project.path().join("plywood.toml")).unwrap();
    let readme = "# one\n\nWrites a file that\nsays one. Nothing more.\n";
    project.write("elements/one/README.md", readme);
    project.write("elements/one/environment.d/10-one", "export DIB_ONE_PORT=${DIB_ONE_PORT:-80}\n");
    project.hook("elements/one/install.d/50-one", "echo $DIB_ONE_PORT $DIB_ONE_KEY >/etc/one");
    project.write("others/one/README.md", "# one\n\nAnother.\n");
    project.hook("elements/one/test-elements/builds/install.d/50-x", "true");
    let run = |args: &[&str]| {
        let mut command = project.command(args);
        let path = ["elements", "others"].map(|name| project.path().join(name).display().to_string());
        command.env("ELEMENTS_PATH", path.join(":")).env_remove("VIRTUAL_ENV");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let dir = project.path().canonicalize().unwrap().display().to_string();
        String::from_utf8(output.stdout).unwrap().replace(&dir, "DIR")
    };
    let list = run(&["elements", "list"]);
    let line = list.lines().find(|line| line.starts_with("one ")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words.join(" "), "one DIR/elements/one Writes a file that says one. (hides DIR/others/one)");
    assert!(list.contains("\nopenssh-server "), "plywood's own are there, too: {list}");
    let show = run(&["elements", "show", "one"]);
    assert_eq!(
        show,
        "one  Writes a file that says one.\n  directory: DIR/elements/one\n  hides: DIR/others/one\n  \
         install.d: 50-one\n  environment.d: 10-one\n  options (default; read by):\n    \
         DIB_ONE_KEY (no default; install.d/50-one)\n    \
         DIB_ONE_PORT (80; environment.d/10-one, install.d/50-one)\n"
    );
    run(&["elements", "check", "one"]);
}

#[test]
fn a_project_is_found_upwards_and_help_is_near() {
    let project = Project::of_elements(&["one"]);
    let run = |directory: &str, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plywood"));
        command.current_dir(project.path().join(directory)).args(args).env_remove("PLYWOOD_PROJECT");
        let output = command.env("PLYWOOD_STORE", project.store()).output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].concat())
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    for directory in [".", "elements", "elements/one/install.d"] {
        let (status, printed) = run(directory, &["plan"]);
        assert_eq!(status, Some(0), "{directory}: {}", text(printed));
    }
    let (status, printed) = run("..", &["plan"]);
    assert_eq!(status, Some(1));
    assert!(text(printed).contains("error: neither `.` nor a directory above it has a `plywood.toml`"));
    for (args, status) in [(&[][..], Some(2)), (&["help"], Some(0)), (&["help", "build"], Some(0))] {
        let (found, printed) = run(".", args);
        assert_eq!(found, status, "{args:?}");
        assert!(text(printed).contains("Usage: plywood"), "{args:?}");
    }
}

#[test]
fn quiet_commands_print_no_warnings() {
    let project = Project::of_elements(&["one"]);
    project.write("elements/one/install.d/60-one", "#!/bin/sh\n");
    let warning = "warning: element `one`: `install.d/60-one` is not executable, so it does not run\n";
    assert_eq!(project.run(&["plan"]).stderr, warning);
    let quiet = project.run(&["plan", "-q"]);
    assert_eq!((quiet.status, quiet.stderr.as_str()), (Some(0), ""));
}

#[test]
fn installing_copies_what_was_built_and_runs_no_cargo() {
    let directory = tempfile::tempdir().unwrap();
    let share = directory.path().join("share");
    let make = |target: &str, binary: &str| {
        let mut make = Command::new("make");
        make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--no-print-directory", target]);
        make.args(["CARGO=false", &format!("BINARY={binary}"), &format!("SHARE={}", share.display())]);
        make.arg(format!("DESTDIR={}", directory.path().display())).output().unwrap()
    };
    let missing = make("install", "/nonexistent/plywood");
    assert_eq!(missing.status.code(), Some(2));
    let text = String::from_utf8(missing.stderr).unwrap();
    assert!(
        text.contains("'/nonexistent/plywood' is not there; run 'make build' first, without sudo"),
        "{text}"
    );
    for target in ["pages", "install"] {
        let made = make(target, env!("CARGO_BIN_EXE_plywood"));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    for page in
        ["man/man1/plywood-build.1", "bash-completion/completions/plywood", "zsh/site-functions/_plywood"]
    {
        assert!(directory.path().join("usr/local/share").join(page).is_file(), "{page}");
    }
    let plywood =
        Command::new(directory.path().join("usr/local/bin/plywood")).arg("--version").output().unwrap();
    assert!(plywood.status.success(), "{}", String::from_utf8_lossy(&plywood.stderr));
    assert!(directory.path().join("usr/local/share/plywood/elements/base").is_dir());
}

#[test]
fn a_registry_table_that_would_be_ignored_or_means_nothing_is_refused() {
    let pull = |table: &str| {
        let project = Project::of_elements(&["one"]);
        project.write("plywood.toml", &format!("[image.tiny]\nbase = \"debian-bookworm\"\n{table}\n"));
        let run = project.run(&["pull", "localhost:9/x"]);
        assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{table}");
        run.stderr
    };
    for (host, bare) in [
        ("https://registry.example", "registry.example"),
        ("http://localhost:5000/v2", "localhost:5000"),
        ("::1", "[::1]"),
    ] {
        let said = pull(&format!("[registry.\"{host}\"]\ninsecure = true"));
        let expected =
            format!("error: `[registry.\"{host}\"]` names no host: expected `HOST` or `HOST:PORT`");
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.trim_end().ends_with(&format!("hint: [registry.\"{bare}\"]")), "{said}");
    }
    assert_eq!(
        pull("[registry.\"localhost:9\"]\nchunk-mib = 0").trim_end(),
        "error: `[registry.\"localhost:9\"]` has `chunk-mib = 0`: a piece has at least 1 MiB\n\n\
         hint: leave `chunk-mib` out to send blobs whole"
    );
}

/// Writes a root file system of one file beside the project; returns its path.
fn root_archive(project: &Project) -> String {
    project.write("root/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");
    let archive = project.path().join("root.tar").display().to_string();
    let root = project.path().join("root");
    let made = Command::new("tar").args(["-cf", &archive, "-C"]).arg(root).arg(".").status().unwrap();
    assert!(made.success());
    archive
}

#[test]
fn imported_bases_are_listed_and_removed_by_name_or_digest() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    let import = || {
        let import = project.run(&["import", &archive, "own"]);
        assert_eq!(import.status, Some(0), "{}", import.stderr);
        let listed = project.run(&["store", "images", "--json"]).json();
        assert_eq!(listed["version"], 1);
        assert_eq!(listed["images"].as_array().unwrap().len(), 1, "{listed}");
        // A collection keeps what was made in the second in which it starts.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        listed["images"][0].clone()
    };
    let blobs = || std::fs::read_dir(project.store().join("blobs/sha256")).unwrap().count();
    for word in ["name", "digest"] {
        let image = import();
        assert!(blobs() >= 3, "a layer, a config and a manifest");
        let images = project.run(&["store", "images"]).stdout;
        assert!(images.starts_with(image["name"].as_str().unwrap()), "{images}");
        let removed = project.run(&["store", "rm", image[word].as_str().unwrap()]);
        assert_eq!(removed.status, Some(0), "{}", removed.stderr);
        assert!(
            removed.stdout.starts_with("removed base/") && removed.stdout.contains("\nfreed "),
            "{}",
            removed.stdout
        );
        assert_eq!((blobs(), project.run(&["store", "images"]).stdout.as_str()), (0, ""));
    }
    // By the name that the project gives it.
    import();
    assert_eq!(project.run(&["store", "rm", "own"]).status, Some(0));
    let run = project.run(&["store", "rm", "own"]);
    assert_eq!(run.status, Some(1));
    assert!(
        run.stderr.contains("has no image `own`") && run.stderr.contains("store images"),
        "{}",
        run.stderr
    );
}

#[test]
fn an_import_warns_of_a_name_that_plywood_uses_itself() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    let import = |name: &str| {
        let run = project.run(&["import", &archive, name]);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        run.stderr
    };
    assert!(import("debian-bookworm").contains("warning: plywood has a base `debian-bookworm` of its own"));
    assert_eq!(import("debian-bookworm"), "", "the project has its own already");
    assert_eq!(import("own"), "");
}

/// Gives the only image of the project's store a second name.
fn name_again(project: &Project, name: &str) {
    let path = project.store().join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut again = index["manifests"][0].clone();
    again["annotations"]["org.opencontainers.image.ref.name"] = name.into();
    index["manifests"].as_array_mut().unwrap().push(again);
    std::fs::write(&path, index.to_string()).unwrap();
}

#[test]
fn of_several_names_of_an_image_only_the_one_that_was_asked_for_is_removed() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    name_again(&project, "localhost:15999/team/web:1");
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    let definition = std::fs::read_to_string(project.path().join("layers/own.toml")).unwrap();
    assert!(!definition.contains("reference"), "its files were imported, not a name: {definition}");
    let images = || project.run(&["store", "images", "--json"]).json()["images"].clone();
    let digest = images()[0]["digest"].as_str().unwrap().to_owned();
    let run = project.run(&["store", "rm", &digest]);
    assert_eq!(run.status, Some(1));
    let names = format!("has several names: `base/{}`, `localhost:15999/team/web:1`", &digest[7..]);
    assert!(run.stderr.contains(&names), "{}", run.stderr);
    let run = project.run(&["store", "rm", "own", "--force", "--json"]).json();
    assert_eq!(run["removed"], serde_json::json!([format!("base/{}", &digest[7..])]));
    assert_eq!(images()[0]["name"], "localhost:15999/team/web:1");
    assert_eq!(project.run(&["store", "rm", &digest]).status, Some(0));
}

#[test]
fn a_collection_that_cannot_keep_to_its_limit_fails_and_names_the_images() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    assert_eq!(project.run(&["store", "gc", "--max-size", "1M"]).status, Some(0));
    let run = project.run(&["store", "gc", "--max-size", "1K"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stdout.contains("removed 0 records"), "{}", run.stdout);
    assert!(run.stderr.contains("which a collection keeps, take more than 1.0 kB: `base/"), "{}", run.stderr);
    assert!(run.stderr.contains("plywood store rm NAME"), "{}", run.stderr);
}

#[test]
fn an_unreadable_index_is_named_and_set_aside_by_a_check() {
    let project = Project::of_elements(&["one"]);
    let archive = root_archive(&project);
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
    let index = project.store().join("index.json");
    std::fs::write(&index, "{").unwrap();
    let run = project.run(&["store", "images"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("the store's index `DIR/store/index.json` is not valid"), "{}", run.stderr);
    assert!(run.stderr.contains("store check"), "{}", run.stderr);
    let check = project.run(&["store", "check"]);
    assert_eq!(check.status, Some(1));
    assert!(check.stdout.contains("set aside; import the bases"), "{}", check.stdout);
    assert_eq!(project.run(&["store", "check"]).status, Some(0));
    assert_eq!(project.run(&["import", &archive, "own"]).status, Some(0));
}

/// Returns this machine's architecture as images have it.
fn architecture() -> &'static str {
    plywood::distro::Architecture::by_any_name(std::env::consts::ARCH).unwrap().oci().0
}

/// Writes an archive of two images as `docker save` does.
fn docker_archive(project: &Project) -> String {
    use plywood::oci::Digest;
    let layer = std::fs::read(root_archive(project)).unwrap();
    let config = |architecture: &str| {
        format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(&layer)
        )
    };
    project.write("saved/own.json", &config(architecture()));
    project.write("saved/foreign.json", &config("pdp11"));
    std::fs::write(project.path().join("saved/layer.tar"), &layer).unwrap();
    let image = |name: &str| {
        format!(r#"{{"Config":"{name}.json","RepoTags":["img/{name}:1.0"],"Layers":["layer.tar"]}}"#)
    };
    project.write("saved/manifest.json", &format!("[{},{}]", image("own"), image("foreign")));
    let archive = project.path().join("saved.tar").display().to_string();
    let saved = project.path().join("saved");
    assert!(
        Command::new("tar").args(["-cf", &archive, "-C"]).arg(saved).arg(".").status().unwrap().success()
    );
    archive
}

#[test]
fn one_of_several_images_in_a_docker_archive_is_imported_by_its_tag() {
    let project = Project::of_elements(&["one"]);
    let archive = format!("docker-archive:{}", docker_archive(&project));
    let run = project.run(&["import", &archive, "own"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("choose one of `img/own:1.0`, `img/foreign:1.0`"), "{}", run.stderr);
    let run = project.run(&["import", &format!("{archive}:img/own:1.0"), "own"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let run = project.run(&["import", &format!("{archive}:img/foreign:1.0"), "foreign"]);
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.contains("an image for linux/pdp11"), "{}", run.stderr);
    let run = project.run(&["import", &format!("{archive}:img/none:1.0"), "none"]);
    assert!(run.stderr.contains("it has no image `img/none:1.0`"), "{}", run.stderr);
}

#[test]
fn a_plan_warns_of_more_layers_than_docker_engines_load() {
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
    let config = serde_json::json!({ "os": "linux", "architecture": architecture(), "rootfs": { "type": "layers", "diff_ids": diff_ids } });
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

/// Returns the names of the pages of a command and of those below it.
fn pages(command: &clap::Command, above: &str) -> Vec<String> {
    let name = if above.is_empty() {
        command.get_name().to_owned()
    } else {
        format!("{above}-{}", command.get_name())
    };
    let below: Vec<_> = command.get_subcommands().flat_map(|below| pages(below, &name)).collect();
    [vec![format!("{name}.1")], below].concat()
}

#[test]
fn every_command_has_a_man_page() {
    let project = Project::new("");
    let directory = project.path().join("man1");
    assert_eq!(project.run(&["manual", directory.to_str().unwrap()]).status, Some(0));
    let mut expected = pages(&plywood::cli::command_line(), "");
    let written = std::fs::read_dir(&directory).unwrap();
    let mut written: Vec<_> = written.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
    expected.sort();
    written.sort();
    assert_eq!(written, expected);
    let page = std::fs::read_to_string(directory.join("plywood-store-gc.1")).unwrap();
    assert!(page.contains("older\\-than") && page.contains("Remove layers"), "{page}");
}

#[test]
fn bash_completes_commands_and_options() {
    let script = "set -eu
        complete() { :; }
        eval \"$(\"$1\" completions bash)\"
        try() { COMP_WORDS=(plywood \"$@\") COMP_CWORD=$# COMPREPLY=(); _plywood plywood \"${!#}\" plywood; echo ${COMPREPLY[*]}; }
        try pl; try store ch; try build --fail; try completions z";
    let run =
        Command::new("bash").args(["-c", script, "bash", env!("CARGO_BIN_EXE_plywood")]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(
        (text(run.stdout), text(run.stderr)),
        ("plan\ncheck\n--fail-on-miss\nzsh\n".to_owned(), String::new())
    );
    for shell in ["zsh", "fish"] {
        let run = Project::new("").run(&["completions", shell]);
        assert!(run.status == Some(0) && run.stdout.contains("fail-on-miss"), "{}", run.stderr);
    }
}

#[test]
fn the_trace_tells_of_programs_and_not_of_secrets() {
    let project = Project::of_elements(&["one"]);
    project.define("elements = [\"one\"]\n[image.tiny.env]\nDIB_TRACE_PASSWORD = \"trace-hunter2\"");
    // The variable's value stands in a URL, where only the redaction of the trace knows it.
    let source = "x git /opt/x http://me:other-hunter2@127.0.0.1:9/trace-hunter2/x.git main\n";
    project.write("elements/one/source-repository-x", source);
    let traced = project.run(&["-vv", "plan"]).stderr;
    assert!(traced.contains("DEBUG plywood::exec::run: started pid=") && traced.contains("git"), "{traced}");
    assert!(traced.contains("DEBUG plywood::exec::started: ended pid="), "{traced}");
    assert!(!traced.contains("other-hunter2"), "neither in messages nor in the trace: {traced}");
    let lines = traced.lines().filter(|line| line.contains("DEBUG plywood::"));
    let shown: Vec<_> = lines.filter(|line| line.contains("hunter2")).collect();
    assert_eq!(shown, [""; 0], "{traced}");
    let silent = project.run(&["plan"]).stderr;
    assert!(!silent.contains("DEBUG"), "{silent}");
}

#[test]
fn a_variable_chooses_what_is_traced_and_a_wrong_one_is_refused() {
    let project = Project::of_elements(&["one"]);
    let run = |value: &str| {
        let output = project.command(&["store", "list"]).env("PLYWOOD_LOG", value).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("plywood::registry=trace"), (Some(0), String::new()));
    let (status, said) = run("registry=trace");
    assert_eq!(status, Some(1));
    let expected = "error: cannot use PLYWOOD_LOG=`registry=trace`: `registry` is neither a level nor one of plywood's modules\n\n\
        hint: name a level, or modules with levels: PLYWOOD_LOG=debug, PLYWOOD_LOG=plywood::registry=trace\n";
    assert_eq!(said, expected);
}
