//! Tests of the inspection of the state after a failed hook, and before a hook.

use std::io::Write;
use std::process::Stdio;

use crate::common::project::{Project, Run};

/// Returns a project whose element `web` fails in the second of three hooks, after the hook has
/// written files.
fn failing() -> Project {
    let project = Project::new("elements = [\"web\"]\noutputs = []").with_small_base();
    project.hook("elements/web/extra-data.d/40-data", "echo data >\"$TMP_MOUNT_PATH/etc/data\"");
    project.hook("elements/web/install.d/50-first", "echo first >/etc/first");
    project.hook("elements/web/install.d/60-second", "echo half >/etc/second; rm /etc/tiny; exit 3");
    project
}

/// Runs a command with this standard input.
fn with_input(project: &Project, args: &[&str], input: &str) -> Run {
    let mut command = project.command(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Run::of(child.wait_with_output().unwrap(), &project.path())
}

#[test]
fn a_shell_opens_on_the_state_after_a_failed_hook() {
    let project = failing();
    let run =
        with_input(&project, &["build", "--on-error", "shell"], "cat /etc/first /etc/second; ls /etc/tiny\n");
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), "first\nhalf\n"), "{}", run.stderr);
    let failure = "hook `install.d/60-second` of element `web` failed with exit status 3";
    assert!(run.stderr.contains(&format!("warning: {failure}\n")), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("error: {failure}\n")), "{}", run.stderr);
    // For a hook of a host phase, the shell has the host view.
    project.hook("elements/web/extra-data.d/40-data", "echo more >\"$TMP_MOUNT_PATH/etc/data\"; exit 4");
    let run = with_input(&project, &["build", "--on-error", "shell"], "cat $TMP_MOUNT_PATH/etc/data\n");
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), "more\n"), "{}", run.stderr);
}

#[test]
fn a_failed_state_is_kept_until_the_image_is_built() {
    let project = failing();
    let look = || project.run(&["shell", "tiny", "--failed", "--", "sh", "-c", "cat /etc/second; ls /etc"]);
    let none = look();
    assert_eq!(none.status, Some(1));
    assert!(none.stderr.contains("build tiny --keep-failed"), "{}", none.stderr);
    let build = project.run_build(&["--keep-failed"]);
    assert!(build.stderr.contains("shell tiny --failed"), "{}", build.stderr);
    for _ in 0..2 {
        let found = look();
        assert_eq!(found.status, Some(0), "{}", found.stderr);
        assert!(found.stdout.starts_with("half\n") && found.stdout.contains("first\n"), "{}", found.stdout);
        assert!(!found.stdout.contains("tiny\n"), "the removed file is still there: {}", found.stdout);
        assert!(found.stderr.contains("`60-second` of step `web` failed here"), "{}", found.stderr);
    }
    project.hook("elements/web/install.d/60-second", "echo whole >/etc/second");
    project.build(&[]);
    assert_eq!(look().status, Some(1));
}

#[test]
fn a_shell_shows_the_state_before_a_hook() {
    let project = failing();
    let at =
        |hook: &str, script: &str| project.run(&["shell", "tiny", "--at", hook, "--", "sh", "-c", script]);
    let second =
        at("web:install.d/60-second", "cat /etc/data /etc/first; ls /etc/second /tmp/in_target.d/install.d");
    assert!(second.stdout.starts_with("data\nfirst\n"), "{}{}", second.stdout, second.stderr);
    assert!(second.stdout.contains("60-second") && second.stderr.contains("/etc/second"), "{second:?}");
    let first = at("web:install.d/50-first", "cat /etc/data; cat /etc/first");
    assert_eq!((first.status, first.stdout.as_str()), (Some(1), "data\n"), "{}", first.stderr);
    let host = at("web:extra-data.d/40-data", "cat $TMP_MOUNT_PATH/etc/tiny; cat $TMP_MOUNT_PATH/etc/data");
    assert_eq!((host.status, host.stdout.as_str()), (Some(1), "tiny\n"), "{}", host.stderr);
    let unknown = at("web:install.d/70-third", "true");
    assert_eq!(unknown.status, Some(1));
    let known = "hint: its hooks and tasks: extra-data.d/40-data, install.d/50-first, install.d/60-second";
    assert!(unknown.stderr.contains(known), "{}", unknown.stderr);
}
