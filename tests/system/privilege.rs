//! Tests of calls by an ordinary user with sudo: without terminal, home or standard input, like
//! calls by services. They need sudo.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::common::work::{Run, Work};

/// Debian's `nobody`, who has no home and no shell.
const USER: u32 = 65534;

/// Gives the user sudo and a directory in a temporary mount namespace, and changes to that user.
const BECOME_USER: &str = r#"
mount --bind "$1/sudoers" /etc/sudoers
mount --bind "$1" /mnt
mount --bind "$0" /mnt/disk-image-create
cd /mnt/work
shift
exec setpriv --reuid 65534 --regid 65534 --clear-groups -- env -i \
    PATH=/mnt:/usr/bin:/bin ELEMENTS_PATH=/mnt/elements PLYWOOD_STORE=/mnt/store DIB_NO_TIMESTAMP=1 \
    DIB_PASSWORD=correct-horse disk-image-create "$@" <&-
"#;

/// Returns the call of `disk-image-create` with these words by that user.
fn call(work: &Work, words: &[&str]) -> Command {
    let place = work.path().parent().unwrap().to_owned();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(work.path(), Some(USER), Some(USER)).unwrap();
    work.write("../sudoers", "nobody ALL=(ALL) NOPASSWD: ALL\n");
    fs::set_permissions(place.join("sudoers"), fs::Permissions::from_mode(0o440)).unwrap();
    fs::write(place.join("disk-image-create"), "").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", BECOME_USER]);
    command.arg(env!("CARGO_BIN_EXE_plywood")).arg(&place).args(words);
    // A new session has no terminal. SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(Into::into)) };
    command
}

#[test]
fn outputs_belong_to_the_user_who_called_sudo() {
    let work = Work::new();
    work.hook("web", "install.d/50-web", "echo \"$DIB_PASSWORD\" >/dev/null; echo web >/etc/web");
    let companions = "mkdir -p x.d; echo made >x.d/manifest; echo kernel >x.vmlinuz; echo another >y";
    work.hook("web", "cleanup.d/50-web", companions);
    let words = ["-n", "-t", "qcow2,tar", "--checksum", "--logfile", "x.log", "-o", "x", "tiny", "web"];
    let run = Run::of(call(&work, &words).output().unwrap());
    run.expect_success();
    assert!(work.read("x.log").ends_with("Build completed successfully\n"), "{}", work.read("x.log"));
    let made = ["x.d", "x.log", "x.qcow2", "x.qcow2.md5", "x.qcow2.sha256", "x.tar", "x.vmlinuz"];
    let owner = |name: &str| fs::metadata(work.path().join(name)).unwrap().uid();
    for name in made.into_iter().chain(["x.d/manifest"]) {
        assert_eq!(owner(name), USER, "{name}");
    }
    assert_eq!(
        (owner("y"), work.files(".")),
        (0, made.into_iter().chain(["y"]).map(str::to_owned).collect())
    );
}

#[test]
fn a_build_under_sudo_ends_with_its_caller() {
    let work = Work::new();
    work.hook("slow", "install.d/50-slow", "echo started; sleep 600");
    let mut child = call(&work, &["-n", "-o", "x", "tiny", "slow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line == "started"));
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe ends, so no process of the build is left.
    assert_eq!(lines.find(|line| line.contains("completed")), None);
}

#[test]
fn the_error_says_that_the_user_may_not_use_sudo() {
    let work = Work::new();
    let mut command = call(&work, &["-n", "-o", "x", "tiny"]);
    work.write("../sudoers", "nobody ALL=(ALL) ALL\n");
    let run = Run::of(command.output().unwrap());
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{}", run.stderr);
    assert!(run.stderr.contains("password"), "{}", run.stderr);
}
