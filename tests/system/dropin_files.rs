//! Tests of files between the caller and hooks of host phases: files that variables name, and files
//! that hooks leave for the caller. They need root, overlayfs, git, python3.

use std::fs;
use std::os::unix::fs::symlink;

use crate::common::work::{Work, program};

/// The line of a log if a hook of `web` runs.
const RUNS: &str = "dib-run-parts Running /tmp/plywood/hooks/extra-data.d/50-web";

/// Returns a file of an archive.
fn member(work: &Work, archive: &str, path: &str) -> String {
    program("tar", &["-xOf", archive, path], &work.path())
}

#[test]
fn a_variable_may_name_a_file_relative_to_the_caller() {
    let work = Work::new();
    let script = "[ ! -f \"$DIB_X_FILE\" ] || cp \"$DIB_X_FILE\" $TMP_MOUNT_PATH/etc/ca.pem
        cp -r \"$DIB_X_DIR\" $TMP_MOUNT_PATH/etc/conf";
    work.hook("web", "extra-data.d/50-web", script);
    work.write("ca.pem", "one");
    work.write("../shared/conf/a", "a");
    let named = [("DIB_X_FILE", "ca.pem"), ("DIB_X_DIR", "../shared/conf")];
    let create = || work.create_with("-n -t tar -o x tiny web", &named).expect_success();
    create();
    assert_eq!(member(&work, "x.tar", "./etc/ca.pem"), "one");
    assert_eq!(member(&work, "x.tar", "./etc/conf/a"), "a");
    assert!(!create().contains(RUNS), "nothing has changed");
    work.write("ca.pem", "two");
    assert!(create().contains(RUNS), "the file is in the key by its digest");
    assert_eq!(member(&work, "x.tar", "./etc/ca.pem"), "two");
    work.write("../shared/conf/b", "b");
    assert!(create().contains(RUNS), "so is the directory");
    assert_eq!(work.files("."), ["ca.pem", "x.tar"]);
}

#[test]
fn files_that_are_written_during_a_build_are_not_inputs() {
    let work = Work::new();
    // All of these files are written to while hooks run, and one hook reads every variable.
    let script = "env >/dev/null; echo from hook >>\"$NAME_LOG\"; cp \"$DIB_DATA\" $TMP_MOUNT_PATH/etc/data
        echo $LOGFILE $GITHUB_ENV >/dev/null; echo started >here; sleep 1";
    work.hook("web", "extra-data.d/50-web", script);
    for file in ["x.log", "name.log", "github", "data"] {
        work.write(file, "before\n");
    }
    let at = |name: &str| work.path().join(name).to_string_lossy().into_owned();
    let create = || {
        let words = ["--logfile", "x.log", "-n", "-t", "tar", "-o", "x", "tiny", "web"];
        let mut command = work.command("disk-image-create", &words);
        command.env("DIB_QUIET", "0").env("NAME_LOG", at("name.log")).env("DIB_DATA", "data");
        command.env("GITHUB_ENV", at("github")).env("HISTFILE", at("github"));
        let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(700));
        for file in ["name.log", "github"] {
            work.write(file, &format!("{}more\n", work.read(file)));
        }
        let run = child.wait_with_output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        String::from_utf8(run.stdout).unwrap()
    };
    assert!(create().contains(RUNS));
    assert_eq!(member(&work, "x.tar", "./etc/data"), "before\n");
    assert!(work.read("name.log").contains("from hook"), "hooks write into the log itself");
    assert!(!create().contains(RUNS), "none of them is in a key");
    work.write("data", "after\n");
    assert!(create().contains(RUNS), "a file that is not a log is in the key");
}

