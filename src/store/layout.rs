//! The paths of a store, and the marker that makes a directory a store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use rustix::process::geteuid;

use super::file::{Locking, create_directories, create_private, failed, lock, read_if_there, write_whole};
use crate::directory::{Directory, Writers};
use crate::oci::{ChainId, DiffId, Digest, canonical_json};
use crate::plan::{ContentKey, InputKey};
use crate::port::StoreError;

/// The format that this version of plywood writes, and the latest that it reads.
const FORMAT: u32 = 1;
/// The file that makes a directory a store.
const MARKER: &str = "plywood-store";

/// The directories that all users may look into.
const DIRECTORIES: [&str; 11] = [
    "blobs",
    "blobs/sha256",
    "records",
    "records/input",
    "records/content",
    "records/evidence",
    "layers",
    "imprints",
    "cache",
    "quarantine",
    "logs",
];

/// The paths of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
}

/// Returns the error for a directory of the store that untrusted users may write to.
fn refusal(path: &Path, writers: Writers) -> StoreError {
    let reason = match writers {
        Writers::Owner(owner) => format!("belongs to user {owner}"),
        _ => "can be written by all users".to_owned(),
    };
    StoreError::NotOwn { path: path.to_owned(), reason }
}

impl Layout {
    /// Opens the store at `root`. Creates one if the directory is missing or empty.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        if root.exists() && !root.is_dir() {
            return Err(StoreError::NotAStore {
                path: root.to_owned(),
                reason: "it is not a directory".to_owned(),
            });
        }
        let directory = Directory::create(root).map_err(failed("open or make directory", root))?;
        // Overlay mounts and other processes use these paths, so they must not depend on the
        // working directory.
        let path = directory.resolve().map_err(failed("resolve", root))?;
        let layout = Self { root: path };
        // Without the lock, a store that another process is creating would look like a foreign
        // directory.
        lock(&directory, Locking::Exclusive, &layout.root)?;
        // Before any file is read: an untrusted owner could have written them.
        layout.own(&directory)?;
        layout.claim()?;
        layout.populate()?;
        Ok(layout)
    }

    /// Opens the store at `root` without changing anything.
    pub(super) fn open_to_read(root: &Path) -> Result<Self, StoreError> {
        let layout = Self { root: root.canonicalize().map_err(failed("resolve", root))? };
        match read_if_there(&layout.root.join(MARKER))? {
            Some(marker) => layout.verify(&marker).map(|()| layout),
            None => Err(layout.not_a_store(format!("it has no file `{MARKER}`"))),
        }
    }

    /// If the caller is root, refuses a store that another user owns or that all users can write
    /// to. An empty directory becomes root's own.
    fn own(&self, directory: &Directory) -> Result<(), StoreError> {
        let failed = || failed("take over", &self.root);
        if !geteuid().is_root() {
            return Ok(());
        }
        match directory.access().map_err(failed())? {
            Writers::Trusted => {}
            _ if self.is_empty()? => return directory.take_over().map_err(failed()),
            others => return Err(refusal(&self.root, others)),
        }
        // A build with umask 000, which some CI runners have, made these writable for all users
        // before plywood limited its umask.
        for name in DIRECTORIES {
            let Ok(inner) = name
                .split('/')
                .try_fold(directory.clone(), |outer, name| outer.open_directory(name.as_ref()))
            else {
                continue;
            };
            match inner.access().map_err(failed())? {
                Writers::Trusted => {}
                others => return Err(refusal(&self.root.join(name), others)),
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        let has_marker = self.root.join(MARKER).symlink_metadata().is_ok();
        Ok(!has_marker && self.foreign_name()?.is_none())
    }

    /// Verifies the marker, or writes it into an empty directory. The marker is the first file of a
    /// store: a directory with other files and no marker is not a store, but for example an OCI
    /// layout.
    fn claim(&self) -> Result<(), StoreError> {
        let marker = self.root.join(MARKER);
        match read_if_there(&marker)? {
            Some(bytes) => self.verify(&bytes),
            None => match self.foreign_name()? {
                Some(name) => Err(self.not_a_store(format!("it has no file `{MARKER}` but holds `{name}`"))),
                None => write_whole(&marker, &self.temporary(), &canonical_json(&Marker { format: FORMAT })),
            },
        }
    }

    fn verify(&self, marker: &[u8]) -> Result<(), StoreError> {
        let marker: Marker = serde_json::from_slice(marker)
            .map_err(|error| self.not_a_store(format!("its file `{MARKER}` cannot be read: {error}")))?;
        if marker.format > FORMAT {
            return Err(StoreError::Newer { path: self.root.clone(), found: marker.format, known: FORMAT });
        }
        Ok(())
    }

    fn not_a_store(&self, reason: String) -> StoreError {
        StoreError::NotAStore { path: self.root.clone(), reason }
    }

    /// The temporary path for the files made here. A killed process may leave the file, and the
    /// next one overwrites it.
    fn temporary(&self) -> PathBuf {
        self.root.join(format!(".{MARKER}"))
    }

    /// Returns a name in the directory that does not belong to an unfinished store.
    fn foreign_name(&self) -> Result<Option<String>, StoreError> {
        for entry in std::fs::read_dir(&self.root).map_err(failed("read directory", &self.root))? {
            let name = entry.map_err(failed("read directory", &self.root))?.file_name();
            let name = name.to_string_lossy();
            // `mkfs` creates `lost+found` in the root of a file system.
            if name.strip_prefix('.') != Some(MARKER) && name != "lost+found" {
                return Ok(Some(name.into_owned()));
            }
        }
        Ok(None)
    }

    /// Creates missing files and directories.
    fn populate(&self) -> Result<(), StoreError> {
        for directory in DIRECTORIES {
            create_directories(&self.root.join(directory))?;
        }
        create_private(&self.snapshots())?;
        create_private(&self.work())?;
        self.write_if_missing("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.write_if_missing("index.json", br#"{"manifests":[],"schemaVersion":2}"#)?;
        self.write_if_missing("lock", b"")
    }

    fn write_if_missing(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(name);
        if path.exists() { Ok(()) } else { write_whole(&path, &self.temporary(), bytes) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn input_record(&self, key: &InputKey) -> PathBuf {
        self.input_records().join(json_name(key.digest()))
    }

    pub(super) fn input_records(&self) -> PathBuf {
        self.root.join("records/input")
    }

    pub(super) fn content_record(&self, key: &ContentKey) -> PathBuf {
        self.content_records().join(json_name(key.digest()))
    }

    pub(super) fn content_records(&self) -> PathBuf {
        self.root.join("records/content")
    }

    pub(super) fn evidence(&self, digest: &Digest) -> PathBuf {
        self.all_evidence().join(json_name(digest))
    }

    pub(super) fn all_evidence(&self) -> PathBuf {
        self.root.join("records/evidence")
    }

    pub(super) fn layer(&self, diff_id: &DiffId) -> PathBuf {
        self.layers().join(json_name(diff_id.digest()))
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn snapshot(&self, diff_id: &DiffId) -> PathBuf {
        self.snapshots().join(diff_id.hex())
    }

    /// The snapshot of a layer that depends on the layers below it, in the stack with this ChainID,
    /// which ends with the layer.
    pub(super) fn snapshot_above(&self, diff_id: &DiffId, chain: &ChainId) -> PathBuf {
        self.snapshots().join(format!("{}@{}", diff_id.hex(), chain.hex()))
    }

    pub(super) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(super) fn imprints(&self) -> PathBuf {
        self.root.join("imprints")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub(super) fn cache(&self, name: &str) -> PathBuf {
        self.root.join("cache").join(name)
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(super) fn failed(&self) -> PathBuf {
        self.root.join("failed")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The file with the boot id of the machine when the snapshots were made.
    pub(super) fn boot(&self) -> PathBuf {
        self.root.join("boot")
    }
}

fn json_name(digest: &Digest) -> String {
    format!("{}.json", digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_store_is_created_and_an_existing_one_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        Layout::open(&path).unwrap();
        std::fs::write(path.join("index.json"), "kept").unwrap();
        Layout::open(&path).unwrap();
        assert_eq!(std::fs::read(path.join("index.json")).unwrap(), b"kept");
        assert!(path.join("blobs/sha256").is_dir());
    }

    #[test]
    fn a_foreign_directory_is_refused_and_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("oci-layout"), "{}").unwrap();
        let error = Layout::open(directory.path()).unwrap_err();
        assert!(
            matches!(&error, StoreError::NotAStore { reason, .. } if reason.contains("oci-layout")),
            "{error}"
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn later_and_unreadable_formats_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let marker = directory.path().join(MARKER);
        std::fs::write(&marker, r#"{"format":99}"#).unwrap();
        assert!(matches!(
            Layout::open(directory.path()),
            Err(StoreError::Newer { found: 99, known: FORMAT, .. })
        ));
        std::fs::write(&marker, "what").unwrap();
        assert!(matches!(Layout::open(directory.path()), Err(StoreError::NotAStore { .. })));
    }

    #[test]
    fn several_processes_can_create_one_store_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| Layout::open(&path).map(|_| ()))).collect();
            opened.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        });
    }
}
