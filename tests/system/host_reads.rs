//! Tests of host evidence: files of the build host that hooks read count when their steps are
//! looked up. They need root, overlayfs and fanotify.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};

use crate::common::project::{Project, Run};

/// Returns a project whose element `web` has this script in `extra-data.d`, and a directory of the
/// build host. In the script, `HOST` stands for the directory, and `NAME` for its name.
fn project(script: &str) -> (Project, tempfile::TempDir) {
    // Neither in `/tmp` nor in a home directory, because the sandbox replaces these.
    let host = tempfile::tempdir_in("/srv").unwrap();
    let project = Project::of_elements(&["web"]).with_small_base();
    let name = host.path().file_name().unwrap().to_str().unwrap();
    let script = script.replace("HOST", host.path().to_str().unwrap()).replace("NAME", name);
    project.hook("elements/web/extra-data.d/50-read", &script);
    (project, host)
}

/// Returns whether the step `web` is a hit, and the reason for a miss.
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

/// Builds, checks that the step is a hit, changes the build host, and checks that the step is a
/// miss with this reason.
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
fn a_changed_host_file_that_a_hook_read_is_a_miss_that_names_the_file() {
    type Case = (&'static str, &'static str, fn(&Path), fn(&Path), &'static str);
    let table: [Case; 13] = [
        (
            "a file by its literal path",
            "cat HOST/scripts/a",
            |host| write(host.join("scripts/a"), "1"),
            |host| write(host.join("scripts/a"), "2"),
            "host file `HOST/scripts/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a file by a computed path",
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
            "host names below `HOST`, which `extra-data.d/50-read` names, have changed, and 1 more",
        ),
        (
            "a pattern",
            "d=/; echo ${d}srv/NAME/*.pub >$TMP_MOUNT_PATH/keys",
            |host| write(host.join("a.pub"), "1"),
            |host| write(host.join("b.pub"), "2"),
            "host directory `HOST`, which `extra-data.d/50-read` listed, has changed",
        ),
        (
            "a missing file",
            "if [ -e HOST/info.sh ]; then echo there; fi",
            |_| (),
            |host| write(host.join("info.sh"), ""),
            "host path `HOST/info.sh`, which `extra-data.d/50-read` names, has appeared",
        ),
        (
            "a missing file below a named directory",
            "d=HOST; if [ -e $d/sub/info.sh ]; then echo there; fi",
            |host| fs::create_dir(host.join("sub")).unwrap(),
            |host| write(host.join("sub/info.sh"), ""),
            "host names below `HOST`, which `extra-data.d/50-read` names, have changed",
        ),
        (
            "a file whose mode is copied",
            "d=/; cp -p ${d}srv/NAME/a $TMP_MOUNT_PATH/a",
            |host| write(host.join("a"), "1"),
            |host| fs::set_permissions(host.join("a"), Permissions::from_mode(0o700)).unwrap(),
            "host file `HOST/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a file whose attributes are copied",
            "d=/; cp -a ${d}srv/NAME/a $TMP_MOUNT_PATH/a",
            |host| write(host.join("a"), "1"),
            |host| setxattr(host.join("a"), "user.x", b"1", XattrFlags::empty()).unwrap(),
            "host file `HOST/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a link in a directory that is copied",
            "d=/; cp -a ${d}srv/NAME/d $TMP_MOUNT_PATH/d",
            |host| {
                fs::create_dir(host.join("d")).unwrap();
                symlink("one", host.join("d/link")).unwrap();
            },
            |host| {
                fs::remove_file(host.join("d/link")).unwrap();
                symlink("two", host.join("d/link")).unwrap();
            },
            "host directory `HOST/d`, which `extra-data.d/50-read` listed, has changed",
        ),
        (
            "a link on the way that changes",
            "d=/; cat ${d}srv/NAME/current/a",
            |host| {
                write(host.join("v1/a"), "1");
                write(host.join("v2/a"), "2");
                symlink("v1", host.join("current")).unwrap();
            },
            |host| {
                fs::remove_file(host.join("current")).unwrap();
                symlink("v2", host.join("current")).unwrap();
            },
            "host symlinks in `HOST`, which `extra-data.d/50-read` read from, have changed",
        ),
        (
            "a file in another mount namespace, under another name",
            "d=HOST; unshare -m sh -c \"mkdir /tmp/x; mount --bind $d/scripts /tmp/x; cat /tmp/x/a; sleep 0.3\"",
            |host| write(host.join("scripts/a"), "1"),
            |host| write(host.join("scripts/a"), "2"),
            "host file `HOST/scripts/a`, which `extra-data.d/50-read` read, has changed",
        ),
        (
            "a file that an orphaned process reads",
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
fn host_files_that_fragments_read_count_too() {
    let (project, host) = project("echo $COMPANY >$TMP_MOUNT_PATH/company");
    let name = host.path().join("name").display().to_string();
    // The small base lacks the programs that would source them in the target.
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
fn host_files_that_no_hook_read_do_not_count() {
    let (project, host) = project("cat HOST/a");
    write(host.path().join("a"), "1");
    write(host.path().join("b"), "1");
    project.build(&[]);
    write(host.path().join("b"), "2");
    write(host.path().join("sub/c"), "2");
    assert_hit(&project, "another file");
    write(host.path().join("a"), "1");
    assert_hit(&project, "written again with the same bytes");
}

/// A hook may get paths from files that it sources.
#[test]
fn paths_in_files_beside_a_hook_count() {
    let (project, host) = project(". $(dirname $0)/functions.sh; . $(dirname $0)/../company.sh");
    let name = host.path().display().to_string();
    for (helper, file) in [("extra-data.d/functions.sh", "one"), ("company.sh", "two")] {
        let text = format!("if [ -e {name}/{file} ]; then echo there; fi\n");
        project.write(&format!("elements/web/{helper}"), &text);
    }
    project.build(&[]);
    for file in ["one", "two"] {
        assert_hit(&project, "unchanged");
        write(host.path().join(file), "");
        let reason =
            format!("miss host path `{name}/{file}`, which `extra-data.d/50-read` names, has appeared");
        assert_eq!(outcome(&project), reason);
        project.build(&[]);
    }
}

/// Images of file systems that were made in the same way may have files of equal sizes and times.
#[test]
fn another_file_system_image_with_equal_times_is_noticed() {
    let (project, host) = project("d=/; cp ${d}srv/NAME/mounted/a $TMP_MOUNT_PATH/a");
    let at = |name: &str| host.path().join(name);
    fs::create_dir(at("mounted")).unwrap();
    for text in ["1", "2"] {
        write(at("files/a"), text);
        let times = ["-all-time", "1000", "-mkfs-time", "1000", "-quiet", "-noappend"];
        let made = Command::new("mksquashfs").arg(at("files")).arg(at(text)).args(times).output();
        assert!(made.expect("this test needs mksquashfs").status.success());
    }
    let (out, place) = (project.out().display().to_string(), at("mounted").display().to_string());
    let run = |image: &str, args: &[&str]| with_mount(&project, "-oloop,ro", &at(image), &place, args);
    run("1", &["build", "-o", &out]);
    let plan = said_of_web(&run("1", &["plan", "tiny"]));
    assert!(plan.starts_with("hit"), "{plan}");
    let reason = format!("miss host file `{place}/a`, which `extra-data.d/50-read` read, has changed");
    assert_eq!(said_of_web(&run("2", &["plan", "tiny"])), reason);
}

/// Hooks must not read layers of other images as files of the build host.
#[test]
fn the_store_is_hidden_from_hooks_of_host_phases() {
    let project = Project::of_elements(&["web"]).with_small_base();
    let script = format!("ls -A {} >$TMP_MOUNT_PATH/seen", project.store().display());
    project.hook("elements/web/extra-data.d/50-read", &script);
    project.build(&[]);
    let tar = project.out().join("tiny.tar");
    let seen = Command::new("tar").arg("-xOf").arg(tar).arg("seen").output().unwrap();
    assert!(seen.status.success() && seen.stdout.is_empty(), "{}", String::from_utf8_lossy(&seen.stdout));
}

/// Runs the program with these arguments while `directory` is mounted over the directory `place` of
/// the build host. Other tests do not see the mount.
fn with_place(project: &Project, directory: &Path, place: &str, args: &[&str]) -> Run {
    with_mount(project, "--bind", directory, place, args)
}

fn with_mount(project: &Project, how: &str, source: &Path, place: &str, args: &[&str]) -> Run {
    let program = project.command(args);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-euc", "mount \"$1\" \"$2\" \"$3\"; shift 3; exec \"$@\"", "sh"]);
    command.arg(how).arg(source).arg(place).arg(program.get_program()).args(program.get_args());
    let run = Run::of(command.output().unwrap(), project.path().parent().unwrap());
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    run
}

#[test]
fn computed_names_and_the_apt_configuration_of_the_host_count() {
    type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);
    let table: [Case; 2] = [
        (
            "a computed name of a file that appears",
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
