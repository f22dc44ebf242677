//! Downloaded packages, shared by all builds of a store, each under its digest.
//!
//! ```text
//! cache/apt/packages/<SHA-256>-<apt's name>
//! cache/apt/verified                            digests that were computed, and the files' states at that time
//! ```
//!
//! apt takes a file that it finds among its downloads for a package if name and size fit. So a file gets there only if the
//! package indices of that very root give its name its digest, and hooks see it beneath a layer of their own: nothing
//! that they write reaches the shared file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cache::{failed, link, replace_with};
use super::index::{Archives, archives, package_of};
use crate::oci::{Digest, HashingReader};
use crate::port::PackageError;

/// The longest name that file systems take.
const LONGEST_NAME: usize = 255;

/// The shared downloads.
#[derive(Debug)]
pub(super) struct Downloads {
    directory: PathBuf,
    verified: PathBuf,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Download {
    /// As apt calls the file.
    name: String,
    digest: Digest,
}

impl Downloads {
    /// Keeps downloads below the directory `cache`.
    pub(super) fn new(cache: &Path) -> Self {
        Self { directory: cache.join("packages"), verified: cache.join("verified") }
    }

    /// Shows in the directory `to` the files that the indices in `lists` name.
    pub(super) fn offer(&self, lists: &Path, to: &Path) -> Result<(), PackageError> {
        let known = self.list()?;
        let named = archives(lists, &packages(&known))?;
        self.show(known.iter().filter(|download| is_named(&named, download)), to)
    }

    /// Shows in `to` every file whose name no other file has, and returns these: for a root that has no indices yet.
    pub(super) fn offer_all(&self, to: &Path) -> Result<BTreeSet<Download>, PackageError> {
        let known = self.list()?;
        let mut by_name = BTreeMap::<&str, Vec<&Download>>::new();
        for download in &known {
            by_name.entry(&download.name).or_default().push(download);
        }
        let unique: BTreeSet<_> =
            by_name.into_values().filter(|same| same.len() == 1).flatten().cloned().collect();
        self.show(&unique, to)?;
        Ok(unique)
    }

    /// Keeps the files in the directory `from` that the indices in `lists` name. Nobody writes to them any more.
    pub(super) fn keep(&self, from: &Path, lists: &Path) -> Result<(), PackageError> {
        let mut new = BTreeSet::new();
        for entry in fs::read_dir(from).map_err(failed("read", from))? {
            let entry = entry.map_err(failed("read", from))?;
            let is_package = entry.file_name().as_encoded_bytes().ends_with(b".deb");
            if let Ok(name) = entry.file_name().into_string()
                && is_package
                && entry.file_type().is_ok_and(|kind| kind.is_file())
            {
                new.insert(Download { name, digest: digest_of(&entry.path())? });
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let named = archives(lists, &packages(&new))?;
        fs::create_dir_all(&self.directory).map_err(failed("make directory", &self.directory))?;
        for download in new.iter().filter(|download| is_named(&named, download)) {
            if self.path(download).file_name().is_some_and(|name| name.len() <= LONGEST_NAME) {
                link(&from.join(&download.name), &self.path(download))?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<BTreeSet<Download>, PackageError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed("read", &self.directory))?,
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed("read", &self.directory))?.file_name();
            found.extend(name.to_str().and_then(Download::parse));
        }
        Ok(found)
    }

    fn path(&self, download: &Download) -> PathBuf {
        self.directory.join(format!("{}-{}", download.digest.hex(), download.name))
    }

    /// Shows files under apt's names. A file that is not what its name says is removed.
    fn show<'a>(
        &self,
        downloads: impl IntoIterator<Item = &'a Download>,
        to: &Path,
    ) -> Result<(), PackageError> {
        let before = Verified::read(&self.verified);
        let mut after = before.clone();
        for download in downloads {
            let (path, shown) = (self.path(download), to.join(&download.name));
            if shown.exists() {
                continue;
            }
            let Some(state) = State::of(&path)? else { continue };
            if before.0.get(&download.digest) != Some(&state) && digest_of(&path)? != download.digest {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                continue;
            }
            link(&path, &shown)?;
            // The new name has moved the time of the inode's last change.
            after.0.extend(State::of(&shown)?.map(|state| (download.digest, state)));
        }
        if after != before { after.write(&self.verified) } else { Ok(()) }
    }
}

impl Download {
    /// Reads the name of a file among the shared downloads.
    fn parse(name: &str) -> Option<Self> {
        let (digest, name) = name.split_once('-')?;
        Some(Self { name: name.to_owned(), digest: format!("sha256:{digest}").parse().ok()? })
    }

