//! Observes the files of the build host that hooks read, as evidence.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::directory::open_regular;
use crate::oci::{Digest, Hasher};
use crate::plan::{Aspect, NAMES, Stamp};
use crate::port::{HostFiles, Observation};
use crate::tree::{FileRef, sorted_paths};

/// A file is settled if its last change is older than this. Any later change then gives it another
/// stamp: file systems keep times in steps of at most two seconds (FAT).
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// How long the list of names on the build host is reused.
const NAMES_LAST: Duration = Duration::from_secs(1);

/// The largest number of names that are read below each entry of the directories [`NAMES`], highest
/// levels first. `/opt` may hold whole distributions.
const MOST_NAMES: usize = 10_000;

/// The files of the build host.
#[derive(Default)]
pub struct HostFileSystem {
    /// Digests that were computed before.
    digests: Mutex<HashMap<(String, Aspect, Stamp), Digest>>,
    names: Mutex<Option<(Instant, BTreeMap<String, Digest>)>>,
}

impl HostFiles for HostFileSystem {
    fn stamp(&self, path: &str) -> Option<Stamp> {
        fs::symlink_metadata(path).ok().map(|found| stamp_of(&found))
    }

    fn observe(&self, path: &str, aspect: Aspect) -> Option<Observation> {
        let found = fs::symlink_metadata(path).ok()?;
        let is_settled = is_settled(&found) && stamp_tells(Path::new(path), &found, aspect);
        let before = stamp_of(&found);
        let known = (path.to_owned(), aspect, before.clone());
        if let Some(digest) = lock(&self.digests).get(&known).filter(|_| is_settled) {
            return Some(Observation { digest: *digest, stamp: Some(before), is_settled });
        }
        let digest = digest(Path::new(path), &found, aspect).ok()?;
        // If the file was written to in the meantime, the digest belongs to neither state.
        let stamp = Some(before).filter(|before| self.stamp(path).as_ref() == Some(before));
        // A file that is not settled may change and keep its stamp. Its digest must not be reused
        // later.
        if stamp.is_some() && is_settled {
            lock(&self.digests).insert(known, digest);
        }
        Some(Observation { digest, stamp, is_settled })
    }

    fn hidden(&self, path: &str, aspect: Option<Aspect>) -> Option<PathBuf> {
        let path = Path::new(path);
        // The link itself and its target: the target may lie in a directory that this user cannot
        // enter.
        if is_hidden(fs::symlink_metadata(path)) || is_hidden(fs::canonicalize(path)) {
            return Some(path.to_owned());
        }
        match aspect {
            Some(Aspect::Entry) => None,
            Some(Aspect::Content) => is_hidden(open_regular(path)).then(|| path.to_owned()),
            Some(Aspect::Listing | Aspect::Links) => is_hidden(sorted_paths(path)).then(|| path.to_owned()),
            Some(Aspect::Names) | None => hidden_below(path),
        }
    }

