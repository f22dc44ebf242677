//! Writes containers as an OCI image layout in a directory, or as an archive for `docker load`.
//!
//! ```text
//! NAME.oci/                        NAME.docker.tar
//!   oci-layout                       <config digest>.json
//!   index.json                       <DiffID>/layer.tar     uncompressed, as `docker save` has it
//!   blobs/sha256/<digest> …          manifest.json
//! ```
//!
//! Both have the same config with the same DiffIDs. The image definition says how the blobs of the
//! layout are compressed.
//!
//! Source: OCI image-spec, `image-layout.md`; Docker image specification v1.2, "Combined Image JSON
//! + Filesystem Changeset Format".

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::image::{ImageIndexBuilder, MediaType};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::destination::{Destination, Sums, Written};
use super::error::{OutputError, io_error};
use super::pending::{DIRECTORY_SUFFIX, Pending};
use crate::directory::Directory;
use crate::exec::{Program, Run};
use crate::layer::Encoding;
use crate::oci::{DiffId, Digest, canonical_json, descriptor, image_manifest};
use crate::port::{Layer, LayerBlobs};

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

/// The annotation with the name of a manifest in an index. Source: OCI image-spec,
/// `annotations.md`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The tag of all written images.
const TAG: &str = "latest";

/// Writes the image as OCI image layout to the directory `target`.
///
/// An existing layout is replaced atomically. Its blobs are reused by hard links. The digest in the
/// result is the digest of the manifest.
pub fn write_oci_layout(
    image: &ContainerImage<'_>,
    encoding: Encoding,
    blobs: &dyn LayerBlobs,
    target: &Destination,
) -> Result<Written, OutputError> {
    let old = Old::open(target)?;
    let pending = PendingDirectory::new(target)?;
    let store = create(&pending.content, "blobs").and_then(|blobs| create(&blobs, "sha256"))?;
    let mut descriptors = Vec::new();
    let mut bytes = 0;
    for diff_id in image.diff_ids {
        let layer = blobs.encoded(diff_id, encoding)?;
        if !old.lend(&layer, &store) {
            copy(&layer, blobs, &store)?;
        }
        bytes += layer.blob_bytes;
        descriptors.push(descriptor(layer.encoding.media_type(), &layer.blob, layer.blob_bytes));
    }
    let manifest = image_manifest(image.config, descriptors, &BTreeMap::new());
    for document in [image.config, &manifest] {
        write(&store, &Digest::of(document).hex(), document)?;
        bytes += document.len() as u64;
    }
    let content = &pending.content;
    write(content, "index.json", &index(&manifest))?;
    write(content, "oci-layout", &canonical_json(&json!({ "imageLayoutVersion": "1.0.0" })))?;
    pending.commit()?;
    Ok(Written { path: target.path(), bytes, digest: Digest::of(&manifest) })
}

/// Fails if an OCI layout cannot be written to `target`.
///
/// # Errors
/// [`OutputError::Occupied`] if `target` is a directory that is not an OCI layout.
pub fn check_oci_layout(target: &Destination) -> Result<(), OutputError> {
    Old::open(target).map(drop)
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

/// Copies the blob of a layer into the directory `store`.
fn copy(layer: &Layer, blobs: &dyn LayerBlobs, store: &Directory) -> Result<(), OutputError> {
    let name = layer.blob.hex();
    let failed = |action| io_error(action, &store.path().join(&name));
    let mut file = store.create_file(name.as_ref(), 0o644).map_err(failed("create"))?;
    io::copy(&mut blobs.open(layer)?, &mut file).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))
}

fn create(directory: &Directory, name: &str) -> Result<Directory, OutputError> {
    directory.create_directory(name.as_ref()).map_err(io_error("create", &directory.path().join(name)))
}

fn write(directory: &Directory, name: &str, content: &[u8]) -> Result<(), OutputError> {
    let write = || {
        let mut file = directory.create_file(name.as_ref(), 0o644)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(io_error("write", &directory.path().join(name)))
}

/// The existing layout that will be replaced, if any.
struct Old {
    blobs: Option<Directory>,
}

impl Old {
    /// Opens the existing layout. Refuses a directory with other content.
    fn open(target: &Destination) -> Result<Self, OutputError> {
        let failed = || io_error("read directory", &target.path());
        let Ok(directory) = target.directory.open_directory(&target.file) else {
            return Ok(Self { blobs: None });
        };
        let names = directory.names().map_err(failed())?;
        if !names.is_empty() && !directory.has_file("oci-layout".as_ref()).map_err(failed())? {
            return Err(OutputError::Occupied { path: target.path() });
        }
        let blobs = directory.open_directory("blobs".as_ref());
        Ok(Self { blobs: blobs.and_then(|blobs| blobs.open_directory("sha256".as_ref())).ok() })
    }

    /// Links the layer's blob of the old layout into `store`. Returns false if the old layout lacks
    /// it, if its bytes differ, or if another user could change it later.
    fn lend(&self, layer: &Layer, store: &Directory) -> bool {
        let name = layer.blob.hex();
        let Some(Ok(file)) = self.blobs.as_ref().map(|blobs| blobs.open_regular(name.as_ref())) else {
            return false;
        };
        let is_own = file.metadata().is_ok_and(|status| {
            status.uid() == rustix::process::geteuid().as_raw() && status.mode() & 0o022 == 0
        });
        let is_blob = || {
            Sums::of(&file, false)
                .is_ok_and(|found| (found.sha256, found.bytes) == (layer.blob, layer.blob_bytes))
        };
        is_own && is_blob() && store.link(&file, name.as_ref()).is_ok()
    }
}

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

/// An incomplete directory with a temporary name. Dropping this removes it.
struct PendingDirectory {
    place: Destination,
    name: OsString,
    content: Directory,
    /// The file that locks the temporary name.
    _lock: Pending,
}

impl PendingDirectory {
    fn new(place: &Destination) -> Result<Self, OutputError> {
        let lock = Pending::named(&place.directory, &place.file)?;
        let name: OsString =
            [lock.part().unwrap_or_default(), OsStr::new(DIRECTORY_SUFFIX)].into_iter().collect();
        let content = place.directory.create_directory(&name).map_err(io_error("create", &place.path()))?;
        Ok(Self { place: place.clone(), name, content, _lock: lock })
    }

    /// Renames the directory to its name. An existing directory is exchanged with it and then
    /// removed.
    fn commit(self) -> Result<(), OutputError> {
        let Destination { directory, file, .. } = &self.place;
        let named = directory.exchange(&self.name, file).and_then(|()| directory.sync());
        named.map_err(io_error("put in place", &self.place.path()))
    }
}

impl Drop for PendingDirectory {
    fn drop(&mut self) {
        // After a commit, the name belongs to the old directory or does not exist. If this fails,
        // the next writer removes the directory.
        let _ = self.place.directory.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_layout_replaces_only_a_layout() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("web.oci");
        let refuse_to_replace = || Old::open(&Destination::at(&target).unwrap()).map(drop);
        assert!(refuse_to_replace().is_ok(), "absent");
        fs::create_dir(&target).unwrap();
        assert!(refuse_to_replace().is_ok(), "empty");
        fs::write(target.join("thesis.tex"), "").unwrap();
        let error = refuse_to_replace().unwrap_err();
        assert!(matches!(error, OutputError::Occupied { path } if path == target));
        fs::write(target.join("oci-layout"), "").unwrap();
        assert!(refuse_to_replace().is_ok(), "a layout");
    }
}