#[test]
fn files_beside_the_image_are_written_also_if_the_hooks_do_not_run_again() {
    for (image, directory) in [("x", "."), ("out/x", "out"), ("../images/x", "../images")] {
        let work = Work::new();
        work.hook("web", "extra-data.d/50-web", "echo extra >\"$IMAGE_NAME-schema.yaml\"; echo n >notes");
        work.hook(
            "web",
            "post-root.d/50-web",
            "cat \"$IMAGE_NAME-schema.yaml\"; echo post >$IMAGE_NAME.list",
        );
        work.hook("web", "root.d/50-web", "echo root >\"$IMAGE_NAME-root\"");
        work.hook("web", "cleanup.d/50-web", "grep extra \"$IMAGE_NAME-schema.yaml\"");
        let line = format!("-n -t tar -o {image} tiny web");
        for round in ["built", "cached"] {
            let log = work.create(&line).expect_success();
            assert_eq!(log.contains(RUNS), round == "built", "{log}");
            let beside = work.files(directory);
            for name in ["x-root", "x-schema.yaml", "x.list", "x.tar"] {
                assert!(beside.iter().any(|file| file == name), "{round} {image}: {beside:?}");
            }
            assert_eq!(work.read("notes"), "n\n", "{round}");
            assert_eq!(work.read(&format!("{directory}/x.list")), "post\n");
            let listing = program("tar", &["-tf", &format!("{image}.tar")], &work.path());
            assert!(!listing.contains("plywood"), "{listing}");
            fs::remove_file(work.path().join("notes")).unwrap();
            fs::remove_dir_all(work.path().join("../images")).ok();
            for name in ["x-root", "x-schema.yaml", "x.list", "x.tar"] {
                fs::remove_file(work.path().join(directory).join(name)).ok();
            }
        }
    }
}

