//! Unpacks the archive of a layer into a directory for overlayfs.
//!
//! A whole layer has one snapshot, named by its DiffID. A layer that depends on the layers below it
//! (see [`apply`](super::apply)) has one snapshot for each of its stacks, named by its DiffID and
//! the ChainID of the stack. Such layers come from other builders, whose images may share them.

use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use tracing::debug;

use super::Snapshots;
use super::apply::{Applier, Below, cannot_apply};
use super::below::MergedDir;
use super::census::{Snapshot, list_files};
use super::document::verify_diff_id;
use super::file::{failed, mark_used, open_directory};
use super::imprint::Imprint;
use super::interrupt::Interrupt;
use super::room::Room;
use crate::layer::{Clamp, Decoder, LayerError, Meta};
use crate::oci::{ChainId, DiffId, HashingReader};
use crate::port::StoreError;

impl Snapshots<'_> {
    /// Returns the snapshots of the layers of `stack`, lowest first. Unpacks layers without a
    /// snapshot. A snapshot that is in the stack several times is returned once, at its highest
    /// position: overlayfs refuses a directory that is listed twice, and the highest position
    /// wins.
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`], [`StoreError::WrongLayer`], [`StoreError::Layer`],
    /// [`StoreError::NoRoom`], [`StoreError::Io`].
    pub fn unpack(&self, stack: &[DiffId]) -> Result<Vec<PathBuf>, StoreError> {
        let mut lowers: Vec<PathBuf> = Vec::new();
        for height in 1..=stack.len() {
            let path = self.snapshot(&stack[..height], &lowers)?;
            lowers.retain(|lower| *lower != path);
            lowers.push(path);
        }
        Ok(lowers)
    }

    /// Unpacks the layers of `stack` as [`Snapshots::unpack`] does. Removes a layer that cannot be
    /// unpacked, so that no later build finds it. A well-formed archive may have entries that no
    /// directory can hold, such as a hard link to nothing.
    ///
    /// # Errors
    /// As [`Snapshots::unpack`].
    pub(super) fn prove(&self, stack: &[DiffId]) -> Result<(), StoreError> {
        let mut lowers = Vec::new();
        for height in 1..=stack.len() {
            match self.snapshot(&stack[..height], &lowers) {
                Ok(path) => lowers.push(path),
                Err(error) => return self.store.layers().remove(&stack[height - 1]).and(Err(error)),
            }
        }
        Ok(())
    }

    /// Returns the snapshot of the highest layer of `stack`. `lowers` are the snapshots of the
    /// others.
    fn snapshot(&self, stack: &[DiffId], lowers: &[PathBuf]) -> Result<PathBuf, StoreError> {
        let (Some(diff_id), Some(chain)) = (stack.last(), ChainId::of(stack)) else {
            unreachable!("a stack has a highest layer");
        };
        // Only unpacking shows whether a layer depends on those below, so the snapshot may have
        // either name.
        let forms =
            [self.store.layout().snapshot(diff_id), self.store.layout().snapshot_above(diff_id, &chain)];
        for form in forms {
            if self.has_intact(&form, diff_id)? {
                // No collection removes a layer that was used since this process started.
                mark_used(&self.store.layout().layer(diff_id));
                debug!(path = %form.display(), "uses a snapshot");
                return Ok(form);
            }
        }
        let scratch = self.store.scratch()?;
        let directory = scratch.path().join("root");
        let started = Instant::now();
        let leans = self.unpack_to(diff_id, &directory, BelowRoot::Layers(lowers))?;
        debug!(%diff_id, leans, after = ?started.elapsed(), "unpacked a layer");
        let name = if leans { Some(chain) } else { None };
        self.put(&directory, diff_id, name.as_ref())
    }

    /// Makes the unpacked layer in `directory` a snapshot. For a layer that depends on the layers
    /// below, `chain` is the ChainID of the stack that ends with the layer.
    pub(super) fn put(
        &self,
        directory: &Path,
        diff_id: &DiffId,
        chain: Option<&ChainId>,
    ) -> Result<PathBuf, StoreError> {
        let snapshot = match chain {
            Some(chain) => self.store.layout().snapshot_above(diff_id, chain),
            None => self.store.layout().snapshot(diff_id),
        };
        let imprint = Imprint::of(directory)?;
        // Without the lock, a collection could run before the rename and remove the imprint,
        // because its snapshot does not exist yet. Other processes would then discard the snapshot
        // while hooks use it.
        let _lock = self.store.lock_shared()?;
        // The imprint comes first: a snapshot without one counts as unknown.
        self.save_imprint(&snapshot, &imprint)?;
        debug!(path = %snapshot.display(), "makes a snapshot");
        match std::fs::rename(directory, &snapshot) {
            // The snapshot exists: another process has unpacked it, or another step produced the
            // same layer. Both are equal, and hooks may use the existing one, so it stays. XFS and
            // ext4 report this with different codes.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                Ok(snapshot)
            }
            result => {
                result.map(|()| snapshot.clone()).map_err(failed("rename an unpacked layer to", &snapshot))
            }
        }
    }

    /// Unpacks a layer whose stack is unknown, if it is whole.
    ///
    /// # Errors
    /// As [`Snapshots::unpack`].
    pub(super) fn unpack_whole(&self, diff_id: &DiffId) -> Result<(), StoreError> {
        if self.has_intact(&self.store.layout().snapshot(diff_id), diff_id)? {
            mark_used(&self.store.layout().layer(diff_id));
            return Ok(());
        }
        let scratch = self.store.scratch()?;
        let directory = scratch.path().join("root");
        match self.unpack_to(diff_id, &directory, BelowRoot::Unknown)? {
            // It depends on layers that may not be in the store yet, and is unpacked above them
            // later.
            true => Ok(()),
            false => self.put(&directory, diff_id, None).map(drop),
        }
    }

    /// Unpacks a layer into the new directory `directory` and verifies its DiffID. Returns true if
    /// it depends on the layers below. If these are unknown, the directory is incomplete then.
    pub(super) fn unpack_to(
        &self,
        diff_id: &DiffId,
        directory: &Path,
        below: BelowRoot<'_>,
    ) -> Result<bool, StoreError> {
        let layer = self.store.layers().require(diff_id)?;
        let mut archive = HashingReader::new(self.store.layers().archive(&layer)?);
        std::fs::create_dir(directory).map_err(failed("create directory", directory))?;
        let name = format!("layer {diff_id}");
        let (room, name) = (self.store.room()?, Path::new(&name));
        let unpacked = unpack(&mut archive, directory, below, &room, self.store.interrupt(), name)?;
        // The archive was not read to its end, so there is no digest to compare.
        if unpacked == Unpacked::Abandoned {
            return Ok(true);
        }
        verify_diff_id(diff_id, archive.finish().0)?;
        Ok(unpacked == Unpacked::Leaning)
    }

    /// Returns all snapshots.
    pub(super) fn list(&self) -> Result<Vec<Snapshot>, StoreError> {
        Ok(list_files(&self.store.layout().snapshots())?.into_iter().filter_map(Snapshot::at).collect())
    }
}

/// The layers below the layer that is being unpacked.
#[derive(Clone, Copy)]
pub(super) enum BelowRoot<'a> {
    /// They are not known yet.
    Unknown,
    /// These unpacked layers, lowest first.
    Layers(&'a [PathBuf]),
}

/// The result of unpacking an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unpacked {
    /// The archive does not depend on the layers below.
    Whole,
    /// The archive depends on the layers below.
    Leaning,
    /// The archive depends on the layers below, which are unknown. It was not read to its end.
    Abandoned,
}

/// Unpacks an archive into the empty directory `directory`, and reads the archive to its end.
/// `name` is for messages.
///
/// # Errors
/// [`StoreError::Layer`] if an entry cannot be read or applied, [`StoreError::NoRoom`],
/// [`StoreError::Io`].
fn unpack(
    archive: impl Read,
    directory: &Path,
    below: BelowRoot<'_>,
    room: &Room,
    interrupt: &Interrupt,
    name: &Path,
) -> Result<Unpacked, StoreError> {
    let root = || open_directory(directory);
    let (below, is_known) = match below {
        BelowRoot::Unknown => (Below::Unknown, false),
        BelowRoot::Layers(lowers) => (merged(lowers, root()?)?, true),
    };
    let mut applier = Applier::new(root()?, below, room.bytes, Meta::IMPLIED_DIRECTORY);
    // The order matters: unknown layers below and a used-up budget cause errors of single entries.
    match apply_all(archive, &mut applier, interrupt) {
        Err(_) if !is_known && applier.leans() => Ok(Unpacked::Abandoned),
        Err(_) if applier.is_exhausted() => Err(room.exceeded(name)),
        Err(error) => Err(error.into()),
        Ok(()) if applier.leans() => Ok(Unpacked::Leaning),
        Ok(()) => Ok(Unpacked::Whole),
    }
}

fn merged(lowers: &[PathBuf], upper: OwnedFd) -> Result<Below, StoreError> {
    // No clamp: a directory that the archive does not list gets the time of the lower directory.
    Ok(Below::Layers(MergedDir::open(lowers, upper, Clamp::none())?.map(Rc::new)))
}

/// Applies all entries of an archive, and reads it to its end.
pub(super) fn apply_all(
    archive: impl Read,
    applier: &mut Applier,
    interrupt: &Interrupt,
) -> Result<(), LayerError> {
    let mut decoder = Decoder::new(BufReader::with_capacity(BUFFER_BYTES, archive));
    while let Some((entry, content)) = decoder.next_entry()? {
        // The reader of the archive is interruptible too. But the zeros of a sparse file do not
        // come from that reader, and there may be terabytes of them.
        let mut content = interrupt.reader(content);
        applier.apply(&entry, &mut content).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => LayerError::Read(source),
            _ => cannot_apply(&entry.path)(source),
        })?;
    }
    applier.finish()?;
    // Padding after the end of the archive is part of the DiffID.
    io::copy(&mut decoder.into_inner(), &mut io::sink()).map_err(LayerError::Read)?;
    Ok(())
}

const BUFFER_BYTES: usize = 128 * 1024;
