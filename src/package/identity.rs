//! All that the package indices of a root depend on: its package sources, architectures, keys, apt's settings and apt itself.
//!
//! Indices are kept for each identity. What is missing here lets one image use the indices of another: too few packages, or
//! some that it would not trust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::cache::failed;
use crate::oci::{Digest, Hasher};
use crate::port::PackageError;

/// Package sources and settings: what they mention is read, too.
const SETTINGS: [&str; 7] = [
    "etc/apt/apt.conf",
    "etc/apt/apt.conf.d",
    "etc/apt/preferences",
    "etc/apt/preferences.d",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/apt/mirrors",
];

/// What else indices depend on: keys, architectures, programs. What programs fetch and how they check it is theirs to decide,
/// so a root that brings an apt of its own has indices of its own.
const FURTHER: [&str; 11] = [
    "etc/apt/keyrings",
    "etc/apt/trusted.gpg",
    "etc/apt/trusted.gpg.d",
    "usr/bin/apt-get",
    "usr/bin/apt-key",
    "usr/bin/gpgv",
    "usr/bin/sqv",
    "usr/lib/apt/apt-helper",
    "usr/lib/apt/methods",
    "usr/share/keyrings",
    "var/lib/dpkg/arch",
];

/// Directories of which settings mention files alone: there is much in them, and nothing that apt reads unasked.
const NO_SETTINGS: [&str; 10] = ["bin", "dev", "lib", "proc", "run", "sbin", "sys", "tmp", "usr", "var"];

/// The identity of package sources, and what it was computed from.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) digest: Digest,
    /// Files and directories, by their paths.
    found: BTreeMap<PathBuf, State>,
    mentioned: BTreeSet<PathBuf>,
}

/// Says whether a file is what it was, without reading it.
type State = [i64; 7];

impl Identity {
    /// Returns the identity of the package sources of the root at `root`; `own` is what plywood adds to them. What is still as
    /// it was at the time of `last` is not read again.
    pub(super) fn of(root: &Path, own: &Digest, last: Option<Self>) -> Result<Self, PackageError> {
        let root = Root::open(root)?;
        let fixed: BTreeSet<_> = SETTINGS.into_iter().chain(FURTHER).map(PathBuf::from).collect();
        if let Some(last) = last
            && root.find(fixed.union(&last.mentioned))? == last.found
        {
            return Ok(last);
        }
        let mentioned = root.mentioned()?;
        let found = root.find(fixed.union(&mentioned))?;
        let mut hasher = Hasher::default();
        hasher.update(own.bytes());
        for path in found.keys() {
            hasher.update(Digest::of(path.as_os_str().as_encoded_bytes()).bytes());
            hasher.update(root.content(path)?.as_ref().map_or(own, |content| content).bytes());
        }
        Ok(Self { digest: hasher.finish(), found, mentioned })
    }
}

/// Returns the accounts at archives that the root at `root` has itself.
pub(super) fn own_accounts(root: &Path) -> Result<Vec<u8>, PackageError> {
    let root = Root::open(root)?;
    match root.place(Path::new("etc/apt/auth.conf"))? {
        Some(place) if place.path.is_file() => fs::read(&place.path).map_err(failed("read", root.path)),
        _ => Ok(Vec::new()),
    }
}

/// A root, in which links lead where they would for programs inside.
struct Root<'a> {
    path: &'a Path,
    directory: OwnedFd,
}

impl<'a> Root<'a> {
    fn open(path: &'a Path) -> Result<Self, PackageError> {
        let directory = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        Ok(Self { path, directory: directory.map_err(|error| failed("open", path)(error.into()))? })
    }

    /// Returns what is at `paths`, and the files in directories among them.
    fn find<'p>(
        &self,
        paths: impl Iterator<Item = &'p PathBuf>,
    ) -> Result<BTreeMap<PathBuf, State>, PackageError> {
        let mut found = BTreeMap::new();
        for path in paths {
            let Some((place, state)) = self.inspect(path)? else { continue };
            found.insert(path.clone(), state);
            if !place.path.is_dir() {
                continue;
            }
            let directory = self.path.join(path);
            for entry in fs::read_dir(&place.path).map_err(failed("read", &directory))? {
                let path = path.join(entry.map_err(failed("read", &directory))?.file_name());
                if let Some((place, state)) = self.inspect(&path)?
                    && place.path.is_file()
                {
                    found.insert(path, state);
                }
            }
        }
        Ok(found)
    }

    /// Returns a file or directory, if it is there, and its state.
    fn inspect(&self, path: &Path) -> Result<Option<(Place, State)>, PackageError> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let metadata = fs::metadata(&place.path).map_err(failed("inspect", &self.path.join(path)))?;
        let state = [
            metadata.dev() as i64,
            metadata.ino() as i64,
            metadata.size() as i64,
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ];
        Ok((metadata.is_file() || metadata.is_dir()).then_some((place, state)))
    }

    /// Returns the digest of a file, `None` for a directory.
    fn content(&self, path: &Path) -> Result<Option<Digest>, PackageError> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        if place.path.is_dir() {
            return Ok(None);
        }
        let content = fs::read(&place.path).map_err(failed("read", &self.path.join(path)))?;
        Ok(Some(Digest::of(content)))
    }

    /// Returns the files and directories that settings and package sources mention: keyrings, further sources, certificates.
    fn mentioned(&self) -> Result<BTreeSet<PathBuf>, PackageError> {
        let mut mentioned = BTreeSet::new();
        for path in self.find(SETTINGS.map(PathBuf::from).iter())?.keys() {
            let Some(place) = self.place(path)? else { continue };
            if place.path.is_file() {
                let text = fs::read(&place.path).map_err(failed("read", &self.path.join(path)))?;
                mentioned.extend(absolute_paths(&String::from_utf8_lossy(&text)));
            }
        }
        let is_program = |path: &PathBuf| NO_SETTINGS.iter().any(|directory| path.starts_with(directory));
        mentioned.retain(|path| {
            !is_program(path)
                || self.inspect(path).is_ok_and(|found| found.is_some_and(|(place, _)| place.path.is_file()))
        });
        Ok(mentioned)
    }

    fn place(&self, path: &Path) -> Result<Option<Place>, PackageError> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            opened => {
                let file = opened.map_err(|error| failed("open", &self.path.join(path))(error.into()))?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                Ok(Some(Place { path, _file: file }))
            }
        }
    }
}

