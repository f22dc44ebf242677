//! Images of the rpm family: bases by dnf, packages by the image's own dnf. Needs root, and the
//! machine's Debian mirror for the tools and for the packages of the test distribution.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::common::project::{Build, Project, Run, copy_tree};
use crate::common::rpm_distribution::{Mirror, directory};

/// A base of the test distribution, `layers/<name>.toml`.
fn base(release: &str, keys: &str, further: &str) -> String {
    let (distro, version) = if release == "41" { ("fedora", "41") } else { ("centos", "9") };
    format!(
        "distro = '{distro}'\nrelease = '{release}'\nfamily = 'redhat'\n[source.dnf]\nreleasever = '{version}'\n\
         mirror = 'http://{distro}.invalid'\npackages = ['{distro}-release', 'bash', 'coreutils', 'dnf', 'rpm']\n{further}\n\
         [[source.dnf.repositories]]\nid = 'baseos'\npath = '{release}/$basearch'\nsigned-index = true\nkeys = {keys}\n"
    )
}

const RIGHT_KEY: &str = "['key.asc']";

/// Makes a project whose image `tiny` has a base of the test distribution and these further keys.
fn project(release: &str, image: &str) -> Project {
    let further = if release == "41" { "rpm-database = '/usr/lib/sysimage/rpm'" } else { "" };
    let project = Project::new("");
    project.write("plywood.toml", &format!("[image.tiny]\nbase = \"rpm\"\n{image}\n"));
    project.write("layers/rpm.toml", &base(release, RIGHT_KEY, further));
    let key = fs::read_to_string(directory().join("RPM-GPG-KEY-test")).unwrap();
    project.write("layers/key.asc", &key);
    project
}

/// Copies a store with the tools into the project's store. They are built once for all tests.
fn with_tools(project: Project) -> Project {
    static STORE: OnceLock<Project> = OnceLock::new();
    let first = STORE.get_or_init(|| {
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let lock = fs::File::create(tests.join("rpm-store.lock")).unwrap();
        lock.lock().unwrap();
        let first = project_of_tools().with_store(tests.join("rpm-store"));
        build(&first, &Mirror::start());
        first
    });
    fs::create_dir_all(project.store()).unwrap();
    copy_tree(&first.store().join("."), &project.store());
    project.forget_unpacked();
    // What the first project has downloaded is not for others.
    fs::remove_dir_all(project.store().join("cache/dnf")).unwrap();
    project
}

fn project_of_tools() -> Project {
    project("41", "outputs = []")
}

fn command(project: &Project, mirror: &Mirror, args: &[&str]) -> Run {
    let out = project.out();
    let mut command = project.command(&["build", "--progress", "json", "-o", out.to_str().unwrap()]);
    command.args(args).env("DIB_DISTRIBUTION_MIRROR", mirror.url());
    Run::of(command.output().unwrap(), &project.path())
}

