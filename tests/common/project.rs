//! A small project in its own directory, and runs of the built program on it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::work::Work;

/// A project with one image, `tiny`. Its store is beside it, unless [`Project::with_store`] sets
/// another.
pub(crate) struct Project {
    directory: TempDir,
    store: Option<PathBuf>,
    variables: Vec<(String, String)>,
}

impl Project {
    /// Makes a project whose image `tiny` has the base `debian-bookworm` and these further keys.
    pub(crate) fn new(image: &str) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let project = Self { directory, store: None, variables: Vec::new() };
        project.define(image);
        project
    }

    /// Makes a project whose image has these elements. The hook of each element writes its name to
    /// `/etc/<name>`.
    pub(crate) fn of_elements(names: &[&str]) -> Self {
        let project = Self::new(&format!("elements = {names:?}\noutputs = [\"tar\"]"));
        names.iter().for_each(|name| project.element(name));
        project
    }

    /// Uses this store instead of one beside the project.
    pub(crate) fn with_store(self, store: impl Into<PathBuf>) -> Self {
        Self { store: Some(store.into()), ..self }
    }

    /// Runs the program with this variable.
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Copies the layer of `debian-bookworm` into the store of the project, from a store that all
    /// tests share.
    pub(crate) fn with_base(self) -> Self {
        fs::create_dir_all(self.store()).unwrap();
        copy_tree(&base_store().join("."), &self.store());
        self.forget_unpacked();
        self
    }

    /// Uses a base with little more than a shell, which costs nearly no time.
    pub(crate) fn with_small_base(self) -> Self {
        fs::create_dir_all(self.store()).unwrap();
        copy_tree(&small_base().store().join("."), &self.store());
        self.forget_unpacked();
        self.with_base_of(small_base())
    }

    /// Removes unpacked layers: in a copied store they do not match their imprints, which causes
    /// warnings.
    pub(crate) fn forget_unpacked(&self) {
        for name in ["snapshots", "imprints"] {
            fs::remove_dir_all(self.store().join(name)).unwrap();
            fs::create_dir(self.store().join(name)).unwrap();
        }
    }

    /// Copies the definition of the base from another project. Its store has the base.
    pub(crate) fn with_base_of(self, other: &Self) -> Self {
        copy_tree(&other.path().join("layers"), &self.path());
        self
    }

    /// Replaces `plywood.toml` by one with these keys of the image.
    pub(crate) fn define(&self, image: &str) {
        self.write("plywood.toml", &format!("[image.tiny]\nbase = \"debian-bookworm\"\n{image}\n"));
    }

    /// Adds an element with a README and one hook.
    pub(crate) fn element(&self, name: &str) {
        self.write(&format!("elements/{name}/README.md"), &format!("# {name}\n\nWrites `/etc/{name}`.\n"));
        self.hook(&format!("elements/{name}/install.d/50-{name}"), &format!("echo {name} >/etc/{name}"));
    }

    /// Writes an executable shell script.
    pub(crate) fn hook(&self, path: &str, script: &str) {
        self.write(path, &format!("#!/bin/bash\nset -eu\n{script}\n"));
        self.chmod(path, 0o755);
    }

    /// Writes a file, and creates its directories.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Sets the mode of a file.
    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path().join(path), Permissions::from_mode(mode)).unwrap();
    }

    /// Returns the directory of `plywood.toml`.
    pub(crate) fn path(&self) -> PathBuf {
        let path = self.directory.path().join("project");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Returns the path of the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.directory.path().join("store"))
    }

    /// Returns the directory of outputs.
    pub(crate) fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Returns the program with these arguments, in a clean environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plywood"));
        command.arg("--project").arg(self.path()).arg("--store").arg(self.store()).args(args);
        for name in ["PLYWOOD_PROJECT", "PLYWOOD_STORE", "PLYWOOD_DATA_DIR", "PLYWOOD_LOG"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap(), self.directory.path())
    }

    /// Builds the image. Returns the events.
    pub(crate) fn build(&self, args: &[&str]) -> Build {
        let run = self.run_build(args);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        Build { events: run.json_lines() }
    }

    /// Starts a build that may fail.
    pub(crate) fn run_build(&self, args: &[&str]) -> Run {
        let out = self.out();
        let common = ["build", "--progress", "json", "-o", out.to_str().unwrap()];
        self.run(&[&common, args].concat())
    }

    /// Starts a build that must fail. Returns its plain output.
    pub(crate) fn refused(&self, args: &[&str]) -> Run {
        let out = self.out();
        let common = ["build", "--progress", "plain", "-o", out.to_str().unwrap()];
        let run = self.run(&[&common, args].concat());
        assert_eq!(run.status, Some(1), "{}", run.stderr);
        run
    }

    /// Returns the manifest of the last build.
    pub(crate) fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("tiny.manifest.json")).unwrap()).unwrap()
    }

    /// Returns step and DiffID of each layer, lowest first.
    pub(crate) fn layers(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let manifest = self.manifest();
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers.map(|layer| (text(&layer["step"]), text(&layer["diff-id"]))).collect()
    }
}

