//! What hooks have left for the caller while layers were made: beside the image, as with diskimage-builder.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::report::{Failure, Message};
use crate::build::{Builder, BuiltStep};
use crate::load::{LeftFile, left_files};
use crate::output::Pending;
use crate::plan::Plan;
use crate::port::Event;

/// Where it goes.
pub(super) struct Delivery<'a> {
    /// What is left in the directory that hooks start in.
    pub(super) work: &'a Path,
    /// What is left beside the image, where its name says that this is elsewhere.
    pub(super) beside: &'a Path,
    /// Hands a file to who called.
    pub(super) own: &'a dyn Fn(&Path) -> io::Result<()>,
}

impl Delivery<'_> {
    /// Copies all of it out of the layers of `steps`, and warns of what is not copied.
    pub(super) fn run(&self, builder: &Builder<'_>, plan: &Plan, steps: &[BuiltStep]) -> Result<(), Failure> {
        builder.on_left(plan, steps, |layer| {
            left_files(layer)?.iter().try_for_each(|file| self.deliver(file, builder))
        })
    }

    fn deliver(&self, file: &LeftFile, builder: &Builder<'_>) -> Result<(), Failure> {
        if !file.is_deliverable() {
            let message = format!(
                "a hook left `{}` for the caller: hidden files and symlinks stay in the layer",
                file.path.display()
            );
            builder.ports.events.emit(Event::Warning { message: &message });
            return Ok(());
        }
        let directory = if file.is_beside_image { self.beside } else { self.work };
        let target = directory.join(&file.path);
        self.make_parents(directory, &file.path)?;
        let pending = Pending::new(&target)?;
        let mut source = File::open(&file.source)?;
        let mode = source.metadata()?.permissions().mode() & 0o755 | 0o644;
        io::copy(&mut source, &mut pending.file())
            .and_then(|_| pending.file().set_permissions(Permissions::from_mode(mode)))
            .map_err(|error| Message::plain(format!("cannot write `{}`: {error}", target.display())))?;
        pending.commit()?;
        Ok((self.own)(&target)?)
    }

    /// Makes the directories that `path` is in below `directory`; follows no symlink that somebody has put there.
    fn make_parents(&self, directory: &Path, path: &Path) -> Result<(), Failure> {
        fs::create_dir_all(directory)?;
        let mut here: PathBuf = directory.to_owned();
        for part in path.parent().into_iter().flat_map(Path::iter) {
            here.push(part);
            match fs::symlink_metadata(&here) {
                Ok(entry) if entry.is_dir() => continue,
                Ok(_) => {
                    let place = here.display();
                    return Err(Message::with_hint(
                        format!(
                            "a hook left `{}` for the caller, and `{place}` is no directory",
                            path.display()
                        ),
                        format!("move `{place}` out of the way"),
                    ));
                }
                Err(_) => fs::create_dir(&here).and_then(|()| (self.own)(&here))?,
            }
        }
        Ok(())
    }
}
