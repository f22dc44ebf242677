//! What hooks read of the build host counts when their steps are looked up. Needs root, overlayfs and fanotify.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::common::project::{Project, Run};

/// Returns a project whose element `web` has this script in `extra-data.d`, and a directory of the host for it to read, which
/// the script has as `HOST`.
fn project(script: &str) -> (Project, tempfile::TempDir) {
    // Not in `/tmp`, nor in a home: the sandbox has its own there.
    let host = tempfile::tempdir_in("/srv").unwrap();
    let project = Project::of_elements(&["web"]).with_small_base();
    let script = script.replace("HOST", host.path().to_str().unwrap());
    project.hook("elements/web/extra-data.d/50-read", &script);
    (project, host)
}

/// Says whether the step `web` is found, and if not, why.
fn outcome(project: &Project) -> String {
    said_of_web(&project.run(&["plan", "tiny"]))
}

fn said_of_web(plan: &Run) -> String {
    let line = plan.stdout.lines().find(|line| line.trim_start().starts_with("web ")).unwrap().to_owned();
    line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_hit(project: &Project, case: &str) {
    let outcome = outcome(project);
    assert!(outcome.starts_with("hit"), "{case}: {outcome}");
}

/// Builds, sees that nothing would be built, changes the host, and sees that the step would be, and why.
fn check(case: &str, script: &str, prepare: fn(&Path), change: fn(&Path), reason: &str) {
    let (project, host) = project(script);
    prepare(host.path());
    let build = project.build(&[]);
    assert_eq!(build.warnings(), [""; 0], "{case}");
    assert_hit(&project, case);
    change(host.path());
    let reason = reason.replace("HOST", host.path().to_str().unwrap());
    assert_eq!(outcome(&project), format!("miss {reason}"), "{case}");
    project.build(&[]);
    assert_hit(&project, case);
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_change_of_what_a_hook_read_of_the_host_is_a_miss_that_names_it() {
    type Case = (&'static str, &'static str, fn(&Path), fn(&Path), &'static str);
    let table: [Case; 8] = [
        (
            "a file by its literal path",
            "cat HOST/scripts/a",
            |host| write(host.join("scripts/a"), "1"),
            |host| write(host.join("scripts/a"), "2"),
            "host file `HOST/scripts/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a file by a path that is put together",
            "d=HOST; cat $d/scripts/a",
            |host| write(host.join("scripts/a"), "1"),
            |host| write(host.join("scripts/a"), "2"),
            "host file `HOST/scripts/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a file through a link",
            "d=HOST; cat $d/link",
            |host| {
                write(host.join("a"), "1");
                symlink("a", host.join("link")).unwrap();
            },
            |host| write(host.join("a"), "2"),
            "host file `HOST/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a directory that is copied",
            "d=HOST; cp -r $d/scripts $TMP_MOUNT_PATH/scripts",
            |host| write(host.join("scripts/a"), "1"),
            |host| write(host.join("scripts/b"), "2"),
            "host directory `HOST/scripts`, which `extra-data.d/50-read` listed, has changed",
        ),
        (
            "a pattern",
            "d=HOST; echo $d/*.pub >$TMP_MOUNT_PATH/keys",
            |host| write(host.join("a.pub"), "1"),
            |host| write(host.join("b.pub"), "2"),
            "host directory `HOST`, which `extra-data.d/50-read` listed, has changed",
        ),
        (
            "a file that is not there",
            "if [ -e HOST/info.sh ]; then echo there; fi",
            |_| (),
            |host| write(host.join("info.sh"), ""),
            "host path `HOST/info.sh`, which `extra-data.d/50-read` names, has appeared",
        ),
        (
            "a file in a namespace of its own, and below another name",
            "d=HOST; unshare -m sh -c \"mkdir /tmp/x; mount --bind $d/scripts /tmp/x; cat /tmp/x/a; sleep 0.3\"",
            |host| write(host.join("scripts/a"), "1"),
            |host| write(host.join("scripts/a"), "2"),
            "host file `HOST/scripts/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a file that a process reads whose parents have ended",
            "d=HOST; (setsid sh -c \"cat $d/a >/tmp/plywood/image/copy\" &) ; while ! [ -s /tmp/plywood/image/copy ]; do :; done",
            |host| write(host.join("a"), "1"),
            |host| write(host.join("a"), "2"),
            "host file `HOST/a`, which `extra-data.d/50-read` read, has changed",
        ),
    ];
    for (case, script, prepare, change, reason) in table {
        check(case, script, prepare, change, reason);
    }
}

#[test]
fn what_fragments_read_of_the_host_counts_too() {
    let (project, host) = project("echo $COMPANY >$TMP_MOUNT_PATH/company");
    let name = host.path().join("name").display().to_string();
    // The small base has no programs to source them in the target.
    fs::remove_dir_all(project.path().join("elements/web/install.d")).unwrap();
    let fragment = format!("export COMPANY=$(<{name})\n");
    project.write("elements/web/environment.d/10-company", &fragment);
    write(host.path().join("name"), "one");
    project.build(&[]);
    assert_hit(&project, "unchanged");
    write(host.path().join("name"), "two");
    let reason = format!("miss host file `{name}`, which `environment.d` read, has changed");
    assert_eq!(outcome(&project), reason);
}

#[test]
fn what_a_hook_did_not_read_does_not_count() {
    let (project, host) = project("d=HOST; cat $d/a");
    write(host.path().join("a"), "1");
    write(host.path().join("b"), "1");
    project.build(&[]);
    write(host.path().join("b"), "2");
    write(host.path().join("sub/c"), "2");
    assert_hit(&project, "another file");
    write(host.path().join("a"), "1");
    assert_hit(&project, "written again with the same bytes");
}

/// Returns the program with these arguments, where `directory` is in the place of the host's `place`: other tests see the host's own.
fn with_place(project: &Project, directory: &Path, place: &str, args: &[&str]) -> Run {
    let program = project.command(args);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-euc", "mount --bind \"$1\" \"$2\"; shift 2; exec \"$@\"", "sh"]);
    command.arg(directory).arg(place).arg(program.get_program()).args(program.get_args());
    let run = Run::of(command.output().unwrap(), project.path().parent().unwrap());
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    run
}

#[test]
fn names_that_a_hook_puts_together_and_apts_configuration_of_the_host_count() {
    type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);
    let table: [Case; 2] = [
        (
            "a name that is put together, of a file that appears",
            "/opt",
            "d=/op; if [ -e ${d}t/info.sh ]; then echo there; fi",
            "info.sh",
            "host names at and below `/opt/info.sh` have appeared",
        ),
        (
            "apt's configuration",
            "/etc/apt/apt.conf.d",
            "d=/etc/ap; cat ${d}t/apt.conf.d/*",
            "99-company",
            "host directory `/etc/apt/apt.conf.d`, which `extra-data.d/50-read` listed, has changed, and 1 more",
        ),
    ];
    for (case, place, script, name, reason) in table {
        let (project, host) = project(script);
        write(host.path().join("10-first"), "");
        let out = project.out().to_str().unwrap().to_owned();
        let run = |args: &[&str]| with_place(&project, host.path(), place, args);
        run(&["build", "-o", &out]);
        let plan = said_of_web(&run(&["plan", "tiny"]));
        assert!(plan.starts_with("hit"), "{case}: {plan}");
        write(host.path().join(name), "");
        assert_eq!(said_of_web(&run(&["plan", "tiny"])), format!("miss {reason}"), "{case}");
    }
}
