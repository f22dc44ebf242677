//! Tests of builds that are stopped, and of machines with missing resources. They need root, loop
//! devices and a package mirror.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::common::project::{Project, Run};
use crate::common::registry::{Door, Server};
use plywood::sandbox::enter_private_mounts;
use rustix::process::{Pid, Signal, kill_process};

/// Returns an image whose build uses all kinds of resources: hooks of host and target phases, a
/// package, a disk on a loop device.
fn eventful() -> Project {
    let project =
        Project::new("elements = [\"slow\"]\npackages = [\"hello\"]\noutputs = [\"qcow2\", \"oci\"]")
            .with_base();
    project.hook("elements/slow/extra-data.d/10-slow", "sleep 0.5; echo host >$TMP_MOUNT_PATH/etc/host");
    project.hook(
        "elements/slow/install.d/10-slow",
        "sleep 60 & setsid sleep 60 & sleep 1; echo target >/etc/target",
    );
    project.hook("elements/slow/finalise.d/10-slow", "sleep 0.5; echo final >/etc/final");
    project
}

/// Returns all mounts, loop devices and processes on the machine that use files below `path`.
fn holders(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(path) || line.contains("/run/plywood"));
    let loops = Command::new("losetup")
        .args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"])
        .output()
        .unwrap();
    let loops = String::from_utf8(loops.stdout).unwrap();
    let loops = loops.lines().filter(|line| line.contains(path));
    mounts.chain(loops).map(str::to_owned).chain(processes(path)).collect()
}

/// Returns the processes with `path` in their arguments, as working directory, or in their mounts.
fn processes(path: &str) -> Vec<String> {
    let numbers = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let numbers = numbers.filter(|entry| entry.file_name().unwrap().to_str().unwrap().parse::<u32>().is_ok());
    let holds = |process: &PathBuf| {
        let text = |name: &str| {
            String::from_utf8_lossy(&fs::read(process.join(name)).unwrap_or_default()).into_owned()
        };
        let link =
            |name: &str| fs::read_link(process.join(name)).unwrap_or_default().to_string_lossy().into_owned();
        [text("cmdline"), text("mountinfo"), link("cwd"), link("root")].iter().any(|text| text.contains(path))
    };
    numbers.filter(holds).map(|process| process.display().to_string()).collect()
}

/// Waits until nothing uses files below `path`: the kernel ends namespaces a moment after their
/// processes.
#[track_caller]
fn assert_nothing_left(path: &Path, when: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holders(path).is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(50));
    }
    assert_eq!(holders(path), Vec::<String>::new(), "{when}");
}

#[test]
fn a_build_that_is_stopped_at_any_time_leaves_nothing_and_the_next_one_succeeds() {
    let project = eventful();
    let started = Instant::now();
    project.build(&[]);
    let (whole, expected) = (started.elapsed(), project.layers());
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut random = seed;
    for round in 0..12 {
        let signal = [Signal::KILL, Signal::TERM, Signal::INT][round % 3];
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = whole.mul_f64((random >> 33) as f64 / (1_u64 << 31) as f64);
        let when = format!("{signal:?} after {moment:?} of {whole:?}, round {round} of seed {seed}");
        forget_all_but_the_base(&project);
        stop_after(&project, signal, moment, &when);
        assert_nothing_left(project.store().parent().unwrap(), &when);
    }
    project.build(&[]);
    assert_eq!(project.layers(), expected);
    let check = project.run(&["store", "check"]);
    assert!(check.stdout.ends_with("sound\n"), "{}", check.stdout);
    assert_eq!(
        fs::read_dir(project.store().join("work")).unwrap().count(),
        0,
        "a killed build left scratch files"
    );
}

#[track_caller]
fn assert_sound(project: &Project) {
    let check = project.run(&["store", "check"]);
    assert!(check.stdout.ends_with("sound\n"), "{} {}", check.stdout, check.stderr);
}

