//! The identity of package sources. It covers everything that the package indices of a root depend
//! on: package sources, architectures, keys, settings of apt and apt itself.
//!
//! Indices are kept for each identity. If the identity lacked an input, one image could use the
//! indices of another. It would see too few packages, or packages that it does not trust.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::cache::failed;
use crate::directory::{FileState, open_in_root};
use crate::oci::{Digest, Hasher};
use crate::port::{PackageError, View};

/// Package sources and settings. Files that they mention are also part of the identity.
const SETTINGS: [&str; 7] = [
    "etc/apt/apt.conf",
    "etc/apt/apt.conf.d",
    "etc/apt/preferences",
    "etc/apt/preferences.d",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d",
    "etc/apt/mirrors",
];

/// Keys, architectures and programs. The programs decide which files they fetch and how they check
/// them, so a root with another apt has its own indices.
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

/// The schemes of repositories that are directories.
const LOCAL: [&str; 2] = ["file:", "copy:"];

/// The prefixes of the files from which apt makes the indices of a repository.
const INDEX_FILES: [&str; 3] = ["InRelease", "Packages", "Release"];

/// The depth to which a repository is searched for these files.
/// `dists/bookworm/main/binary-amd64/Packages` needs five.
const REPOSITORY_LEVELS: u32 = 8;

/// If settings mention a directory below one of these, it is ignored. Directories there may have
/// thousands of files, and apt does not read them as settings.
const NO_SETTINGS: [&str; 10] = ["bin", "dev", "lib", "proc", "run", "sbin", "sys", "tmp", "usr", "var"];

/// The identity of package sources, and the files from which it was computed.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) digest: Digest,
    /// Files and directories, by their paths.
    found: BTreeMap<PathBuf, FileState>,
    mentioned: Mentioned,
}

/// The paths that settings mention, also missing ones.
#[derive(Debug, Clone, Default)]
struct Mentioned {
    paths: BTreeSet<PathBuf>,
    /// Paths of repositories in directories.
    repositories: BTreeSet<PathBuf>,
}

impl Identity {
    /// Returns the identity of the package sources of the root at `root`. Its jobs see `hooks` as
    /// their hooks directory. `own` is the digest of plywood's additions. If no file has changed
    /// since `last`, no file is read again.
    pub(super) fn of(
        root: &Path,
        hooks: Option<&Path>,
        own: &Digest,
        last: Option<Self>,
    ) -> Result<Self, PackageError> {
        let root = Root { hooks: hooks.map(open).transpose()?, ..Root::open(root)? };
        if let Some(last) = last
            && root.find_all(&last.mentioned)? == last.found
        {
            return Ok(last);
        }
        let mentioned = root.mentioned()?;
        let found = root.find_all(&mentioned)?;
        Ok(Self { digest: root.digest(found.keys(), own)?, found, mentioned })
    }
}

/// The package sources, variables, keys and programs of dnf in a root.
const DNF: [&str; 10] = [
    "etc/dnf/dnf.conf",
    "etc/dnf/vars",
    "etc/yum.conf",
    "etc/yum.repos.d",
    "etc/yum/vars",
    "etc/os-release",
    "etc/pki/rpm-gpg",
    "usr/bin/dnf",
    "usr/bin/dnf5",
    "usr/bin/microdnf",
];

/// Returns the identity of dnf's package sources of the root at `root`. `own` is the digest of
/// plywood's additions to them.
pub(super) fn dnf_sources(root: &Path, own: &Digest) -> Result<Digest, PackageError> {
    let root = Root::open(root)?;
    let found = root.find(DNF.map(PathBuf::from).iter())?;
    root.digest(found.keys(), own)
}

/// Returns the accounts for archives in the root at `root`.
pub(super) fn own_accounts(root: &Path) -> Result<Vec<u8>, PackageError> {
    let root = Root::open(root)?;
    let path = Path::new("etc/apt/auth.conf");
    match root.place(path)? {
        Some(place) if place.path.is_file() => {
            fs::read(&place.path).map_err(failed("read", &root.path.join(path)))
        }
        _ => Ok(Vec::new()),
    }
}

/// A root. Symbolic links are followed within the root, so none leads to a file of the build host.
struct Root<'a> {
    path: &'a Path,
    directory: OwnedFd,
    /// The directory that jobs see at [`View::hooks`].
    hooks: Option<OwnedFd>,
}

fn open(path: &Path) -> Result<OwnedFd, PackageError> {
    let directory = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    directory.map_err(|error| failed("open", path)(error.into()))
}

impl<'a> Root<'a> {
    fn open(path: &'a Path) -> Result<Self, PackageError> {
        Ok(Self { path, directory: open(path)?, hooks: None })
    }

