//! Tests of signals: each command ends within a moment in every state, reports it, and leaves
//! nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::project::Project;

/// The time limit for a command after a signal. On an idle machine it needs less than two seconds.
const LIMIT: Duration = Duration::from_secs(3);

const GIB: u64 = 1 << 30;

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads standard error of the child up to a line that contains `text`.
fn wait_for(child: &mut Child, text: &str) -> BufReader<std::process::ChildStderr> {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the command ended before it said `{text}`");
    }
    lines
}

/// Sends a signal. Returns the exit status and the time until the end.
fn stop(child: &mut Child, signal: Signal) -> (Option<i32>, Duration) {
    kill_process(Pid::from_child(child), signal).unwrap();
    let sent = Instant::now();
    let status = child.wait().unwrap();
    (status.code(), sent.elapsed())
}

#[test]
fn a_build_that_captures_an_endless_layer_ends_within_two_seconds_of_a_signal() {
    let project = Project::new("elements = [\"big\"]\noutputs = []").with_small_base();
    project.hook("elements/big/extra-data.d/50-big", "truncate -s 200G \"$TMP_MOUNT_PATH/big\"");
    let mut build = start(project.command(&["build", "--progress", "json"]));
    let mut rest = wait_for(&mut build, "task-finished");
    thread::sleep(Duration::from_secs(1));
    let (status, took) = stop(&mut build, Signal::TERM);
    let mut said = String::new();
    rest.read_to_string(&mut said).unwrap();
    assert_eq!(status, Some(143), "{said}");
    assert!(took < LIMIT, "{took:?}");
    assert!(said.contains("\"message\":\"interrupted\""), "{said}");
    assert_eq!(fs::read_dir(project.store().join("work")).unwrap().count(), 0, "scratch files are left");
}

#[test]
fn a_check_of_a_large_store_ends_within_two_seconds_and_drops_nothing() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let blob = project.store().join("blobs/sha256").join("0".repeat(64));
    File::create(&blob).unwrap().set_len(200 * GIB).unwrap();
    let mut check = start(project.command(&["store", "check"]));
    thread::sleep(Duration::from_secs(1));
    let (status, took) = stop(&mut check, Signal::TERM);
    assert_eq!(status, Some(143));
    assert!(took < LIMIT, "{took:?}");
    assert!(blob.exists(), "a blob that was not read completely stays");
}

/// The command waits for the lock in the kernel, where it cannot check for an interrupt.
#[test]
fn a_command_that_waits_for_a_lock_ends_within_two_seconds() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let lock = File::open(project.store().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for (signal, expected) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::QUIT, 131)] {
        let mut gc = start(project.command(&["store", "gc"]));
        thread::sleep(Duration::from_millis(500));
        let (status, took) = stop(&mut gc, signal);
        assert_eq!(status, Some(expected));
        assert!(took < LIMIT, "{took:?}");
    }
}

/// As nohup(1) starts a command, for a terminal that is closed.
#[test]
fn a_command_that_ignores_hangups_continues_after_one() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let lock = File::open(project.store().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let gc = project.command(&["store", "gc"]);
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(gc.get_program()).args(gc.get_args());
    let mut gc = start(nohup);
    thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&gc), Signal::HUP).unwrap();
    thread::sleep(LIMIT);
    assert_eq!(gc.try_wait().unwrap(), None);
    drop(lock);
    assert!(gc.wait().unwrap().success());
}

