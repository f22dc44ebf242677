//! Downloaded packages. All builds of a store share them, and each name contains the digest.
//!
//! ```text
//! cache/apt/packages/<SHA-256>-<apt's name>
//! cache/apt/verified                            digests that were computed, and the files' states at that time
//! ```
//!
//! apt installs an existing download if name and size match, and does not compute its digest. A
//! file is therefore shown to apt only if the package indices of the root list it with its digest.
//! Hooks see it below a layer of their own, so that they cannot change the shared file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::cache::{failed, link, move_file, remove_directory, remove_file, state_of};
use super::index::{Archives, package_of};
use super::{index, rpm_index};
use crate::directory::Verified;
use crate::oci::Digest;
use crate::port::PackageError;

/// The longest name of a file, in bytes.
const LONGEST_NAME: usize = 255;

/// The shared downloads.
#[derive(Debug)]
pub(super) struct Downloads {
    directory: PathBuf,
    verified: PathBuf,
}

/// A shared download.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Download {
    /// apt's name of the file.
    name: String,
    digest: Digest,
}

impl Downloads {
    /// Returns the downloads below the directory `cache`.
    pub(super) fn new(cache: &Path) -> Self {
        Self { directory: cache.join("packages"), verified: cache.join("verified") }
    }

    /// Makes the directory `to` contain exactly the files that the indices name. Creates `to`.
    pub(super) fn offer(&self, index: Index<'_>, to: &Path) -> Result<(), PackageError> {
        let known = self.list()?;
        let named = index.archives(&known)?;
        fs::create_dir_all(to).map_err(failed("make directory", to))?;
        let fitting = known.iter().filter(|download| is_named(&named, download));
        let fitting: BTreeMap<_, _> = fitting.map(|download| (download.name.as_str(), download)).collect();
        self.withdraw(&fitting, to)?;
        self.show(fitting.into_values(), to)
    }

    /// Shows every file with a unique name in `to`, and returns these files. For a root without
    /// indices.
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

    /// Keeps the files in the directory `from` that the indices name. Nothing may write to them any
    /// more.
    pub(super) fn keep(&self, from: &Path, index: Index<'_>) -> Result<(), PackageError> {
        let mut new = BTreeSet::new();
        for entry in fs::read_dir(from).map_err(failed("read", from))? {
            let entry = entry.map_err(failed("read", from))?;
            let is_package = entry.file_name().as_encoded_bytes().ends_with(index.extension());
            if let Ok(name) = entry.file_name().into_string()
                && is_package
                // A hook may have put a link there, and plywood would follow it on the build host.
                && entry.file_type().is_ok_and(|kind| kind.is_file())
            {
                new.insert(Download { name, digest: digest_of(&entry.path())? });
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let named = index.archives(&new)?;
        fs::create_dir_all(&self.directory).map_err(failed("make directory", &self.directory))?;
        let mut verified = Verified::read(&self.verified);
        for download in new.iter().filter(|download| is_named(&named, download)) {
            let (downloaded, path) = (from.join(&download.name), self.path(download));
            // With the digest, the name may be too long. Such a package is not kept.
            if path.file_name().is_some_and(|name| name.len() <= LONGEST_NAME) {
                link(&downloaded, &path)?;
                move_from(&mut verified, &downloaded, &path, download.digest)?;
            }
        }
        write(&verified, &from.with_added_extension("verified"), &self.verified)
    }

    /// Removes the files in `to` at the end of a session, and records the new states of the shared
    /// files. Otherwise the next build would compute every digest again, because removing a hard
    /// link changes the change time.
    pub(super) fn take_back(&self, to: &Path) -> Result<(), PackageError> {
        let mut verified = Verified::read(&self.verified);
        for download in self.list()? {
            let (path, shown) = (self.path(&download), to.join(&download.name));
            if let Some(state) = state_of(&shown)?
                && verified.has(&download.digest, &state)
            {
                move_from(&mut verified, &shown, &path, download.digest)?;
            }
        }
        write(&verified, &to.with_added_extension("verified"), &self.verified)
    }

    fn list(&self) -> Result<BTreeSet<Download>, PackageError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(failed("read", &self.directory))?,
        };
        let mut found = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.directory))?;
            // Anything else is damage, and reading a FIFO would block.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                found.extend(entry.file_name().to_str().and_then(Download::parse));
            }
        }
        Ok(found)
    }

    fn path(&self, download: &Download) -> PathBuf {
        self.directory.join(format!("{}-{}", download.digest.hex(), download.name))
    }

    /// Removes every file in `to` that is not in `fitting`. New indices may list an old name with
    /// another digest, and apt would install the old file if the size is equal.
    fn withdraw(&self, fitting: &BTreeMap<&str, &Download>, to: &Path) -> Result<(), PackageError> {
        for entry in fs::read_dir(to).map_err(failed("read", to))? {
            let entry = entry.map_err(failed("read", to))?;
            let name = entry.file_name();
            let fits = name.to_str().and_then(|name| fitting.get(name));
            // A shown file is a hard link of the shared file, so their states are equal. No digest
            // is needed.
            let is_same = match fits {
                Some(download) => state_of(&self.path(download))? == state_of(&entry.path())?,
                None => false,
            };
            if !is_same {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Shows files under apt's names. Removes a shared file whose content does not match the digest
    /// in its name.
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
            let Some(state) = state_of(&path)? else { continue };
            if !before.has(&download.digest, &state) && digest_of(&path)? != download.digest {
                // Another build may have found the damage at the same time.
                remove_file(&path)?;
                continue;
            }
            link(&path, &shown)?;
            // The new hard link has changed the change time, so the new state is recorded.
            if let Some(state) = state_of(&shown)? {
                after.note(download.digest, state);
            }
        }
        // The temporary file is beside `to`, which belongs to this session, so two sessions never
        // write to the same file.
        if after != before {
            write(&after, &to.with_added_extension("verified"), &self.verified)
        } else {
            Ok(())
        }
    }
}