    fn names(&self) -> BTreeMap<String, Digest> {
        let mut known = lock(&self.names);
        match known.as_ref() {
            Some((when, names)) if when.elapsed() < NAMES_LAST => names.clone(),
            _ => known.insert((Instant::now(), all_names(&NAMES))).1.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamp_of(found: &Metadata) -> Stamp {
    let nanoseconds = |time: i64| u32::try_from(time).unwrap_or_default();
    let modified = (found.mtime(), nanoseconds(found.mtime_nsec()));
    Stamp::new(found.size(), modified, (found.ctime(), nanoseconds(found.ctime_nsec())))
}

/// Returns true if any later change of the file gives it another stamp.
fn is_settled(found: &Metadata) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_sub(found.ctime());
    age >= SETTLED_AFTER.as_secs() as i64
}

/// Returns true if an equal stamp proves that the path is unchanged in this aspect.
fn stamp_tells(path: &Path, found: &Metadata, aspect: Aspect) -> bool {
    // Another file system may have been mounted there since. Images of file systems that were built
    // by one recipe may have files of equal sizes and times and different content. Such images are
    // read-only, so the stamp counts only on writable file systems.
    let is_writable = || statvfs(path).is_ok_and(|system| !system.f_flag.contains(StatVfsMountFlags::RDONLY));
    // A directory keeps its stamp when something below it changes. A link keeps its stamp when
    // another link on the way to its target changes.
    !found.is_symlink() && !matches!(aspect, Aspect::Listing | Aspect::Names) && is_writable()
}

fn digest(path: &Path, found: &Metadata, aspect: Aspect) -> io::Result<Digest> {
    match aspect {
        Aspect::Content if found.is_file() => {
            let mut hasher = Hasher::default();
            add_entry(&mut hasher, path, found);
            let file = open_regular(path)?;
            add_attributes(&mut hasher, &file)?;
            hasher.update(Digest::of_reader(file)?.bytes());
            Ok(hasher.finish())
        }
        Aspect::Listing if found.is_dir() => {
            let mut hasher = Hasher::default();
            add_entry(&mut hasher, path, found);
            for path in sorted_paths(path)? {
                add_path(&mut hasher, &path);
            }
            Ok(hasher.finish())
        }
        // A hook follows a link, so the digest does as well.
        Aspect::Names if path.is_dir() => Ok(names_below(&fs::canonicalize(path)?)),
        Aspect::Links if found.is_dir() => {
            let mut hasher = Hasher::default();
            for path in sorted_paths(path)?.iter().filter(|path| path.is_symlink()) {
                add_path(&mut hasher, path);
            }
            Ok(hasher.finish())
        }
        Aspect::Entry => {
            let mut hasher = Hasher::default();
            add_entry(&mut hasher, path, found);
            // If the link `/srv/current` changes, a hook that reads `/srv/current/x` reads another
            // file, even if both files have equal entries.
            let parent = path.parent().unwrap_or(path);
            let leads_to = fs::canonicalize(path).or_else(|_| fs::canonicalize(parent));
            if let Some(elsewhere) = leads_to.ok().filter(|found| found != path && found != parent) {
                add(&mut hasher, elsewhere.as_os_str().as_bytes());
            }
            Ok(hasher.finish())
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Adds a path and its entry, as [`add_entry`] does. Adds nothing if the path no longer exists.
fn add_path(hasher: &mut Hasher, path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    add(hasher, path.as_os_str().as_bytes());
    add_entry(hasher, path, &found);
}

/// Adds type, mode, owner, whether a file is empty, and the target of a link.
fn add_entry(hasher: &mut Hasher, path: &Path, found: &Metadata) {
    for number in [found.mode(), found.uid(), found.gid(), u32::from(found.is_file() && found.size() == 0)] {
        hasher.update(&number.to_le_bytes());
    }
    if found.is_symlink() {
        // A link that cannot be read counts as a link with an empty target.
        add(hasher, fs::read_link(path).unwrap_or_default().as_os_str().as_bytes());
    }
}

/// Adds the extended attributes that a copy may keep, in byte order. The kernel's order depends on
/// the file system and its history.
fn add_attributes(hasher: &mut Hasher, file: &File) -> io::Result<()> {
    for (name, value) in FileRef::Open(file.as_fd()).content()? {
        add(hasher, &name);
        add(hasher, &value);
    }
    Ok(())
}

fn add(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Returns a digest of all names below each entry of `directories`. A directory that cannot be read
/// counts as empty.
fn all_names(directories: &[&str]) -> BTreeMap<String, Digest> {
    let entries =
        directories.iter().flat_map(|directory| sorted_paths(Path::new(directory)).unwrap_or_default());
    entries.map(|path| (path.to_string_lossy().into_owned(), names_below(&path))).collect()
}

/// Returns a digest of a path and at most [`MOST_NAMES`] names below it, highest levels first.
fn names_below(path: &Path) -> Digest {
    let mut hasher = Hasher::default();
    for path in walk(path) {
        add_path(&mut hasher, &path);
    }
    hasher.finish()
}

/// Returns the first directory at or below a path, among those that [`names_below`] reads, whose
/// entries this user may not read.
fn hidden_below(path: &Path) -> Option<PathBuf> {
    walk(path).find(|path| is_directory(path) && is_hidden(sorted_paths(path)))
}

/// Returns a path and the paths below it, highest levels first, at most [`MOST_NAMES`].
fn walk(path: &Path) -> impl Iterator<Item = PathBuf> {
    let mut next = VecDeque::from([path.to_owned()]);
    std::iter::from_fn(move || {
        let path = next.pop_front()?;
        if is_directory(&path) {
            next.extend(sorted_paths(&path).unwrap_or_default());
        }
        Some(path)
    })
    .take(MOST_NAMES)
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn is_hidden<T>(look: io::Result<T>) -> bool {
    look.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_that_became_a_fifo_does_not_block() {
        use rustix::fs::{CWD, FileType, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mknodat(CWD, &path, FileType::Fifo, 0o600.into(), 0).unwrap();
        let (host, path) = (HostFileSystem::default(), path.to_str().unwrap());
        assert!(host.observe(path, Aspect::Content).is_none());
        assert_eq!(host.hidden(path, Some(Aspect::Content)), None);
    }

    #[test]
    fn each_aspect_changes_with_the_facts_that_a_hook_can_observe() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let reset = || {
            fs::remove_dir_all(at("d")).ok();
            fs::create_dir_all(at("d/sub")).unwrap();
            fs::write(at("d/a"), "a").unwrap();
            symlink("a", at("d/link")).unwrap();
        };
        let seen = || {
            let host = HostFileSystem::default();
            let path = |name: &str| at(name).to_str().unwrap().to_owned();
            let of = |name, aspect| host.observe(&path(name), aspect).map(|found| found.digest);
            let names = all_names(&[dir.path().to_str().unwrap()]);
            (of("d/a", Aspect::Content), of("d", Aspect::Listing), of("d/link", Aspect::Entry), names)
        };
        type Change = (&'static str, fn(&Path), [bool; 4]);
        let table: [Change; 8] = [
            ("nothing", |_| (), [false, false, false, false]),
            ("content", |d| fs::write(d.join("a"), "b").unwrap(), [true, false, false, false]),
            ("no content", |d| fs::write(d.join("a"), "").unwrap(), [true, true, false, true]),
            (
                "mode",
                |d| fs::set_permissions(d.join("a"), Permissions::from_mode(0o600)).unwrap(),
                [true, true, false, true],
            ),
            (
                "an attribute",
                |d| {
                    rustix::fs::setxattr(d.join("a"), "user.x", b"1", rustix::fs::XattrFlags::empty())
                        .unwrap()
                },
                [true, false, false, false],
            ),
            ("a name more", |d| fs::write(d.join("b"), "").unwrap(), [false, true, false, true]),
            ("a name more below", |d| fs::write(d.join("sub/b"), "").unwrap(), [false, false, false, true]),
            (
                "another target of a link",
                |d| {
                    fs::remove_file(d.join("link")).unwrap();
                    symlink("b", d.join("link")).unwrap();
                },
                [false, true, true, true],
            ),
        ];
        for (case, change, expected) in table {
            reset();
            let before = seen();
            change(&at("d"));
            let after = seen();
            let differs =
                [before.0 != after.0, before.1 != after.1, before.2 != after.2, before.3 != after.3];
            assert_eq!(differs, expected, "{case}");
        }
    }

    #[test]
    fn an_entry_changes_if_a_link_on_the_way_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("a"), version).unwrap();
        }
        symlink("current/a", at("link")).unwrap();
        let host = HostFileSystem::default();
        let mut seen = Vec::new();
        for version in ["one", "two"] {
            fs::remove_file(at("current")).ok();
            symlink(version, at("current")).unwrap();
            let entry = |name: &str| host.observe(at(name).to_str().unwrap(), Aspect::Entry).unwrap();
            assert!(!entry("link").is_settled, "the stamp does not change with the link");
            seen.push(["current/a", "link"].map(|name| entry(name).digest));
        }
        assert!(seen[0][0] != seen[1][0] && seen[0][1] != seen[1][1]);
    }

    #[test]
    fn missing_files_and_files_of_another_kind_are_not_observed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let host = HostFileSystem::default();
        assert_eq!(host.observe(path, Aspect::Content), None);
        assert_eq!(host.observe(&format!("{path}/absent"), Aspect::Entry), None);
        assert!(!host.observe(path, Aspect::Listing).unwrap().is_settled, "the directory is new");
        assert!(host.observe("/etc", Aspect::Entry).unwrap().is_settled);
    }
}
