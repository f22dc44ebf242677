//! Applies the entries of an archive to an upper directory of overlayfs, above the layers below.
//!
//! Container engines apply a layer to the merged tree of the layers below it. An upper directory
//! gives the same tree, but its content depends on the layers below in these cases:
//!
//! | entry | depends on |
//! |---|---|
//! | in a directory that the archive does not list | owner, mode, attributes and time of that
//! directory in the layers below |
//! | through a symbolic link of a lower layer | the target of the link |
//! | hard link to a file of a lower layer | the file, which is copied up |
//! | removal | whether the layers below have the name: overlayfs shows the device of a removal in a
//! directory that it does not merge |
//!
//! A layer without any of these is *whole*: it unpacks to the same directory above every stack.
//!
//! Every name is resolved beneath the directory's handle, component by component, as in a chroot.
//! No archive or layer can make an entry read or write outside. The last component is never
//! followed. Owners are set before modes (chown clears setuid) and before attributes (chown clears
//! file capabilities). Directories get their metadata after all entries, because each new entry
//! changes the time of its directory.
//!
//! Removals hide entries of lower layers, and never entries of the same archive. The order of
//! entries in the archive does not matter for this.
//!
//! Source: OCI image-spec, `layer.md`, "Applying Changesets"; containerd `archive/tar.go`; umoci
//! `oci/layer/unpack.go`; kernel documentation, `overlayfs.rst`, "whiteouts and opaque
//! directories".

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::below::MergedDir;
use super::deferred::Deferred;
use super::file::{DIRECTORY, names, open_beneath, remove_tree, split};
use super::holes;
use super::overlay::{apply_meta, is_opaque, make_whiteout, set_opaque};
use crate::layer::{AUFS, Entry, Kind, LayerError, Meta};
use crate::tree::{FileRef, kind};

/// The largest number of symbolic links in one path. The kernel follows 40; umoci has the same
/// limit as plywood.
const MAX_LINKS: usize = 255;
/// Bytes that an entry uses on a disk besides its content.
const ENTRY_BYTES: u64 = 4096;

/// The layers below the upper directory.
pub(super) enum Below {
    /// They are not known yet. An entry that depends on them fails, and then [`Applier::leans`] is
    /// true.
    Unknown,
    /// These layers, or none.
    Layers(Option<Rc<MergedDir>>),
}

/// An upper directory that entries are applied to.
pub(super) struct Applier {
    root: OwnedFd,
    below: Below,
    /// The parent of the last entry, by its name in the archive. Most entries have the same parent
    /// as the entry before. `None` if the name leads through links.
    last: Option<(Vec<u8>, Rc<Dir>)>,
    /// The parent of the last removal. `None` if the last entry was not a removal. The inner option
    /// is `None` if the layers below do not show that directory.
    last_removal: Option<(Vec<u8>, Option<Rc<Dir>>)>,
    directories: Deferred,
    /// Paths of removals in the upper directory.
    removals: Vec<Vec<u8>>,
    /// Directories that exist only to hold removals. A removal of such a directory deletes it,
    /// because no entry of the archive is in it.
    bare: BTreeSet<Vec<u8>>,
    /// Copies of files of lower layers, made for hard links, by the path of the original.
    copies: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// True after a directory was made opaque. Earlier removals in it may then be needless.
    has_opaque: bool,
    leans: bool,
    /// Bytes that may still be written.
    budget: u64,
}

/// A directory of the upper tree.
struct Dir {
    /// Path from the root, without links.
    path: Vec<u8>,
    handle: OwnedFd,
    /// The same directory in the layers below, after the first look-up.
    below: OnceCell<Option<Rc<MergedDir>>>,
}

impl Dir {
    fn new(path: Vec<u8>, handle: OwnedFd) -> Self {
        Self { path, handle, below: OnceCell::new() }
    }