impl Download {
    /// Parses the name of a shared download.
    fn parse(name: &str) -> Option<Self> {
        let (digest, name) = name.split_once('-')?;
        Some(Self { name: name.to_owned(), digest: format!("sha256:{digest}").parse().ok()? })
    }

    /// Returns false if the indices in `lists` list one of these names with another digest, or with
    /// several.
    pub(super) fn all_fit(downloads: &BTreeSet<Self>, lists: &Path) -> Result<bool, PackageError> {
        let named = Index::Apt(lists).archives(downloads)?;
        Ok(downloads.iter().all(|download| !named.contains_key(&download.name) || is_named(&named, download)))
    }
}

fn packages(downloads: &BTreeSet<Download>) -> BTreeSet<&str> {
    downloads.iter().map(|download| package_of(&download.name)).collect()
}

/// Package indices in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) enum Index<'a> {
    /// apt's lists.
    Apt(&'a Path),
    /// The directory `repodata` of a repository.
    Rpm(&'a Path),
}

impl Index<'_> {
    /// Returns the digests that the indices give to the packages of `downloads`.
    fn archives(self, downloads: &BTreeSet<Download>) -> Result<Archives, PackageError> {
        match self {
            Self::Apt(lists) => index::archives(lists, &packages(downloads)),
            Self::Rpm(repodata) => rpm_index::archives(repodata),
        }
    }

    /// Returns the end of the names of packages.
    const fn extension(self) -> &'static [u8] {
        match self {
            Self::Apt(_) => b".deb",
            Self::Rpm(_) => b".rpm",
        }
    }
}

/// Returns true if the indices list the name of the file only with its digest. If they list several
/// digests, only apt knows which one it would install.
fn is_named(named: &Archives, download: &Download) -> bool {
    named.get(&download.name).is_some_and(|digests| digests.iter().eq([&download.digest]))
}

fn digest_of(path: &Path) -> Result<Digest, PackageError> {
    File::open(path).and_then(Digest::of_reader).map_err(failed("read", path))
}

