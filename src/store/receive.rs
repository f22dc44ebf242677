//! Imports blobs into the store.
//!
//! ```text
//! source ──> blob              this thread: reads and writes
//!        └─> decode ──> DiffID second thread: reads the archive to its end
//! ```
//!
//! The source computes its own digest while it is read ([`VerifyingReader`]), so this module does
//! not.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;

use super::apply::{ancestors, cannot_apply, explain_link};
use super::blob::{Blobs, NewBlob};
use super::document::{invalid, verify_diff_id};
use super::file::{failed, split};
use super::room::Room;
use super::{Layers, encoding};
use crate::layer::{Decoder, Encoding, Entry, Kind, LayerError, read_full};
use crate::oci::{DiffId, Digest, HashingReader, VerifyingReader};
use crate::port::{Blob, Layer, StoreError};

/// The size of a read.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that may wait to be decoded.
const QUEUE: usize = 4;

/// Claims of the source about a layer. Each claim is verified.
#[derive(Debug, Default)]
struct Claims<'a> {
    /// The digest of the archive.
    diff_id: Option<&'a DiffId>,
    /// The size of the archive.
    tar_bytes: Option<u64>,
    /// True if there is no layer below.
    is_lowest: bool,
}

impl Claims<'_> {
    /// Returns the number of bytes to read from an archive: one more than allowed, to notice an
    /// archive that is too large.
    fn most(&self, room: &Room) -> u64 {
        self.tar_bytes.unwrap_or(u64::MAX).min(room.bytes).saturating_add(1)
    }

    fn admit(&self, path: &Path, bytes: u64) -> Result<(), StoreError> {
        match self.tar_bytes {
            Some(said) if bytes > said => Err(StoreError::LargerThanSaid { layer: path.to_owned(), said }),
            _ => Ok(()),
        }
    }
}

/// The archive in a blob.
struct Archive {
    encoding: Encoding,
    diff_id: DiffId,
    tar_bytes: u64,
    entries: u64,
    /// False if the archive certainly depends on the layers below: see [`apply`](super::apply).
    may_be_whole: bool,
}

impl Archive {
    fn layer(&self, blob: Digest, blob_bytes: u64) -> Layer {
        let Self { encoding, diff_id, tar_bytes, entries, may_be_whole: _ } = *self;
        Layer { diff_id, tar_bytes, entries, blob, blob_bytes, encoding }
    }
}

impl Blobs<'_> {
    /// Imports a blob without reading its archive.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::NoRoom`], [`StoreError::Io`].
    pub fn import(&self, blob: &mut VerifyingReader<impl Read>) -> Result<(), StoreError> {
        let path = name(blob);
        let mut new = NewBlob::create(self.store.clone())?;
        let mut source = self.store.interrupt().reader(&mut *blob);
        let copied = copy(&mut source, &path, &mut new, &self.store.room()?, Some);
        refuse_damage(blob)?;
        copied?;
        new.place(blob.digest())
    }
}

