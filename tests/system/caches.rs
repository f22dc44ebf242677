//! Tests of caches in the store: files that a hook writes do not reach other steps, and damaged
//! files are not used. They need root, and some need the machine's package mirror.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::project::{Project, Run};
use crate::common::work::Work;
use plywood::oci::Digest;

/// Writes a wrong file with the right name and size to apt's downloads of `hello`, and damages the
/// package indices.
const POISON: &str = r#"
file=$(apt-cache show hello | sed -n 's,^Filename: .*/,,p')
size=$(apt-cache show hello | sed -n 's,^Size: ,,p')
head -c "$size" /dev/zero >"/var/cache/apt/archives/$file"
for list in /var/lib/apt/lists/*_*; do
    echo garbage >"$list"
done
for digest in /run/plywood/state/*.bin; do
    echo garbage >"$digest"
done
"#;

/// Returns the digests of all files below a directory.
fn digests(directory: &Path) -> BTreeMap<String, Digest> {
    let listed = Command::new("find").arg(directory).args(["-type", "f"]).output().unwrap();
    let paths = String::from_utf8(listed.stdout).unwrap();
    paths.lines().map(|path| (path.to_owned(), Digest::of(fs::read(path).unwrap()))).collect()
}

#[test]
fn files_that_a_hook_writes_to_packages_and_indices_do_not_reach_other_images() {
    let image = "elements = [\"poison\"]\npackages = [\"hello\"]\noutputs = [\"tar\"]";
    let project = Project::new(image).with_base();
    project.hook("elements/poison/install.d/50-a", "apt-get --version");
    project.build(&[]);
    let shared = project.store().join("cache/apt");
    let before = digests(&shared);
    assert!(before.keys().any(|path| path.ends_with("hello_2.10-3_amd64.deb")), "{before:?}");

    project.hook("elements/poison/install.d/50-a", POISON);
    // A real download of the same step is kept, and the wrong file is not.
    project.hook("elements/poison/install.d/60-a", "apt-get update\napt-get --yes install sl");
    project.build(&[]);
    let after = digests(&shared);
    let lost: Vec<_> = before.iter().filter(|(path, digest)| after.get(*path) != Some(digest)).collect();
    let changed: Vec<_> =
        lost.iter().filter(|(path, _)| !path.contains("/lists/") && !path.ends_with("verified")).collect();
    assert_eq!(changed, Vec::<&(_, _)>::new());
    assert!(after.keys().any(|path| path.contains("-sl_")), "{after:?}");
    for (path, content) in after.iter().filter(|(path, _)| path.contains("/lists/")) {
        assert_ne!(*content, Digest::of("garbage\n"), "{path}");
    }
    let archive = project.out().join("tiny.tar");
    let hello = Command::new("tar").arg("-xOf").arg(archive).arg("usr/bin/hello").output().unwrap();
    assert!(hello.stdout.starts_with(b"\x7fELF"), "{}", String::from_utf8_lossy(&hello.stderr));
}

/// Writes the same number of different bytes to a file, and resets its time.
fn flip(path: &Path) {
    let (bytes, modified) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
    fs::write(path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// Returns an image of three elements. The upper two copy a file of the lowest.
fn stacked() -> Project {
    let project = Project::of_elements(&["low", "high", "top"]).with_small_base();
    for name in ["high", "top"] {
        project.hook(&format!("elements/{name}/install.d/50-{name}"), &format!("cat /etc/low >/etc/{name}"));
    }
    project
}

/// Returns a file of the unpacked layer of the step `low`.
fn file_of_low(project: &Project) -> PathBuf {
    let diff_id = project.layers().into_iter().find(|(step, _)| step == "low").unwrap().1;
    project.store().join("snapshots").join(diff_id.trim_start_matches("sha256:")).join("etc/low")
}

fn tar(project: &Project) -> Digest {
    Digest::of(fs::read(project.out().join("tiny.tar")).unwrap())
}

#[test]
fn a_changed_unpacked_layer_is_unpacked_again() {
    let project = stacked();
    project.build(&[]);
    let expected = tar(&project);
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("flipped", flip),
        ("truncated", |path| fs::write(path, "").unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("removed with its directory", |path| fs::remove_dir_all(path.parent().unwrap()).unwrap()),
        ("joined by another", |path| fs::write(path.with_file_name("more"), "x").unwrap()),
    ];
    for (what, damage) in damages {
        let file = file_of_low(&project);
        damage(&file);
        let build = project.build(&[]);
        assert_eq!((build.made().len(), tar(&project)), (0, expected), "{what}");
        let warnings: Vec<_> = build.of("warning").map(|event| event["message"].as_str().unwrap()).collect();
        assert!(
            warnings.iter().any(|text| text.contains("was changed, and is unpacked again")),
            "{what}: {warnings:?}"
        );
        assert_eq!(fs::read_to_string(file).unwrap(), "low\n", "{what}");
        assert_eq!(project.build(&[]).of("warning").count(), 0, "{what}: repaired");
    }
    // A step that is built on it is correct.
    flip(&file_of_low(&project));
    project.hook("elements/top/install.d/50-top", "# again\ncat /etc/low >/etc/top");
    assert_eq!(project.build(&[]).made(), ["top"]);
    assert_eq!(tar(&project), expected);
}

#[test]
fn a_check_drops_steps_that_were_built_on_a_wrong_layer() {
    let project = stacked();
    project.build(&[]);
    let expected = tar(&project);
    assert_eq!(project.run(&["store", "check"]).status, Some(0));
    flip(&file_of_low(&project));
    let check = project.run(&["store", "check"]);
    assert_eq!(check.status, Some(1), "{}", check.stdout);
    assert!(check.stdout.contains("differs from its blob"), "{}", check.stdout);
    assert_eq!(project.build(&[]).made(), ["high", "top", "image:final"]);
    assert_eq!(tar(&project), expected);
}

/// Serves a directory with a password.
struct Repository {
    process: Child,
    address: SocketAddr,
}

const SERVE: &str = r#"
import base64, functools, http.server, sys
port, directory, account = int(sys.argv[1]), sys.argv[2], sys.argv[3]
expected = "Basic " + base64.b64encode(account.encode()).decode()
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") == expected:
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic realm=toys")
        self.send_header("Content-Length", "0")
        self.end_headers()
handler = functools.partial(Handler, directory=directory)
http.server.ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()
"#;

impl Repository {
    /// Makes the repository of the fixture in `directory` and serves it for `account`.
    fn start(directory: &Path, account: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/make-package-repository");
        let made = Command::new(script).arg(directory).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new("python3")
            .args(["-c", SERVE, &address.port().to_string()])
            .arg(directory)
            .arg(account)
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs the program `python3` (Debian package python3)");
        while TcpStream::connect(address).is_err() {
            thread::sleep(Duration::from_millis(50));
        }
        Self { process, address }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A machine whose `/etc/apt` has the account of a repository, and an image with a package from
/// there.
struct Customer {
    project: Project,
    etc_apt: PathBuf,
    repository: Repository,
}

impl Customer {
    fn new() -> Self {
        let project =
            Project::new("elements = [\"toy\"]\npackages = [\"libtoy\"]\noutputs = [\"tar\"]").with_base();
        let repository = Repository::start(&project.path().join("repository"), "me:open-sesame");
        let etc_apt = project.path().join("etc-apt");
        assert!(Command::new("cp").args(["-a", "/etc/apt"]).arg(&etc_apt).status().unwrap().success());
        let address = repository.address;
        project.write("ca.pem", "a certificate\n");
        let ca = project.path().join("ca.pem");
        project.write(
            "etc-apt/auth.conf.d/toys.conf",
            &format!("machine http://{address} login me password open-sesame\n"),
        );
        project.write(
            "etc-apt/apt.conf.d/99toys",
            &format!(
                "Acquire::ForceIPv4 \"true\"; Acquire::Languages \"de\";\n\
                 Acquire::https::toys.example::CAInfo \"{}\";\n",
                ca.display()
            ),
        );
        let source = format!("deb [trusted=yes] http://{address} contrail-bookworm master");
        project.hook(
            "elements/toy/pre-install.d/10-toy",
            &format!("echo '{source}' >/etc/apt/sources.list.d/toy.list\ncat /run/plywood/apt/auth.conf"),
        );
        project.hook(
            "elements/toy/install.d/10-toy",
            "apt-config dump | grep -E 'ForceIPv4|Languages'\n\
             eval \"$(apt-config shell ca Acquire::https::toys.example::CAInfo)\"\ncat \"$ca\"",
        );
        Self { project, etc_apt, repository }
    }

    /// Builds on that machine with these options of unshare, such as without a network.
    fn build(&self, unshare: &[&str], args: &[&str]) -> Run {
        let (out, etc_apt) = (self.project.out(), self.etc_apt.display().to_string());
        let build = ["build", "--progress", "json", "-o", out.to_str().unwrap()];
        let plywood = self.project.command(&[&build, args].concat());
        let mut command = Command::new("unshare");
        command.args(unshare).args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/apt && exec \"$@\"",
            &etc_apt,
        ]);
        command.arg(plywood.get_program()).args(plywood.get_args());
        for (name, value) in plywood.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Run::of(command.output().unwrap(), &self.project.path())
    }

    /// Returns the output of a hook.
    fn printed(run: &Run) -> Vec<String> {
        let lines = run.json_lines().into_iter().filter(|event| event["event"] == "task-output");
        lines.map(|event| event["line"].as_str().unwrap().to_owned()).collect()
    }

    fn has_toy(&self) -> bool {
        let archive = self.project.out().join("tiny.tar");
        let listed =
            Command::new("tar").arg("-xOf").arg(archive).arg("usr/share/libtoy/version").output().unwrap();
        listed.stdout.starts_with(b"2.0")
    }
}

#[test]
fn accounts_and_settings_of_the_build_host_reach_apt_and_are_in_no_layer() {
    let customer = Customer::new();
    let run = customer.build(&[], &[]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert!(customer.has_toy());
    let printed = Customer::printed(&run);
    for line in [
        "Acquire::ForceIPv4 \"true\";",
        "Acquire::Languages:: \"none\";",
        "a certificate",
        &format!("machine http://{} login me password ***", customer.repository.address),
    ] {
        assert!(printed.iter().any(|printed| printed == line), "{line}: {printed:#?}");
    }
    assert!(!run.stderr.contains("open-sesame"));
    let found =
        Command::new("grep").arg("-rlF").arg("open-sesame").arg(customer.project.store()).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[test]
fn a_changed_line_needs_no_network_if_the_store_has_all_packages() {
    let customer = Customer::new();
    let project = &customer.project;
    project.write("elements/toy/static/etc/toy", "first\n");
    let run = customer.build(&[], &[]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    for (unshare, args) in [(&["--net"][..], &[][..]), (&[], &["--offline"])] {
        project.write("elements/toy/static/etc/toy", &format!("{unshare:?}\n"));
        let run = customer.build(unshare, args);
        assert_eq!(run.status, Some(0), "{unshare:?} {args:?}: {}", run.stderr);
        assert!(customer.has_toy());
        assert!(run.stderr.contains("package indices are those of an earlier build"), "{}", run.stderr);
    }
    project.define("elements = [\"toy\"]\npackages = [\"libtoy-dev\"]\noutputs = [\"tar\"]");
    let run = customer.build(&[], &["--offline"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("the store lacks libtoy-dev_2.0-1contrail1_all.deb"), "{}", run.stderr);
    assert!(run.stderr.contains("build once without `--offline`"), "{}", run.stderr);
    // Hooks have no network either.
    project.hook(
        "elements/toy/install.d/20-net",
        "! (echo >/dev/tcp/192.0.2.1/80) 2>/dev/null\ncat /proc/net/route",
    );
    let run = customer.build(&[], &["--offline"]);
    assert!(!Customer::printed(&run).iter().any(|line| line.contains("eth")), "{}", run.stderr);
}

#[test]
fn only_hooks_of_the_same_image_see_downloads_of_hooks() {
    let work = Work::new();
    let report = "ls -A $DIB_IMAGE_CACHE $DIB_LOCKFILES; cd $DIB_IMAGE_CACHE; echo left | tee $DIB_LOCKFILES/left-by-x >left-by-";
    for name in ["a", "b"] {
        work.hook(name, "extra-data.d/50-x", &format!("{report}{name}"));
    }
    let listed = |words: &str| {
        let run = work.create(words);
        assert_eq!(run.status, Some(0), "{}{}", run.stdout, run.stderr);
        [run.stdout, run.stderr].concat().contains("left-by-")
    };
    assert!(!listed("-n -t tar -o a tiny a"));
    assert!(!listed("-n -t tar -o b tiny b"), "another image's");
    work.hook("a", "extra-data.d/50-x", &format!("# again\n{report}a"));
    assert!(listed("-n -t tar -o a tiny a"), "its own");
}

/// A generator of pseudo-random numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// Damages a file of the store. Returns a description, the file and its old content.
fn damage(store: &Path, numbers: &mut Numbers) -> (String, PathBuf, Vec<u8>) {
    let parts = ["blobs", "layers", "records", "snapshots", "cache", "imprints", "index.json"];
    let mut files: Vec<PathBuf> = Vec::new();
    while files.is_empty() {
        let part = store.join(parts[numbers.below(parts.len())]);
        files.extend(digests(&part).into_keys().map(PathBuf::from));
    }
    let path = files[numbers.below(files.len())].clone();
    let before = fs::read(&path).unwrap();
    let mut bytes = before.clone();
    let what = match numbers.below(9) {
        0 => {
            fs::remove_file(&path).unwrap();
            "removed"
        }
        1 => {
            fs::write(&path, &bytes[..numbers.below(bytes.len())]).unwrap();
            "truncated"
        }
        2 => {
            fs::write(&path, [&bytes[..], b"more"].concat()).unwrap();
            "appended to"
        }
        3 => {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            "made a directory of"
        }
        4 => {
            fs::remove_file(&path).unwrap();
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            "made a fifo of"
        }
        5 => {
            let other = &files[numbers.below(files.len())];
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(other, &path).unwrap();
            "made a link of"
        }
        6 => {
            fs::write(&path, fs::read(&files[numbers.below(files.len())]).unwrap()).unwrap();
            "wrote another file's bytes to"
        }
        7 => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o4777)).unwrap();
            "changed the mode of"
        }
        _ => {
            if !bytes.is_empty() {
                let place = numbers.below(bytes.len());
                bytes[place] ^= 1 << numbers.below(8);
            }
            fs::write(&path, bytes).unwrap();
            "flipped"
        }
    };
    (format!("{what} {}", path.display()), path, before)
}

/// With any damage, a build gives the same bytes or fails. After a check, it works again, or names
/// the damaged file: an index of images cannot be restored.
#[test]
fn damage_in_the_store_never_changes_outputs() {
    const SEEDS: u64 = 32;
    let project = stacked();
    project.define("elements = [\"low\", \"high\", \"top\"]\noutputs = [\"tar\", \"oci\"]");
    project.build(&[]);
    let written = |project: &Project| digests(&project.out());
    let expected = written(&project);
    for seed in 0..SEEDS {
        let mut numbers = Numbers(seed);
        let (what, damaged, before) = damage(&project.store(), &mut numbers);
        // Every second round builds a step again, on layers that may be damaged, with the same
        // result.
        if seed % 2 == 0 {
            project.hook("elements/top/install.d/50-top", &format!("# {seed}\ncat /etc/low >/etc/top"));
        }
        let run = project.run_build(&[]);
        if run.status != Some(0) {
            project.run(&["store", "check"]);
            let again = project.run_build(&[]);
            if again.status != Some(0) {
                assert!(
                    damaged.ends_with("index.json") && again.stderr.contains("index.json"),
                    "seed {seed}: {what}: {}",
                    again.stderr
                );
                fs::remove_file(&damaged).or_else(|_| fs::remove_dir(&damaged)).unwrap();
                fs::write(damaged, before).unwrap();
                project.build(&[]);
            }
        }
        let manifest = |path: &&String| path.ends_with("manifest.json");
        for (path, digest) in expected.iter().filter(|(path, _)| !manifest(path)) {
            assert_eq!(written(&project).get(path), Some(digest), "seed {seed}: {what}: {path}");
        }
    }
}
