//! Writes containers as OCI image layouts in directories.
//!
//! ```text
//! NAME.oci/
//!   oci-layout
//!   index.json
//!   blobs/sha256/<digest> …          compressed as the image definition says
//! ```
//!
//! Source: OCI image-spec, `image-layout.md`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;

use oci_spec::image::{ImageIndexBuilder, MediaType};
use serde_json::json;

use super::container::{ContainerImage, TAG};
use super::destination::{Destination, Sums, Written};
use super::error::{OutputError, io_error};
use super::known_blobs::KnownBlobs;
use super::pending::{DIRECTORY_SUFFIX, Pending};
use crate::directory::{Directory, FileState, Verified};
use crate::layer::Encoding;
use crate::oci::{Digest, canonical_json, descriptor, image_manifest};
use crate::port::{Layer, LayerBlobs};

/// The annotation with the name of a manifest in an index. Source: OCI image-spec,
/// `annotations.md`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Writes the image as an OCI image layout to the directory `target`.
///
/// An existing layout is replaced atomically. Its blobs are reused by hard links. Blobs whose state
/// is in `known` are not read again. The digest in the result is the digest of the manifest.
pub fn write_oci_layout(
    image: &ContainerImage<'_>,
    encoding: Encoding,
    blobs: &dyn LayerBlobs,
    target: &Destination,
    known: Option<&KnownBlobs>,
) -> Result<Written, OutputError> {
    let old = Old::open(target, known)?;
    let pending = PendingDirectory::new(target)?;
    let store = create(&pending.content, "blobs").and_then(|blobs| create(&blobs, "sha256"))?;
    let mut descriptors = Vec::new();
    let mut verified = BTreeMap::new();
    let mut bytes = 0;
    for diff_id in image.diff_ids {
        let layer = blobs.encoded(diff_id, encoding)?;
        // Two layers may have one blob: images of Docker often contain the empty layer twice.
        if let Entry::Vacant(place) = verified.entry(layer.blob) {
            place.insert(match old.lend(&layer, &store) {
                Some(state) => state,
                None => copy(&layer, blobs, &store)?,
            });
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
    if let Some(known) = known {
        // An error is ignored, because the next build then only reads the blobs again.
        let _ = known.save(target, &states(verified, &store));
    }
    Ok(Written { path: target.path(), bytes, digest: Digest::of(&manifest) })
}

/// Returns the new states of blobs in the directory `store`. `blobs` has the states in which their
/// digests were verified. Removing the hard links of the old layout changed the change times.
fn states(blobs: BTreeMap<Digest, FileState>, store: &Directory) -> Verified {
    let mut verified = Verified::default();
    for (digest, before) in blobs {
        let file = store.open_regular(digest.hex().as_ref());
        if let Ok(metadata) = file.and_then(|file| file.metadata()) {
            verified.note_renamed(digest, &before, FileState::from(&metadata));
        }
    }
    verified
}

/// Fails if an OCI layout cannot be written to `target`.
///
/// # Errors
/// [`OutputError::Occupied`] if `target` is a directory that is not an OCI layout.
pub fn check_oci_layout(target: &Destination) -> Result<(), OutputError> {
    Old::open(target, None).map(drop)
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

/// Copies the blob of a layer into the directory `store`. Returns the file's state.
fn copy(layer: &Layer, blobs: &dyn LayerBlobs, store: &Directory) -> Result<FileState, OutputError> {
    let name = layer.blob.hex();
    let failed = |action| io_error(action, &store.path().join(&name));
    let mut file = store.create_file(name.as_ref(), 0o644).map_err(failed("create"))?;
    io::copy(&mut blobs.open(layer)?, &mut file).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))?;
    Ok(FileState::from(&file.metadata().map_err(failed("examine"))?))
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
    verified: Verified,
}

impl Old {
    /// Opens the existing layout. Refuses a directory with other content.
    fn open(target: &Destination, known: Option<&KnownBlobs>) -> Result<Self, OutputError> {
        let failed = || io_error("read directory", &target.path());
        let Ok(directory) = target.directory.open_directory(&target.file) else {
            return Ok(Self { blobs: None, verified: Verified::default() });
        };
        let names = directory.names().map_err(failed())?;
        if !names.is_empty() && !directory.has_file("oci-layout".as_ref()).map_err(failed())? {
            return Err(OutputError::Occupied { path: target.path() });
        }
        let blobs = directory.open_directory("blobs".as_ref());
        let blobs = blobs.and_then(|blobs| blobs.open_directory("sha256".as_ref())).ok();
        Ok(Self { blobs, verified: known.map(|known| known.load(target)).unwrap_or_default() })
    }

    /// Links the layer's blob of the old layout into `store`. Returns the state in which the bytes
    /// of the file were verified. Returns `None` if the old layout lacks the blob, if its bytes
    /// differ, or if another user could change it later.
    fn lend(&self, layer: &Layer, store: &Directory) -> Option<FileState> {
        let name = layer.blob.hex();
        let file = self.blobs.as_ref()?.open_regular(name.as_ref()).ok()?;
        let status = file.metadata().ok()?;
        let is_own = status.uid() == rustix::process::geteuid().as_raw() && status.mode() & 0o022 == 0;
        // The state is taken before the file is read, so that a change during reading is noticed.
        let state = FileState::from(&status);
        let is_blob = || {
            let found = Sums::of(&file, false);
            found.is_ok_and(|found| (found.sha256, found.bytes) == (layer.blob, layer.blob_bytes))
        };
        let is_fit = is_own && (self.verified.has(&layer.blob, &state) || is_blob());
        (is_fit && store.link(&file, name.as_ref()).is_ok()).then_some(state)
    }
}

/// A directory that is not complete yet, which no tool takes for an image. Dropping it removes it.
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
    use std::fs::{self, File};
    use std::io::Read;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::oci::DiffId;
    use crate::port::StoreError;

    #[test]
    fn a_layout_replaces_only_a_layout() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("web.oci");
        let refuse_to_replace = || Old::open(&Destination::at(&target).unwrap(), None).map(drop);
        assert!(refuse_to_replace().is_ok(), "absent");
        fs::create_dir(&target).unwrap();
        assert!(refuse_to_replace().is_ok(), "empty");
        fs::write(target.join("thesis.tex"), "").unwrap();
        let error = refuse_to_replace().unwrap_err();
        assert!(matches!(error, OutputError::Occupied { path } if path == target));
        fs::write(target.join("oci-layout"), "").unwrap();
        assert!(refuse_to_replace().is_ok(), "a layout");
    }

    /// A store with the blob of one layer.
    struct OneBlob(&'static str);

    impl OneBlob {
        fn layer(&self) -> Layer {
            Layer {
                diff_id: DiffId::new(Digest::of("archive")),
                tar_bytes: 7,
                entries: 0,
                blob: Digest::of(self.0),
                blob_bytes: self.0.len() as u64,
                encoding: Encoding::Zstd,
            }
        }
    }

    impl LayerBlobs for OneBlob {
        fn encoded(&self, _: &DiffId, _: Encoding) -> Result<Layer, StoreError> {
            Ok(self.layer())
        }

        fn held(&self, _: &DiffId, _: Encoding) -> Result<Layer, StoreError> {
            Ok(self.layer())
        }

        fn open(&self, _: &Layer) -> Result<Box<dyn Read + '_>, StoreError> {
            Ok(Box::new(self.0.as_bytes()))
        }

        fn open_archive(&self, _: &DiffId) -> Result<(u64, Box<dyn Read + '_>), StoreError> {
            unreachable!("only for Docker archives")
        }
    }

    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            fs::create_dir(world.0.path().join("known")).unwrap();
            world
        }

        fn known(&self) -> KnownBlobs {
            KnownBlobs::new(self.0.path().join("known"))
        }

        fn target(&self) -> Destination {
            Destination::at(&self.0.path().join("web.oci")).unwrap()
        }

        /// Writes a layout of one layer, whose blob has this content.
        fn write(&self, content: &'static str) {
            self.write_layers(content, 1);
        }

        /// Writes a layout of this many layers, which all have one blob with this content.
        fn write_layers(&self, content: &'static str, count: usize) {
            let diff_ids = vec![DiffId::new(Digest::of("archive")); count];
            let image = ContainerImage { name: "web", config: b"{}", diff_ids: &diff_ids };
            let known = self.known();
            write_oci_layout(&image, Encoding::Zstd, &OneBlob(content), &self.target(), Some(&known))
                .unwrap();
        }

        fn blob(&self, content: &str) -> PathBuf {
            self.0.path().join("web.oci/blobs/sha256").join(Digest::of(content).hex())
        }

        fn state(&self, content: &str) -> FileState {
            FileState::of(&self.blob(content)).unwrap().unwrap()
        }
    }

    #[test]
    fn layers_with_one_blob_share_it() {
        let world = World::new();
        for _ in 0..2 {
            world.write_layers("content", 3);
            let path = world.0.path().join("web.oci/blobs/sha256");
            assert_eq!(fs::read(world.blob("content")).unwrap(), b"content");
            assert_eq!(fs::read_dir(&path).unwrap().count(), 3, "the blob, the config and the manifest");
        }
    }

    #[test]
    fn an_unchanged_blob_is_not_read_again() {
        let world = World::new();
        for _ in 0..3 {
            world.write("content");
            let blob = world.blob("content");
            let known = world.known().load(&world.target());
            assert!(known.has(&Digest::of("content"), &world.state("content")));
            assert_eq!(fs::metadata(&blob).unwrap().nlink(), 1, "the old layout is gone");
        }
        // These bytes are recorded as known. Only a build that reads them would notice the change.
        let inode = fs::metadata(world.blob("content")).unwrap().ino();
        fs::write(world.blob("content"), "CONTENT").unwrap();
        let mut known = Verified::default();
        known.note(Digest::of("content"), world.state("content"));
        world.known().save(&world.target(), &known).unwrap();
        world.write("content");
        assert_eq!(fs::metadata(world.blob("content")).unwrap().ino(), inode);
    }

    #[test]
    fn a_changed_blob_is_never_lent() {
        type Change<'a> = (&'a str, &'a dyn Fn(&Path));
        let keep_time = |path: &Path, change: &dyn Fn()| {
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            change();
            File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        };
        let changes: [Change; 4] = [
            ("other bytes", &|path| fs::write(path, "CONTENT").unwrap()),
            ("other bytes and the old time", &|path| {
                keep_time(path, &|| fs::write(path, "CONTENT").unwrap());
            }),
            ("another file and the old time", &|path| {
                keep_time(path, &|| {
                    fs::write(path.with_extension("new"), "CONTENT").unwrap();
                    fs::rename(path.with_extension("new"), path).unwrap();
                });
            }),
            ("truncated", &|path| fs::write(path, "con").unwrap()),
        ];
        for (what, change) in changes {
            let world = World::new();
            world.write("content");
            // File systems record times in steps of a few milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(20));
            change(&world.blob("content"));
            for _ in 0..2 {
                world.write("content");
                assert_eq!(fs::read_to_string(world.blob("content")).unwrap(), "content", "{what}");
            }
        }
    }
}