/// A path that is valid as long as the file is open.
struct Place {
    path: PathBuf,
    _file: OwnedFd,
}

/// Returns the absolute paths in a text, relative to the root.
fn absolute_paths(text: &str) -> impl Iterator<Item = PathBuf> {
    let words = text.split(|c: char| c.is_whitespace() || "\"';,=[]{}".contains(c));
    let inner = words.filter_map(|word| word.strip_prefix('/')).map(|word| word.trim_matches('/'));
    inner.filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            world.write("etc/apt/sources.list", "deb http://m/debian bookworm main\n");
            world.write("etc/apt/sources.list.d/x.sources", "Signed-By: /opt/keys/x.gpg\n");
            world.write("etc/apt/apt.conf.d/10-x", "Dir::Etc::Preferences \"/srv/pins\";\n");
            world.write("opt/keys/x.gpg", "key");
            world.write("usr/share/keyrings/debian.gpg", "key");
            world
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn identity(&self) -> Identity {
            Identity::of(self.0.path(), &Digest::of("own"), None).unwrap()
        }
    }

    #[test]
    fn everything_that_indices_depend_on_is_in_their_identity() {
        type Change<'a> = (&'a str, &'a dyn Fn(&World));
        let changes: [Change; 13] = [
            ("a source", &|world| world.write("etc/apt/sources.list", "deb http://other/ bookworm main\n")),
            ("another source", &|world| world.write("etc/apt/sources.list.d/y.list", "")),
            ("a setting", &|world| world.write("etc/apt/apt.conf.d/99-y", "Acquire::Languages \"de\";")),
            ("a pin", &|world| world.write("etc/apt/preferences.d/y", "")),
            ("a trusted key", &|world| world.write("etc/apt/trusted.gpg.d/y.gpg", "key")),
            ("an architecture", &|world| world.write("var/lib/dpkg/arch", "amd64\ni386\n")),
            ("a keyring of the distribution", &|world| world.write("usr/share/keyrings/debian.gpg", "other")),
            ("a keyring that a source names", &|world| world.write("opt/keys/x.gpg", "other")),
            ("a file that a setting names", &|world| world.write("srv/pins", "Package: *\n")),
            ("apt", &|world| world.write("usr/bin/apt-get", "#!/bin/sh\n")),
            ("a method", &|world| world.write("usr/lib/apt/methods/http", "#!/bin/sh\n")),
            ("a name", &|world| {
                let at = |name| world.0.path().join("etc/apt/sources.list.d").join(name);
                fs::rename(at("x.sources"), at("x.sources.off")).unwrap();
            }),
            ("a link", &|world| {
                world.write("srv/sources/y.list", "deb http://y/ y main\n");
                symlink("/srv/sources/y.list", world.0.path().join("etc/apt/sources.list.d/y.list")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let world = World::new();
            let before = world.identity();
            change(&world);
            let after = world.identity();
            assert_ne!(before.digest, after.digest, "{what}");
            let seen = Identity::of(world.0.path(), &Digest::of("own"), Some(before)).unwrap();
            assert_eq!(seen.digest, after.digest, "{what}: noticed by those who saw it before");
        }
    }

    #[test]
    fn what_a_link_leads_to_is_in_the_identity_and_nothing_outside_the_root() {
        let world = World::new();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "1").unwrap();
        world.write("srv/sources/y.list", "deb http://y/ y main\n");
        for (target, link) in [
            (PathBuf::from("../../../srv/sources/y.list"), "sources.list.d/y.list"),
            (outside.path().join("secret"), "sources.list.d/outside.list"),
            (PathBuf::from("../.."), "preferences.d"),
            (PathBuf::from("nowhere"), "sources.list.d/broken.list"),
        ] {
            symlink(target, world.0.path().join("etc/apt").join(link)).unwrap();
        }
        let before = world.identity().digest;
        fs::write(outside.path().join("secret"), "2").unwrap();
        assert_eq!(world.identity().digest, before);
        world.write("srv/sources/y.list", "deb http://z/ y main\n");
        assert_ne!(world.identity().digest, before);
    }

    #[test]
    fn equal_roots_have_equal_identities() {
        let (one, other) = (World::new(), World::new());
        assert_eq!(one.identity().digest, other.identity().digest);
        let elsewhere = Identity::of(one.0.path(), &Digest::of("other mirrors"), None).unwrap();
        assert_ne!(one.identity().digest, elsewhere.digest);
        one.write("etc/motd", "hello");
        assert_eq!(one.identity().digest, other.identity().digest);
    }
}
