//! Delivers the files that hooks left for the caller, beside the image as diskimage-builder does.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::failure::{Failure, Message};
use super::place::Place;
use crate::build::{Builder, BuiltStep};
use crate::directory::Directory;
use crate::output::Pending;
use crate::plan::Plan;
use crate::port::Event;
use crate::staging::{LeftFile, left_files};

/// Delivers files to the place of an image.
pub(super) struct Delivery<'a> {
    pub(super) place: &'a dyn Place,
    pub(super) builder: &'a Builder<'a>,
}

impl Delivery<'_> {
    /// Copies the files out of the layers of `steps`, and warns about files that it does not copy.
    pub(super) fn run(&self, plan: &Plan, steps: &[BuiltStep]) -> Result<(), Failure> {
        self.builder
            .on_left(plan, steps, |layer| left_files(layer)?.iter().try_for_each(|file| self.deliver(file)))
    }

    fn deliver(&self, file: &LeftFile) -> Result<(), Failure> {
        if !file.is_deliverable() {
            let message = format!(
                "a hook left `{}` for the caller: hidden files and symlinks stay in the layer",
                file.path.display()
            );
            self.builder.ports.events.emit(Event::Warning { message: &message });
            return Ok(());
        }
        let directory = if file.is_beside_image { self.place.beside() } else { self.place.work() };
        let (directory, name) = self.parent(directory, &file.path)?;
        // Replaces the name and never writes through it, because another user may have planted a
        // link there.
        let pending = Pending::new(&directory, name)?;
        let mut source = File::open(&file.source)?;
        // The layer may come from a registry, so set-user-ID bits must not reach the caller's
        // files.
        let mode = source.metadata()?.permissions().mode() & 0o755 | 0o644;
        io::copy(&mut source, &mut pending.file())
            .and_then(|_| pending.file().set_permissions(Permissions::from_mode(mode)))
            .map_err(|error| {
                Message::plain(format!("cannot write `{}`: {error}", pending.target().display()))
            })?;
        pending.commit()?;
        Ok(self.place.own(&directory, name)?)
    }

    /// Opens the parent of `path` below `directory`, and creates it if it is missing. Follows no
    /// symbolic link, because another user may have planted it. Returns the parent with the name of
    /// the file.
    fn parent<'p>(&self, directory: &Directory, path: &'p Path) -> Result<(Directory, &'p OsStr), Failure> {
        let mut here = directory.clone();
        for part in path.parent().into_iter().flat_map(Path::iter) {
            if here.status(part)?.is_none() {
                here.create_directory(part)?;
                // Only new directories: an existing one keeps its owner.
                self.place.own(&here, part)?;
            }
            here = here.open_directory(part).map_err(|_| {
                let place = here.path().join(part);
                let place = place.display();
                Message::with_hint(
                    format!(
                        "cannot deliver `{}`, which a hook left for the caller: `{place}` is not a directory",
                        path.display()
                    ),
                    format!("rename or remove `{place}`"),
                )
            })?;
        }
        Ok((here, path.file_name().unwrap_or_default()))
    }
}