#[test]
fn absolute_names_of_images_work_in_every_directory() {
    let work = Work::new();
    work.hook("web", "extra-data.d/50-web", "echo extra >\"$IMAGE_NAME-schema.yaml\"");
    let in_tmp = tempfile::Builder::new().prefix("plywood-test-").tempdir_in("/tmp").unwrap();
    let flat = format!("/tmp/{}-flat", in_tmp.path().file_name().unwrap().to_str().unwrap());
    let beside = format!("{}/x", in_tmp.path().display());
    for image in [flat.as_str(), beside.as_str()] {
        for _ in 0..2 {
            work.create(&format!("-n -t tar -o {image} tiny web")).expect_success();
            for ending in ["-schema.yaml", ".tar"] {
                let file = format!("{image}{ending}");
                fs::remove_file(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
            }
        }
    }
}

#[test]
fn hidden_files_and_symlinks_that_hooks_leave_are_not_delivered() {
    let work = Work::new();
    work.hook("web", "extra-data.d/50-web", "echo web >x-a; echo h >.hidden; ln -s /etc/passwd x-link");
    work.write("../victim", "untouched");
    symlink("../victim", work.path().join("x-a")).unwrap();
    let log = work.create("-n -t tar -o x tiny web").expect_success();
    assert_eq!((work.read("x-a"), work.read("../victim")), ("web\n".to_owned(), "untouched".to_owned()));
    assert!(!work.path().join("x-link").is_symlink() && !work.path().join(".hidden").exists());
    for name in ["x-link", ".hidden"] {
        let warning =
            format!("a hook left `{name}` for the caller: hidden files and symlinks stay in the layer");
        assert!(log.contains(&warning), "{log}");
    }
}

#[test]
fn the_last_of_equal_files_and_keys_counts() {
    let work = Work::new();
    for (element, text) in [("one", "1"), ("two", "2")] {
        work.write(&format!("../elements/{element}/schema.yaml"), text);
        work.hook(element, &format!("install.d/50-{element}"), "true");
    }
    work.write("../elements/two/svc-map", "ssh:\n  default: a\nssh:\n  default: b\n");
    work.hook(
        "two",
        "finalise.d/90-two",
        "cp ${0%/*}/../schema.yaml /etc/; cp /usr/share/svc-map/services /etc/",
    );
    let log = work.create("-n -t tar -o x tiny one two").expect_success();
    assert_eq!(member(&work, "x.tar", "./etc/schema.yaml"), "2");
    assert_eq!(member(&work, "x.tar", "./etc/services"), "ssh: b\n");
    assert!(log.contains("line 3, column 1: `ssh` is listed twice: the last entry counts"), "{log}");
}

#[test]
fn plywood_acts_on_files_that_hooks_add_to_the_hooks_directory() {
    let work = Work::new();
    work.programs("web", &["dirname", "env", "seq"]);
    let repository = work.path().join("../repository");
    fs::create_dir_all(&repository).unwrap();
    let git = |words: &[&str]| program("git", words, &repository);
    git(&["init", "--quiet", "--initial-branch=main", "."]);
    fs::write(repository.join("source"), "of a repository").unwrap();
    git(&["add", "source"]);
    git(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one"]);
    work.write("../plain", "plain file");
    let at = |name: &str| work.path().join(name).to_string_lossy().into_owned();
    let script = format!(
        "mkdir -p $TMP_HOOKS_PATH/bin $TMP_HOOKS_PATH/static/etc $TMP_HOOKS_PATH/init-scripts/systemd
         echo 'echo tool' >$TMP_HOOKS_PATH/bin/web-tool
         echo static >$TMP_HOOKS_PATH/static/etc/web
         echo unit >$TMP_HOOKS_PATH/init-scripts/systemd/web.service
         echo '{{}}' >$TMP_HOOKS_PATH/pkg-map
         echo web >$TMP_HOOKS_PATH/install.d/package-installs-web
         cat >$TMP_HOOKS_PATH/source-repository-web <<'END'
# a remark
code git /opt/code {} main
plain file /opt/plain {}
END",
        at("../repository"),
        at("nowhere"),
    );
    work.hook("web", "extra-data.d/50-web", &script);
    work.hook("web", "extra-data.d/99-web", "cat $TMP_MOUNT_PATH/opt/code/source");
    work.hook("web", "install.d/50-web", "[ -x /usr/local/bin/web-tool ]; cat /etc/web");
    // A later element has the same kinds of data, and changes a file of the first one.
    work.write("../elements/later/element-deps", "web\n");
    work.write("../elements/later/static/etc/later", "later");
    work.hook("later", "install.d/05-later", "echo changed >/etc/web");
    work.write("../elements/tiny/environment.d/10-tiny", "export DIB_INIT_SYSTEM=systemd\n");
    let install = "#!/bin/sh\necho \"$@\" >>/etc/packages\n";
    work.hook(
        "tiny",
        "root.d/30-tiny",
        &format!(
            "cd $TARGET_ROOT; mkdir -p usr/local/bin usr/lib/systemd/system opt
        printf '%s' '{install}' >usr/local/bin/install-packages; chmod +x usr/local/bin/install-packages"
        ),
    );
    let location = [("DIB_REPOLOCATION_plain", format!("file://{}", at("../plain")))];
    let location: Vec<_> = location.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let log = work.create_with("-n -t tar -o x tiny web later", &location).expect_success();
    for (path, expected) in [
        ("./usr/local/bin/web-tool", "echo tool\n"),
        ("./etc/web", "changed\n"),
        ("./usr/lib/systemd/system/web.service", "unit\n"),
        ("./opt/code/source", "of a repository"),
        ("./opt/plain", "plain file"),
        ("./etc/packages", "web\n"),
        ("./etc/later", "later"),
    ] {
        assert_eq!(member(&work, "x.tar", path), expected, "{path}: {log}");
    }
    let warning = "a hook put `pkg-map` into the hooks directory: such files count in elements alone";
    assert_eq!(
        (log.matches(warning).count(), log.matches("into the hooks directory").count()),
        (1, 1),
        "{log}"
    );

    work.write("../elements/tiny/environment.d/10-tiny", "");
    work.hook("tiny", "root.d/40-tiny", "echo a file /b c >$TMP_HOOKS_PATH/source-repository-late");
    let log = work.create("-n -t tar -o x tiny").expect_success();
    assert!(log.contains("a hook put `source-repository-late` into the hooks directory: the phase"), "{log}");
}

#[test]
fn hooks_find_the_library_that_they_call() {
    let work = Work::new();
    work.write("../elements/web/data.d/.keep", "");
    work.hook("web", "data.d/10-data", "echo ran as data");
    let script = "$_LIB/dib-run-parts $TMP_HOOKS_PATH/data.d
        echo 'set +o xtrace' | cat - <(echo line) | python3 $_LIB/outfilter.py -v -b
        python3 $_LIB/dib-block-device.py init
        where() { echo \"at $(_ps4)\"; }; where";
    work.hook("web", "extra-data.d/50-web", script);
    let log = work.create("-n -t tar -o x tiny web").expect_success();
    for line in ["\nran as data\n", "\nline\n", "\nat /tmp/plywood/hooks/extra-data.d/50-web:"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn a_fragment_that_refuses_the_image_ends_the_build_first() {
    let work = Work::new();
    work.programs("web", &["env"]);
    work.hook("web", "finalise.d/50-web", "true");
    for (fragment, status, said) in [
        ("echo \"name it\"; [ \"${DIB_WEB:-}\" = yes ] || exit 6", 6, "exit status: 6: name it"),
        ("[ -n \"${DIB_WEB:-}\" ]", 1, "exit status: 1: + source "),
        (": ${DIB_WEB:?name it}", 1, "DIB_WEB: name it"),
        ("export DIB_WEB_NAME=$DIB_WEB", 1, "DIB_WEB: unbound variable"),
    ] {
        work.write("../elements/web/environment.d/10-web", &format!("{fragment}\n"));
        let run = work.create("-n -t tar -o x tiny web");
        assert_eq!(run.status, Some(status), "{fragment}: {}", run.stdout);
        let place = "`environment.d/10-web` of element `web` failed with ";
        assert!(run.stdout.contains(place) && run.stdout.contains(said), "{fragment}: {}", run.stdout);
        assert!(!run.stdout.contains("Running"), "{fragment}: {}", run.stdout);
        work.create_with("-n -t tar -o x tiny web", &[("DIB_WEB", "yes")]).expect_success();
    }
}

#[test]
fn fragments_have_the_variables_of_hooks_also_before_the_plan() {
    let work = Work::new();
    work.programs("web", &["env"]);
    let names = "ARCH DIB_ARGS DIB_CHECKSUM DIB_DEBUG_TRACE DIB_ENV DIB_IMAGE_CACHE DIB_LOCKFILES DIB_MOUNTPOINTS DIB_OFFLINE \
                 DIB_PYTHON_EXEC DIB_ROOT_FSTYPE DIB_ROOT_LABEL ELEMENTS_PATH FS_TYPE HOME IMAGE_ELEMENT IMAGE_ELEMENT_YAML \
                 IMAGE_NAME IMAGE_TYPE LC_ALL OUT_IMAGE_PATH PATH TMP_BUILD_DIR TMP_HOOKS_PATH TMP_IMAGE_DIR TMP_MOUNT_PATH USER _LIB";
    let fragment =
        format!("for name in {names}; do : \"${{!name?}}\"; done\nexport DIB_WEB=$HOME/$IMAGE_NAME\n");
    work.write("../elements/web/environment.d/10-web", &fragment);
    work.hook("web", "install.d/50-web", "echo \"web: $DIB_WEB\"");
    let log = work.create("-n -t tar -o x tiny web").expect_success();
    assert!(log.contains("\nweb: /root/x\n"), "{log}");
}

#[test]
fn a_break_command_that_fails_ends_the_build() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "echo web");
    for outside in ["", "1"] {
        let breaks =
            [("break", "before-install"), ("break_cmd", "exit 3"), ("break_outside_target", outside)];
        let run = work.create_with("-n -t tar -o x tiny web", &breaks);
        assert_eq!(run.status, Some(1), "{}", run.stdout);
        assert!(
            run.stdout.contains("the command at the break point `before-install` failed"),
            "{}",
            run.stdout
        );
        assert!(!work.path().join("x.tar").exists());
    }
}

#[test]
fn an_empty_environment_finds_the_elements_of_a_virtual_environment() {
    let work = Work::new();
    let place = "../venv/lib/python3/site-packages/diskimage_builder/elements";
    fs::create_dir_all(work.path().join(place)).unwrap();
    let elements = work.path().join("../elements");
    fs::rename(elements.join("tiny"), work.path().join(place).join("tiny")).unwrap();
    let venv = work.path().join("../venv").to_string_lossy().into_owned();
    work.create_with("-c -n -t tar -o x tiny", &[("VIRTUAL_ENV", &venv)]).expect_success();
}

#[test]
fn an_element_that_provides_something_is_named_once() {
    let work = Work::new();
    let run = work.run("element-info", &["tiny", "tiny"]);
    assert_eq!(run.status, Some(1), "{}", run.stdout);
    assert!(run.stderr.contains("element `tiny` is listed twice"), "{}", run.stderr);
    work.write("../elements/plain/README.md", "x");
    work.run("element-info", &["tiny", "plain", "plain"]).expect_success();
}
