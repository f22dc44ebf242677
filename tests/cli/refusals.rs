//! Tests of wrong input: messages, hints and exit status.

use std::path::Path;
use std::process::Command;

use crate::common::project::Project;

/// The name of a case, its preparation, the arguments, and the expected message.
type Case = (&'static str, fn(&Project), &'static [&'static str], &'static str);

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
fn an_unknown_base_is_refused_with_the_known_bases_and_a_hint() {
    let layers = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("layers")).unwrap();
    let files = layers.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut bases: Vec<_> =
        files.filter_map(|file| Some(format!("`{}`", file.strip_suffix(".toml")?))).collect();
    bases.sort();
    let project = Project::of_elements(&["one"]);
    project.write("plywood.toml", "[image.tiny]\nbase = \"debian-bookwrm\"\n");
    let run = project.run(&["plan"]);
    assert_eq!(
        run.stderr,
        format!(
            "error: base `debian-bookwrm` not found: there are {}\n\nhint: did you mean `debian-bookworm`?\n",
            bases.join(", ")
        )
    );
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""));
}

#[test]
fn an_invalid_definition_is_refused_with_its_line_and_a_hint() {
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
            "error: image `tyni` is not defined in `DIR/project/plywood.toml`\n\nhint: images defined here: `tiny`",
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
            "error: image `tiny`: a disk of 4T is too large for vhd, which holds at most 2040G\n\n\
             hint: set a smaller `size` in `[image.tiny.disk]` or in its block-device file, or choose another format",
        ),
        (
            "a file that leads out of the directory of files",
            |project| project.define("files = { \"../x\" = \"plywood.toml\" }"),
            &["plan"],
            "error: DIR/project/plywood.toml:3:11: `../x` in `files` is not a valid file name in \
             `/tmp/in_target.d/files`: expected one name without `/` (directories are copied whole)",
        ),
        (
            "an invalid digest of a base",
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
             but plywood builds the root file system and the disk itself",
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
            "error: cannot use the package data of element `one`\n  \
             Caused by: `package-installs.yaml` of element `one`, line 2, column 10: unclosed bracket '['",
        ),
        (
            "no JSON",
            |project| project.write("elements/one/package-installs.json", "{\n  \"curl\": nul\n}\n"),
            &["plan"],
            "error: cannot use the package data of element `one`\n  \
             Caused by: `package-installs.json` of element `one`, line 2, column 14: expected ident",
        ),
        (
            "a map that is not JSON",
            |project| project.write("elements/one/pkg-map", "{\"family\": {\"debian\": }}"),
            &["plan"],
            "error: cannot use the package data of element `one`\n  \
             Caused by: `pkg-map` of element `one`, line 1, column 23: expected value",
        ),
        (
            "an unknown key",
            |project| project.write("elements/one/package-installs.yaml", "curl:\n  phaze: install.d\n"),
            &["plan"],
            "error: cannot use the package data of element `one`\n  \
             Caused by: `package-installs.yaml` of element `one`, line 2, column 3: unknown key `phaze`: \
             did you mean `phase`?",
        ),
        (
            "an unknown phase",
            |project| project.write("elements/one/package-installs.yaml", "curl:\n  phase: install\n"),
            &["plan"],
            "error: cannot use the package data of element `one`\n  \
             Caused by: `package-installs.yaml` of element `one`, line 2, column 3: packages are installed in \
             `pre-install.d`, `install.d` and `post-install.d`, not in `install`",
        ),
    ]);
}

#[test]
fn a_store_below_a_file_is_refused_without_a_hint_to_remove_the_file() {
    let project = Project::of_elements(&["one"]);
    project.write("thesis.tex", "");
    let mut plywood = Command::new(env!("CARGO_BIN_EXE_plywood"));
    let run =
        plywood.current_dir(project.path()).args(["--store", "thesis.tex/store", "plan"]).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(
        said,
        "error: cannot open or make directory `thesis.tex/store`\n  Caused by: Not a directory (os error 20)\n\n\
         hint: a file is in the place of one of its parents: choose another with `--store DIR`\n"
    );
    assert_eq!(run.status.code(), Some(1));
}

