//! Builder containers: an OCI image layout in a directory, or an archive for `docker load`.
//!
//! ```text
//! NAME.oci/                        NAME.docker.tar
//!   oci-layout                       <config digest>.json
//!   index.json                       <DiffID>/layer.tar     uncompressed, as `docker save` has it
//!   blobs/sha256/<digest> …          manifest.json
//! ```
//!
//! Both name the same DiffIDs in the same config. The layout's blobs are compressed as the image definition says.
//!
//! Source: OCI image-spec, `image-layout.md`; Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{ImageIndexBuilder, MediaType};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::destination::{Destination, Sums, Written};
use super::error::{OutputError, io_error};
use super::pending::Pending;

use crate::exec::{Program, Run};
use crate::layer::Encoding;
use crate::oci::{DiffId, Digest, canonical_json, descriptor, image_manifest};
use crate::port::{Layer, LayerBlobs};

/// An image, ready to be written.
#[derive(Debug, Clone)]
pub struct ContainerImage<'a> {
    /// Its name: in an archive with the tag `latest`, unless it has one; in a layout it is always called `latest`.
    pub name: &'a str,
    /// The bytes of its config.
    pub config: &'a [u8],
    /// Its layers, lowest first: those of the config.
    pub diff_ids: &'a [DiffId],
}

/// The annotation that names a manifest of an index. Source: OCI image-spec, `annotations.md`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The only tag of what is written here.
const TAG: &str = "latest";

/// Writes the image as OCI image layout into the directory `target`, in place of one that is there.
///
/// The digest of the result is the manifest's. A layout that is there already is replaced in one step, and lends
/// the blobs that it has.
pub fn write_oci_layout(
    image: &ContainerImage<'_>,
    encoding: Encoding,
    blobs: &dyn LayerBlobs,
    target: &Path,
) -> Result<Written, OutputError> {
    refuse_to_replace(target)?;
    let pending = PendingDirectory::new(target)?;
    let store = pending.path.join("blobs/sha256");
    fs::create_dir_all(&store).map_err(io_error("create", &store))?;
    let mut descriptors = Vec::new();
    let mut bytes = 0;
    for diff_id in image.diff_ids {
        let layer = blobs.encoded(diff_id, encoding)?;
        lend_or_copy(&layer, blobs, &store, target)?;
        bytes += layer.blob_bytes;
        descriptors.push(descriptor(layer.encoding.media_type(), &layer.blob, layer.blob_bytes));
    }
    let manifest = image_manifest(image.config, descriptors, &BTreeMap::new());
    for document in [image.config, &manifest] {
        write(&store.join(Digest::of(document).hex()), document)?;
        bytes += document.len() as u64;
    }
    write(&pending.path.join("index.json"), &index(&manifest))?;
    write(&pending.path.join("oci-layout"), &canonical_json(&json!({ "imageLayoutVersion": "1.0.0" })))?;
    pending.commit()?;
    Ok(Written { path: target.to_owned(), bytes, digest: Digest::of(&manifest) })
}

fn index(manifest: &[u8]) -> Vec<u8> {
    let media_type = MediaType::ImageManifest.to_string();
    let mut manifest = descriptor(&media_type, &Digest::of(manifest), manifest.len() as u64);
    manifest.set_annotations(Some([(REF_NAME.to_owned(), TAG.to_owned())].into()));
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest])
        .build();
    canonical_json(&index.expect("every required field is set"))
}

/// Puts a layer's blob into the directory `store`: as another name of the old layout's, where that has it.
fn lend_or_copy(layer: &Layer, blobs: &dyn LayerBlobs, store: &Path, old: &Path) -> Result<(), OutputError> {
    let path = store.join(layer.blob.hex());
    let lent = old.join("blobs/sha256").join(layer.blob.hex());
    if is_blob(&lent, layer) && fs::hard_link(&lent, &path).is_ok() {
        return Ok(());
    }
    let mut file = File::create(&path).map_err(io_error("create", &path))?;
    io::copy(&mut blobs.open(layer)?, &mut file).map_err(io_error("write", &path))?;
    file.sync_all().map_err(io_error("sync", &path))
}

