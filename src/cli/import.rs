//! `plywood import`: a root file system from elsewhere as a base.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use super::args::{Global, Import};
use super::context::{machine_architecture, open_store};
use super::report::{Failure, Message};
use crate::distro::{Architecture, BaseDefinition, BaseName, BaseSource};
use crate::element::Family;
use crate::load;
use crate::oci::DiffId;
use crate::store::{Imported, Store};

/// Stores the layers, and writes `layers/NAME.toml` into the project.
pub(super) fn run(global: &Global, args: &Import) -> Result<ExitCode, Failure> {
    let name: BaseName = args.name.parse()?;
    load::load_project(&global.project)?;
    let store = open_store(global)?;
    let architecture = machine_architecture()?;
    let imported = import(&store, &args.source, architecture)?;
    let manifest = store.save_base(&format!("base/{name}"), &imported, architecture)?;
    let (distro, release) = distribution(&store, args, &imported.diff_ids)?;
    let base = BaseDefinition {
        family: Family::of(&distro).ok_or_else(|| unknown_distribution(&args.source))?,
        distro,
        release,
        architectures: [architecture].into(),
        provides: Default::default(),
        env: Default::default(),
        source: BaseSource::Stored { digest: manifest },
    };
    let path = load::save_base(&name, &base, &global.project.join("layers"))?;
    println!("imported {} layers as base `{name}`: {}", imported.diff_ids.len(), path.display());
    Ok(ExitCode::SUCCESS)
}

fn import(store: &Store, source: &str, architecture: Architecture) -> Result<Imported, Failure> {
    let (go_architecture, _) = architecture.oci();
    Ok(match source.split_once(':') {
        Some(("oci", rest)) => {
            let (dir, tag) = rest.rsplit_once(':').map_or((rest, None), |(dir, tag)| (dir, Some(tag)));
            store.import_oci_layout(Path::new(dir), tag, go_architecture)?
        }
        Some(("docker-archive", file)) => store.import_docker_archive(Path::new(file), None)?,
        _ => store.import_rootfs_tar(Path::new(source))?,
    })
}

/// Returns the distribution and its release: as given, or as the root file system says itself.
fn distribution(store: &Store, args: &Import, stack: &[DiffId]) -> Result<(String, String), Failure> {
    let told = os_release(store, stack)?;
    let value = |given: &Option<String>, keys: &[&str]| {
        let said = keys.iter().find_map(|key| told.iter().find(|(name, _)| name == key));
        given.clone().or_else(|| said.map(|(_, value)| value.clone()))
    };
    let distro = value(&args.distro, &["ID"]);
    let release = value(&args.release, &["VERSION_CODENAME", "VERSION_ID"]);
    distro.zip(release).ok_or_else(|| unknown_distribution(&args.source))
}

fn unknown_distribution(source: &str) -> Failure {
    Message::with_hint(
        format!("`{source}` does not say which distribution it is, or one that no family is known of"),
        "add `--distro debian --release bookworm`",
    )
}

/// Reads the variables of `/usr/lib/os-release` in the highest layer that has the file.
fn os_release(store: &Store, stack: &[DiffId]) -> Result<Vec<(String, String)>, Failure> {
    for diff_id in stack.iter().rev() {
        let snapshot = store.snapshot(diff_id)?;
        for path in ["usr/lib/os-release", "etc/os-release"] {
            let path = snapshot.join(path);
            // A symlink in a layer may lead out of it.
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                let mut text = String::new();
                File::open(&path)?.take(64 << 10).read_to_string(&mut text)?;
                return Ok(text.lines().filter_map(assignment).collect());
            }
        }
    }
    Ok(Vec::new())
}

/// Source: os-release(5).
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim().split_once('=')?;
    Some((name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
}