    /// Returns all files and directories that indices depend on.
    fn find_all(&self, mentioned: &Mentioned) -> Result<BTreeMap<PathBuf, FileState>, PackageError> {
        let fixed: BTreeSet<_> = SETTINGS.into_iter().chain(FURTHER).map(PathBuf::from).collect();
        let mut found = self.find(fixed.union(&mentioned.paths))?;
        for repository in &mentioned.repositories {
            self.find_index_files(repository, REPOSITORY_LEVELS, &mut found)?;
        }
        Ok(found)
    }

    /// Finds the files from which apt makes the indices of the repository in a directory.
    fn find_index_files(
        &self,
        directory: &Path,
        levels: u32,
        found: &mut BTreeMap<PathBuf, FileState>,
    ) -> Result<(), PackageError> {
        let Some((place, _)) = self.inspect(directory)?.filter(|(place, _)| place.path.is_dir()) else {
            return Ok(());
        };
        let shown = self.path.join(directory);
        for entry in fs::read_dir(&place.path).map_err(failed("read", &shown))? {
            let entry = entry.map_err(failed("read", &shown))?;
            let name = entry.file_name();
            let path = directory.join(&name);
            if INDEX_FILES.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
                found.extend(self.inspect(&path)?.map(|(_, state)| (path, state)));
            // Links may lead to directories. The number of levels ends a loop of links.
            } else if levels > 0 && !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                self.find_index_files(&path, levels - 1, found)?;
            }
        }
        Ok(())
    }

    /// Returns the files and directories at `paths`, and the files that are directly in these
    /// directories.
    fn find<'p>(
        &self,
        paths: impl Iterator<Item = &'p PathBuf>,
    ) -> Result<BTreeMap<PathBuf, FileState>, PackageError> {
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

    /// Returns a file or directory, if it exists, and its state.
    fn inspect(&self, path: &Path) -> Result<Option<(Place, FileState)>, PackageError> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        let metadata = fs::metadata(&place.path).map_err(failed("inspect", &self.path.join(path)))?;
        // Hooks may have created devices and pipes, and reading one could block forever.
        Ok((metadata.is_file() || metadata.is_dir()).then(|| (place, FileState::from(&metadata))))
    }

    /// Returns a digest of `own`, and of the paths and contents of files and directories.
    fn digest<'p>(
        &self,
        paths: impl Iterator<Item = &'p PathBuf>,
        own: &Digest,
    ) -> Result<Digest, PackageError> {
        let mut hasher = Hasher::default();
        hasher.update(own.bytes());
        for path in paths {
            // Digests have a fixed length, so two different lists of files cannot give the same
            // bytes.
            hasher.update(Digest::of(path.as_os_str().as_encoded_bytes()).bytes());
            hasher.update(self.content(path)?.unwrap_or(*own).bytes());
        }
        Ok(hasher.finish())
    }

    /// Returns the digest of a file; `None` for a directory.
    fn content(&self, path: &Path) -> Result<Option<Digest>, PackageError> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        if place.path.is_dir() {
            return Ok(None);
        }
        let digest = File::open(&place.path).and_then(Digest::of_reader);
        Ok(Some(digest.map_err(failed("read", &self.path.join(path)))?))
    }

    /// Returns the paths that settings and package sources mention: keyrings, further sources,
    /// certificates, repositories.
    fn mentioned(&self) -> Result<Mentioned, PackageError> {
        let mut mentioned = Mentioned::default();
        for path in self.find(SETTINGS.map(PathBuf::from).iter())?.keys() {
            let Some(place) = self.place(path)? else { continue };
            if place.path.is_file() {
                let text = fs::read(&place.path).map_err(failed("read", &self.path.join(path)))?;
                let text = String::from_utf8_lossy(&text);
                mentioned.paths.extend(absolute_paths(&text));
                mentioned.repositories.extend(local_repositories(&text));
            }
        }
        let holds_no_settings =
            |path: &PathBuf| NO_SETTINGS.iter().any(|directory| path.starts_with(directory));
        let is_directory = |path: &PathBuf| {
            self.place(path).is_ok_and(|place| place.is_some_and(|place| place.path.is_dir()))
        };
        // Missing files stay in the list: a later hook may install a keyring that a package source
        // names already.
        mentioned.paths.retain(|path| !(holds_no_settings(path) && is_directory(path)));
        Ok(mentioned)
    }

    fn place(&self, path: &Path) -> Result<Option<Place>, PackageError> {
        // In the root, the hooks directory is an empty mount point. Its files are in the directory
        // `hooks`.
        let (directory, path) = match (&self.hooks, path.strip_prefix(&View::Target.hooks()[1..])) {
            (Some(hooks), Ok(below)) if below == Path::new("") => (hooks, Path::new(".")),
            (Some(hooks), Ok(below)) => (hooks, below),
            _ => (&self.directory, path),
        };
        match open_in_root(directory, path, OFlags::PATH) {
            // Every text after a slash counts as a path, also one that is too long for a path.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
            opened => {
                let file = opened.map_err(|error| failed("open", &self.path.join(path))(error.into()))?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                Ok(Some(Place { path, _file: file }))
            }
        }
    }
}

