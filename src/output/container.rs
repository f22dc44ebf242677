//! Containers, and archives of them for `docker load`.
//!
//! ```text
//! NAME.docker.tar
//!   <config digest>.json
//!   <DiffID>/layer.tar     uncompressed, as `docker save` has it
//!   manifest.json
//! ```
//!
//! An archive has the same config as an OCI image layout, with the same DiffIDs.
//!
//! Source: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::destination::{Destination, Written};
use super::error::{OutputError, io_error};
use crate::exec::{Program, Run};
use crate::oci::{DiffId, Digest, canonical_json};
use crate::port::LayerBlobs;

/// A complete image.
#[derive(Debug, Clone)]
pub struct ContainerImage<'a> {
    /// The name of the image. In an archive, it gets the tag `latest` if it has no tag. In a
    /// layout, the image is always called `latest`.
    pub name: &'a str,
    pub config: &'a [u8],
    /// The layers of the config, lowest first.
    pub diff_ids: &'a [DiffId],
}

/// The tag of all written images.
pub(super) const TAG: &str = "latest";

/// Writes the image as an archive for `docker load`, and `<target>.sha256`.
pub fn write_docker_archive(
    image: &ContainerImage<'_>,
    blobs: &dyn LayerBlobs,
    target: &Destination,
) -> Result<Written, OutputError> {
    let pending = target.pending()?;
    let mut archive = Builder::new(BufWriter::with_capacity(1 << 20, pending.file()));
    let wrote = || io_error("write", pending.target());
    let config_name = format!("{}.json", Digest::of(image.config).hex());
    append(&mut archive, &config_name, image.config.len() as u64, image.config).map_err(wrote())?;
    let mut names = Vec::new();
    for diff_id in image.diff_ids {
        let (bytes, layer) = blobs.open_archive(diff_id)?;
        let name = format!("{}/layer.tar", diff_id.hex());
        append(&mut archive, &name, bytes, layer).map_err(wrote())?;
        names.push(name);
    }
    let tag = tagged(image.name);
    let manifest = canonical_json(&json!([{ "Config": config_name, "RepoTags": [tag], "Layers": names }]));
    append(&mut archive, "manifest.json", manifest.len() as u64, manifest.as_slice()).map_err(wrote())?;
    archive.into_inner().and_then(|mut file| file.flush()).map_err(wrote())?;
    target.publish(pending)
}

const DOCKER: Program = Program { name: "docker", package: "docker.io" };

/// Loads an archive into the Docker engine that `environment` names (`DOCKER_HOST` and similar), or
/// else into the engine of the build host.
pub fn load_into_docker(archive: &Path, environment: &BTreeMap<String, String>) -> Result<(), OutputError> {
    let is_dockers = |name: &str| name.starts_with("DOCKER_") || name == "HOME";
    let run = Run::new(DOCKER).args(["load", "--quiet", "--input"]).arg(archive);
    let named = environment.iter().filter(|(name, _)| is_dockers(name));
    Ok(named.fold(run, |run, (name, value)| run.env(name, value)).run()?)
}

/// Returns the name as a reference that engines accept: in lower case and with a tag.
fn tagged(name: &str) -> String {
    let host = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[host..].split_once(':') {
        Some((repository, tag)) => format!("{}{}:{tag}", &name[..host], repository.to_ascii_lowercase()),
        None => format!("{}:{TAG}", name.to_ascii_lowercase()),
    }
}

/// Adds a file with fixed owner, mode and time.
fn append(archive: &mut Builder<impl Write>, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    archive.append_data(&mut header, name, content)
}