/// Returns a store that holds only `debian-bookworm`. Tests must not change it.
fn base_store() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| {
        let tests = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Test programs may run at the same time.
        let lock = File::create(tests.join("base-store.lock")).unwrap();
        lock.lock().unwrap();
        // If the definition of the base has changed, it has another key and is made now.
        let project = Project::new("outputs = []").with_store(tests.join("base-store"));
        project.build(&[]);
        project.store()
    })
}

/// Returns a project that holds only the base for [`Project::with_small_base`].
fn small_base() -> &'static Project {
    static BASE: OnceLock<Project> = OnceLock::new();
    BASE.get_or_init(|| {
        let work = Work::new();
        work.create("-n -t tar -o root tiny").expect_success();
        let archive = work.path().join("root.tar").display().to_string();
        let base = Project::new("outputs = []");
        let import =
            base.run(&["import", &archive, "debian-bookworm", "--distro=debian", "--release=bookworm"]);
        assert_eq!(import.status, Some(0), "{}", import.stderr);
        base.build(&[]);
        base
    })
}

/// Copies a directory. For `…/.`, copies its content.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cannot copy {} to {}", from.display(), to.display());
}

/// The exit and the output of the program. The directory of the project is replaced by `DIR`, and
/// plywood's own by `DATA`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// `None` after a signal.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Converts the output of a process.
    pub(crate) fn of(output: Output, directory: &Path) -> Self {
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes)
                .replace(directory.to_str().unwrap(), "DIR")
                .replace(env!("CARGO_MANIFEST_DIR"), "DATA")
        };
        Self { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Returns the lines of standard error that are JSON.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Returns standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// The events of a build.
pub(crate) struct Build {
    /// The lines of `--progress json`.
    pub events: Vec<Value>,
}

impl Build {
    /// Returns the steps of events of this kind, in order.
    pub(crate) fn steps<'a>(&'a self, event: &'a str) -> Vec<&'a str> {
        self.of(event).filter_map(|event| event["step"].as_str()).collect()
    }

    /// Returns the steps that were built.
    pub(crate) fn made(&self) -> Vec<&str> {
        self.steps("step-started")
    }

    /// Returns the hits by this key: `input` or `content`.
    pub(crate) fn hits<'a>(&'a self, by: &'a str) -> Vec<&'a str> {
        self.of("step-hit")
            .filter(|event| event["by"] == by)
            .filter_map(|event| event["step"].as_str())
            .collect()
    }

    /// Returns the texts of warnings.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.of("warning").filter_map(|event| event["message"].as_str()).collect()
    }

    /// Returns the events of a kind.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events.iter().filter(move |event| event["event"] == kind)
    }
}