/// Removes the records of all steps above the base, so that they are built again.
fn forget_all_but_the_base(project: &Project) {
    for kind in ["input", "content"] {
        for record in fs::read_dir(project.store().join("records").join(kind)).unwrap() {
            let record = record.unwrap().path();
            if !fs::read_to_string(&record).unwrap().contains("\"base:debian-bookworm\"") {
                fs::remove_file(record).unwrap();
            }
        }
    }
}

/// Starts a build and stops it after this time.
fn stop_after(project: &Project, signal: Signal, moment: Duration, when: &str) {
    let out = project.out();
    let mut command = project.command(&["build", "-o", out.to_str().unwrap()]);
    let mut build = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(moment);
    kill_process(Pid::from_child(&build), signal).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while build.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "still running: {when}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_bootstrap_that_is_stopped_leaves_nothing() {
    let project = Project::new("outputs = []");
    for (signal, seconds) in [(Signal::KILL, 3), (Signal::TERM, 6), (Signal::INT, 9)] {
        let when = format!("{signal:?} after {seconds} s");
        stop_after(&project, signal, Duration::from_secs(seconds), &when);
        assert_nothing_left(project.store().parent().unwrap(), &when);
        let records = fs::read_dir(project.store().join("records/input")).unwrap().count();
        assert_eq!(records, 0, "{when}");
    }
}

#[test]
fn an_interrupted_build_says_so() {
    let project = Project::of_elements(&["a"]).with_base();
    project.hook("elements/a/install.d/50-a", "echo going; sleep 30");
    let out = project.out();
    let mut command = project.command(&["build", "-v", "-o", out.to_str().unwrap()]);
    let build = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Proves that the tests above would find the resources of a running build.
    let deadline = Instant::now() + Duration::from_secs(30);
    while holders(project.store().parent().unwrap()).len() < 2 {
        assert!(Instant::now() < deadline, "nothing shows that a build runs");
        sleep(Duration::from_millis(100));
    }
    kill_process(Pid::from_child(&build), Signal::INT).unwrap();
    let output = build.wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("error: interrupted"), "{message}");
}

#[test]
fn two_builds_at_once_share_a_store() {
    let project = Project::of_elements(&["a", "b", "c"]).with_base();
    project.hook("elements/b/install.d/50-b", "sleep 1; echo b >/etc/b");
    let [first, second] = ["one", "two"].map(|name| {
        let out = project.out().join(name);
        project.command(&["build", "-o", out.to_str().unwrap()]).stderr(Stdio::piped()).spawn().unwrap()
    });
    for build in [first, second] {
        let output = build.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let manifest = |name: &str| fs::read(project.out().join(name).join("tiny.manifest.json")).unwrap();
    assert_eq!(manifest("one"), manifest("two"));
    assert_sound(&project);
}

/// Mounts an empty file system of this size. Only this thread and its children see it.
fn mount_tmpfs(path: &Path, options: &str) {
    fs::create_dir_all(path).unwrap();
    let status =
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).status().unwrap();
    assert!(status.success(), "this test needs the right to mount");
}

fn remount(path: &Path, options: &str) {
    let options = format!("remount,{options}");
    let status = Command::new("mount").args(["-o", &options]).arg(path).status().unwrap();
    assert!(status.success(), "cannot remount {} with {options}", path.display());
}

#[test]
fn a_store_on_a_full_disk_says_so_and_stays_sound() {
    enter_private_mounts().expect("this test needs root and the right to mount");
    let project = Project::of_elements(&["a"]);
    mount_tmpfs(&project.store(), "size=2G");
    let project = project.with_base();
    // Unpacks the base.
    project.build(&[]);
    let used = String::from_utf8(Command::new("du").arg("-sm").arg(project.store()).output().unwrap().stdout)
        .unwrap();
    let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
    // Enough for a build to start, and for the file, but not for the file and its layer.
    remount(&project.store(), &format!("size={}M", used + 520));
    project.hook("elements/a/install.d/50-a", "head -c 300M /dev/urandom >/etc/a");
    let full = project.refused(&[]);
    assert!(full.stderr.contains("Caused by: No space left on device"), "{}", full.stderr);
    assert!(full.stderr.contains(" store gc, or another disk with `--store DIR`"), "{}", full.stderr);
    remount(&project.store(), "size=2G");
    assert_sound(&project);
    assert_eq!(project.build(&[]).made(), ["a", "image:final"]);
}

