//! A layer's archive to a directory for overlayfs.
//!
//! A layer that is whole has one unpacked form, named by its DiffID. One that leans on the layers below it (see
//! [`apply`](super::apply)) has one for each stack that it is in, named by its DiffID and the stack's ChainID: images of
//! different makers share layers.

use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Store;
use super::apply::{Applier, Below, cannot_apply};
use super::below::MergedDir;
use super::document::verify_diff_id;
use super::file::{failed, open_directory};
use super::record::mark_used;
use super::room::Room;
use crate::layer::{Decoder, LayerError, Meta};
use crate::oci::{ChainId, DiffId, HashingReader};
use crate::port::StoreError;

impl Store {
    /// Returns the unpacked forms of the layers of `stack` for overlayfs, both lowest first; unpacks those that are not
    /// yet. Of a form that is in the stack several times the highest counts: it has in it all that shows of the others,
    /// and overlayfs takes no directory twice.
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`], [`StoreError::WrongLayer`], [`StoreError::Layer`], [`StoreError::NoRoom`],
    /// [`StoreError::Io`].
    pub fn snapshots(&self, stack: &[DiffId]) -> Result<Vec<PathBuf>, StoreError> {
        let mut lowers: Vec<PathBuf> = Vec::new();
        for height in 1..=stack.len() {
            let path = self.snapshot(&stack[..height], &lowers)?;
            lowers.retain(|lower| *lower != path);
            lowers.push(path);
        }
        Ok(lowers)
    }

    /// Unpacks the layers of `stack` as [`Store::snapshots`]. A well-formed archive can hold what no directory can, such as
    /// a hard link to nothing: such a layer is forgotten, so that no later build finds it.
    ///
    /// # Errors
    /// As [`Store::snapshots`].
    pub(super) fn prove(&self, stack: &[DiffId]) -> Result<(), StoreError> {
        let mut lowers = Vec::new();
        for height in 1..=stack.len() {
            match self.snapshot(&stack[..height], &lowers) {
                Ok(path) => lowers.push(path),
                Err(error) => return self.forget_layer(&stack[height - 1]).and(Err(error)),
            }
        }
        Ok(())
    }

    /// Returns the unpacked form of the highest layer of `stack`; `lowers` are those of the others.
    fn snapshot(&self, stack: &[DiffId], lowers: &[PathBuf]) -> Result<PathBuf, StoreError> {
        let (Some(diff_id), Some(chain)) = (stack.last(), ChainId::of(stack)) else {
            unreachable!("a stack has a highest layer");
        };
        let forms = [self.layout().snapshot(diff_id), self.layout().snapshot_above(diff_id, &chain)];
        for form in forms {
            if self.has_intact(&form, diff_id)? {
                mark_used(&self.layout().layer(diff_id));
                return Ok(form);
            }
        }
        let scratch = self.scratch()?;
        let directory = scratch.path().join("root");
        let leans = self.unpack_to(diff_id, &directory, BelowRoot::Layers(lowers))?;
        let name = if leans { Some(chain) } else { None };
        self.keep_snapshot(&directory, diff_id, name.as_ref())
    }

    /// Gives an unpacked layer its name: above a stack for one that leans on it, which has the ChainID `chain` with the
    /// layer.
    pub(super) fn keep_snapshot(
        &self,
        directory: &Path,
        diff_id: &DiffId,
        chain: Option<&ChainId>,
    ) -> Result<PathBuf, StoreError> {
        let snapshot = match chain {
            Some(chain) => self.layout().snapshot_above(diff_id, chain),
            None => self.layout().snapshot(diff_id),
        };
        self.note_imprint(directory, &snapshot)?;
        match std::fs::rename(directory, &snapshot) {
            // Unpacked by another process meanwhile: the same.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(snapshot),
            result => {
                result.map(|()| snapshot.clone()).map_err(failed("rename an unpacked layer to", &snapshot))
            }
        }
    }

    /// Unpacks a layer that nobody knows a stack of, if it is whole.
    ///
    /// # Errors
    /// As [`Store::snapshots`].
    pub(super) fn unpack_whole(&self, diff_id: &DiffId) -> Result<(), StoreError> {
        if self.has_intact(&self.layout().snapshot(diff_id), diff_id)? {
            mark_used(&self.layout().layer(diff_id));
            return Ok(());
        }
        let scratch = self.scratch()?;
        let directory = scratch.path().join("root");
        match self.unpack_to(diff_id, &directory, BelowRoot::Unknown)? {
            true => Ok(()),
            false => self.keep_snapshot(&directory, diff_id, None).map(drop),
        }
    }

    /// Unpacks a layer into the new directory `directory`, and verifies its DiffID on the way. Returns true if it leans on
    /// what is below; if that is unknown, the directory is then of no use.
    pub(super) fn unpack_to(
        &self,
        diff_id: &DiffId,
        directory: &Path,
        below: BelowRoot<'_>,
    ) -> Result<bool, StoreError> {
        let layer = self.layer(diff_id)?.ok_or(StoreError::MissingLayer { diff_id: *diff_id })?;
        let mut archive = HashingReader::new(self.decoded(&layer)?);
        std::fs::create_dir(directory).map_err(failed("create directory", directory))?;
        let name = format!("layer {diff_id}");
        let unpacked = unpack(&mut archive, directory, below, &self.room()?, Path::new(&name))?;
        if unpacked == Unpacked::Abandoned {
            return Ok(true);
        }
        verify_diff_id(diff_id, archive.finish().0)?;
        Ok(unpacked == Unpacked::Leaning)
    }
}

/// What is below a layer that is unpacked.
#[derive(Clone, Copy)]
pub(super) enum BelowRoot<'a> {
    /// Nobody knows yet.
    Unknown,
    /// These unpacked layers, lowest first.
    Layers(&'a [PathBuf]),
}

/// How an archive was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// It depends on nothing below.
    Whole,
    /// It depends on what is below.
    Leaning,
    /// It depends on what is below, which is unknown. The archive was not read to its end.
    Abandoned,
}

/// Unpacks an archive into the empty directory `directory`, and reads the archive to its very end. `name` is for messages.
///
/// # Errors
/// [`StoreError::Layer`] where an entry cannot be read or applied, [`StoreError::NoRoom`], [`StoreError::Io`].
pub(super) fn unpack(
    archive: impl Read,
    directory: &Path,
    below: BelowRoot<'_>,
    room: &Room,
    name: &Path,
) -> Result<Unpacked, StoreError> {
    let root = || open_directory(directory);
    let (below, is_known) = match below {
        BelowRoot::Unknown => (Below::Unknown, false),
        BelowRoot::Layers(lowers) => (merged(lowers, root()?)?, true),
    };
    let mut applier = Applier::new(root()?, below, room.bytes, Meta::IMPLIED_DIRECTORY);
    match apply_all(archive, &mut applier) {
        Err(_) if !is_known && applier.leans() => Ok(Unpacked::Abandoned),
        Err(_) if applier.is_exhausted() => Err(room.exceeded(name)),
        Err(error) => Err(error.into()),
        Ok(()) if applier.leans() => Ok(Unpacked::Leaning),
        Ok(()) => Ok(Unpacked::Whole),
    }
}

fn merged(lowers: &[PathBuf], upper: OwnedFd) -> Result<Below, StoreError> {
    // Times are taken over as they are.
    Ok(Below::Layers(MergedDir::open(lowers, upper, i64::MAX)?.map(Rc::new)))
}

/// Applies all entries of an archive, and reads it to its very end.
pub(super) fn apply_all(archive: impl Read, applier: &mut Applier) -> Result<(), LayerError> {
    let mut decoder = Decoder::new(BufReader::with_capacity(BUFFER_BYTES, archive));
    while let Some((entry, mut content)) = decoder.next_entry()? {
        applier.apply(&entry, &mut content).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => LayerError::Read(source),
            _ => cannot_apply(&entry.path)(source),
        })?;
    }
    applier.finish()?;
    io::copy(&mut decoder.into_inner(), &mut io::sink()).map_err(LayerError::Read)?;
    Ok(())
}

const BUFFER_BYTES: usize = 128 * 1024;