    /// Returns false if the indices in `lists` give this file's name to other content alone.
    pub(super) fn all_fit(downloads: &BTreeSet<Self>, lists: &Path) -> Result<bool, PackageError> {
        let named = archives(lists, &packages(downloads))?;
        Ok(downloads.iter().all(|download| !named.contains_key(&download.name) || is_named(&named, download)))
    }
}

fn packages(downloads: &BTreeSet<Download>) -> BTreeSet<&str> {
    downloads.iter().map(|download| package_of(&download.name)).collect()
}

/// Returns true if indices give a file's name its digest and no other. Of several, apt alone knows which one it takes.
fn is_named(named: &Archives, download: &Download) -> bool {
    named.get(&download.name).is_some_and(|digests| digests.iter().eq([&download.digest]))
}

fn digest_of(path: &Path) -> Result<Digest, PackageError> {
    let mut reader = HashingReader::new(File::open(path).map_err(failed("read", path))?);
    io::copy(&mut reader, &mut io::sink()).map_err(failed("read", path))?;
    Ok(reader.finish().0)
}

/// What tells that a file was changed since it was read last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State([i128; 4]);

impl State {
    /// Returns the state of a file, or `None` if it is not there.
    fn of(path: &Path) -> Result<Option<Self>, PackageError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            metadata => Ok(Some(Self::from(metadata.map_err(failed("inspect", path))?))),
        }
    }
}

impl From<Metadata> for State {
    fn from(metadata: Metadata) -> Self {
        let time =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let modified = time(metadata.mtime(), metadata.mtime_nsec());
        let changed = time(metadata.ctime(), metadata.ctime_nsec());
        Self([metadata.ino().into(), metadata.size().into(), modified, changed])
    }
}

/// States in which files had their digests, so that each is computed once. A lost note costs time and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Verified(BTreeMap<Digest, State>);

