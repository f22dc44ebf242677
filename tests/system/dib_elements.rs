//! Tests of diskimage-builder's own, unmodified elements: each is checked for the effect that a
//! user expects. They need root, the machine's package mirror, its Python package index, and the
//! network for diskimage-builder itself.
//!
//! The results are the table of docs/dib-compatibility.md. `PLYWOOD_UPDATE_DOCS=1` writes the
//! table; without it, the test checks that the table is up to date.

mod disks;
mod images;
mod metal;
mod page;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::small_initramfs::{SMALL_INITRAMFS, write_small_initramfs};
use crate::common::upstream;
use images::images;

/// A check of one element.
pub(crate) struct Check {
    /// Its name.
    pub element: &'static str,
    pub status: Status,
    /// The checked facts, in words.
    pub what: &'static str,
    /// A shell script that succeeds in the root directory of the image if the facts are true.
    pub script: &'static str,
}

/// The expected result for an element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It has its documented effect.
    Works,
    /// It fails with diskimage-builder too.
    FailsUpstream,
    /// It has its documented effect if the kernel has the device mapper.
    NeedsDeviceMapper,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Works => "works",
            Status::FailsUpstream => "fails as with diskimage-builder",
            Status::NeedsDeviceMapper => "needs the device mapper",
        }
    }
}

/// Elements that are built together, and the checks of the result.
pub(crate) struct Image {
    /// Its name.
    pub name: &'static str,
    /// The elements, without those that they depend on.
    pub elements: &'static [&'static str],
    /// The output formats, as TOML.
    pub outputs: &'static str,
    /// Further keys of the image, as TOML.
    pub keys: &'static str,
    /// Further files of the project: path and text. Scripts are executable.
    pub files: &'static [(&'static str, &'static str)],
    pub checks: &'static [Check],
}

/// A project with one image of upstream's elements.
struct Project {
    directory: tempfile::TempDir,
    image: &'static Image,
}

impl Project {
    fn new(image: &'static Image) -> Self {
        let project = Self { directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), image };
        for (path, text) in image.files {
            project.write(path, text);
        }
        make_repository(&project.path("repository"));
        write_small_initramfs(&project.path("elements"));
        project.write("plywood.toml", &project.definition());
        project
    }

    fn definition(&self) -> String {
        let Image { name, elements, outputs, keys, .. } = self.image;
        let elements: Vec<_> = elements.iter().copied().chain([SMALL_INITRAMFS]).collect();
        let upstream = upstream::elements();
        let keys = keys.replace("PROJECT", &self.directory.path().display().to_string());
        let mirrors = upstream::mirrors().map(|(name, uri)| format!("{name} = '{uri}'")).join("\n");
        format!(
            "[project]\nsource-date-epoch = 1700000000\nelements = ['elements', '{}']\n\
             [image.{name}]\nelements = {elements:?}\noutputs = [{outputs}]\n{keys}\n{mirrors}\n",
            upstream.display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn build(&self) -> Output {
        let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dib-store");
        fs::create_dir_all(self.path("elements")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_plywood"));
        command.arg("--project").arg(self.directory.path()).arg("--store").arg(store);
        command.args(["build", "--progress", "plain", "-o"]).arg(self.path("out")).arg(self.image.name);
        command.output().unwrap()
    }

    /// Unpacks the image and runs every check in it. Returns the failures.
    fn look(&self) -> Vec<String> {
        let root = self.path("root");
        fs::create_dir_all(&root).unwrap();
        let archive = self.path("out").join(format!("{}.tar", self.image.name));
        if archive.exists() {
            let unpacked =
                Command::new("tar").arg("-C").arg(&root).arg("-xpf").arg(archive).status().unwrap();
            assert!(unpacked.success(), "the image {} cannot be unpacked", self.image.name);
        }
        let failed = self.image.checks.iter().filter_map(|check| self.fault(&root, check));
        failed.collect()
    }

    fn fault(&self, root: &Path, check: &Check) -> Option<String> {
        let mut shell = Command::new("bash");
        shell
            .current_dir(root)
            .args(["-euo", "pipefail", "-c", check.script])
            .env("OUT", self.path("out"))
            .env("PLYWOOD", env!("CARGO_BIN_EXE_plywood"));
        let run = shell.output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
        (!run.status.success()).then(|| format!("{}: not so: {}\n{said}", check.element, check.what))
    }
}

/// Makes a git repository with one file, a branch and a tag.
fn make_repository(path: &Path) {
    let script = "git init --quiet --initial-branch=trunk \"$0\"; cd \"$0\"; echo hello >hello; git add hello
        export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
        git -c user.name=a -c user.email=a@b commit --quiet --message hello; git tag v1";
    let made = Command::new("sh").args(["-euc", script]).arg(path).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Builds an image and returns the failures.
fn faults(image: &'static Image) -> Vec<String> {
    let project = Project::new(image);
    let built = project.build();
    let said = String::from_utf8_lossy(&built.stderr);
    match built.status.success() {
        true if image.checks.iter().any(|check| check.status == Status::FailsUpstream) => {
            vec![format!("{} was built, and should have failed", image.name)]
        }
        true if image.checks.iter().any(|check| check.status == Status::NeedsDeviceMapper) => Vec::new(),
        true => project.look(),
        false if image.checks.iter().any(|check| check.status != Status::Works) => {
            let expected = image.checks.iter().filter(|check| !said.contains(check.script));
            expected
                .map(|check| format!("{}: failed otherwise than expected:\n{said}", check.element))
                .collect()
        }
        false => vec![format!("{} was not built:\n{}", image.name, tail(&said))],
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

#[test]
fn elements_do_what_their_users_expect() {
    let faults: Vec<_> = images().flat_map(faults).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn the_page_lists_all_checks() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dib-compatibility.md");
    let checks: Vec<_> = images().flat_map(|image| image.checks).collect();
    let expected = page::with_results(&fs::read_to_string(&path).unwrap(), &checks);
    if std::env::var_os("PLYWOOD_UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(page == expected, "docs/dib-compatibility.md is stale: run this test with PLYWOOD_UPDATE_DOCS=1");
}
