//! Tests of build hosts with problems: `plywood doctor` finds them, and `plywood build` refuses
//! with the same words.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::project::Project;
use crate::common::work::{Run, Work};
use plywood::host::KvmTrial;
use plywood::probe;

/// Runs plywood in an environment that `words` create: a program and arguments that execute the
/// command after them.
fn run_in(project: &Project, words: &[&str], args: &[&str]) -> Output {
    let plywood = project.command(args);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(plywood.get_program()).args(plywood.get_args());
    command.output().unwrap_or_else(|error| panic!("this test needs the program `{}`: {error}", words[0]))
}

/// Returns the words that hide a file of the build host from one program.
fn without(file: &str) -> [String; 5] {
    let script = format!("mount --bind /dev/null {file} && exec \"$@\"");
    ["unshare", "-m", "sh", "-euc", &script].map(str::to_owned)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the finding of one check.
fn finding(document: &Value, check: &str) -> Value {
    let checks = document["checks"].as_array().unwrap();
    checks
        .iter()
        .find(|finding| finding["check"] == check)
        .unwrap_or_else(|| panic!("{check}: {document}"))
        .clone()
}

fn doctor_in(project: &Project, words: &[&str]) -> (Option<i32>, Value) {
    let output = run_in(project, words, &["doctor", "--json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn a_suitable_host_passes_all_checks_and_the_checks_leave_nothing() {
    let project = Project::of_elements(&["a"]);
    let loops = || text(&Command::new("losetup").arg("--list").output().unwrap().stdout).lines().count();
    let before = loops();
    let (status, document) = doctor_in(&project, &["env"]);
    assert_eq!((status, &document["ok"]), (Some(0), &Value::Bool(true)), "{document:#}");
    for check in ["kernel", "privileges", "namespaces", "store", "overlayfs", "loop devices"] {
        assert_eq!(finding(&document, check)["standing"], "ok", "{document:#}");
    }
    assert!(loops() <= before, "a loop device is left");
    assert_eq!(fs::read_dir(project.store().join("work")).unwrap().count(), 0);
}

#[test]
fn doctor_and_build_name_the_missing_capability_of_root() {
    let project = Project::of_elements(&["a"]);
    let words = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    let (status, document) = doctor_in(&project, &words);
    let found = finding(&document, "privileges");
    assert_eq!((status, found["standing"].as_str()), (Some(1), Some("lacking")), "{document:#}");
    assert!(found["found"].as_str().unwrap().ends_with("lacks the capability CAP_SYS_ADMIN"), "{found}");
    let build = run_in(&project, &words, &["build"]);
    let message = text(&build.stderr);
    assert_eq!(build.status.code(), Some(1));
    assert!(message.starts_with(&format!("error: {}\n", found["found"].as_str().unwrap())), "{message}");
    assert!(message.contains(&format!("hint: {}\n", found["cure"].as_str().unwrap())), "{message}");
}

#[test]
fn the_error_for_root_of_a_user_namespace_names_the_namespace() {
    let project = Project::of_elements(&["a"]);
    let build = run_in(&project, &["unshare", "--user", "--map-root-user"], &["build"]);
    let message = text(&build.stderr);
    assert_eq!(build.status.code(), Some(1));
    assert!(message.contains("(a user namespace)") && message.contains("hint: "), "{message}");
}

/// Runs a shell script that then executes plywood.
fn build_after(project: &Project, script: &str) -> Output {
    let script = format!("{script}; exec \"$0\" \"$@\"");
    let words = ["timeout", "--kill-after=5", "60", "unshare", "-m", "sh", "-euc", &script];
    run_in(project, &words, &["build"])
}

#[test]
fn builds_work_with_unusual_settings_of_the_caller() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let place = project.path().join("mounts");
    fs::create_dir(&place).unwrap();
    let mount =
        |name: &str| format!("mkdir \"$(printf '{name}')\" && mount -t tmpfs x \"$(printf '{name}')\"");
    let odd_mounts = ["a\\377", "b c", "d\\\\040", "e\\nf", "g,h:i"].map(mount).join(" && ");
    for (number, script) in [
        "trap '' CHLD",
        "trap '' PIPE INT QUIT TERM",
        "umask 0777",
        "ulimit -n 64",
        "unset PATH HOME",
        "exec <&- >&-",
        &format!("cd {} && {odd_mounts} && cd /", place.display()),
    ]
    .iter()
    .enumerate()
    {
        project.hook("elements/a/install.d/50-a", &format!("echo {number} >/etc/a"));
        let build = build_after(&project, script);
        assert!(build.status.success(), "{script}: {:?} {}", build.status, text(&build.stderr));
    }
}

/// Containers with `SYS_ADMIN` alone lack the right to bring an interface up.
#[test]
fn jobs_without_network_have_a_loopback_interface_without_that_right() {
    let project = Project::of_elements(&["a"]).with_small_base();
    // A datagram fails without a route. It succeeds if the loopback interface is up.
    project.hook("elements/a/install.d/50-a", "echo x >/dev/udp/127.0.0.1/9; echo reached >/etc/a");
    let words = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let build = run_in(&project, &words, &["build", "--offline"]);
    assert!(build.status.success(), "{}", text(&build.stderr));
}

/// The root directory of the chroot is not a mount point.
#[test]
fn a_build_in_a_chroot_works() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let script = format!(
        "root={}; for d in $(ls /); do case $d in proc|dev|sys|tmp|run) mkdir $root/$d;; *) \
         if [ -L /$d ]; then cp -P /$d $root/; elif [ -d /$d ]; then mkdir $root/$d; mount --rbind /$d $root/$d; fi;; esac; done; \
         mount --rbind /proc $root/proc; mount --rbind /dev $root/dev; mount --rbind /tmp $root/tmp; \
         set -- \"$0\" \"$@\"; exec chroot $root \"$@\"",
        root.path().display()
    );
    let build = build_after(&project, &script);
    assert!(build.status.success(), "{}", text(&build.stderr));
}

#[test]
fn the_error_names_missing_directories_and_devices_of_the_host() {
    let project = Project::of_elements(&["a"]).with_small_base();
    for (script, hint) in [
        ("umount -l /proc", "hint: mount -t proc proc /proc\n"),
        ("mount -t tmpfs x /dev", "hint: mount -t devtmpfs devtmpfs /dev (`/dev/null` is missing)\n"),
    ] {
        let build = build_after(&project, script);
        let message = text(&build.stderr);
        assert_eq!(build.status.code(), Some(1), "{message}");
        assert!(message.contains(hint), "{message}");
    }
}

#[test]
fn a_file_that_exceeds_a_limit_is_named() {
    let project = Project::of_elements(&["a"]).with_small_base();
    project
        .hook("elements/a/install.d/50-a", "for i in 1 2 3; do head -c 400000 /dev/urandom >/etc/$i; done");
    let build = build_after(&project, "ulimit -f 1000");
    let message = text(&build.stderr);
    assert_eq!(build.status.code(), Some(1), "{message}");
    assert!(message.contains("error: cannot ") && message.contains("File too large"), "{message}");
}

#[test]
fn a_store_from_which_hooks_cannot_run_is_refused_before_anything_runs() {
    for (options, name, reason) in [
        ("noexec", b"store" as &[u8], "cannot execute hooks: it is mounted `noexec`"),
        ("exec", b"a\xff", "cannot tell hooks its path: it is not UTF-8 text"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let store = place.path().join(OsStr::from_bytes(name));
        let project = Project::of_elements(&["a"]).with_store(store);
        let script = format!("mount -t tmpfs -o {options} x {}", place.path().display());
        let build = build_after(&project, &script);
        let message = text(&build.stderr);
        assert_eq!(build.status.code(), Some(1), "{message}");
        assert!(message.starts_with("error: cannot build in the store"), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn problems_that_affect_only_disks_stop_only_disks() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let without = without("/dev/loop-control");
    let words: Vec<_> = without.iter().map(String::as_str).chain(["sh"]).collect();
    let archive = run_in(&project, &words, &["build"]);
    assert!(archive.status.success(), "{}", text(&archive.stderr));
    let disk = run_in(&project, &words, &["build", "-f", "raw"]);
    let message = text(&disk.stderr);
    assert_eq!(disk.status.code(), Some(1));
    assert!(message.starts_with("error: only containers and archives can be built, no disks: "), "{message}");
    let (status, document) = doctor_in(&project, &words);
    assert_eq!(status, Some(0), "{document:#}");
    assert_eq!(finding(&document, "loop devices")["standing"], "limited");
}

#[test]
fn missing_certificate_authorities_are_named_with_their_variable() {
    let project = Project::of_elements(&["a"]).with_small_base();
    for (variable, file) in [("SSL_CERT_FILE", "/nowhere/ca.pem"), ("REQUESTS_CA_BUNDLE", "/etc")] {
        let mut command = project.command(&["build"]);
        for other in ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"] {
            command.env_remove(other);
        }
        let run = command.env(variable, file).output().unwrap();
        let message = text(&run.stderr);
        let expected =
            format!("error: cannot read the certificate authorities `{file}` (variable `{variable}`): ");
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!((run.status.code(), message.contains("install.d")), (Some(1), false), "{message}");
    }
}

#[test]
fn outputs_in_the_store_are_refused_before_anything_runs() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let store = project.store();
    for directory in [store.clone(), store.join("out")] {
        let run = project.run(&["build", "-o", directory.to_str().unwrap()]);
        assert!(run.stderr.starts_with("error: cannot write outputs to "), "{}", run.stderr);
        assert!(
            run.stderr.contains("is in the store") && !run.stderr.contains("install.d"),
            "{}",
            run.stderr
        );
        assert_eq!(run.status, Some(1));
    }
    assert!(!store.join("out").exists());
}

#[test]
fn doctor_reports_a_docker_client_without_an_engine() {
    let project = Project::of_elements(&["a"]);
    let (status, document) = doctor_in(&project, &["env", "DOCKER_HOST=unix:///nowhere/docker.sock"]);
    assert_eq!(status, Some(0), "{document:#}");
    let engine = finding(&document, "docker engine");
    assert_eq!(engine["standing"], "limited", "{document:#}");
    assert!(engine["found"].as_str().unwrap().starts_with("no Docker engine answers"), "{document:#}");
}

#[test]
fn a_file_in_the_place_of_a_directory_of_the_store_is_named_with_a_hint() {
    let project = Project::of_elements(&["a"]).with_small_base();
    let cause = "File exists (os error 17)";
    for name in ["layers", "records", "work"] {
        let path = project.store().join(name);
        let aside = project.store().with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let run = project.run(&["plan"]);
        let expected = format!(
            "error: cannot create directory `DIR/store/{name}`\n  Caused by: {cause}\n\n\
             hint: another file is in the place of a directory of the store: rm DIR/store/{name}\n"
        );
        assert_eq!((run.status, run.stderr), (Some(1), expected));
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
}

#[test]
fn a_missing_program_is_named_with_its_package_and_its_purpose() {
    let project = Project::of_elements(&["a"]);
    let without = without("/usr/bin/mmdebstrap");
    let words: Vec<_> = without.iter().map(String::as_str).chain(["sh"]).collect();
    let build = run_in(&project, &words, &["build"]);
    let expected = "error: program `mmdebstrap` is not installed (needed for bases that are bootstrapped: \
                    Debian, Ubuntu)\n\nhint: apt-get install mmdebstrap\n";
    assert_eq!((build.status.code(), text(&build.stderr).as_str()), (Some(1), expected));
}

/// If KVM exists and does not work, the guest that tries KVM must itself be correct.
#[test]
fn the_guest_that_tries_kvm_runs_with_emulation() {
    assert_eq!(probe::run_guest("tcg").unwrap(), KvmTrial::Works);
}

#[test]
fn in_a_container_the_error_names_the_missing_capability_and_how_to_grant_it() {
    let work = Work::new();
    work.programs("tiny", &["bash", "sh", "cat", "cp", "grep", "ls", "mkdir", env!("CARGO_BIN_EXE_plywood")]);
    work.write("plywood.toml", "[image.x]\nelements = [\"tiny\"]\noutputs = [\"tar\"]\n");
    let command = work.command("disk-image-create", &[]);
    let script = r#"
        "$0" -n -t docker --docker-target lab/plywood -o x tiny >/dev/null 2>&1
        run() { docker run --rm --network none -v "$PWD:/project" -v "$PWD/../elements:/project/elements" "$@"; }
        echo "--- plain"
        run lab/plywood plywood --project /project --store /project/inner build 2>&1 || echo "status $?"
        echo "--- granted"
        run --cap-add SYS_ADMIN --security-opt apparmor=unconfined lab/plywood plywood --project /project --store /project/inner doctor"#;
    let mut engine = Command::new(format!("{}/scripts/with-docker-engine", env!("CARGO_MANIFEST_DIR")));
    engine.args(["sh", "-euc", script]).arg(command.get_program()).current_dir(work.path());
    engine.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let stdout = Run::of(engine.output().unwrap()).expect_success();
    let (plain, granted) = stdout.split_once("--- granted").unwrap();
    assert!(plain.contains("root in a Docker container lacks the capability CAP_SYS_ADMIN"), "{stdout}");
    assert!(plain.contains("hint: start it with `docker run --cap-add SYS_ADMIN"), "{stdout}");
    assert!(plain.contains("status 1"), "{stdout}");
    for check in ["privileges", "namespaces", "overlayfs"] {
        assert!(granted.contains(&format!("ok       {check}")), "{check}: {stdout}");
    }
    assert!(
        granted.contains("limited  loop devices") && granted.contains("docker run --privileged"),
        "{stdout}"
    );
}