impl Verified {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        Self(text.lines().filter_map(Self::parse).collect())
    }

    fn parse(line: &str) -> Option<(Digest, State)> {
        let (digest, numbers) = line.split_once(' ')?;
        let numbers = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<Vec<_>>>()?;
        Some((format!("sha256:{digest}").parse().ok()?, State(numbers.try_into().ok()?)))
    }

    fn write(&self, path: &Path) -> Result<(), PackageError> {
        let line = |(digest, State([inode, size, modified, changed])): (&Digest, &State)| {
            format!("{} {inode} {size} {modified} {changed}\n", digest.hex())
        };
        let text: String = self.0.iter().map(line).collect();
        replace_with(path, |next| fs::write(next, text).map_err(failed("write", next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache, a session's downloads, indices, and what a session sees.
    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            let world = Self(tempfile::tempdir().unwrap());
            for name in ["cache", "from", "lists", "to"] {
                fs::create_dir(world.path(name)).unwrap();
            }
            world
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn downloads(&self) -> Downloads {
            Downloads::new(&self.path("cache"))
        }

        /// Lets the indices give version 1 of these packages these contents.
        fn index(&self, packages: &[(&str, &str)]) {
            let stanza = |(name, content): &(&str, &str)| {
                let digest = Digest::of(content).hex();
                format!("Package: {name}\nVersion: 1\nArchitecture: all\nSHA256: {digest}\n\n")
            };
            let text: String = packages.iter().map(stanza).collect();
            fs::write(self.path("lists/x_Packages"), text).unwrap();
        }

        fn download(&self, package: &str, content: &str) {
            fs::write(self.path(&format!("from/{package}_1_all.deb")), content).unwrap();
            self.downloads().keep(&self.path("from"), &self.path("lists")).unwrap();
        }

        /// Returns what a new session is offered.
        fn offered(&self) -> BTreeMap<String, String> {
            fs::remove_dir_all(self.path("to")).unwrap();
            fs::create_dir(self.path("to")).unwrap();
            self.downloads().offer(&self.path("lists"), &self.path("to")).unwrap();
            self.shown()
        }

        fn shown(&self) -> BTreeMap<String, String> {
            let entries = fs::read_dir(self.path("to")).unwrap().map(Result::unwrap);
            let content = |path| fs::read_to_string(path).unwrap();
            entries.map(|entry| (entry.file_name().into_string().unwrap(), content(entry.path()))).collect()
        }

        fn kept(&self) -> PathBuf {
            let mut entries = fs::read_dir(self.path("cache/packages")).unwrap();
            entries.next().expect("one package is kept").unwrap().path()
        }
    }

    fn files(packages: &[(&str, &str)]) -> BTreeMap<String, String> {
        packages.iter().map(|(name, content)| (format!("{name}_1_all.deb"), (*content).to_owned())).collect()
    }

    #[test]
    fn a_download_is_offered_where_the_index_has_its_digest() {
        let world = World::new();
        world.index(&[("toy", "right"), ("other", "other")]);
        world.download("toy", "right");
        assert_eq!(world.offered(), files(&[("toy", "right")]));
        world.index(&[("toy", "newer"), ("other", "right")]);
        assert_eq!(world.offered(), files(&[]));
        world.index(&[("toy", "right"), ("toy", "of another repository")]);
        assert_eq!(world.offered(), files(&[]), "apt may mean either");
    }

    #[test]
    fn what_a_hook_left_under_the_name_of_a_package_is_not_kept() {
        let world = World::new();
        world.index(&[("toy", "right")]);
        world.download("toy", "wrong");
        world.download("unknown", "unknown");
        assert!(!world.downloads().directory.join("x").exists());
        assert_eq!(fs::read_dir(world.path("cache/packages")).unwrap().count(), 0);
    }

    #[test]
    fn a_kept_file_that_changed_is_not_offered() {
        let world = World::new();
        world.index(&[("toy", "right")]);
        for damage in ["wrong", "longer than it was", ""] {
            world.download("toy", "right");
            assert_eq!(world.offered(), files(&[("toy", "right")]));
            let modified = fs::metadata(world.kept()).unwrap().modified().unwrap();
            let kept = world.kept();
            fs::write(&kept, damage).unwrap();
            File::options().write(true).open(&kept).unwrap().set_modified(modified).unwrap();
            assert_eq!(world.offered(), files(&[]), "{damage}");
            assert!(!kept.exists());
        }
    }

    #[test]
    fn a_digest_is_computed_once() {
        let world = World::new();
        world.index(&[("toy", "right")]);
        world.download("toy", "right");
        for _ in 0..3 {
            assert_eq!(world.offered(), files(&[("toy", "right")]));
            let noted = Verified::read(&world.path("cache/verified"));
            let state = State::of(&world.kept()).unwrap().unwrap();
            assert_eq!(noted.0, [(Digest::of("right"), state)].into());
        }
    }

    #[test]
    fn a_root_without_indices_sees_what_is_unambiguous_and_is_verified_afterwards() {
        let world = World::new();
        world.index(&[("toy", "right"), ("other", "one")]);
        world.download("toy", "right");
        world.download("other", "one");
        world.index(&[("other", "two")]);
        world.download("other", "two");
        let offered = world.downloads().offer_all(&world.path("to")).unwrap();
        assert_eq!(world.shown(), files(&[("toy", "right")]));
        for (content, fits) in [("right", true), ("wrong", false)] {
            world.index(&[("toy", content)]);
            assert_eq!(Download::all_fit(&offered, &world.path("lists")).unwrap(), fits, "{content}");
        }
        world.index(&[]);
        assert!(Download::all_fit(&offered, &world.path("lists")).unwrap(), "apt had no use for it");
    }
}