/// Removes the hard link `other` of a file with this digest, and records the new state of its other
/// name `path`.
fn move_from(verified: &mut Verified, other: &Path, path: &Path, digest: Digest) -> Result<(), PackageError> {
    let before = state_of(other)?;
    remove_file(other)?;
    // `path` may be another file, if another build kept the same download first.
    if let (Some(before), Some(after)) = (before, state_of(path)?) {
        verified.note_renamed(digest, &before, after);
    }
    Ok(())
}

/// Writes to `path` through the temporary file `next`, so that readers see a complete file.
fn write(verified: &Verified, next: &Path, path: &Path) -> Result<(), PackageError> {
    fs::write(next, verified.to_text()).map_err(failed("write", next))?;
    // A directory in its place is damage. Nothing in it is needed.
    if path.symlink_metadata().is_ok_and(|status| status.is_dir()) {
        remove_directory(path)?;
    }
    move_file(next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache, the downloads of a session, indices, and the files that a session sees.
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

        /// Makes the indices list version 1 of these packages with these contents.
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
            self.downloads().keep(&self.path("from"), Index::Apt(&self.path("lists"))).unwrap();
        }

        /// Returns the files that a new session sees.
        fn offered(&self) -> BTreeMap<String, String> {
            fs::remove_dir_all(self.path("to")).unwrap();
            fs::create_dir(self.path("to")).unwrap();
            self.downloads().offer(Index::Apt(&self.path("lists")), &self.path("to")).unwrap();
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
    fn a_download_is_offered_if_the_index_has_its_digest() {
        let world = World::new();
        world.index(&[("toy", "right"), ("other", "other")]);
        world.download("toy", "right");
        assert_eq!(world.offered(), files(&[("toy", "right")]));
        world.index(&[("toy", "newer"), ("other", "right")]);
        assert_eq!(world.offered(), files(&[]));
        world.index(&[("toy", "right"), ("toy", "of another repository")]);
        assert_eq!(world.offered(), files(&[]), "apt may choose either");
    }

    #[test]
    fn a_download_that_newer_indices_name_with_another_digest_is_withdrawn() {
        let world = World::new();
        world.index(&[("toy", "right"), ("other", "other")]);
        world.download("toy", "right");
        world.download("other", "other");
        assert_eq!(world.offered(), files(&[("toy", "right"), ("other", "other")]));
        world.index(&[("toy", "newer"), ("other", "other")]);
        world.downloads().offer(Index::Apt(&world.path("lists")), &world.path("to")).unwrap();
        assert_eq!(world.shown(), files(&[("other", "other")]));
    }

    #[test]
    fn a_file_that_a_hook_left_under_the_name_of_a_package_is_not_kept() {
        let world = World::new();
        world.index(&[("toy", "right")]);
        world.download("toy", "wrong");
        world.download("unknown", "unknown");
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
            let state = state_of(&world.kept()).unwrap().unwrap();
            assert!(noted.has(&Digest::of("right"), &state));
        }
    }

    #[test]
    fn digests_are_known_to_the_next_build() {
        let world = World::new();
        world.index(&[("toy", "right")]);
        let is_noted = |after: &str| {
            let noted = Verified::read(&world.path("cache/verified"));
            let state = state_of(&world.kept()).unwrap().unwrap();
            assert!(noted.has(&Digest::of("right"), &state), "{after}");
        };
        world.download("toy", "right");
        is_noted("a download");
        for _ in 0..2 {
            assert_eq!(world.offered(), files(&[("toy", "right")]));
            world.downloads().take_back(&world.path("to")).unwrap();
            assert_eq!(world.shown(), files(&[]));
            is_noted("a session");
        }
    }

    #[test]
    fn a_file_that_changed_during_a_session_is_not_noted() {
        let world = World::new();
        world.index(&[("toy", "right")]);
        world.download("toy", "right");
        world.offered();
        fs::write(world.kept(), "wrong").unwrap();
        world.downloads().take_back(&world.path("to")).unwrap();
        assert_eq!(world.offered(), files(&[]));
    }

    #[test]
    fn a_root_without_indices_sees_unambiguous_downloads_and_is_verified_afterwards() {
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
        assert!(Download::all_fit(&offered, &world.path("lists")).unwrap(), "the indices do not list it");
    }
}