/// Says whether the file is the layer's blob, by its bytes: a layout in an output directory is anybody's.
fn is_blob(path: &Path, layer: &Layer) -> bool {
    let sums = File::open(path).and_then(|file| Sums::of(&file, false));
    sums.is_ok_and(|found| (found.sha256, found.bytes) == (layer.blob, layer.blob_bytes))
}

fn write(path: &Path, content: &[u8]) -> Result<(), OutputError> {
    let mut file = File::create(path).map_err(io_error("create", path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io_error("write", path))
}

/// Writes the image as an archive for `docker load`, and `<target>.sha256`.
pub fn write_docker_archive(
    image: &ContainerImage<'_>,
    blobs: &dyn LayerBlobs,
    target: &Path,
) -> Result<Written, OutputError> {
    let pending = Pending::new(target)?;
    let mut archive = Builder::new(BufWriter::with_capacity(1 << 20, pending.file()));
    let wrote = || io_error("write", target);
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
    Destination::from(target).publish(pending)
}

const DOCKER: Program = Program { name: "docker", package: "docker.io" };

/// Loads an archive into the Docker engine that `environment` names (`DOCKER_HOST` and the like), else this machine's.
pub fn load_into_docker(archive: &Path, environment: &BTreeMap<String, String>) -> Result<(), OutputError> {
    let is_dockers = |name: &str| name.starts_with("DOCKER_") || name == "HOME";
    let run = Run::new(DOCKER).args(["load", "--quiet", "--input"]).arg(archive);
    let named = environment.iter().filter(|(name, _)| is_dockers(name));
    Ok(named.fold(run, |run, (name, value)| run.env(name, value)).run()?)
}

/// Returns the name as a reference, as engines take it: in lower case, and with a tag.
fn tagged(name: &str) -> String {
    let host = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[host..].split_once(':') {
        Some((repository, tag)) => format!("{}{}:{tag}", &name[..host], repository.to_ascii_lowercase()),
        None => format!("{}:{TAG}", name.to_ascii_lowercase()),
    }
}

/// Adds a file whose owner, mode and time are always the same.
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

/// Refuses to replace a directory that holds something else than an image.
fn refuse_to_replace(target: &Path) -> Result<(), OutputError> {
    let is_foreign = target.is_dir() && !target.join("oci-layout").is_file();
    let is_empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    if is_foreign && !is_empty() {
        return Err(OutputError::Occupied { path: target.to_owned() });
    }
    Ok(())
}

/// A directory that is not complete yet: `.<name>.part`, which no tool takes for an image. Dropping it removes it.
struct PendingDirectory {
    path: PathBuf,
    target: PathBuf,
    /// Holds the lock of the name, so that no other process writes the same directory.
    _lock: Pending,
}

impl PendingDirectory {
    fn new(target: &Path) -> Result<Self, OutputError> {
        let lock = Pending::named(target)?;
        let path = lock.part().unwrap_or(target).with_added_extension("d");
        remove(&path)?;
        fs::create_dir(&path).map_err(io_error("create", &path))?;
        Ok(Self { path, target: target.to_owned(), _lock: lock })
    }

    /// Gives the directory its name; one that has it already changes places with it and is removed.
    fn commit(self) -> Result<(), OutputError> {
        let exists = self.target.symlink_metadata().is_ok();
        let flags = if exists { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &self.path, CWD, &self.target, flags)
            .map_err(|error| io_error("put in place", &self.target)(error.into()))
    }
}

impl Drop for PendingDirectory {
    fn drop(&mut self) {
        // After a commit this is the old directory, or nothing.
        let _ = remove(&self.path);
    }
}

fn remove(path: &Path) -> Result<(), OutputError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).map_err(io_error("remove", path)),
        _ => fs::remove_file(path).map_err(io_error("remove", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_layout_or_nothing_is_replaced_by_a_layout() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("web.oci");
        assert!(refuse_to_replace(&target).is_ok(), "absent");
        fs::create_dir(&target).unwrap();
        assert!(refuse_to_replace(&target).is_ok(), "empty");
        fs::write(target.join("thesis.tex"), "").unwrap();
        let error = refuse_to_replace(&target).unwrap_err();
        assert!(matches!(error, OutputError::Occupied { path } if path == target));
        fs::write(target.join("oci-layout"), "").unwrap();
        assert!(refuse_to_replace(&target).is_ok(), "a layout");
    }
}