#[test]
fn a_store_on_a_read_only_disk_says_so() {
    enter_private_mounts().expect("this test needs root and the right to mount");
    let project = Project::of_elements(&["a"]);
    mount_tmpfs(&project.store(), "size=1M");
    assert_eq!(project.run(&["plan"]).status, Some(0));
    remount(&project.store(), "ro");
    let run = project.refused(&[]);
    assert!(run.stderr.contains("Caused by: Read-only file system"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: choose a writable store with `--store DIR`"), "{}", run.stderr);
}

/// An ordinary user with a copy of a project, plywood and its bases, and the store of another user.
struct Nobody {
    place: tempfile::TempDir,
}

impl Nobody {
    fn with(project: &Project) -> Self {
        // In a directory that all users can read.
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_plywood"), place.path().join("plywood")).unwrap();
        let copy = |from: &Path, to: &str| {
            let copied = Command::new("cp").arg("-a").arg(from).arg(place.path().join(to)).status().unwrap();
            assert!(copied.success(), "{}", from.display());
        };
        copy(&project.path(), "project");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("layers"), "layers");
        if project.store().exists() {
            copy(&project.store(), "store");
        }
        Self { place }
    }

    fn run(&self, store: &Path, words: &[&str]) -> Run {
        let mut nobody = Command::new("setpriv");
        nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(self.place.path().join("plywood"));
        nobody.arg("--project").arg(self.place.path().join("project")).arg("--store").arg(store).args(words);
        Run::of(nobody.env("PLYWOOD_DATA_DIR", self.place.path()).output().unwrap(), self.place.path())
    }
}

#[test]
fn building_without_root_says_so() {
    let nobody = Nobody::with(&Project::of_elements(&["a"]));
    let store = Path::new("/tmp/plywood-of-nobody");
    let build = nobody.run(store, &["build"]);
    let expected = "error: building needs root: hooks run in namespaces with mounts of their own (plywood runs as user 65534";
    assert!(build.status == Some(1) && build.stderr.starts_with(expected), "{}", build.stderr);
    assert!(build.stderr.ends_with("\n\nhint: sudo plywood …\n"), "{}", build.stderr);
    let plan = nobody.run(store, &["plan"]);
    assert_eq!((plan.status, plan.stderr.as_str()), (Some(0), ""));
    fs::remove_dir_all(store).unwrap();
}

/// Unpacking sets owners, which needs root, but an import does not unpack.
#[test]
fn an_ordinary_user_imports_from_every_kind_of_source() {
    const OUTPUTS: &str = "[\"oci\", \"docker-archive\", \"tar\"]";
    let project = Project::new(&format!("elements = [\"a\"]\noutputs = {OUTPUTS}")).with_small_base();
    let script = "mkdir -p /usr/lib; printf 'ID=debian\\nVERSION_CODENAME=bookworm\\n' >/usr/lib/os-release; echo x >/etc/group";
    project.hook("elements/a/install.d/50-a", script);
    project.build(&[]);
    let registry = Server::start(Door::Open);
    let reference = format!("{}/team/a:1", registry.host());
    let pushed = project.run(&["push", "tiny", &reference]);
    assert_eq!(pushed.status, Some(0), "{}", pushed.stderr);
    let nobody = Nobody::with(&project);
    let place = nobody.place.path();
    for output in ["tiny.oci", "tiny.docker.tar", "tiny.tar"] {
        let copied =
            Command::new("cp").arg("-a").arg(project.out().join(output)).arg(place).status().unwrap();
        assert!(copied.success());
    }
    let own = Command::new("chown").args(["-R", "65534:65534"]).arg(place.join("project")).status().unwrap();
    assert!(own.success());
    let store = tempfile::tempdir().unwrap();
    rustix::fs::chown(store.path(), Some(rustix::fs::Uid::from_raw(65534)), None).unwrap();
    let at = |name: &str| place.join(name).display().to_string();
    let sources = [
        format!("oci:{}", at("tiny.oci")),
        format!("docker-archive:{}", at("tiny.docker.tar")),
        at("tiny.tar"),
        reference,
    ];
    for (number, source) in sources.iter().enumerate() {
        for (kind, more) in [("said", &[][..]), ("given", &["--distro=debian", "--release=trixie"])] {
            let name = format!("{kind}-{number}");
            let import = nobody.run(store.path(), &[&["import", source, &name], more].concat());
            assert_eq!(import.status, Some(0), "{source}: {}", import.stderr);
            let base = fs::read_to_string(place.join(format!("project/layers/{name}.toml"))).unwrap();
            let release = if more.is_empty() { "bookworm" } else { "trixie" };
            assert!(base.contains(&format!("release = \"{release}\"")), "{base}");
        }
    }
}

#[test]
fn a_user_who_may_read_a_store_can_inspect_it() {
    let project = Project::of_elements(&["a", "b"]).with_small_base();
    project.hook("elements/b/install.d/50-b", "echo \"$B_PASSWORD\" >/dev/null; echo b >/etc/b");
    project.define("elements = [\"a\", \"b\"]\noutputs = []\nenv = { B_PASSWORD = \"sesame\" }");
    project.build(&[]);
    let nobody = Nobody::with(&project);
    let store = nobody.place.path().join("store");
    let state = || {
        let script = "find . -printf '%p %s %T@ %C@\\n' | sort";
        Command::new("sh").args(["-c", script]).current_dir(&store).output().unwrap().stdout
    };
    let before = state();
    let warning =
        "warning: store `DIR/store` is open for reading only: steps that used secrets are not found in it\n";
    let look = |words: &[&str]| {
        let run = nobody.run(&store, words);
        assert_eq!(run.stderr.matches(warning).count(), 1, "{words:?}: {}", run.stderr);
        (run.status, run.stdout)
    };
    let (status, plan) = look(&["plan"]);
    assert_eq!(
        (status, plan.matches("hit").count(), plan.matches("miss").count()),
        (Some(0), 2, 1),
        "{plan}"
    );
    let (status, explained) = look(&["explain", "tiny", "a"]);
    assert!(status == Some(0) && explained.starts_with("a  hit"), "{explained}");
    let (status, list) = look(&["store", "list"]);
    assert!(status == Some(0) && list.contains("base:debian-bookworm"), "{list}");
    let (status, _) = look(&["layers", "tiny"]);
    assert_eq!(status, Some(1), "the step that saw a secret is a miss");
    assert!(before == state(), "nothing has changed");
    for words in [["store", "gc"], ["store", "check"]] {
        let run = nobody.run(&store, &words);
        assert!(run.status == Some(1) && run.stderr.contains("choose a writable store"), "{}", run.stderr);
    }
}

#[test]
fn an_unknown_or_unreachable_mirror_is_named() {
    let project = Project::new("outputs = []");
    let output = project
        .command(&["build", "--progress", "plain"])
        .env("DIB_DISTRIBUTION_MIRROR", "http://127.0.0.1:9/debian")
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("error: `bootstrap` of step `base:debian-bookworm` failed"), "{message}");
    assert!(message.contains("127.0.0.1:9") && message.contains("Connection refused"), "{message}");
    assert!(message.contains("hint: the mirror does not answer"), "{message}");

    let base = "distro = \"mint\"\nrelease = \"nobody-has-it\"\nfamily = \"debian\"\n";
    let source = "[source.mmdebstrap]\nvariant = \"minbase\"\nsuites = [\"nobody-has-it\"]\n";
    project.write("layers/mine.toml", &format!("{base}{source}"));
    project.write("plywood.toml", "[image.tiny]\nbase = \"mine\"\noutputs = []\n");
    let run = project.refused(&[]);
    assert!(
        run.stderr.contains("nobody-has-it") && run.stderr.contains("hint: DIB_DISTRIBUTION_MIRROR="),
        "{}",
        run.stderr
    );
}