    fn child(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

impl Applier {
    /// Starts with the empty directory `root`. Content and entries may use `budget` bytes. A
    /// directory that neither the archive nor a layer below has gets the metadata `nowhere`.
    pub(super) fn new(root: OwnedFd, below: Below, budget: u64, nowhere: Meta) -> Self {
        Self {
            root,
            below,
            last: None,
            last_removal: None,
            directories: Deferred::new(nowhere),
            removals: Vec::new(),
            bare: BTreeSet::new(),
            copies: BTreeMap::new(),
            has_opaque: false,
            leans: false,
            budget,
        }
    }

    /// Returns true if one of the entries so far depends on the layers below.
    pub(super) fn leans(&self) -> bool {
        self.leans
    }

    /// Returns true if the archive needs more bytes than the budget has.
    pub(super) fn is_exhausted(&self) -> bool {
        self.budget == 0
    }

    /// Applies the next entry; `content` is read if it is a file.
    pub(super) fn apply(&mut self, entry: &Entry, content: &mut impl Read) -> io::Result<()> {
        self.spend(ENTRY_BYTES)?;
        let (above, name) = split(&entry.path);
        match &entry.kind {
            Kind::Whiteout => return self.apply_removal(above, Some(name)),
            Kind::OpaqueWhiteout => return self.apply_removal(&entry.path, None),
            // The entry may replace a directory on the path of the last removal.
            _ => self.last_removal = None,
        }
        if entry.path.is_empty() {
            return self.directories.set(&entry.path, &entry.meta);
        }
        let parent = self.parent(above)?;
        match &entry.kind {
            Kind::Directory => {
                self.make_directory(&parent, name)?;
                // The archive lists it, so a removal of its name must not delete it.
                self.bare.remove(&parent.child(name));
                self.directories.set(&parent.child(name), &entry.meta)
            }
            Kind::Hardlink(target) => self.link(target, &parent, name),
            _ => {
                self.remove(&parent, name)?;
                self.create(&parent, name, &entry.kind, &entry.meta, content)
            }
        }
    }

    /// Completes the directory after the last entry.
    ///
    /// # Errors
    /// [`LayerError::Apply`].
    pub(super) fn finish(&mut self) -> Result<(), LayerError> {
        // The order matters: linking may create directories, and removing names changes times of
        // directories, which are therefore set last.
        self.link_originals().map_err(cannot_apply(b""))?;
        self.complete_root().map_err(cannot_apply(b""))?;
        self.drop_needless_removals().map_err(cannot_apply(b""))?;
        for (path, meta) in self.directories.deepest_first() {
            match open_beneath(&self.root, path, DIRECTORY) {
                // A later entry of the archive has replaced the directory.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                opened => opened
                    .map_err(io::Error::from)
                    .and_then(|directory| apply_meta(directory.as_fd(), b".", &Kind::Directory, meta)),
            }
            .map_err(cannot_apply(path))?;
        }
        Ok(())
    }

    fn spend(&mut self, bytes: u64) -> io::Result<()> {
        self.budget = self.budget.saturating_sub(bytes);
        if self.is_exhausted() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// If the archive does not list the root, gives it the metadata that it has below. Removes
    /// AUFS' own files from it.
    fn complete_root(&mut self) -> io::Result<()> {
        // Only after all entries: hard links of the archive may lead to these files.
        for name in names(&self.root)?.iter().filter(|name| name.starts_with(AUFS)) {
            remove_tree(self.root.as_fd(), name)?;
        }
        if !self.directories.contains(b"") {
            let meta = self.below_root()?.map(|below| below.read_meta()).transpose()?;
            self.directories.imply(b"", meta)?;
        }
        Ok(())
    }

    /// Deletes removals in directories that were made opaque after them. Overlayfs does not merge
    /// opaque directories, and would show each removal as a name that cannot be opened.
    fn drop_needless_removals(&mut self) -> io::Result<()> {
        // The opaque directory may be far above a removal, so all removals are checked. Without an
        // opaque directory, all are needed.
        let removals = if self.has_opaque { std::mem::take(&mut self.removals) } else { Vec::new() };
        for path in removals {
            let (parent, name) = split(&path);
            if self.below(parent)?.is_none()
                && let Ok(directory) = open_beneath(&self.root, parent, DIRECTORY)
                && is_whiteout(&directory, name)?
            {
                rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Opens the directory to which `path` leads in the merged tree so far. Creates it if it is
    /// missing.
    fn parent(&mut self, path: &[u8]) -> io::Result<Rc<Dir>> {
        if let Some((known, directory)) = &self.last
            && known == path
        {
            return Ok(directory.clone());
        }
        let directory = match open_beneath(&self.root, path, DIRECTORY) {
            // The upper directory lacks a component of the path, or has a link or a removal in its
            // place. Only the merged tree shows where the path leads.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let path = self.resolve(path)?;
                self.open(&path)?
            }
            opened => Dir::new(path.to_vec(), opened?),
        };
        // An entry will be in it, so this directory and those above it no longer exist only for
        // removals.
        for path in ancestors(&directory.path) {
            self.bare.remove(path);
        }
        let directory = Rc::new(directory);
        // A path through links is not kept: the next entry may replace such a link, and the same
        // name then leads to another directory.
        self.last = (directory.path == path).then(|| (path.to_vec(), directory.clone()));
        Ok(directory)
    }

    /// Opens the directory `path`, which has no links. Creates it if it is missing.
    fn open(&mut self, path: &[u8]) -> io::Result<Dir> {
        let mut directory = Dir::new(Vec::new(), open_beneath(&self.root, b"", DIRECTORY)?);
        for name in components(path) {
            directory = self.enter(&directory, name)?;
        }
        Ok(directory)
    }

    /// Returns `path` without links. All links are followed within the root. A missing component
    /// counts as a directory.
    fn resolve(&mut self, path: &[u8]) -> io::Result<Vec<u8>> {
        let mut rest: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let (mut done, mut links) = (Vec::new(), 0);
        while let Some(name) = rest.pop_front() {
            match name.as_slice() {
                b"." => continue,
                // `done` has no links, so its parent is the path without the last name. The root is
                // its own parent, as in a chroot.
                b".." => {
                    done.truncate(split(&done).0.len());
                    continue;
                }
                _ => {}
            }
            match self.look_up(&done, &name)? {
                None | Some(Kind::Directory) => done = join(&done, &name),
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    if target.starts_with(b"/") {
                        done.clear();
                    }
                    components(&target).rev().for_each(|part| rest.push_front(part.to_vec()));
                }
                Some(_) => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(done)
    }

    /// Returns the kind of `name` in `directory`, a path without links, in the merged tree; `None`
    /// if it is missing or removed.
    fn look_up(&mut self, directory: &[u8], name: &[u8]) -> io::Result<Option<Kind>> {
        let path = join(directory, name);
        match statat(&self.root, path.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(kind(&self.root, &path, &stat)?.filter(|kind| *kind != Kind::Whiteout)),
            Err(Errno::NOENT | Errno::NOTDIR) => match self.below(directory)? {
                Some(below) => Ok(below.kind(name)?),
                None => Ok(None),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the directory `name`. If it is missing, creates it with the metadata that it has
    /// below.
    fn enter(&mut self, parent: &Dir, name: &[u8]) -> io::Result<Dir> {
        let open = || openat(&parent.handle, name, DIRECTORY, Mode::empty());
        let path = parent.child(name);
        let meta = match open() {
            Ok(handle) => return Ok(Dir::new(path, handle)),
            Err(Errno::NOENT) => match self.below_of(parent)? {
                Some(below) => below.directory(name)?.map(|below| below.read_meta()).transpose()?,
                None => None,
            },
            // A removal, or another entry, hides the directory below.
            Err(Errno::NOTDIR) => None,
            Err(error) => return Err(error.into()),
        };
        self.make_directory(parent, name)?;
        self.directories.imply(&path, meta)?;
        self.bare.insert(path.clone());
        Ok(Dir::new(path, open()?))
    }

    /// Creates a directory, or keeps an existing one.
    fn make_directory(&mut self, parent: &Dir, name: &[u8]) -> io::Result<()> {
        match rustix::fs::mkdirat(&parent.handle, name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
        let stat = statat(&parent.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        // The removal or entry here has hidden the name in the layers below. Overlayfs would merge
        // a plain directory with that name again, so this one is opaque.
        self.remove(parent, name)?;
        rustix::fs::mkdirat(&parent.handle, name, Mode::RWXU)?;
        Ok(self.set_opaque(parent, name)?)
    }

    fn set_opaque(&mut self, parent: &Dir, name: &[u8]) -> Result<(), Errno> {
        self.has_opaque = true;
        set_opaque(FileRef::Named(parent.handle.as_fd(), name))
    }

    /// Removes an entry of the archive itself, with everything below it.
    fn remove(&mut self, parent: &Dir, name: &[u8]) -> io::Result<()> {
        let stat = match statat(&parent.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            result => result?,
        };
        let path = parent.child(name);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.directories.forget(&path);
        }
        self.bare.retain(|bare| !is_within(bare, &path));
        self.copies.values_mut().for_each(|copies| copies.retain(|copy| !is_within(copy, &path)));
        Ok(remove_tree(parent.handle.as_fd(), name)?)
    }

    /// Hides `name` in `directory`, or everything in it. Affects only entries of the layers below.
    fn apply_removal(&mut self, directory: &[u8], name: Option<&[u8]>) -> io::Result<()> {
        let Some(directory) = self.parent_of_removal(directory)? else { return Ok(()) };
        // A removal may delete directories that exist only for other removals, and the last parent
        // may be one of them.
        self.last = None;
        match name {
            Some(name) => self.remove_below(&directory, name),
            None => self.make_opaque(&directory),
        }
    }

    /// Opens the directory `path` if the layers below show something in it.
    fn parent_of_removal(&mut self, path: &[u8]) -> io::Result<Option<Rc<Dir>>> {
        if let Some((known, directory)) = &self.last_removal
            && known == path
        {
            return Ok(directory.clone());
        }
        let directory = match self.resolve(path) {
            // A component of the path is a file, so there is nothing to remove.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
            resolved => {
                let resolved = resolved?;
                // Only if the layers below show this directory: otherwise overlayfs would show the
                // device of the removal.
                let below = self.below(&resolved)?;
                below.map(|_| self.open(&resolved)).transpose()?.map(Rc::new)
            }
        };
        self.last_removal = Some((path.to_vec(), directory.clone()));
        Ok(directory)
    }

    /// Hides a name of the layers below.
    fn remove_below(&mut self, parent: &Dir, name: &[u8]) -> io::Result<()> {
        let Some(below) = self.below_of(parent)? else { return Ok(()) };
        let Some(hidden) = below.kind(name)? else { return Ok(()) };
        let path = parent.child(name);
        if self.bare.contains(&path) {
            self.remove(parent, name)?;
        }
        match make_whiteout(parent.handle.as_fd(), name) {
            Ok(()) => self.removals.push(path),
            Err(Errno::EXIST) => {
                let stat = statat(&parent.handle, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                // Overlayfs merges a directory with a directory below. Every other entry hides the
                // name already.
                if is_directory && hidden == Kind::Directory {
                    self.remove_bare(&path)?;
                    self.set_opaque(parent, name)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Hides everything that the layers below have in a directory.
    fn make_opaque(&mut self, directory: &Dir) -> io::Result<()> {
        if directory.path.is_empty() {
            // Overlayfs merges the roots of all layers, opaque or not.
            let below = self.below_of(directory)?;
            let names = below.map_or(Ok(Vec::new()), |below| below.merged_names())?;
            return names.iter().try_for_each(|name| self.remove_below(directory, name));
        }
        // In an opaque directory, these directories hide nothing, and overlayfs would show the
        // devices of their removals.
        self.remove_bare(&directory.path)?;
        self.last_removal = None;
        Ok(self.set_opaque(directory, b".")?)
    }

    /// Removes the directories below `path` that exist only for removals.
    fn remove_bare(&mut self, path: &[u8]) -> io::Result<()> {
        let bare = std::mem::take(&mut self.bare);
        let (gone, kept) = bare.into_iter().partition(|bare| bare != path && is_within(bare, path));
        self.bare = kept;
        let gone: BTreeSet<Vec<u8>> = gone;
        for path in gone {
            let (parent, name) = split(&path);
            // The directory may be gone already, with its parent.
            if let Ok(directory) = open_beneath(&self.root, parent, DIRECTORY) {
                self.directories.forget(&path);
                remove_tree(directory.as_fd(), name)?;
            }
        }
        Ok(())
    }

    fn link(&mut self, target: &[u8], parent: &Dir, name: &[u8]) -> io::Result<()> {
        self.try_link(target, parent, name).map_err(|error| explain_link(error, target))
    }

    fn try_link(&mut self, target: &[u8], parent: &Dir, name: &[u8]) -> io::Result<()> {
        let (above, target) = split(target);
        let above = self.resolve(above)?;
        let (original, path) = (join(&above, target), parent.child(name));
        if is_within(&original, &path) {
            // The link would replace the directory that holds its original.
            if original != path {
                return Err(Errno::NOENT.into());
            }
            return self.look_up(&above, target)?.map(drop).ok_or(Errno::NOENT.into());
        }
        let from = match self.in_archive(&above, target)? {
            Some(above) => (above, target.to_vec()),
            // A copy inside the entry that the link replaces is not usable: it is removed with that
            // entry.
            None => match self
                .copies
                .get(&original)
                .and_then(|copies| copies.iter().find(|copy| !is_within(copy, &path)))
            {
                Some(copy) => {
                    let (above, copy) = split(copy);
                    (open_beneath(&self.root, above, DIRECTORY)?, copy.to_vec())
                }
                None => return self.copy_up(&above, target, parent, name),
            },
        };
        // Both names are the same file already. Removing the name first could remove the only name
        // of the file.
        if same_file(&from.0, &from.1, &parent.handle, name) {
            return Ok(());
        }
        self.remove(parent, name)?;
        // The removed entry may have been the directory in `last`.
        self.last = None;
        rustix::fs::linkat(&from.0, from.1, &parent.handle, name, AtFlags::empty())?;
        if let Some(copies) = self.copies.get_mut(&original) {
            copies.insert(path);
        }
        Ok(())
    }

    /// Opens the directory `above` if the archive has put an entry `name` into it.
    ///
    /// # Errors
    /// [`Errno::NOENT`] if the archive removes that name.
    fn in_archive(&self, above: &[u8], name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let directory = match open_beneath(&self.root, above, DIRECTORY) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened?,
        };
        match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
            Ok(_) if is_whiteout(&directory, name)? => Err(Errno::NOENT),
            Ok(_) => Ok(Some(directory)),
        }
    }

    /// Copies the entry `original` in the directory `above` of the layers below, with its metadata.
    fn copy_up(&mut self, above: &[u8], original: &[u8], parent: &Dir, name: &[u8]) -> io::Result<()> {
        let below = self.below(above)?.ok_or(Errno::NOENT)?;
        let node = below.read_node(original)?.ok_or(Errno::NOENT)?;
        if node.kind == Kind::Directory {
            return Err(Errno::PERM.into());
        }
        self.remove(parent, name)?;
        self.last = None;
        match node.kind {
            Kind::File(_) => {
                self.create(parent, name, &node.kind, &node.meta, &mut below.open_file(original)?)?;
            }
            _ => self.create(parent, name, &node.kind, &node.meta, &mut io::empty())?,
        }
        self.copies.entry(join(above, original)).or_default().insert(parent.child(name));
        Ok(())
    }

    /// Links the originals of copied lower files to their copies, so that they are one file again.
    /// Skips originals that the archive has replaced or removed.
    fn link_originals(&mut self) -> io::Result<()> {
        // At the end, as a later entry may replace or remove the original.
        for (original, copies) in std::mem::take(&mut self.copies) {
            let (above, name) = split(&original);
            let Some(copy) = copies.first() else { continue };
            let is_below = match self.below(above)? {
                Some(below) => below.kind(name)?.is_some_and(|kind| kind != Kind::Directory),
                None => false,
            };
            if is_below && statat(&self.root, original.as_slice(), AtFlags::SYMLINK_NOFOLLOW).is_err() {
                let parent = self.open(above)?;
                let links = AtFlags::empty();
                rustix::fs::linkat(&self.root, copy.as_slice(), &parent.handle, name, links)?;
            }
        }
        Ok(())
    }

    fn create(
        &mut self,
        parent: &Dir,
        name: &[u8],
        kind: &Kind,
        meta: &Meta,
        content: &mut impl Read,
    ) -> io::Result<()> {
        let directory = &parent.handle;
        let node = |file_type, major, minor| {
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(directory, name, file_type, Mode::RUSR | Mode::WUSR, device)
        };
        match kind {
            Kind::File(_) => {
                // EXCL: an entry of this name was removed before. If a link were here, the content
                // would go to its target.
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
                holes::copy(content, &file, |bytes| self.spend(bytes))?;
            }
            Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), directory, name)?,
            Kind::CharDevice(major, minor) => node(FileType::CharacterDevice, *major, *minor)?,
            Kind::BlockDevice(major, minor) => node(FileType::BlockDevice, *major, *minor)?,
            Kind::Fifo => node(FileType::Fifo, 0, 0)?,
            Kind::Directory | Kind::Hardlink(_) | Kind::Whiteout | Kind::OpaqueWhiteout => {
                unreachable!("applied elsewhere")
            }
        }
        apply_meta(directory.as_fd(), name, kind, meta)
    }

    fn below_root(&mut self) -> io::Result<Option<Rc<MergedDir>>> {
        self.leans = true;
        match &self.below {
            Below::Unknown => Err(io::Error::other("the layer depends on the layers below it")),
            Below::Layers(below) => Ok(below.clone()),
        }
    }

    fn below_of(&mut self, directory: &Dir) -> io::Result<Option<Rc<MergedDir>>> {
        self.leans = true;
        if let Some(below) = directory.below.get() {
            return Ok(below.clone());
        }
        let below = self.below(&directory.path)?;
        Ok(directory.below.get_or_init(|| below).clone())
    }

    /// Returns the directory `path` (without links) as the layers below show it. `None` if they do
    /// not have it, or the upper tree hides it.
    fn below(&mut self, path: &[u8]) -> io::Result<Option<Rc<MergedDir>>> {
        let Some(mut below) = self.below_root()? else { return Ok(None) };
        let mut upper = Some(open_beneath(&self.root, b"", DIRECTORY)?);
        for name in components(path) {
            // If the upper tree lacks a directory, it cannot hide anything below it.
            if let Some(directory) = upper {
                upper = match openat(&directory, name, DIRECTORY, Mode::empty()) {
                    Ok(inner) if is_opaque(FileRef::Open(inner.as_fd()))? => return Ok(None),
                    Ok(inner) => Some(inner),
                    Err(Errno::NOENT) => None,
                    Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
            }
            match below.directory(name)? {
                Some(inner) => below = Rc::new(inner),
                None => return Ok(None),
            }
        }
        Ok(Some(below))
    }
}

/// Adds the original to the error of a hard link that cannot be created.
pub(super) fn explain_link(error: io::Error, target: &[u8]) -> io::Error {
    let target = crate::layer::display(target);
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            format!(
                "it is a hard link to `{target}`, which is neither earlier in the archive nor in the layers below"
            ),
        ),
        io::ErrorKind::PermissionDenied => {
            let reason =
                format!("it is a hard link to `{target}`, which is a directory or may not be linked to");
            io::Error::new(error.kind(), reason)
        }
        _ => error,
    }
}

/// Returns a function that adds the name of the entry to an error.
pub(super) fn cannot_apply(path: &[u8]) -> impl FnOnce(io::Error) -> LayerError {
    move |source| LayerError::Apply { path: crate::layer::display(path), source }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// Returns `path` and the paths of the directories above it, without the root.
pub(super) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| Some(split(path).0)).take_while(|path| !path.is_empty())
}

/// Returns true if `path` is `directory` or below it.
fn is_within(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn is_whiteout(directory: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(kind(directory, name, &stat)? == Some(Kind::Whiteout)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn same_file(a: &OwnedFd, a_name: &[u8], b: &OwnedFd, b_name: &[u8]) -> bool {
    let id = |directory: &OwnedFd, name: &[u8]| {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    id(a, a_name).is_some() && id(a, a_name) == id(b, b_name)
}
