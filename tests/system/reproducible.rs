//! Tests that equal inputs give equal layers: builds the whole example twice from nothing, under
//! different conditions that must not matter. Needs root, a package mirror and some minutes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The conditions of a build.
struct Conditions {
    /// The directory of project, store and outputs, below the directory of the test.
    place: &'static str,
    /// The order in which files of the project are created, in which file systems mostly list them.
    order: &'static [&'static str],
    umask: &'static str,
    /// The processors that the build may use.
    processors: &'static str,
    env: &'static [(&'static str, &'static str)],
    /// The delay before the build.
    delay: Duration,
}

const BUILDS: [Conditions; 2] = [
    Conditions {
        place: "a",
        order: &[],
        umask: "077",
        processors: "0",
        env: &[("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8"), ("HOME", "/nonexistent"), ("USER", "alice")],
        delay: Duration::ZERO,
    },
    Conditions {
        place: "another/place/with a longer name",
        order: &["-r"],
        umask: "002",
        processors: "0-1",
        env: &[("TZ", "America/New_York"), ("LANG", "de_DE.UTF-8"), ("HOME", "/root"), ("DIB_STRAY", "1")],
        delay: Duration::from_secs(5),
    },
];

/// Copies the project in the order of the conditions.
const COPY: &str = r#"
    cd "$1"; mkdir -p "$2"
    find . -mindepth 1 -type d | LC_ALL=C sort ${3:-} | while read -r dir; do mkdir -p "$2/$dir"; done
    find . -type f | LC_ALL=C sort ${3:-} | while read -r file; do cp --preserve=mode "$file" "$2/$file"; done
"#;

/// Builds under the conditions.
const BUILD: &str = r#"
    umask "$1"; shift
    exec taskset --cpu-list "$@"
"#;

fn shell(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "bash"]).args(args);
    command
}

impl Conditions {
    fn place(&self, directory: &Path) -> PathBuf {
        directory.join(self.place)
    }

    /// Builds the example into `out` in its directory. Returns the manifest.
    fn build(&self, directory: &Path) -> Value {
        let place = self.place(directory);
        let [project, store, out] =
            ["project", "store", "out"].map(|name| place.join(name).display().to_string());
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/contrail-builder");
        fs::create_dir_all(&place).unwrap();
        let mut copy = shell(COPY, &[&[example, &project], self.order].concat());
        assert!(copy.status().unwrap().success());
        thread::sleep(self.delay);
        let program = env!("CARGO_BIN_EXE_plywood");
        let args =
            ["--project", &project, "--store", &store, "build", "builder", "--format", "oci", "-o", &out];
        let mut build = shell(BUILD, &[&[self.umask, self.processors, program], &args[..]].concat());
        let output = build.current_dir(&place).envs(self.env.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&fs::read(place.join("out/builder.manifest.json")).unwrap()).unwrap()
    }
}

/// Returns the files in which the layers of a step differ.
fn differences(directory: &Path, layers: [&Value; 2]) -> String {
    let snapshot = |build: &Conditions, layer: &Value| {
        let hex = layer["diff-id"].as_str().unwrap().trim_start_matches("sha256:");
        build.place(directory).join("store/snapshots").join(hex)
    };
    let snapshots = [snapshot(&BUILDS[0], layers[0]), snapshot(&BUILDS[1], layers[1])];
    let listing = |path: &PathBuf| {
        let script = r#"cd "$1"; find . -printf '%p %y %m %U %G %s %T@ %l\n' | LC_ALL=C sort"#;
        String::from_utf8(shell(script, &[path.to_str().unwrap()]).output().unwrap().stdout).unwrap()
    };
    let contents = Command::new("diff").args(["-rq", "--no-dereference"]).args(&snapshots).output().unwrap();
    let [first, second] = [&snapshots[0], &snapshots[1]].map(listing);
    let lines = first
        .lines()
        .filter(|line| !second.contains(line))
        .chain(second.lines().filter(|line| !first.contains(line)));
    format!(
        "{}\n{}",
        lines.take(20).collect::<Vec<_>>().join("\n"),
        String::from_utf8_lossy(&contents.stdout)
    )
}

#[test]
fn two_builds_from_nothing_give_the_same_layers_and_the_same_container() {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let [first, second] = thread::scope(|scope| {
        let builds = BUILDS.each_ref().map(|build| scope.spawn(|| build.build(directory.path())));
        builds.map(|build| build.join().unwrap())
    });
    let (lower, upper) = (first["layers"].as_array().unwrap(), second["layers"].as_array().unwrap());
    assert!(lower.len() > 10, "{lower:?}");
    for (a, b) in lower.iter().zip(upper) {
        assert_eq!(a, b, "{}", differences(directory.path(), [a, b]));
    }
    // Config, compressed layers and manifest of the container, and the list of packages.
    assert_eq!(first, second);
}
