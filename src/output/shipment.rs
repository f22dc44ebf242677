//! Disks in the forms for registries.
//!
//! | form | manifest | for |
//! |---|---|---|
//! | artifact | one layer, the file itself, with its name as title | `plywood pull -o`, `oras pull` |
//! | containerdisk | an image with one layer that holds `/disk/<name>`, owned by user 107 | KubeVirt's `containerDisk` volumes |
//!
//! Nothing is copied: the bytes of a layer are the bytes of the file, for a containerdisk between a
//! tar header and zeros.
//!
//! Source: OCI image-spec v1.1, `manifest.md`, "Guidelines for Artifact Usage"; KubeVirt user
//! guide, "containerDisk".

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use tar::{EntryType, Header};

use super::destination::{Destination, Written};
use super::error::{OutputError, io_error};
use crate::oci::{
    DiffId, Digest, HashingReader, ImageConfig, RawManifest, canonical_json, descriptor, image_manifest,
};
use crate::port::BlobSource;

/// The artifact type of a disk.
pub const DISK_ARTIFACT: &str = "application/vnd.plywood.disk.v1";
/// The media type of the file. The extension of its name gives the format.
const DISK_FILE: &str = "application/vnd.plywood.disk.v1.file";
/// Source: OCI image-spec, `annotations.md`.
const TITLE: &str = "org.opencontainers.image.title";
/// The config of an artifact.
const EMPTY: &[u8] = b"{}";
/// The user of QEMU in pods of KubeVirt.
const QEMU_USER: u64 = 107;
const BLOCK: usize = 512;

/// A disk for an upload: its manifest, its config and its only layer.
#[derive(Debug)]
pub struct Shipment {
    pub manifest: RawManifest,
    pub config: Vec<u8>,
    pub layer: FramedFile,
    /// The digest of the layer.
    pub digest: Digest,
}

