//! Directories and owners of an image's files. Front ends differ in this.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::failure::{Failure, Message};
use super::session::Session;
use crate::build::Surroundings;
use crate::directory::Directory;
use crate::dropin::OutputType;
use crate::image::OutputFormat;
use crate::load::absolute;
use crate::output::{Destination, MemberNames, check_oci_layout};

/// The end of the name of an image's manifest.
const MANIFEST: &str = "manifest.json";

/// The places of images' files.
pub(crate) trait Places {
    /// Returns the directory of outputs. It need not exist yet.
    fn directory(&self) -> Result<PathBuf, Failure>;

    /// Returns the caller's directories that hooks of the final stage may write to; `None` if they
    /// may not. Called before anything is built, so that a directory without write permission is
    /// refused early.
    fn surroundings(&self) -> Result<Option<Surroundings>, Failure>;

    /// Fails if an output of an image could not be stored in its place.
    fn check(&self, image: &str, outputs: &[OutputType]) -> Result<(), Failure>;

    /// Returns the place of the image of this name. Called when its layers are built.
    fn place(&self, image: &str) -> Result<Rc<dyn Place + '_>, Failure>;
}

/// The place of one image's files: by default, one directory that belongs to this user.
pub(crate) trait Place {
    /// Returns the destination of an output whose name ends in a dot and `extension`.
    fn destination(&self, output: &OutputType, extension: &str) -> Destination;

    /// Returns the form of member names in archives.
    fn members(&self) -> MemberNames {
        MemberNames::Bare
    }

    /// Returns the destination of files that hooks leave in their working directory.
    fn work(&self) -> &Directory {
        self.beside()
    }

    /// Returns the destination of files that hooks leave beside the image.
    fn beside(&self) -> &Directory;

    /// Returns the name of the image's manifest beside it; `None` if no manifest is kept.
    fn manifest(&self) -> Option<OsString>;

    /// Gives the new file or directory `name` to its owner.
    fn own(&self, _directory: &Directory, _name: &OsStr) -> io::Result<()> {
        Ok(())
    }

    /// Gives all written files to their owner. Called after the outputs, even if one of them
    /// failed.
    fn hand_over(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The place of plywood's own commands: one directory for the outputs of all images, created on
/// demand.
pub(crate) struct OutputDirectory(pub(crate) PathBuf);

impl Places for OutputDirectory {
    fn directory(&self) -> Result<PathBuf, Failure> {
        Ok(absolute(&self.0)?)
    }

    fn surroundings(&self) -> Result<Option<Surroundings>, Failure> {
        Ok(None)
    }

    fn check(&self, image: &str, outputs: &[OutputType]) -> Result<(), Failure> {
        let path = self.directory()?;
        // A missing directory is created when the first file is written.
        if !path.exists() {
            return Ok(());
        }
        let place = InDirectory::new(&path, image)?;
        for output in outputs {
            let destination = place.destination(output, output.extension().unwrap_or_default());
            match output {
                OutputType::File(OutputFormat::Oci) => check_oci_layout(&destination)?,
                _ => destination.check()?,
            }
        }
        Ok(Destination::new(&place.directory, &place.file(MANIFEST)).check()?)
    }

    fn place(&self, image: &str) -> Result<Rc<dyn Place + '_>, Failure> {
        Ok(Rc::new(InDirectory::new(&self.directory()?, image)?))
    }
}

/// Refuses a directory of the session's store for outputs.
pub(crate) fn refuse_own_store(session: &Session<'_>, directory: &Path) -> Result<(), Failure> {
    session.store.as_ref().map_or(Ok(()), |store| refuse_store(&absolute(directory)?, store))
}

/// Refuses outputs in a directory of the store: `store check` and `store gc` would take them for
/// damage.
pub(super) fn refuse_store(directory: &Path, store: &Path) -> Result<(), Failure> {
    // The directory may not exist yet: its nearest existing ancestor decides where it will be.
    let found = directory.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    let is_inside =
        found.zip(store.canonicalize().ok()).is_some_and(|(found, store)| found.starts_with(store));
    if !is_inside {
        return Ok(());
    }
    Err(Message::with_hint(
        format!(
            "cannot write outputs to `{}`: it is in the store `{}`",
            directory.display(),
            store.display()
        ),
        "name an output directory outside of the store with `-o`",
    ))
}

/// `<image>.<extension>` in one directory.
struct InDirectory {
    directory: Directory,
    image: String,
}

impl InDirectory {
    /// Opens the directory; creates it if it is missing.
    fn new(path: &Path, image: &str) -> Result<Self, Failure> {
        let directory = Directory::create(path).map_err(|error| cannot_use(path, &error))?;
        Ok(Self { directory, image: image.to_owned() })
    }

    fn file(&self, extension: &str) -> OsString {
        format!("{}.{extension}", self.image).into()
    }
}

/// Returns the error for a directory that cannot be created or opened.
pub(crate) fn cannot_use(directory: &Path, error: &io::Error) -> Failure {
    Message::plain(format!("cannot create or open the directory `{}`: {error}", directory.display()))
}

impl Place for InDirectory {
    fn destination(&self, _: &OutputType, extension: &str) -> Destination {
        Destination::new(&self.directory, &self.file(extension))
    }

    fn beside(&self) -> &Directory {
        &self.directory
    }

    fn manifest(&self) -> Option<OsString> {
        Some(self.file(MANIFEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_in_the_store_are_refused_wherever_their_path_leads() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |path: &str| scratch.path().join(path);
        std::fs::create_dir_all(at("store/layers")).unwrap();
        std::fs::create_dir(at("out")).unwrap();
        std::os::unix::fs::symlink("store/layers", at("link")).unwrap();
        for (directory, is_refused) in [
            ("store", true),
            ("store/out", true),
            ("store/not/yet/there", true),
            ("link", true),
            ("out/../store", true),
            ("out", false),
            ("store-of-images", false),
            ("", false),
        ] {
            let found = refuse_store(&at(directory), &at("store"));
            assert_eq!(found.is_err(), is_refused, "{directory}");
        }
    }
}