impl Layers<'_> {
    /// Imports one layer of an image. The archive in the blob must have the DiffID `diff_id`.
    /// `path` names the source in messages.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::WrongLayer`] for another DiffID,
    /// [`StoreError::Layer`], [`StoreError::NoRoom`], [`StoreError::Io`].
    pub fn import(
        &self,
        blob: &mut VerifyingReader<impl Read>,
        path: &Path,
        diff_id: &DiffId,
    ) -> Result<Layer, StoreError> {
        let claims = Claims { diff_id: Some(diff_id), ..Claims::default() };
        self.import_claimed(blob, path, &claims).map(|(layer, _)| layer)
    }

    /// Imports a layer from another store, and unpacks it if it does not depend on the layers
    /// below. Does not read an archive beyond its recorded size.
    ///
    /// # Errors
    /// As [`Layers::import`]; [`StoreError::LargerThanSaid`].
    pub(super) fn import_recorded(
        &self,
        layer: &Layer,
        blob: &mut VerifyingReader<impl Read>,
    ) -> Result<(), StoreError> {
        let (diff_id, tar_bytes) = (Some(&layer.diff_id), Some(layer.tar_bytes));
        let claims = Claims { diff_id, tar_bytes, ..Claims::default() };
        let (_, may_be_whole) = self.import_claimed(blob, &name(blob), &claims)?;
        // Unpacked at once, while other layers are downloaded. A layer that is not whole must wait
        // for the layers below it.
        let unpack =
            || if may_be_whole { self.store.snapshots().unpack_whole(&layer.diff_id) } else { Ok(()) };
        unpack().or_else(|error| self.remove(&layer.diff_id).and(Err(error)))
    }

    fn import_claimed(
        &self,
        blob: &mut VerifyingReader<impl Read>,
        path: &Path,
        claims: &Claims<'_>,
    ) -> Result<(Layer, bool), StoreError> {
        let imported = self.copy_and_read(blob, path, claims);
        refuse_damage(blob)?;
        let (new, bytes, archive) = imported?;
        let layer = archive.layer(*blob.digest(), bytes);
        new.place(&layer.blob)?;
        self.put(&layer)?;
        Ok((layer, archive.may_be_whole))
    }

    /// Imports a layer without claims. `path` is for messages.
    pub(super) fn import_unknown(&self, source: impl Read, path: &Path) -> Result<Layer, StoreError> {
        self.import_with(source, path, &Claims::default())
    }

    /// Imports a layer that will have no layers below it, and has no other claims.
    pub(super) fn import_lowest(&self, source: impl Read, path: &Path) -> Result<Layer, StoreError> {
        self.import_with(source, path, &Claims { is_lowest: true, ..Claims::default() })
    }

    fn import_with(&self, source: impl Read, path: &Path, claims: &Claims<'_>) -> Result<Layer, StoreError> {
        let mut source = HashingReader::new(source);
        let (new, bytes, archive) = self.copy_and_read(&mut source, path, claims)?;
        let (blob, _) = source.finish();
        new.place(&blob)?;
        let layer = archive.layer(blob, bytes);
        self.put(&layer)?;
        Ok(layer)
    }

    /// Reads the layer in a blob of the store, and records it. Returns `None` for a damaged blob.
    pub(super) fn look_into(&self, diff_id: &DiffId, blob: &Blob) -> Result<Option<Layer>, StoreError> {
        let path = self.store.layout().blob(&blob.digest);
        let mut reader = self.store.blobs().open(&blob.digest, blob.bytes)?;
        let claims = Claims { diff_id: Some(diff_id), ..Claims::default() };
        let archive = read_archive(&mut reader, &path, &claims, &self.store.room()?);
        let rest = io::copy(&mut reader, &mut io::sink());
        if reader.damage().is_some() {
            return Ok(None);
        }
        rest.map_err(failed("read", &path))?;
        let layer = archive?.layer(blob.digest, blob.bytes);
        self.put(&layer)?;
        Ok(Some(layer))
    }

    /// Copies a source to its end, and reads the archive in it.
    fn copy_and_read(
        &self,
        source: &mut impl Read,
        path: &Path,
        claims: &Claims<'_>,
    ) -> Result<(NewBlob, u64, Archive), StoreError> {
        let (mut blob, room) = (NewBlob::create(self.store.clone())?, self.store.room()?);
        let (to_reader, full) = sync_channel(QUEUE);
        let (to_copier, empty) = channel();
        let (copied, archive) = thread::scope(|scope| {
            let chunks = Chunks { full, to_copier, current: Vec::new(), position: 0 };
            let reading = scope.spawn(|| read_archive(chunks, path, claims, &room));
            // After the reader has failed, it takes no more chunks. The rest is still copied: only
            // the digest of the whole blob shows whether the blob is damaged, or good and
            // unreadable.
            let mut source = self.store.interrupt().reader(source);
            let copied = copy(&mut source, path, &mut blob, &room, |chunk| {
                to_reader.send(chunk).ok()?;
                empty.try_recv().ok()
            });
            drop(to_reader);
            (copied, reading.join().expect("reading does not panic"))
        });
        Ok((blob, copied?, archive?))
    }
}

fn name<R>(blob: &VerifyingReader<R>) -> PathBuf {
    format!("blob {}", blob.digest()).into()
}

/// Fails for a damaged blob. Callers check this before other errors, because damaged bytes also
/// cause errors of the decoder, which would hide the cause.
fn refuse_damage<R>(blob: &VerifyingReader<R>) -> Result<(), StoreError> {
    blob.damage().map_or(Ok(()), |damage| Err(damage.into()))
}

/// Copies `source` to its end, within the free space. After each chunk, calls `pass_on` with it,
/// which may return another chunk for reuse. Returns the size.
fn copy(
    source: &mut impl Read,
    path: &Path,
    blob: &mut NewBlob,
    room: &Room,
    mut pass_on: impl FnMut(Vec<u8>) -> Option<Vec<u8>>,
) -> Result<u64, StoreError> {
    let mut source = source.take(room.bytes.saturating_add(1));
    let (mut bytes, mut chunk) = (0, vec![0; CHUNK_BYTES]);
    while fill(&mut source, &mut chunk).map_err(failed("read", path))? > 0 {
        blob.write_all(&chunk).map_err(failed("write", blob.path()))?;
        bytes += chunk.len() as u64;
        chunk = pass_on(chunk).unwrap_or_else(|| vec![0; CHUNK_BYTES]);
    }
    room.admit(path, bytes).map(|()| bytes)
}

