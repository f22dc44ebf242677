//! Tests of jobs in real namespaces on a real root. They need root, overlayfs, and a package mirror
//! for the first run.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Scratch, bookworm, run, sandbox, shell};
use plywood::port::{Access, Bind, Exit, Job, Network, RootSpec, Sandbox, SandboxError, View};

fn scratch() -> Scratch {
    Scratch::on(&sandbox(&Arc::default()), &[bookworm()])
}

/// Lists the differences between an upper directory and the layer below: names, times of
/// directories, and files that a layer would have.
fn changes(upper: &Path, lower: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(upper).unwrap().map(Result::unwrap) {
        let below = lower.join(entry.file_name());
        let (new, old) = (entry.metadata().unwrap(), fs::symlink_metadata(&below));
        match old {
            Ok(old) if new.is_dir() && old.is_dir() => {
                if (new.mtime(), new.mtime_nsec(), new.mode()) != (old.mtime(), old.mtime_nsec(), old.mode())
                {
                    found.push(format!("{} (time or mode)", entry.path().display()));
                }
                found.extend(changes(&entry.path(), &below));
            }
            Ok(old) if is_same(&new, &old) && fs::read(entry.path()).ok() == fs::read(&below).ok() => {}
            _ => found.push(entry.path().display().to_string()),
        }
    }
    found
}

fn is_same(new: &fs::Metadata, old: &fs::Metadata) -> bool {
    let facts = |file: &fs::Metadata| (file.mode(), file.uid(), file.gid(), file.mtime(), file.mtime_nsec());
    new.is_file() && facts(new) == facts(old)
}

/// Waits until no process has `mark` in its arguments.
fn assert_gone(mark: &str) {
    let start = Instant::now();
    while processes_with(mark) > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "a process with `{mark}` is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn processes_with(mark: &str) -> usize {
    let own = std::process::id().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok().filter(|entry| entry.file_name() != own.as_str()))
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|arguments| String::from_utf8_lossy(arguments).contains(mark))
        .count()
}

#[test]
fn a_job_sees_no_files_of_the_build_host() {
    let scratch = scratch();
    let (exit, output) = scratch.shell(
        "hostname; id -u; umask; pwd; ls /dev; ls -A /run; ls -l /proc/self/fd/0 | sed 's/.* //'
         ls /proc/self/fd | wc -w; ps 2>/dev/null | wc -l; ls -d /proc/[0-9]*; ulimit -c; ulimit -n",
    );
    assert_eq!(exit, Exit::Status(0));
    let expected = "plywood\n0\n0022\n/\nconsole\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\n\
                    urandom\nzero\nlock\nplywood\n/dev/null\n4\n0\n";
    let (seen, rest) = output.split_at(expected.len().min(output.len()));
    assert_eq!(seen, expected);
    assert_eq!(rest, "/proc/1\n/proc/2\n0\n1024\n");
}

#[test]
fn only_device_nodes_that_every_system_has_can_be_made() {
    let scratch = scratch();
    let (exit, output) = scratch.shell(
        "set -e; echo x >/dev/null; test $(head -c 4 /dev/zero | wc -c) = 4; echo text >/dev/shm/x
         mkdir -p /chroot/dev; mknod /chroot/dev/null c 1 3; echo x >/chroot/dev/null
         test $(stat -c %t:%T /chroot/dev/null) = 1:3; mkfifo /pipe
         for node in 'b 8 0' 'b 7 0' 'c 1 1' 'c 10 237'; do
             if mknod /disk $node; then echo made $node; fi
         done
         if mknod /dev/disk b 8 0; then echo made in dev; fi
         if echo 1 >/proc/sys/vm/overcommit_memory; then echo tuned; fi
         if mkdir /sys/x; then echo made; fi; if date -s @0; then echo turned; fi",
    );
    assert_eq!(exit, Exit::Status(0), "{output}");
    for unwanted in ["opened", "tuned", "made", "turned"] {
        assert!(!output.contains(unwanted), "{output}");
    }
}

