//! Unpacks the archive of a layer into a directory for overlayfs.
//!
//! A whole layer has one snapshot, named by its DiffID. A layer that leans on the layers below it
//! (see [`apply`](super::apply)) has one for each of its stacks, named by its DiffID and the
//! stack's ChainID: images from different builders share layers.

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
use crate::layer::{Decoder, LayerError, Meta};
use crate::oci::{ChainId, DiffId, HashingReader};
use crate::port::StoreError;

impl Snapshots<'_> {
    /// Returns the snapshots of the layers of `stack`, both lowest first; unpacks the layers that
    /// have none yet. A snapshot that is in the stack several times is returned once, at its
    /// highest place: there it hides the lower ones, and overlayfs refuses a directory that is
    /// listed twice.
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

    /// Unpacks the layers of `stack` as [`Snapshots::unpack`]. A well-formed archive can hold
    /// entries that no directory can hold, such as a hard link to nothing. A layer that cannot be
    /// unpacked is forgotten, so that no later build finds it.
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

    /// Returns the snapshot of the highest layer of `stack`; `lowers` are the snapshots of the
    /// others.
    fn snapshot(&self, stack: &[DiffId], lowers: &[PathBuf]) -> Result<PathBuf, StoreError> {
        let (Some(diff_id), Some(chain)) = (stack.last(), ChainId::of(stack)) else {
            unreachable!("a stack has a highest layer");
        };
        // Only unpacking tells whether a layer leans on those below, so either name may be there.
        let forms =
            [self.store.layout().snapshot(diff_id), self.store.layout().snapshot_above(diff_id, &chain)];
        for form in forms {
            if self.has_intact(&form, diff_id)? {
                // From here on, no collection takes it away while this process runs.
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

    /// Makes the unpacked layer in `directory` a snapshot. A layer that leans on those below it
    /// names its stack by `chain`, the ChainID of the stack with the layer.
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
        // A collection between the two steps would remove the imprint, as its snapshot is not there
        // yet. Every other process would then take the snapshot out of use, under the hooks that
        // run on it.
        let _lock = self.store.lock_shared()?;
        // The imprint comes first: a snapshot without one counts as unknown.
        self.save_imprint(&snapshot, &imprint)?;
        debug!(path = %snapshot.display(), "makes a snapshot");
        match std::fs::rename(directory, &snapshot) {
            // It is there already: another process has unpacked it, or another step gave the same
            // layer. Both are equal, so the one in use stays: hooks may run on it. XFS reports it
            // by another code than ext4.
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

    /// Unpacks a layer whose stack is not known, if it is whole.
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
            // It leans on layers that may not have arrived yet, and is unpacked above them later.
            true => Ok(()),
            false => self.put(&directory, diff_id, None).map(drop),
        }
    }

    /// Unpacks a layer into the new directory `directory`, and verifies its DiffID on the way.
    /// Returns true if it leans on the layers below. The directory is incomplete if these are
    /// unknown and it leans on them.
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
        // It was not read to its end, so it has no digest to compare.
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

/// The layers below a layer that is unpacked.
#[derive(Clone, Copy)]
pub(super) enum BelowRoot<'a> {
    /// They are not known yet.
    Unknown,
    /// These unpacked layers, lowest first.
    Layers(&'a [PathBuf]),
}

/// How an archive was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unpacked {
    /// It does not depend on the layers below.
    Whole,
    /// It depends on the layers below.
    Leaning,
    /// It depends on the layers below, which are unknown. The archive was not read to its end.
    Abandoned,
}

/// Unpacks an archive into the empty directory `directory`, and reads the archive to its very end.
/// `name` is for messages.
///
/// # Errors
/// [`StoreError::Layer`] where an entry cannot be read or applied, [`StoreError::NoRoom`],
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
    // If one of the first two conditions is true, it is the cause, and the error only a symptom.
    match apply_all(archive, &mut applier, interrupt) {
        Err(_) if !is_known && applier.leans() => Ok(Unpacked::Abandoned),
        Err(_) if applier.is_exhausted() => Err(room.exceeded(name)),
        Err(error) => Err(error.into()),
        Ok(()) if applier.leans() => Ok(Unpacked::Leaning),
        Ok(()) => Ok(Unpacked::Whole),
    }
}

fn merged(lowers: &[PathBuf], upper: OwnedFd) -> Result<Below, StoreError> {
    // No epoch: times of lower directories are taken over as they are.
    Ok(Below::Layers(MergedDir::open(lowers, upper, i64::MAX)?.map(Rc::new)))
}

/// Applies all entries of an archive, and reads it to its very end.
pub(super) fn apply_all(
    archive: impl Read,
    applier: &mut Applier,
    interrupt: &Interrupt,
) -> Result<(), LayerError> {
    let mut decoder = Decoder::new(BufReader::with_capacity(BUFFER_BYTES, archive));
    while let Some((entry, content)) = decoder.next_entry()? {
        // The archive's own reader is interruptible, too, but is not called while a sparse file
        // gives years of zeros.
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