/// Fills a chunk, or shortens it at the end of `source`. Returns its length.
fn fill(source: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<usize> {
    chunk.resize(CHUNK_BYTES, 0);
    let filled = read_full(source, chunk)?;
    chunk.truncate(filled);
    Ok(filled)
}

/// Reads the chunks of a blob while it is copied. Returns used chunks to the copier.
struct Chunks {
    full: Receiver<Vec<u8>>,
    to_copier: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() {
            let Ok(next) = self.full.recv() else { return Ok(0) };
            // Fails after the copier has ended, when it needs no more chunks.
            let _ = self.to_copier.send(std::mem::replace(&mut self.current, next));
            self.position = 0;
        }
        let count = (&self.current[self.position..]).read(buffer)?;
        self.position += count;
        Ok(count)
    }
}

/// Reads the archive in a blob to its end, and verifies the claims. The first bytes show the
/// encoding.
fn read_archive(
    mut blob: impl Read,
    path: &Path,
    claims: &Claims<'_>,
    room: &Room,
) -> Result<Archive, StoreError> {
    let mut start = Vec::new();
    let magic = (&mut blob).take(Encoding::MAGIC_BYTES as u64 + 2).read_to_end(&mut start);
    magic.map_err(failed("read", path))?;
    refuse_other_compression(&start, path)?;
    let encoding = Encoding::detect(&start);
    let archive = encoding::decoder(encoding, start.chain(blob)).map_err(LayerError::Read)?;
    let mut archive = HashingReader::new(archive.take(claims.most(room)));
    let survey = survey(&mut archive, claims.is_lowest.then(Names::default));
    let (digest, tar_bytes) = archive.finish();
    // Before other errors: an archive that was cut off at a limit looks damaged.
    claims.admit(path, tar_bytes)?;
    room.admit(path, tar_bytes)?;
    let (entries, may_be_whole) = survey?;
    claims.diff_id.map_or(Ok(()), |said| verify_diff_id(said, digest))?;
    Ok(Archive { encoding, diff_id: DiffId::new(digest), tar_bytes, entries, may_be_whole })
}

/// Returns the number of entries, and false if the layer certainly depends on the layers below.
/// Only unpacking shows all such dependencies.
///
/// # Errors
/// If the archive cannot be read, or has a hard link to a name that is not in `names`.
fn survey(archive: impl Read, mut names: Option<Names>) -> Result<(u64, bool), LayerError> {
    let mut decoder = Decoder::new(BufReader::with_capacity(128 * 1024, archive));
    let (mut entries, mut has_root, mut removes) = (0, false, false);
    while let Some((entry, _)) = decoder.next_entry()? {
        entries += 1;
        names.as_mut().map_or(Ok(()), |names| names.add(&entry))?;
        has_root |= entry.path.is_empty();
        removes |= matches!(entry.kind, Kind::Whiteout | Kind::OpaqueWhiteout);
    }
    // Padding after the end of the archive is part of the DiffID.
    io::copy(&mut decoder.into_inner(), &mut io::sink()).map_err(LayerError::Read)?;
    Ok((entries, has_root && !removes))
}

/// The names in an archive without layers below it, to check its hard links. Only hashes are kept,
/// because an archive may have hundreds of thousands of names. A collision accepts a bad link,
/// which then fails when the layer is unpacked.
#[derive(Default)]
struct Names {
    hasher: RandomState,
    known: HashSet<u64>,
    links: HashSet<u64>,
    /// True after a name that leads through a link. From then on, only the unpacked tree shows
    /// which files exist.
    is_unclear: bool,
}

impl Names {
    /// Adds the name of an entry. Fails for a hard link to a name that no earlier entry has.
    fn add(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let Entry { path, kind, .. } = entry;
        self.is_unclear |= self.leads_through_link(path);
        if let Kind::Hardlink(target) = kind
            && !self.is_unclear
            && !self.known.contains(&self.hasher.hash_one(target))
            && !self.leads_through_link(target)
        {
            return Err(cannot_apply(path)(explain_link(io::ErrorKind::NotFound.into(), target)));
        }
        let hash = self.hasher.hash_one(path);
        self.known.insert(hash);
        let is_link = match kind {
            Kind::Symlink(_) => true,
            // A hard link to a symbolic link is a symbolic link.
            Kind::Hardlink(target) => self.links.contains(&self.hasher.hash_one(target)),
            _ => false,
        };
        if is_link {
            self.links.insert(hash);
        }
        Ok(())
    }