#[test]
fn exit_statuses_and_signals_are_passed_on() {
    let scratch = scratch();
    let cases = [
        ("exit 0", Exit::Status(0)),
        ("exit 3", Exit::Status(3)),
        ("exit 255", Exit::Status(255)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("yes | head -n 1", Exit::Status(0)),
        ("kill -9 1; exit 7", Exit::Status(7)),
        ("kill -PIPE $$", Exit::Signal(13)),
    ];
    for (script, expected) in cases {
        assert_eq!(scratch.shell(script).0, expected, "{script}");
    }
}

#[test]
fn output_arrives_in_order_and_while_the_job_runs() {
    let scratch = scratch();
    let start = Instant::now();
    let mut first = None;
    let mut output = Vec::new();
    let job = shell("echo out; echo err >&2; sleep 1; head -c 300000 /dev/zero; echo end");
    let exit = scratch.root.run(&job, &mut |piece| {
        first.get_or_insert_with(|| start.elapsed());
        output.extend_from_slice(piece);
    });
    assert_eq!(exit.unwrap(), Exit::Status(0));
    assert!(first.unwrap() < Duration::from_millis(900));
    assert!(output.starts_with(b"out\nerr\n") && output.ends_with(b"\0end\n"));
    assert_eq!(output.len(), 8 + 300_000 + 4);
}

#[test]
fn missing_programs_are_named() {
    let scratch = scratch();
    let mut job = shell("");
    for program in ["no-such-program", "/no/such/program"] {
        job.argv[0] = program.to_owned();
        let error = scratch.root.run(&job, &mut |_| ()).unwrap_err();
        assert!(
            matches!(&error, SandboxError::ProgramNotFound { program: named, .. } if named == program),
            "{error}"
        );
    }
    job.argv[0] = "/etc/passwd".to_owned();
    let error = scratch.root.run(&job, &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "cannot execute `/etc/passwd` for a sandbox");
    job.cwd = "/nowhere".to_owned();
    let error = scratch.root.run(&job, &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "cannot enter `/nowhere` for a sandbox");
}

#[test]
fn a_program_with_a_missing_interpreter_ends_as_in_a_shell() {
    let scratch = scratch();
    for (line, missing) in [
        ("#!/usr/bin/pythonx -u", "its interpreter `/usr/bin/pythonx` does not exist"),
        ("#!/bin/sh\\r", "it has CRLF line endings, so the kernel cannot find its interpreter"),
    ] {
        scratch.shell(&format!("printf '{line}\\n' >/usr/bin/hook; chmod +x /usr/bin/hook"));
        let mut job = shell("");
        job.argv = vec!["/usr/bin/hook".to_owned()];
        let expected = format!("/usr/bin/hook: {missing}\n");
        assert_eq!(run(scratch.root.as_ref(), &job), (Exit::Status(126), expected));
    }
}

#[test]
fn the_shell_runs_scripts_without_interpreter_line() {
    let scratch = scratch();
    let (exit, output) = scratch.shell("echo 'echo \"$1\"' >/script; chmod +x /script");
    assert_eq!((exit, output.as_str()), (Exit::Status(0), ""));
    let mut job = shell("");
    job.argv = vec!["/script".to_owned(), "word".to_owned()];
    assert_eq!(run(scratch.root.as_ref(), &job), (Exit::Status(0), "word\n".to_owned()));
}

#[test]
fn binds_and_files_are_visible_and_leave_no_trace() {
    let scratch = scratch();
    let machine = tempfile::tempdir().unwrap();
    fs::write(machine.path().join("file"), "of the machine").unwrap();
    fs::create_dir(machine.path().join("cache")).unwrap();
    let bind = |source: &str, target: &str, access| Bind {
        source: machine.path().join(source),
        target: target.to_owned(),
        access,
    };
    let mut job = shell(
        "set -e; cat /new/a/file /etc/hostname; echo
         echo kept >/cache/kept; ! echo x >/new/a/file; ! touch /run/plywood/data/x; cat /run/plywood/data/file",
    );
    job.binds = vec![
        bind("file", "/new/a/file", Access::ReadOnly),
        bind("file", "/etc/hostname", Access::ReadOnly),
        bind("cache", "/cache", Access::ReadWrite),
        bind("", "/run/plywood/data", Access::ReadOnly),
    ];
    let (exit, output) = run(scratch.root.as_ref(), &job);
    assert_eq!(exit, Exit::Status(0), "{output}");
    assert!(output.starts_with("of the machineof the machine\n"), "{output}");
    assert_eq!(fs::read_to_string(machine.path().join("cache/kept")).unwrap(), "kept\n");
    assert_eq!(changes(&scratch.upper(), bookworm()), Vec::<String>::new());
}

#[test]
fn the_resolver_of_the_build_host_is_visible_in_every_root() {
    let machines = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let links = [None, Some("../run/systemd/resolve/stub-resolv.conf"), Some("/nowhere/deep/resolv.conf")];
    for link in links {
        let layer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::create_dir(layer.path().join("etc")).unwrap();
        if let Some(link) = link {
            symlink(link, layer.path().join("etc/resolv.conf")).unwrap();
        }
        let scratch = Scratch::on(&sandbox(&Arc::default()), &[bookworm(), layer.path()]);
        if link.is_none() {
            fs::remove_file(scratch.root.path().join("etc/resolv.conf")).unwrap();
        }
        assert_eq!(scratch.shell("cat /etc/resolv.conf"), (Exit::Status(0), machines.clone()));
        let left = changes(&scratch.upper(), bookworm());
        assert!(
            left.iter().all(|path| path.ends_with("etc (time or mode)") || path.ends_with("resolv.conf")),
            "{left:?}"
        );
    }
}

#[test]
fn services_cannot_be_started() {
    let scratch = scratch();
    let (exit, output) =
        scratch.shell("/usr/sbin/policy-rc.d ssh start; echo $?; ls -l /usr/sbin/policy-rc.d | cut -c 1-10");
    assert_eq!((exit, output.as_str()), (Exit::Status(0), "101\n-rwxr-xr-x\n"));
    assert_eq!(changes(&scratch.upper(), bookworm()), Vec::<String>::new());
}

#[test]
fn a_job_ends_with_its_first_process_although_daemons_run() {
    let scratch = scratch();
    let start = Instant::now();
    let (exit, output) =
        scratch.shell("setsid sleep 7331.5 & nohup sleep 7331.5 >/dev/null 2>&1 & echo started");
    assert_eq!((exit, output.as_str()), (Exit::Status(0), "started\n"));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_gone("7331.5");
}

#[test]
fn without_network_there_is_only_a_loopback_interface() {
    let scratch = scratch();
    let mut job = shell(
        "ls /sys/class/net; cat /sys/class/net/lo/flags; cat /proc/net/route | wc -l; cat /etc/resolv.conf",
    );
    job.network = Network::None;
    assert_eq!(run(scratch.root.as_ref(), &job), (Exit::Status(0), "lo\n0x9\n1\n".to_owned()));
}

#[test]
fn an_interrupt_kills_the_job() {
    let interrupt = Arc::new(AtomicBool::new(false));
    let scratch = Scratch::on(&sandbox(&interrupt), &[bookworm()]);
    let raiser = Arc::clone(&interrupt);
    let mut output = Vec::new();
    let start = Instant::now();
    let result = scratch.root.run(&shell("trap '' TERM INT; echo up; sleep 7332.5 & wait"), &mut |piece| {
        output.extend_from_slice(piece);
        raiser.store(true, Ordering::Relaxed);
    });
    assert!(matches!(result, Err(SandboxError::Interrupted)), "{result:?}");
    assert_eq!(output, b"up\n");
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_gone("7332.5");
    assert_eq!(changes(&scratch.upper(), bookworm()), Vec::<String>::new());
}

#[test]
fn host_jobs_see_the_build_host_read_only_and_the_target_writable() {
    let scratch = scratch();
    let mut job = shell(&format!(
        "test -d {mnt}/var/lib/dpkg; echo text >{mnt}/etc/new; ls -A /tmp /tmp/plywood; ! touch /etc/x-plywood; \
         ! touch {project}/x; hostname; ls /dev | wc -l; cat /etc/resolv.conf",
        mnt = View::HOST_MOUNT,
        project = env!("CARGO_MANIFEST_DIR"),
    ));
    job.view = View::Host;
    let (exit, output) = run(scratch.root.as_ref(), &job);
    assert_eq!(exit, Exit::Status(0), "{output}");
    assert!(output.starts_with("/tmp:\nplywood\n\n/tmp/plywood:\nmnt\n"), "{output}");
    assert!(output.contains("\nplywood\n14\n"), "{output}");
    assert!(output.ends_with(&fs::read_to_string("/etc/resolv.conf").unwrap()), "{output}");
    assert_eq!(fs::read_to_string(scratch.upper().join("etc/new")).unwrap(), "text\n");
    assert!(!Path::new("/etc/x-plywood").exists());
}

#[test]
fn a_root_that_is_opened_again_has_the_written_files() {
    let sandbox = sandbox(&Arc::default());
    let scratch = Scratch::on(&sandbox, &[bookworm()]);
    assert_eq!(scratch.shell("echo one >/one; rm /etc/hostname").0, Exit::Status(0));
    let (upper, work) = (scratch.upper(), scratch.directory.path().join("work"));
    let mounted = scratch.root.path().to_owned();
    scratch.root.close().unwrap();
    assert!(!mounted.exists());
    let again = RootSpec::Overlay { lowers: vec![bookworm().to_owned()], upper: upper.clone(), work };
    let root = sandbox.open(&again).unwrap();
    assert_eq!(run(root.as_ref(), &shell("cat /one; ls /etc/hostname")).1.lines().next(), Some("one"));
    root.close().unwrap();
    let merged = sandbox.open(&RootSpec::ReadOnly { lowers: vec![bookworm().to_owned(), upper] }).unwrap();
    assert!(merged.path().join("one").exists() && !merged.path().join("etc/hostname").exists());
    assert_eq!(run(merged.as_ref(), &shell("touch /x || cat /one")).1.lines().last(), Some("one"));
    let single = sandbox.open(&RootSpec::ReadOnly { lowers: vec![bookworm().to_owned()] }).unwrap();
    assert!(fs::write(single.path().join("x"), "").is_err());
}

#[test]
fn a_first_layer_needs_no_layer_below() {
    let scratch = Scratch::on(&sandbox(&Arc::default()), &[]);
    let mut job = shell(&format!("echo x >{}/x", View::HOST_MOUNT));
    job.view = View::Host;
    assert_eq!(run(scratch.root.as_ref(), &job).0, Exit::Status(0));
    assert!(scratch.upper().join("x").exists());
}

#[test]
fn links_in_a_hostile_root_do_not_lead_out_of_it() {
    let layer = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), layer.path().join("cache")).unwrap();
    let scratch = Scratch::on(&sandbox(&Arc::default()), &[bookworm(), layer.path()]);
    let mut job = shell("touch /cache/x");
    job.binds = vec![Bind {
        source: tempfile::tempdir().unwrap().keep(),
        target: "/cache".to_owned(),
        access: Access::ReadWrite,
    }];
    assert_eq!(run(scratch.root.as_ref(), &job).0, Exit::Status(0));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(job.binds[0].source.join("x").exists());
    fs::remove_dir_all(&job.binds[0].source).unwrap();
}