#[test]
fn a_directory_without_a_store_and_a_newer_store_are_refused() {
    assert_refused(&[
        (
            "a foreign directory",
            |project| {
                std::fs::create_dir(project.store()).unwrap();
                std::fs::write(project.store().join("thesis.tex"), "").unwrap();
            },
            &["plan"],
            "error: `DIR/store` is not a plywood store: it has no file `plywood-store` but holds `thesis.tex`\n\n\
             hint: choose another with `--store DIR`",
        ),
        (
            "a store of a later version",
            |project| {
                std::fs::create_dir(project.store()).unwrap();
                std::fs::write(project.store().join("plywood-store"), r#"{"format":99}"#).unwrap();
            },
            &["store", "list"],
            "error: store `DIR/store` has format 99, but this plywood supports formats up to 1\n\n\
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
fn the_error_for_an_unknown_name_lists_the_known_names() {
    assert_refused(&[
        (
            "a step",
            |_| {},
            &["explain", "tiny", "two"],
            "error: image `tiny` has no step `two`\n\nhint: its steps: `base:debian-bookworm`, `one`",
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
fn an_invalid_registry_table_is_refused() {
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
        let expected = format!(
            "error: `[registry.\"{host}\"]` is not a valid table: expected the name `HOST` or `HOST:PORT`"
        );
        assert!(said.starts_with(&expected), "{said}");
        assert!(said.trim_end().ends_with(&format!("hint: [registry.\"{bare}\"]")), "{said}");
    }
    assert_eq!(
        pull("[registry.\"localhost:9\"]\nchunk-mib = 0").trim_end(),
        "error: `[registry.\"localhost:9\"]` has `chunk-mib = 0`: expected at least 1\n\n\
         hint: remove `chunk-mib` to upload whole blobs"
    );
}

#[test]
fn outputs_in_the_store_are_refused() {
    let project = Project::of_elements(&["one"]);
    project.write("elements/one/test-elements/passes/README.md", "A test\n");
    let inside = project.store().join("one");
    std::fs::create_dir_all(&inside).unwrap();
    let path = inside.to_str().unwrap();
    for call in [&["pull", "-o", path, "localhost:1/a"][..], &["elements", "test", "-o", path, "one"]] {
        let run = project.run(call);
        assert_eq!(run.status, Some(1), "{call:?}");
        assert!(
            run.stderr.contains("error: cannot write outputs to `DIR/store/one`: it is in the store"),
            "{}",
            run.stderr
        );
    }
    assert!(inside.is_dir());
}

/// Otherwise, a project in a parent directory would be built.
#[test]
fn a_named_directory_must_be_a_project() {
    let project = Project::of_elements(&["one"]);
    let mut plan = std::process::Command::new(env!("CARGO_BIN_EXE_plywood"));
    plan.current_dir(project.path().join("elements")).env_remove("PLYWOOD_PROJECT");
    let plan = plan.arg("--store").arg(project.store()).args(["--project", ".", "plan"]).output().unwrap();
    let message = String::from_utf8(plan.stderr).unwrap();
    assert_eq!(plan.status.code(), Some(1), "{message}");
    assert!(message.contains("/project/elements` has no `plywood.toml`"), "{message}");
}

#[test]
fn an_argument_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let mut build = std::process::Command::new(env!("CARGO_BIN_EXE_plywood"));
    let name = std::ffi::OsStr::from_bytes(b"vm\xff.yaml");
    let build = build.arg("diskimage-builder").arg(name).output().unwrap();
    assert_eq!(build.status.code(), Some(1));
    let message = String::from_utf8(build.stderr).unwrap();
    assert_eq!(message, "diskimage-builder: the argument `vm\u{fffd}.yaml` is not UTF-8 text\n");
}