fn build(project: &Project, mirror: &Mirror) -> Build {
    let run = command(project, mirror, &[]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    Build { events: run.json_lines() }
}

fn failure(project: &Project, mirror: &Mirror) -> String {
    let run = command(project, mirror, &[]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    run.stderr
}

/// Runs a script in the image. It has no network.
fn shell(project: &Project, script: &str) -> String {
    let run = project.run(&["shell", "tiny", "--", "bash", "-euc", script]);
    assert_eq!(run.status, Some(0), "{}{}", run.stdout, run.stderr);
    run.stdout
}

fn files_in(archive: &Path) -> Vec<String> {
    let run = Command::new("tar").arg("-tf").arg(archive).output().unwrap();
    String::from_utf8(run.stdout).unwrap().lines().map(str::to_owned).collect()
}

const IMAGE: &str = "elements = ['web', 'count']\npackages = ['jq']\noutputs = ['tar']";

/// An image with packages from a hook, from a list, and from the definition.
fn image() -> Project {
    let project = with_tools(project("9-stream", IMAGE));
    project.element("web");
    project.write("elements/web/package-installs.yaml", "tree:\n");
    project.element("count");
    // Hooks ask what they run on.
    project.hook(
        "elements/count/install.d/50-count",
        "! command -v apt-get\ninstall-packages gzip sed\ninstall-packages -e sed\nrpm -q gzip >/etc/count",
    );
    project
}

#[test]
fn two_builds_at_two_times_from_two_mirrors_give_the_same_layers_and_databases_are_right() {
    let (first, second) = (image(), image());
    let mirrors = [Mirror::start(), Mirror::start()];
    let made = build(&first, &mirrors[0]);
    assert_eq!(made.made(), ["base:rpm", "web", "count", "image:packages", "image:final"]);
    // Install times have seconds.
    thread::sleep(Duration::from_secs(2));
    build(&second, &mirrors[1]);
    assert_eq!(first.layers(), second.layers());

    let again = build(&first, &mirrors[1]);
    assert_eq!(again.made(), [""; 0]);
    let archive = first.out().join("tiny.tar");
    let caches = ["tmp/", "var/cache/dnf/", "dev/", "root/"];
    let is_left = |file: &String| {
        caches.iter().any(|cache| file.starts_with(cache) && file != cache)
            || ["-wal", "-shm"].iter().any(|log| file.ends_with(log))
    };
    let left: Vec<_> = files_in(&archive).into_iter().filter(is_left).collect();
    assert_eq!(left, [""; 0]);
    let downloads = fs::read_dir(first.store().join("cache/dnf/packages")).unwrap();
    let downloads = downloads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(downloads.into_iter().any(|name| name.contains("-tree-")));

    // The image has neither grep nor sed.
    let checked = "rpm -Va; rpm --verifydb; dnf --cacheonly --quiet check; rpm -q tree jq >&2; ! rpm -q sed >&2; \
                   history=$(dnf history info last); [[ $history == *jq* ]]; \
                   [[ $history != *setopt* && $history != *127.0.0.1* ]]";
    assert_eq!(shell(&first, checked), "", "neither a difference nor the mirror of a caller");
}

#[test]
fn downloads_are_shared_and_a_changed_one_is_downloaded_again() {
    let (project, mirror) = (image(), Mirror::start());
    build(&project, &mirror);
    let cached = || {
        let entries = fs::read_dir(project.store().join("cache/dnf/packages")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.to_str().unwrap().contains("-jq-")).expect("jq is kept")
    };
    let right = fs::read(cached()).unwrap();
    fs::write(cached(), vec![0; right.len()]).unwrap();
    project.hook("elements/count/install.d/50-count", "install-packages jq\nrpm -q jq >/etc/count");
    build(&project, &mirror);
    assert_eq!(fs::read(cached()).unwrap(), right);
}

#[test]
fn a_database_in_the_place_of_newer_releases_is_normalized_too() {
    let project = with_tools(project_of_tools());
    let script = "rpm -q fedora-release; rpm -Va; od -A n -t u4 -j 92 -N 8 /usr/lib/sysimage/rpm/rpmdb.sqlite; ls /var/lib/rpm";
    let printed = shell(&project, script);
    let lines: Vec<_> = printed.lines().map(str::trim).collect();
    assert_eq!(lines, ["fedora-release-41-1.fedora.noarch", "16777216          0"]);
}

#[test]
fn packages_and_indices_need_a_signature_of_a_key_of_the_base() {
    let mirror = Mirror::start();
    let other = fs::read_to_string(directory().join("RPM-GPG-KEY-other")).unwrap();
    for is_index_signed in ["true", "false"] {
        let project = with_tools(project("9-stream", "outputs = []"));
        let text = base("9-stream", RIGHT_KEY, "");
        let text = text.replace("signed-index = true", &format!("signed-index = {is_index_signed}"));
        project.write("layers/rpm.toml", &text);
        project.write("layers/key.asc", &other);
        let message = failure(&project, &mirror);
        assert!(message.contains("GPG"), "{message}");
        assert!(!fs::exists(project.out().join("tiny.manifest.json")).unwrap());
    }
}

#[test]
fn a_key_at_an_address_needs_its_fingerprint() {
    let (project, mirror) = (with_tools(project("9-stream", "outputs = []")), Mirror::start());
    let key = directory().join("RPM-GPG-KEY-test");
    let script =
        "gpg --homedir \"$(mktemp -d)\" --show-keys --with-colons \"$1\" | grep -m1 ^fpr | cut -d: -f10";
    let shown = Command::new("sh").args(["-c", script, "sh"]).arg(key).output().unwrap();
    let right = String::from_utf8(shown.stdout).unwrap().trim().to_owned();
    for (fingerprint, expected) in
        [("0123456789ABCDEF0123456789ABCDEF01234567", Some(right.clone())), (&right, None)]
    {
        let keys = format!("['{}/RPM-GPG-KEY-test']\nfingerprints = ['{fingerprint}']", mirror.url());
        project.write("layers/rpm.toml", &base("9-stream", &keys, ""));
        match expected {
            Some(found) => {
                let message = failure(&project, &mirror);
                assert!(message.contains(&found) && message.contains(fingerprint), "{message}");
            }
            None => assert_eq!(build(&project, &mirror).made(), ["base:rpm"]),
        }
    }
}

#[test]
fn a_failing_scriptlet_is_a_warning_and_a_missing_package_an_error() {
    let project = with_tools(project("9-stream", "packages = ['broken-scriptlet']\noutputs = []"));
    let mirror = Mirror::start();
    let build = build(&project, &mirror);
    let warnings = build.warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains("package `broken-scriptlet` failed")),
        "{warnings:?}"
    );
    project.write("plywood.toml", "[image.tiny]\nbase = \"rpm\"\npackages = ['nosuch']\noutputs = []\n");
    let message = failure(&project, &mirror);
    assert!(message.contains("No match for argument: nosuch"), "{message}");
}