/// A path of an open file, which is valid while the file is open. A normal path could lead to
/// another file at the second use.
struct Place {
    path: PathBuf,
    _file: OwnedFd,
}

/// Returns the absolute paths in a text, relative to the root.
fn absolute_paths(text: &str) -> impl Iterator<Item = PathBuf> {
    words(text).filter_map(relative)
}

/// Returns the directories of local repositories in a text (`file:/srv/repository`,
/// `mirror+file:///srv/list`), relative to the root.
fn local_repositories(text: &str) -> impl Iterator<Item = PathBuf> {
    words(text).filter_map(local_path).filter_map(relative)
}

fn local_path(word: &str) -> Option<&str> {
    LOCAL.iter().find_map(|scheme| word.split_once(scheme)).map(|(_, path)| path.trim_start_matches("//"))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    // NUL is a separator, because a keyring in these directories is binary, and a path with NUL
    // would cause an error.
    text.split(|c: char| c.is_whitespace() || "\0\"';,=[]{}".contains(c))
}

/// Returns an absolute path relative to the root.
fn relative(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix('/')?.trim_matches('/');
    (!path.is_empty()).then(|| PathBuf::from(path))
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
            world.write(
                "etc/apt/sources.list.d/x.sources",
                "Signed-By: /opt/keys/x.gpg /usr/local/late.gpg\n",
            );
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
            Identity::of(self.0.path(), None, &Digest::of("own"), None).unwrap()
        }
    }

    #[test]
    fn everything_that_indices_depend_on_is_in_their_identity() {
        type Change<'a> = (&'a str, &'a dyn Fn(&World));
        let changes: [Change; 14] = [
            ("a source", &|world| world.write("etc/apt/sources.list", "deb http://other/ bookworm main\n")),
            ("another source", &|world| world.write("etc/apt/sources.list.d/y.list", "")),
            ("a setting", &|world| world.write("etc/apt/apt.conf.d/99-y", "Acquire::Languages \"de\";")),
            ("a pin", &|world| world.write("etc/apt/preferences.d/y", "")),
            ("a trusted key", &|world| world.write("etc/apt/trusted.gpg.d/y.gpg", "key")),
            ("an architecture", &|world| world.write("var/lib/dpkg/arch", "amd64\ni386\n")),
            ("a keyring of the distribution", &|world| world.write("usr/share/keyrings/debian.gpg", "other")),
            ("a keyring that a source names", &|world| world.write("opt/keys/x.gpg", "other")),
            ("a keyring that a source named before", &|world| world.write("usr/local/late.gpg", "key")),
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
            let seen = Identity::of(world.0.path(), None, &Digest::of("own"), Some(before)).unwrap();
            assert_eq!(seen.digest, after.digest, "{what}: noticed with the earlier identity");
        }
    }

    #[test]
    fn the_target_of_a_link_is_in_the_identity_if_it_is_in_the_root() {
        let world = World::new();
        world.write("etc/apt/sources.list.d/long.list", &format!("deb /{} ./\n", "x".repeat(5000)));
        world.write("etc/apt/sources.list.d/keyring.gpg", "\x01/a\0b\n");
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
    fn index_files_of_local_repositories_are_in_the_identity_also_in_the_hooks_directory() {
        let (world, hooks) = (World::new(), World::new());
        world.write(
            "etc/apt/sources.list",
            "deb [trusted=yes] file:/srv/flat ./\ndeb copy:///tmp/in_target.d/repository bookworm main\n",
        );
        let identity =
            |last| Identity::of(world.0.path(), Some(hooks.0.path()), &Digest::of("own"), last).unwrap();
        let mut last = identity(None);
        for (world, path) in [
            (&world, "srv/flat/Packages"),
            (&world, "srv/flat/Packages.gz"),
            (&hooks, "repository/dists/bookworm/InRelease"),
            (&hooks, "repository/dists/bookworm/main/binary-amd64/Packages"),
        ] {
            for text in ["1", "22"] {
                world.write(path, text);
                let now = identity(Some(last.clone()));
                assert_ne!(now.digest, last.digest, "{path}");
                last = now;
            }
        }
        hooks.write("repository/pool/a.deb", "1");
        hooks.write("other/Packages", "1");
        assert_eq!(identity(None).digest, last.digest);
    }

    #[test]
    fn equal_roots_have_equal_identities() {
        let (one, other) = (World::new(), World::new());
        assert_eq!(one.identity().digest, other.identity().digest);
        let elsewhere = Identity::of(one.0.path(), None, &Digest::of("other mirrors"), None).unwrap();
        assert_ne!(one.identity().digest, elsewhere.digest);
        one.write("etc/motd", "hello");
        assert_eq!(one.identity().digest, other.identity().digest);
    }
}
