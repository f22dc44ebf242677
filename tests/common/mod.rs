//! Helpers of several tests: small projects, a real root file system, and a sandbox that starts the
//! built program.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod bench;
pub(crate) mod cloud_image;
pub(crate) mod fault;
pub(crate) mod page;
pub(crate) mod project;
pub(crate) mod reader;
pub(crate) mod registry;
pub(crate) mod rpm_distribution;
pub(crate) mod small_initramfs;
pub(crate) mod small_registry;
pub(crate) mod tunnel;
pub(crate) mod ubuntu;
pub(crate) mod upstream;
pub(crate) mod web;
pub(crate) mod work;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use plywood::distro::base_environment;
use plywood::port::{Exit, Job, Network, Root, RootSpec, Sandbox, View};
use plywood::sandbox::{Namespaces, enter_private_mounts};

/// Returns a minimal Debian bookworm. The first call makes it with mmdebstrap. Tests must not
/// change it.
pub(crate) fn bookworm() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bookworm");
        if !root.exists() {
            let partial = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let made = partial.path().join("root");
            let run = Command::new("mmdebstrap").args(["--variant=minbase", "bookworm"]).arg(&made).output();
            let run = run.expect("this test needs the program `mmdebstrap` (Debian package mmdebstrap)");
            assert!(run.status.success(), "mmdebstrap failed: {}", String::from_utf8_lossy(&run.stderr));
            fs::rename(&made, &root).unwrap();
        }
        root
    })
}

/// Returns a sandbox for the calling thread.
pub(crate) fn sandbox(interrupted: &Arc<AtomicBool>) -> Namespaces {
    let mounts = enter_private_mounts().expect("this test needs root and the right to mount");
    Namespaces::new(mounts, Arc::clone(interrupted)).with_launcher(env!("CARGO_BIN_EXE_plywood").into())
}

/// A writable overlay on [`bookworm`], with its directories.
pub(crate) struct Scratch {
    /// Removed last.
    pub directory: tempfile::TempDir,
    /// The open root.
    pub root: Box<dyn Root>,
}

impl Scratch {
    /// Opens an empty overlay on the given layers.
    pub(crate) fn on(sandbox: &Namespaces, lowers: &[&Path]) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in ["upper", "work"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let spec = RootSpec::Overlay {
            lowers: lowers.iter().map(|lower| lower.to_path_buf()).collect(),
            upper: directory.path().join("upper"),
            work: directory.path().join("work"),
        };
        let root = sandbox.open(&spec).expect("this test needs overlayfs");
        Self { directory, root }
    }

    /// Returns the directory that receives the changes.
    pub(crate) fn upper(&self) -> PathBuf {
        self.directory.path().join("upper")
    }

    /// Runs a shell script to its end. Returns its exit and its output.
    pub(crate) fn shell(&self, script: &str) -> (Exit, String) {
        run(self.root.as_ref(), &shell(script))
    }
}

/// Returns a job that runs a shell script in the target.
pub(crate) fn shell(script: &str) -> Job {
    Job {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: base_environment(1_700_000_000),
        cwd: "/".to_owned(),
        view: View::Target,
        binds: Vec::new(),
        network: Network::Host,
        traced: false,
        tools: None,
    }
}

/// Runs a job. Returns its exit and its output.
pub(crate) fn run(root: &dyn Root, job: &Job) -> (Exit, String) {
    let mut output = Vec::new();
    let exit = root.run(job, &mut |piece| output.extend_from_slice(piece)).unwrap();
    (exit, String::from_utf8(output).unwrap())
}