/// A file with further bytes before and after it.
#[derive(Debug)]
pub struct FramedFile {
    path: PathBuf,
    bytes: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Shipment {
    /// Makes an artifact from the file.
    ///
    /// # Errors
    /// [`OutputError::Io`] if the file cannot be read.
    pub fn artifact(path: &Path) -> Result<Self, OutputError> {
        let layer = FramedFile::new(path, Vec::new(), Vec::new())?;
        let Digests { whole: digest, .. } = layer.digests()?;
        let mut described = descriptor(DISK_FILE, &digest, layer.len());
        described.set_annotations(Some(HashMap::from([(TITLE.to_owned(), name_of(path))])));
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .artifact_type(MediaType::from(DISK_ARTIFACT))
            .config(descriptor(MediaType::EmptyJSON.as_ref(), &Digest::of(EMPTY), EMPTY.len() as u64))
            .layers(vec![described])
            .build()
            .expect("every required field is set");
        Ok(Self { manifest: raw(canonical_json(&manifest)), config: EMPTY.to_vec(), layer, digest })
    }

    /// Makes a containerdisk from the file with the digest `file`, for machines of `architecture`
    /// (a name of Go). All times are `epoch`, in seconds since 1970.
    ///
    /// # Errors
    /// [`OutputError::Io`] if the file cannot be read or is too large for a tar entry;
    /// [`OutputError::Changed`] if it has another digest.
    pub fn container_disk(
        path: &Path,
        file: &Digest,
        architecture: &str,
        epoch: i64,
    ) -> Result<Self, OutputError> {
        let bytes = length(path)?;
        let head = tar_head(&name_of(path), bytes, epoch).map_err(io_error("pack", path))?;
        // Zeros up to the end of the block, and the two empty blocks at the end of an archive.
        let padding = (BLOCK as u64 - bytes % BLOCK as u64) % BLOCK as u64;
        let layer = FramedFile::new(path, head, vec![0; padding as usize + 2 * BLOCK])?;
        let Digests { whole: digest, file: found } = layer.digests()?;
        if found != *file {
            return Err(OutputError::Changed { path: path.to_owned() });
        }
        let config = ImageConfig::new(architecture, epoch);
        let mut config = config.map_err(|error| io_error("pack", path)(io::Error::other(error)))?;
        config.push_step("plywood disk", &[DiffId::new(digest)]);
        let config = config.to_bytes();
        let described: Descriptor = descriptor(MediaType::ImageLayer.as_ref(), &digest, layer.len());
        let manifest = image_manifest(&config, vec![described], &BTreeMap::new());
        Ok(Self { manifest: raw(manifest), config, layer, digest })
    }
}

fn raw(bytes: Vec<u8>) -> RawManifest {
    RawManifest { media_type: MediaType::ImageManifest.to_string(), bytes }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn length(path: &Path) -> Result<u64, OutputError> {
    std::fs::metadata(path).map(|metadata| metadata.len()).map_err(io_error("inspect", path))
}

/// Returns the part of a tar archive before the bytes of the file: the entry `disk/` and the header
/// of `disk/<name>`.
fn tar_head(name: &str, bytes: u64, epoch: i64) -> io::Result<Vec<u8>> {
    let entry = |path: &str, kind, mode, owner, bytes| {
        let mut header = Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(u64::try_from(epoch).unwrap_or_default());
        header.set_size(bytes);
        header.set_cksum();
        Ok::<_, io::Error>(header.as_bytes().to_vec())
    };
    let directory = entry("disk/", EntryType::Directory, 0o755, 0, 0)?;
    let file = entry(&format!("disk/{name}"), EntryType::Regular, 0o440, QEMU_USER, bytes)?;
    Ok([directory, file].concat())
}

/// The digests of a [`FramedFile`] and of the file in it.
struct Digests {
    whole: Digest,
    file: Digest,
}

impl FramedFile {
    fn new(path: &Path, head: Vec<u8>, tail: Vec<u8>) -> Result<Self, OutputError> {
        Ok(Self { path: path.to_owned(), bytes: length(path)?, head, tail })
    }

    /// Returns the size of the file and the bytes around it.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> u64 {
        self.bytes + (self.head.len() + self.tail.len()) as u64
    }

    /// Reads everything once.
    fn digests(&self) -> Result<Digests, OutputError> {
        let read = || {
            let mut file = HashingReader::new(File::open(&self.path)?.take(self.bytes));
            let mut whole = HashingReader::new(self.head.chain(&mut file).chain(self.tail.as_slice()));
            io::copy(&mut whole, &mut io::sink())?;
            let (whole, bytes) = whole.finish();
            Ok((Digests { whole, file: file.finish().0 }, bytes))
        };
        let (digests, bytes) = read().map_err(io_error("read", &self.path))?;
        match bytes == self.len() {
            true => Ok(digests),
            false => Err(io_error("read", &self.path)(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl BlobSource for FramedFile {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + '_>> {
        let head = self.head.len() as u64;
        let rest = |part: &'_ [u8], start: u64| {
            usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX).min(part.len())
        };
        let in_file = offset.saturating_sub(head).min(self.bytes);
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(in_file))?;
        let before = &self.head[rest(&self.head, 0)..];
        let after = &self.tail[rest(&self.tail, head + self.bytes)..];
        Ok(Box::new(before.chain(file.take(self.bytes - in_file)).chain(after)))
    }
}

/// Writes the bytes of `source` to a file, and its checksum file. If `source` fails, nothing
/// remains.
///
/// # Errors
/// [`OutputError::Io`].
pub fn write_stream(source: &mut dyn Read, destination: &Destination) -> Result<Written, OutputError> {
    let pending = destination.pending()?;
    io::copy(source, &mut pending.file()).map_err(io_error("write", pending.target()))?;
    destination.publish(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(layer: &FramedFile, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        layer.open_at(offset).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_containerdisk_is_a_tar_of_the_disk_and_can_be_read_from_any_offset() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vm.qcow2");
        for content in [vec![], vec![7; 511], vec![7; 512], vec![7; 1300]] {
            std::fs::write(&path, &content).unwrap();
            let shipment = Shipment::container_disk(&path, &Digest::of(&content), "amd64", 315_532_800);
            let shipment = shipment.unwrap();
            let whole = read(&shipment.layer, 0);
            assert_eq!((whole.len() as u64, whole.len() % BLOCK), (shipment.layer.len(), 0));
            assert_eq!(Digest::of(&whole), shipment.digest);
            for offset in [1, 512, 1024, 1025, 1024 + content.len() as u64, whole.len() as u64 - 1] {
                assert!(read(&shipment.layer, offset) == whole[offset as usize..], "{offset}");
            }
            let mut archive = tar::Archive::new(whole.as_slice());
            let mut entries = archive.entries().unwrap();
            assert_eq!(entries.next().unwrap().unwrap().path().unwrap(), Path::new("disk/"));
            let mut disk = entries.next().unwrap().unwrap();
            assert_eq!(disk.path().unwrap(), Path::new("disk/vm.qcow2"));
            assert_eq!((disk.header().uid().unwrap(), disk.header().mode().unwrap()), (107, 0o440));
            let mut bytes = Vec::new();
            disk.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, content);
            assert!(entries.next().is_none());
        }
    }

    #[test]
    fn a_disk_that_changed_since_it_was_verified_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vm.qcow2");
        std::fs::write(&path, "changed").unwrap();
        let error = Shipment::container_disk(&path, &Digest::of("disk"), "amd64", 0).unwrap_err();
        assert!(matches!(error, OutputError::Changed { .. }), "{error}");
    }

    #[test]
    fn an_artifact_is_the_file_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vm.qcow2");
        std::fs::write(&path, "disk").unwrap();
        let shipment = Shipment::artifact(&path).unwrap();
        assert_eq!((shipment.digest, shipment.layer.len()), (Digest::of("disk"), 4));
        let text = String::from_utf8(shipment.manifest.bytes).unwrap();
        for part in [DISK_ARTIFACT, r#""org.opencontainers.image.title":"vm.qcow2""#] {
            assert!(text.contains(part), "{text}");
        }
    }
}
