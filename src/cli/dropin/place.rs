//! Directories and names of outputs: outputs get diskimage-builder's names, and the caller owns
//! them.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use jiff::Timestamp;
use rustix::fs::{Access, AtFlags, accessat};

use super::privilege::Owner;
use crate::cli::report::{Failure, Message};
use crate::directory::Directory;
use crate::dropin::{BuildRequest, OldImage, OutputType};
use crate::engine::{Destination, MemberNames, Place, Places, Surroundings, cannot_use};

/// The directories of the caller.
pub(super) struct CallersPlaces<'a> {
    request: &'a BuildRequest,
    owner: Option<Owner>,
    /// Opened once. It stays the same directory if another user replaces its name.
    beside: OnceCell<Rc<Beside<'a>>>,
}

impl<'a> CallersPlaces<'a> {
    /// Opens nothing yet.
    pub(super) fn new(request: &'a BuildRequest, owner: Option<Owner>) -> Self {
        Self { request, owner, beside: OnceCell::new() }
    }

    fn beside(&self) -> Result<Rc<Beside<'a>>, Failure> {
        if let Some(beside) = self.beside.get() {
            return Ok(beside.clone());
        }
        // `OnceCell::get_or_try_init` is not stable yet.
        let beside = Rc::new(Beside::new(self.request, self.owner)?);
        Ok(self.beside.get_or_init(|| beside).clone())
    }
}

impl Places for CallersPlaces<'_> {
    fn directory(&self) -> Result<PathBuf, Failure> {
        outputs_of(self.request)
    }

    fn surroundings(&self) -> Result<Option<Surroundings>, Failure> {
        let beside = self.beside()?;
        let outputs = beside.outputs.path().to_owned();
        let manifests = beside.manifests.as_ref().map(|(directory, name)| directory.path().join(name));
        let directory = std::env::current_dir()?;
        let cache = own_directory(&directory, &self.request.image_cache, "--image-cache")?;
        let further = [outputs].into_iter().chain(manifests).collect();
        Ok(Some(Surroundings { directory, further, cache }))
    }

    fn check(&self, _: &str, _: &[OutputType]) -> Result<(), Failure> {
        Ok(())
    }

    fn place(&self, _: &str) -> Result<Rc<dyn Place + '_>, Failure> {
        Ok(self.beside()?)
    }
}

/// Returns the directory part of the image's name.
fn outputs_of(request: &BuildRequest) -> Result<PathBuf, Failure> {
    let here = std::env::current_dir()?;
    let path = here.join(request.name.as_str());
    Ok(path.parent().unwrap_or(&here).to_owned())
}

/// Opens the directory of the outputs. Creates it if it is missing; under sudo, the caller owns it
/// then. Refuses a directory without write permission here, before anything is built. In
/// diskimage-builder, the element `manifests` creates it.
fn output_directory(path: &Path, owner: Option<Owner>) -> Result<Directory, Failure> {
    let missing = path.ancestors().take_while(|ancestor| !ancestor.exists()).last();
    let make = || -> io::Result<Directory> {
        let directory = Directory::create(path)?;
        // Start at the highest directory that was created: all others are below it.
        if let Some((highest, owner)) = missing.zip(owner) {
            let (around, name) = Directory::of_file(highest)?;
            owner.take(&around, &name)?;
        }
        Ok(directory)
    };
    let directory = make().map_err(|error| cannot_use(path, &error))?;
    // Check the open directory, because the path may point elsewhere by now.
    accessat(&directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
        .map_err(|error| Message::plain(format!("cannot write into `{}`: {error}", path.display())))?;
    Ok(directory)
}

/// Creates a directory that the caller names with `option`, relative to the caller's working
/// directory.
fn own_directory(
    from: &Path,
    name: &Option<String>,
    option: &'static str,
) -> Result<Option<PathBuf>, Failure> {
    let path = name.as_ref().map(|name| from.join(name));
    let made = path.as_ref().map_or(Ok(()), |path| Directory::create(path).map(drop));
    made.map_err(|error| {
        let name = name.as_deref().unwrap_or_default();
        Message::plain(format!("cannot create `{name}` ({option}): {error}"))
    })?;
    Ok(path)
}

/// Outputs that share a directory and a name, with different endings.
struct Beside<'a> {
    request: &'a BuildRequest,
    /// The working directory of hooks.
    work: Directory,
    outputs: Directory,
    /// The directory of manifests, which hooks fill: its parent directory and its name.
    manifests: Option<(Directory, OsString)>,
    owner: Option<Owner>,
    /// Seconds since 1970.
    started: i64,
}

impl<'a> Beside<'a> {
    fn new(request: &'a BuildRequest, owner: Option<Owner>) -> Result<Self, Failure> {
        let here = std::env::current_dir()?;
        let outputs = output_directory(&outputs_of(request)?, owner)?;
        let manifests = own_directory(&here, &request.manifests, "DIB_MANIFEST_SAVE_DIR")?;
        let manifests = manifests.map(|path| Directory::of_file(&path)).transpose()?;
        let work = Directory::open(&here)?;
        Ok(Self { request, work, outputs, manifests, owner, started: Timestamp::now().as_second() })
    }

    /// Returns the new files whose name is the image's name with an ending (`x.vmlinuz`) or an
    /// addition (`x-boot.iso`).
    fn made(&self) -> Result<Vec<OsString>, Failure> {
        let mut made = Vec::new();
        // Hooks do not list their files. Name and change time identify them.
        for name in self.outputs.names()? {
            let rest = name.as_bytes().strip_prefix(self.request.name.base().as_bytes());
            let has_name = rest.is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'-')));
            let status = if has_name { self.outputs.status(&name)? } else { None };
            // The change time counts: programs set the modification time at will.
            if status.is_some_and(|status| status.st_ctime >= self.started) {
                made.push(name);
            }
        }
        Ok(made)
    }
}

impl Place for Beside<'_> {
    fn destination(&self, output: &OutputType, extension: &str) -> Destination {
        let name = self.request.name.file(extension);
        let file = |name: &str| Path::new(name).file_name().unwrap_or(OsStr::new(name)).to_owned();
        // diskimage-builder renames old disks, and overwrites outputs without checksums.
        let is_kept = output.has_checksums() && self.request.old_image == OldImage::Renamed;
        let old = is_kept.then(|| file(&self.request.name.old_file(extension, Timestamp::now())));
        let checksums =
            if output.has_checksums() { self.request.checksums.clone() } else { Default::default() };
        Destination { directory: self.outputs.clone(), file: file(&name), checksums, name, old }
    }

    fn members(&self) -> MemberNames {
        MemberNames::Dotted
    }

    fn work(&self) -> &Directory {
        &self.work
    }

    fn beside(&self) -> &Directory {
        &self.outputs
    }

    fn manifest(&self) -> Option<OsString> {
        None
    }

    fn own(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        self.owner.map_or(Ok(()), |owner| owner.take(directory, name))
    }

    /// Gives the image, and the files that hooks left beside it, to the user who called sudo.
    fn hand_over(&self) -> Result<(), Failure> {
        let Some(owner) = self.owner else { return Ok(()) };
        let made = self.made()?;
        let made = made.iter().map(|name| (&self.outputs, name));
        for (directory, name) in made.chain(self.manifests.iter().map(|(directory, name)| (directory, name)))
        {
            owner.take(directory, name).map_err(|error| {
                let path = directory.path().join(name);
                Message::plain(format!("cannot give `{}` to the caller: {error}", path.display()))
            })?;
        }
        Ok(())
    }
}
