//! Tests of diskimage-builder's commands that build nothing: help, errors, definitions, lists of
//! elements.

mod common;

use common::work::Work;

#[test]
fn an_invalid_call_is_refused_with_getopts_message() {
    let work = Work::new();
    for (words, message) in [
        (&["--nonsense", "tiny"][..], "disk-image-create: unrecognized option '--nonsense'\n"),
        (&["-q"], "disk-image-create: invalid option -- 'q'\n"),
        (&["tiny", "-o"], "disk-image-create: option requires an argument -- 'o'\n"),
        (&["--no-tmpfs=1"], "disk-image-create: option '--no-tmpfs' doesn't allow an argument\n"),
    ] {
        let run = work.run("disk-image-create", words);
        assert_eq!(
            (run.status, run.stderr.as_str(), run.stdout.as_str()),
            (Some(1), message, ""),
            "{words:?}"
        );
    }
}

#[test]
fn help_and_version_need_no_root() {
    let work = Work::new();
    for name in ["disk-image-create", "ramdisk-image-create"] {
        let help = work.run(name, &["-x", "--he"]).expect_success();
        assert!(help.starts_with(&format!("Usage: {name} [OPTION]… ELEMENT…\n")), "{help}");
        let version = work.run(name, &["tiny", "--version"]).expect_success();
        assert!(
            version.starts_with("3.") && version.trim_end().split('.').all(|n| n.parse::<u32>().is_ok()),
            "{version}"
        );
    }
    assert!(work.run("diskimage-builder", &["--help"]).expect_success().contains("imagename"));
    // The command also works without a symlink.
    let version = work.run("plywood", &["disk-image-create", "--version"]).expect_success();
    assert!(version.starts_with("3."), "{version}");
}

#[test]
fn a_call_without_elements_fails_in_the_log() {
    let run = Work::new().create("-o x");
    let mut lines = run.stdout.lines();
    assert!(lines.next().unwrap().starts_with("diskimage-builder version 3."), "{}", run.stdout);
    assert_eq!(lines.next(), Some("error: At least one distribution root element must be specified"));
    assert_eq!((run.status, run.stderr.as_str()), (Some(1), ""));
}

#[test]
fn every_line_of_the_log_has_its_time() {
    let work = Work::new();
    let mut command = work.command("disk-image-create", &["-o", "x", "--logfile", "log"]);
    let output = command.env_remove("DIB_NO_TIMESTAMP").env("DIB_QUIET", "0").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let (first, log) = stdout.split_once('\n').unwrap();
    assert_eq!((first, log), ("Output logs going to: log", work.read("log").as_str()));
    for line in log.lines() {
        let (time, text) = line.split_once(" | ").unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!((shape.as_str(), text.is_empty()), ("0000-00-00 00:00:00.000", false), "{line}");
    }
    // With a log file alone, standard output has only the name of the file.
    let run = work.create("-o x --logfile log");
    assert_eq!(run.stdout, "Output logs going to: log\n");
    assert_eq!(work.read("log").lines().count(), 2 * log.lines().count());
}

#[test]
fn a_dry_run_shows_the_commands_of_a_definition() {
    let work = Work::new();
    work.write(
        "a.yaml",
        "- imagename: a\n  elements: [tiny]\n  environment: {DIB_X: 'two words', MY_TOKEN: hidden}\n",
    );
    work.write("b.yaml", "- checksum: true\n- imagename: b\n  ramdisk: true\n  types: [tar, raw]\n");
    let run = work.run("diskimage-builder", &["--dry", "a.yaml", "b.yaml"]);
    assert_eq!(
        run.stderr,
        "DIB_X='two words' MY_TOKEN='***' disk-image-create -o a --checksum tiny\n\n\
         ramdisk-image-create -o b -t tar,raw\n\n"
    );
    assert_eq!(run.status, Some(0));
}

#[test]
fn an_invalid_definition_is_refused_before_anything_is_built() {
    let work = Work::new();
    work.write("bad.yaml", "- imagename: a\n- imagname: b\n");
    let run = work.run("diskimage-builder", &["bad.yaml"]);
    let message = "error: `bad.yaml`: entry 2 has an unknown key `imagname`: did you mean `imagename`?\n";
    assert_eq!((run.status, run.stderr.as_str()), (Some(1), message));
    let run = work.run("diskimage-builder", &["absent.yaml"]);
    assert!(run.stderr.starts_with("error: cannot read `absent.yaml`: "), "{}", run.stderr);
    assert_eq!(work.run("diskimage-builder", &[]).status, Some(2));
}

#[test]
fn elements_are_listed_with_their_dependencies() {
    let work = Work::new();
    work.write("../elements/web/element-deps", "tiny\n");
    let names = work.run("element-info", &["web"]).expect_success();
    assert_eq!(names, "tiny web\n");
    let script = work.run("element-info", &["--env", "web"]).expect_success();
    let print = format!("{script}\nprintf '%s|' \"$IMAGE_ELEMENT\"; get_image_element_array");
    let bash = std::process::Command::new("bash").args(["-c", &print]).output().unwrap();
    let elements = work.path().parent().unwrap().join("elements");
    let place = |name: &str| format!("[{name}]={}/{name} ", elements.display());
    assert_eq!(
        String::from_utf8(bash.stdout).unwrap(),
        format!("tiny web|{}{}\n", place("tiny"), place("web"))
    );
    let run = work.run("element-info", &["zzzzzzzzzz"]);
    assert_eq!(
        run.stderr,
        "error: element `zzzzzzzzzz` not found\n\
         hint: add its directory to ELEMENTS_PATH, whose entries are separated by `:`\n"
    );
    assert_eq!(run.status, Some(1));
    let run = work.run("element-info", &["tinny"]);
    assert_eq!(run.stderr, "error: element `tinny` not found\nhint: did you mean `tiny`?\n");
    assert_eq!(run.status, Some(1));
}

#[test]
fn an_element_is_listed_once_even_as_provider_or_in_a_cycle() {
    let work = Work::new();
    work.hook("manifests", "cleanup.d/01-manifests", "true");
    work.write("../elements/here/element-deps", "there\nmanifests\n");
    work.write("../elements/there/element-deps", "here\n");
    let names = work.run("element-info", &["tiny", "here"]).expect_success();
    let mut names: Vec<_> = names.split_whitespace().collect();
    names.sort_unstable();
    assert_eq!(names, ["here", "manifests", "there", "tiny"]);
}
