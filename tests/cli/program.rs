//! Tests of the program itself: help, man pages, completions, installation, trace.

use std::process::{Command, Stdio};

use crate::common::project::Project;

#[test]
fn a_store_made_with_umask_000_is_writable_only_by_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let script = "umask 000; \"$1\" --store \"$2\" store list && find \"$2\" -perm /022";
    let mut shell = Command::new("sh");
    let shell = shell.args(["-euc", script, "sh", env!("CARGO_BIN_EXE_plywood")]).arg(&store);
    let output = shell.output().unwrap();
    assert!(output.status.success() && store.join("records/input").is_dir(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
}

#[test]
fn a_key_is_made_once_and_printed_in_the_form_of_definitions() {
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
    let quoted = project.path().join("a\"b\\c.key");
    let odd = project.run(&["key", "generate", "--out", quoted.to_str().unwrap()]);
    let lines = odd.stderr.split("plywood.toml:\n\n").nth(1).unwrap_or_else(|| panic!("{}", odd.stderr));
    let lines: toml::Table = toml::from_str(lines).unwrap();
    assert!(lines["trust"]["sign-with"].as_str().unwrap().ends_with("/a\"b\\c.key"), "{lines:?}");
    let again = project.run(&["key", "generate", "--out", path]);
    assert_eq!(
        (again.status, again.stderr.as_str()),
        (
            Some(1),
            "error: `DIR/project/keys/signing.key` already exists: plywood never overwrites a signing key\n\n\
             hint: plywood --project DIR/project --store DIR/store key show --sign-key DIR/project/keys/signing.key\n"
        )
    );
    let secret = std::fs::read_to_string(&file).unwrap();
    let secret = secret.lines().last().unwrap();
    assert!(secret.starts_with("ed25519-secret:") && !made.stderr.contains(secret));
}

#[test]
fn a_closed_standard_output_does_not_fail_a_command() {
    let project = Project::of_elements(&["one"]);
    let mut listing =
        project.command(&["elements", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(listing.stdout.take());
    let output = listing.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    project.write("elements/one/element-deps", "none\n");
    let check = project.command(&["elements", "check"]).stdout(closed_pipe()).output().unwrap();
    assert_eq!(check.status.code(), Some(1), "the exit status does not depend on readers of the output");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = project.command(&["elements", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: cannot write to standard output\n  Caused by: No space left on device (os error 28)\n\n\
         hint: free some space on that disk, or name another with `-o DIR` or `--store DIR`\n"
    );
}

/// Returns the writing end of a pipe without a reader.
fn closed_pipe() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

#[test]
fn a_closed_standard_error_does_not_stop_a_command() {
    let project = Project::of_elements(&["one"]);
    let key = project.path().join("signing.key");
    project.write("broken.yaml", "- imagename: [");
    project.write("images.yaml", "- imagename: vm\n  elements: [one]\n");
    let [broken, images] = ["broken.yaml", "images.yaml"].map(|name| project.path().join(name));
    let [broken, images] = [&broken, &images].map(|path| path.to_str().unwrap());
    let calls: [(&[&str], i32); 9] = [
        (&["key", "generate", "--out", key.to_str().unwrap()], 0),
        (&["elements", "check"], 0),
        (&["plan", "none"], 1),
        (&["plan", "--surely-wrong"], 2),
        (&["-vv", "plan"], 0),
        (&["disk-image-create", "--surely-wrong"], 1),
        (&["element-info", "none"], 1),
        (&["diskimage-builder", broken], 1),
        (&["diskimage-builder", "--dry-run", images], 0),
    ];
    for (call, expected) in calls {
        // These commands are programs of their own, and accept no options of plywood before their
        // name.
        let is_other =
            call[0].contains("-image-") || call[0].contains("-builder") || call[0] == "element-info";
        let mut command = Command::new(env!("CARGO_BIN_EXE_plywood"));
        command.args(call);
        let mut command = if is_other { command } else { project.command(call) };
        let status = command.stderr(closed_pipe()).stdout(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(expected), "{call:?}");
    }
}

#[test]
fn a_project_is_found_in_a_parent_directory() {
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
fn make_install_copies_the_build_and_runs_no_cargo() {
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
fn the_trace_shows_programs_and_redacts_secrets() {
    let project = Project::of_elements(&["one"]);
    project.define("elements = [\"one\"]\n[image.tiny.env]\nDIB_TRACE_PASSWORD = \"trace-hunter2\"");
    // The value of the variable is in a URL, where only the redaction of the trace finds it.
    let source = "x git /opt/x http://me:other-hunter2@127.0.0.1:9/trace-hunter2/x.git main\n";
    project.write("elements/one/source-repository-x", source);
    let traced = project.run(&["-vv", "plan"]).stderr;
    assert!(traced.contains("DEBUG plywood::exec::run: started pid=") && traced.contains("git"), "{traced}");
    assert!(traced.contains("DEBUG plywood::exec::started: ended pid="), "{traced}");
    assert!(!traced.contains("other-hunter2"), "the password is shown: {traced}");
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
    let expected = "error: cannot use PLYWOOD_LOG=`registry=trace`: `registry` is neither a level nor a module of plywood\n\n\
        hint: name a level, or modules with levels: PLYWOOD_LOG=debug, PLYWOOD_LOG=plywood::registry=trace\n";
    assert_eq!(said, expected);
}