    fn leads_through_link(&self, path: &[u8]) -> bool {
        let above = ancestors(split(path).0);
        !self.links.is_empty()
            && above.into_iter().any(|path| self.links.contains(&self.hasher.hash_one(path)))
    }
}

fn refuse_other_compression(start: &[u8], path: &Path) -> Result<(), StoreError> {
    let program = match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => "xz",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
        _ => return Ok(()),
    };
    let reason =
        format!("it is compressed with {program}: decompress it first (gzip and zstd are read as they are)");
    Err(invalid(path, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Encoder, Meta};
    use crate::port::LayerStore;
    use crate::store::Store;

    fn archive(name: &str) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        let entry = Entry { path: name.into(), kind: Kind::Directory, meta: Meta::IMPLIED_DIRECTORY };
        encoder.append(&entry).unwrap();
        encoder.finish().unwrap().0
    }

    /// Returns an archive of one incompressible file, larger than the queue of chunks.
    fn large() -> Vec<u8> {
        let (mut state, bytes) = (7u64, (2 * QUEUE * CHUNK_BYTES) as u64 + 5);
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        let mut encoder = Encoder::new(Vec::new());
        let entry = Entry { path: "file".into(), kind: Kind::File(bytes), meta: Meta::IMPLIED_DIRECTORY };
        let content: Vec<u8> = noise.take(bytes as usize).collect();
        encoder.append_file(&entry, &mut content.as_slice()).unwrap();
        encoder.finish().unwrap().0
    }

    #[test]
    fn a_blob_is_copied_whole_even_if_it_holds_no_archive() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let archive = large();
        let gzip = encoding::encode(Encoding::Gzip, &mut archive.as_slice(), Vec::new()).unwrap();
        let diff_id = DiffId::new(Digest::of(&archive));
        let no_archive = vec![b'x'; archive.len()];
        for bytes in [&archive, &gzip, &no_archive] {
            let blob = Blob::of(bytes);
            store.blobs().import(&mut VerifyingReader::new(bytes.as_slice(), blob.digest)).unwrap();
            assert!(store.blobs().get(&blob.digest).unwrap() == *bytes);
            assert_eq!(store.layers().get(&diff_id).unwrap().filter(|layer| layer.blob == blob.digest), None);
            let receive = || {
                let mut reader = VerifyingReader::new(bytes.as_slice(), blob.digest);
                store.layers().import(&mut reader, Path::new("x"), &diff_id)
            };
            match store.layers().find(&diff_id, &blob) {
                Ok(layer) => assert_eq!(layer.unwrap(), receive().unwrap()),
                Err(error) => assert_eq!(error.to_string(), receive().unwrap_err().to_string()),
            }
        }
        // A damaged blob is reported although the reader of the archive fails first.
        let mut damaged = VerifyingReader::new(no_archive.as_slice(), Digest::of(&archive));
        let error = store.layers().import(&mut damaged, Path::new("x"), &diff_id).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        let mut damaged = VerifyingReader::new(no_archive.as_slice(), Digest::of(&archive));
        assert!(matches!(store.blobs().import(&mut damaged), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn an_imported_blob_becomes_a_layer_when_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let bytes = archive("a");
        let (blob, diff_id) = (Blob::of(&bytes), DiffId::new(Digest::of(&bytes)));
        assert_eq!(store.layers().find(&diff_id, &blob).unwrap(), None);
        store.blobs().import(&mut VerifyingReader::new(bytes.as_slice(), blob.digest)).unwrap();
        let lie = DiffId::new(Digest::of("other"));
        assert!(matches!(store.layers().find(&lie, &blob), Err(StoreError::WrongLayer { .. })));
        assert_eq!((store.layers().get(&lie).unwrap(), store.layers().get(&diff_id).unwrap()), (None, None));
        let path = store.layout().blob(&blob.digest);
        std::fs::write(&path, vec![0; bytes.len()]).unwrap();
        assert_eq!(store.layers().find(&diff_id, &blob).unwrap(), None, "a damaged blob is not a layer");
        std::fs::write(&path, &bytes).unwrap();
        let layer = store.layers().find(&diff_id, &blob).unwrap();
        assert!(layer.is_some() && layer == store.layers().get(&diff_id).unwrap());
    }

    #[test]
    fn a_layer_that_cannot_be_unpacked_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut encoder = Encoder::new(Vec::new());
        let kind = Kind::Hardlink(b"nothing".to_vec());
        encoder.append(&Entry { path: "link".into(), kind, meta: Meta::IMPLIED_DIRECTORY }).unwrap();
        let bytes = encoder.finish().unwrap().0;
        let (blob, diff_id) = (Digest::of(&bytes), DiffId::new(Digest::of(&bytes)));
        let archive = Archive {
            encoding: Encoding::None,
            diff_id,
            tar_bytes: bytes.len() as u64,
            entries: 1,
            may_be_whole: true,
        };
        let layer = archive.layer(blob, bytes.len() as u64);
        let mut source = bytes.as_slice();
        let mut reader = VerifyingReader::new(&mut source as &mut dyn Read, blob);
        // The original of the link may be in a layer below.
        LayerStore::receive(&store, &layer, &mut reader).unwrap();
        assert_eq!(store.layers().get(&diff_id).unwrap(), Some(layer));
        let refused = LayerStore::prove(&store, &[diff_id]).unwrap_err();
        assert!(matches!(refused, StoreError::Layer(LayerError::Apply { .. })), "{refused:?}");
        assert_eq!(store.layers().get(&diff_id).unwrap(), None);
    }

    #[test]
    fn a_hard_link_to_nothing_is_refused_in_the_lowest_layer() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let file = |path: &str| (path.to_owned(), Kind::File(0));
        let to = |path: &str, target: &str| (path.to_owned(), Kind::Hardlink(target.into()));
        let link = |path: &str, target: &str| (path.to_owned(), Kind::Symlink(target.into()));
        for (members, is_refused) in [
            (vec![file("a/x"), to("b", "a/x"), to("c", "b")], false),
            (vec![file("a/x"), to("b", "a/y")], true),
            (vec![to("b", "a"), file("a")], true),
            (vec![file("usr/lib/x"), link("lib", "usr/lib"), to("b", "lib/x")], false),
            (vec![link("lib", "usr/lib"), file("lib/x"), to("b", "usr/lib/x")], false),
            (vec![link("lib", "usr/lib"), to("l", "lib"), file("l/x"), to("b", "usr/lib/x")], false),
        ] {
            let mut encoder = Encoder::new(Vec::new());
            for (path, kind) in &members {
                let entry =
                    Entry { path: path.clone().into(), kind: kind.clone(), meta: Meta::IMPLIED_DIRECTORY };
                encoder.append(&entry).unwrap();
            }
            let archive = encoder.finish().unwrap().0;
            let found = store.layers().import_lowest(archive.as_slice(), Path::new("root.tar"));
            assert_eq!(found.is_err(), is_refused, "{members:?}: {found:?}");
            assert!(
                store.layers().import_unknown(archive.as_slice(), Path::new("layer.tar")).is_ok(),
                "the original may be in a layer below"
            );
        }
    }

    #[test]
    fn a_layer_is_stored_if_it_matches_its_claims() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (bytes, other) = (archive("a"), archive("b"));
        let (digest, diff_id) = (Digest::of(&bytes), DiffId::new(Digest::of(&bytes)));
        let receive = |bytes: &[u8], diff_id: &DiffId| {
            store.layers().import(&mut VerifyingReader::new(bytes, digest), Path::new("x"), diff_id)
        };
        let longer = [bytes.as_slice(), b"more"].concat();
        for wrong in [&other, &bytes[..512], &longer] {
            assert!(matches!(receive(wrong, &diff_id), Err(StoreError::Damaged { .. })));
        }
        // The blob has its digest, but holds another layer than the record names.
        let lie = DiffId::new(Digest::of(&other));
        assert!(matches!(receive(&bytes, &lie), Err(StoreError::WrongLayer { .. })));
        let recorded = |tar_bytes| {
            let archive =
                Archive { encoding: Encoding::None, diff_id, tar_bytes, entries: 1, may_be_whole: true };
            archive.layer(digest, bytes.len() as u64)
        };
        let shorter = recorded(bytes.len() as u64 - 1);
        let mut blob = VerifyingReader::new(bytes.as_slice(), digest);
        let refused = store.layers().import_recorded(&shorter, &mut blob).unwrap_err();
        assert!(matches!(refused, StoreError::LargerThanSaid { said, .. } if said == shorter.tar_bytes));
        assert_eq!((store.layers().get(&diff_id).unwrap(), store.layers().get(&lie).unwrap()), (None, None));
        assert_eq!(std::fs::read_dir(store.layout().blobs()).unwrap().count(), 0);
        let layer = receive(&bytes, &diff_id).unwrap();
        assert_eq!(layer, recorded(bytes.len() as u64));
        assert_eq!(store.layers().get(&diff_id).unwrap(), Some(layer));
    }
}