/// The tests below start this test binary again. This variable chooses the part that the child
/// plays.
const ROLE: &str = "PLYWOOD_TEST_ROLE";

#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let scratch = scratch();
    let exit = match role.as_str() {
        "victim" => scratch.shell("setsid sleep 7333.5 & echo up >/up; sleep 7333.5").0,
        _ => {
            let mut job: Job = shell("");
            job.argv = ["bash", "--norc", "-i"].map(str::to_owned).to_vec();
            scratch.root.run_interactive(&job).unwrap()
        }
    };
    println!("ended with {exit}");
}

fn role_command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "sandbox::role", "--nocapture"]).env(ROLE, role);
    command
}

#[test]
fn killing_plywood_leaves_nothing() {
    let mut victim = role_command("victim").stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while processes_with("7333.5") < 2 {
        assert!(start.elapsed() < Duration::from_secs(60), "the job did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    victim.kill().unwrap();
    assert_eq!(victim.wait().unwrap().signal(), Some(9));
    assert_gone("7333.5");
    let mounts = fs::read_to_string("/proc/1/mountinfo").unwrap();
    assert!(!mounts.contains("/run/plywood"), "{mounts}");
}

/// The output of a program on its terminal.
struct Screen {
    output: ChildStdout,
    text: String,
}

impl Screen {
    /// Reads until the output has `expected`.
    fn wait_for(&mut self, expected: &str) {
        let mut piece = [0; 4096];
        while !self.text.contains(expected) {
            let read = self.output.read(&mut piece).unwrap();
            assert!(read > 0, "no `{expected}` in: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }
}

#[test]
fn a_shell_on_a_terminal_has_job_control() {
    let mut command = Command::new("timeout");
    command.args([
        "120",
        "script",
        "-qefc",
        &format!("{:?}", role_command("shell")).replace('\n', " "),
        "/dev/null",
    ]);
    command.env(ROLE, "shell").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut terminal =
        command.spawn().expect("this test needs the program `script` (Debian package bsdutils)");
    let mut keys = terminal.stdin.take().unwrap();
    let mut screen = Screen { output: terminal.stdout.take().unwrap(), text: String::new() };
    // The terminal also echoes the typed text, so each expected text differs from it.
    for (typed, expected) in [
        ("", "# "),
        ("echo $((7000 + 334)); tty\n", "7334"),
        ("", "/dev/console"),
        ("sh -c 'echo $((7000 + 335)); exec sleep 7334.5'\n", "7335"),
        ("\x1a", "Stopped"),
        ("exit 5\n", "There are stopped jobs"),
        ("exit 5\n", "ended with exit status 5"),
    ] {
        keys.write_all(typed.as_bytes()).unwrap();
        screen.wait_for(expected);
    }
    terminal.wait().unwrap();
    let text = screen.text;
    assert!(!text.contains("no job control"), "{text}");
}

#[test]
fn hooks_find_the_commands_of_diskimage_builder() {
    let scratch = scratch();
    let maps = tempfile::tempdir().unwrap();
    let packages = r#"{ "family": { "debian": { "httpd": "apache2 libapache2-mod-wsgi", "nothing": "" } } }"#;
    fs::write(maps.path().join("web"), packages).unwrap();
    fs::write(maps.path().join("services"), "crond: cron\n").unwrap();
    let cases = [
        ("pkg-map --element web httpd", 0, "apache2 libapache2-mod-wsgi\n"),
        ("pkg-map --element=web --prefix = nothing httpd", 0, "=apache2 libapache2-mod-wsgi\n"),
        ("pkg-map --element web --missing-ok other httpd 2>&1", 0, "other\napache2 libapache2-mod-wsgi\n"),
        ("pkg-map --element web other 2>/dev/null", 1, ""),
        ("pkg-map --element none httpd 2>/dev/null", 2, ""),
        ("pkg-map --missing-ok --element none httpd", 0, "httpd\n"),
        ("svc-map crond other", 0, "cron\nother\n"),
        ("DIB_INIT_SYSTEM=sysv dib-init-system", 0, "sysv\n"),
        (
            "install-packages -m web nothing",
            0,
            "Not running install-packages install with empty packages list\n",
        ),
        ("install-packages -e", 0, "Not running install-packages remove with empty packages list\n"),
        ("install-packages -m web other 2>/dev/null", 1, "bin/pkg-map error. \n"),
        ("install-packages -d x 2>/dev/null", 1, ""),
        (
            "install-packages -h | head -n 1",
            0,
            "Installs, removes or updates packages: the command that diskimage-builder's elements call.\n",
        ),
        ("start-stop-daemon --start --exec /bin/true 2>/dev/null", 0, ""),
        ("update-initramfs -u 2>/dev/null", 2, ""),
    ];
    for (script, status, expected) in cases {
        let mut job = shell(script);
        job.env.insert("DISTRO_NAME".to_owned(), "debian".to_owned());
        job.binds = ["pkg-map", "svc-map"]
            .map(|kind| Bind {
                source: maps.path().to_owned(),
                target: format!("/usr/share/{kind}"),
                access: Access::ReadOnly,
            })
            .into();
        assert_eq!(run(scratch.root.as_ref(), &job), (Exit::Status(status), expected.to_owned()), "{script}");
    }
}