#[test]
fn a_hook_that_hangs_is_named_with_its_running_time() {
    let project = Project::new("elements = [\"slow\"]\noutputs = []").with_small_base();
    project.hook("elements/slow/install.d/50-slow", "while :; do read -t 1 </dev/zero || true; done");
    let mut build = start(project.command(&["build", "--progress", "plain"]));
    let mut rest = wait_for(&mut build, "install.d/50-slow");
    thread::sleep(Duration::from_millis(1500));
    let (status, took) = stop(&mut build, Signal::INT);
    let mut said = String::new();
    rest.read_to_string(&mut said).unwrap();
    assert_eq!(status, Some(130), "{said}");
    assert!(took < LIMIT, "{took:?}");
    let expected = "error: interrupted: `install.d/50-slow` of step `slow` was running for 1 s\n";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn hooks_end_at_their_limits_and_the_error_names_the_limit_and_how_to_raise_it() {
    let project = Project::new("elements = [\"greedy\"]\noutputs = []").with_small_base();
    const FORKS: &str =
        "perl -e 'for (1..12) { defined(my $child = fork) or exit 1; $child or (sleep(3), exit 0) }'";
    let cases = [
        (
            "--hook-timeout=2",
            "install.d",
            "while :; do :; done",
            "a timeout after 2 s (limit `hook-timeout`)",
        ),
        ("--hook-processes=8", "extra-data.d", FORKS, "more than 8 processes (limit `hook-processes`)"),
        (
            "--hook-memory=64M",
            "install.d",
            "x=0123456789abcdef; while :; do x=$x$x; done",
            "more than 67108864 bytes of memory (limit `hook-memory`)",
        ),
    ];
    for (option, phase, script, expected) in cases {
        project.hook(&format!("elements/greedy/{phase}/50-greedy"), script);
        let build = project.run_build(&[option]);
        let error =
            format!("\"message\":\"hook `{phase}/50-greedy` of element `greedy` failed with {expected}\"");
        assert_eq!(build.status, Some(1), "{option}: {}", build.stderr);
        assert!(build.stderr.contains(&error), "{option}: {}", build.stderr);
        fs::remove_dir_all(project.path().join("elements/greedy")).unwrap();
        let name = option.split('=').next().unwrap();
        assert!(build.stderr.contains(&format!("raise the limit with `{name}`")), "{}", build.stderr);
    }
    assert!(groups().is_empty(), "control groups are left: {:?}", groups());
    // A limit that is not reached changes neither layers nor keys.
    project.hook("elements/greedy/install.d/50-greedy", "echo modest >/etc/modest");
    project.write(
        "plywood.toml",
        &format!(
            "{}\n[limits]\nhook-timeout = 60\nhook-memory = \"1G\"\n",
            fs::read_to_string(project.path().join("plywood.toml")).unwrap()
        ),
    );
    let limited = project.build(&[]);
    assert_eq!(limited.made(), ["greedy"]);
    project.define("elements = [\"greedy\"]\noutputs = []");
    assert_eq!(project.build(&[]).hits("input").len(), 2);
}

/// Returns the control groups that processes of this test have left.
fn groups() -> Vec<std::path::PathBuf> {
    let found =
        Command::new("find").args(["/sys/fs/cgroup", "-name", "plywood-*", "-type", "d"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let alive = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.split('-').nth(1).is_some_and(|pid| std::path::Path::new("/proc").join(pid).exists())
    };
    found.lines().map(std::path::PathBuf::from).filter(|path| !alive(path)).collect()
}

/// For example in `plywood build 2>&1 >/dev/null | head -1`.
#[test]
fn a_build_continues_if_nobody_reads_its_output() {
    let project = Project::of_elements(&["a"]).with_small_base();
    project.hook(
        "elements/a/install.d/50-a",
        "echo much; echo more >&2; grep SigIgn: /proc/self/status >/ignored",
    );
    let out = project.out();
    for progress in ["plain", "json"] {
        let mut build = project.command(&["build", "--no-cache", "--progress", progress, "-f", "tar", "-o"]);
        let closed = || std::io::pipe().unwrap().1;
        let status = build.arg(&out).stdout(closed()).stderr(closed()).status().unwrap();
        assert!(status.success(), "{progress}: {status}");
    }
    let tar = Command::new("tar").arg("-xOf").arg(out.join("tiny.tar")).arg("ignored").output().unwrap();
    let ignored = String::from_utf8(tar.stdout).unwrap();
    let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    // The C library keeps its own signals ignored in programs that it starts.
    assert_eq!(ignored & ((1 << 31) - 1), 0, "as a shell starts it: {ignored:x}");
}
