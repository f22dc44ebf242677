//! Digests of files that were computed once, with the states that the files had.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::read_text;
use crate::oci::Digest;

/// The device, inode, size and times of a file. If they are unchanged, the content is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState([i128; 5]);

impl FileState {
    /// Returns the state of a file, or `None` if it does not exist. Symbolic links are not
    /// followed.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            metadata => Ok(Some(Self::from(&metadata?))),
        }
    }

    /// Returns true if device, inode, size and modification time are equal. The change time may
    /// differ, because it changes with each new or removed hard link.
    fn is_same_content(&self, other: &Self) -> bool {
        self.0[..4] == other.0[..4]
    }
}

impl From<&Metadata> for FileState {
    fn from(metadata: &Metadata) -> Self {
        let time =
            |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let modified = time(metadata.mtime(), metadata.mtime_nsec());
        // Programs can reset the modification time, but not the change time.
        let changed = time(metadata.ctime(), metadata.ctime_nsec());
        Self([metadata.dev().into(), metadata.ino().into(), metadata.size().into(), modified, changed])
    }
}

/// The states of files when their digests were computed, so that each digest is computed once. A
/// lost entry costs only time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified(BTreeMap<Digest, FileState>);

impl Verified {
    /// Reads a text that [`Verified::to_text`] returned. Without this file, or for an unreadable
    /// line, digests are computed again.
    pub fn read(path: &Path) -> Self {
        let text = read_text(path).unwrap_or_default();
        Self(text.lines().filter_map(parse).collect())
    }

    /// Returns the text of a file that [`Verified::read`] reads.
    pub fn to_text(&self) -> String {
        let line = |(digest, FileState(numbers)): (&Digest, &FileState)| {
            let numbers: String = numbers.iter().map(|number| format!(" {number}")).collect();
            format!("{}{numbers}\n", digest.hex())
        };
        self.0.iter().map(line).collect()
    }

    /// Returns true if a file with this state has this digest.
    pub fn has(&self, digest: &Digest, state: &FileState) -> bool {
        self.0.get(digest) == Some(state)
    }

    /// Notes that a file with this state has this digest.
    pub fn note(&mut self, digest: Digest, state: FileState) {
        self.0.insert(digest, state);
    }

    /// Notes the state `after` of a file that had this digest in the state `before`, unless its
    /// content may have changed in between. A new or removed hard link changes only the change
    /// time.
    pub fn note_renamed(&mut self, digest: Digest, before: &FileState, after: FileState) {
        if after.is_same_content(before) {
            self.note(digest, after);
        }
    }
}

fn parse(line: &str) -> Option<(Digest, FileState)> {
    let (digest, numbers) = line.split_once(' ')?;
    let numbers = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<Vec<_>>>()?;
    Some((format!("sha256:{digest}").parse().ok()?, FileState(numbers.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_file_is_known_until_its_content_changes() {
        type Change<'a> = (&'a str, &'a dyn Fn(&Path));
        let changes: [Change; 3] = [
            ("longer", &|path| fs::write(path, "content and more").unwrap()),
            ("other bytes of the same size and time", &|path| {
                let modified = fs::metadata(path).unwrap().modified().unwrap();
                fs::write(path, "CONTENT").unwrap();
                File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
            }),
            ("another file of the same size and time", &|path| {
                let modified = fs::metadata(path).unwrap().modified().unwrap();
                fs::write(path.with_extension("new"), "CONTENT").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
                File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
            }),
        ];
        for (what, change) in changes {
            let place = tempfile::tempdir().unwrap();
            let (path, noted) = (place.path().join("file"), place.path().join("noted"));
            fs::write(&path, "content").unwrap();
            let state = || FileState::of(&path).unwrap().unwrap();
            let mut verified = Verified::default();
            verified.note(Digest::of("content"), state());
            fs::write(&noted, format!("damage\n{}", verified.to_text())).unwrap();
            let verified = Verified::read(&noted);
            assert!(verified.has(&Digest::of("content"), &state()));
            assert!(!verified.has(&Digest::of("other"), &state()));
            change(&path);
            assert!(!verified.has(&Digest::of("content"), &state()), "{what}");
        }
    }

    #[test]
    fn a_file_with_a_new_hard_link_stays_known_but_not_a_changed_file() {
        let place = tempfile::tempdir().unwrap();
        let (path, digest) = (place.path().join("file"), Digest::of("content"));
        fs::write(&path, "content").unwrap();
        let state = || FileState::of(&path).unwrap().unwrap();
        let before = state();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::hard_link(&path, place.path().join("name")).unwrap();
        let mut verified = Verified::default();
        verified.note(digest, before.clone());
        assert!(!verified.has(&digest, &state()));
        verified.note_renamed(digest, &before, state());
        assert!(verified.has(&digest, &state()));
        fs::write(&path, "CONTENT").unwrap();
        verified.note_renamed(digest, &before, state());
        assert!(!verified.has(&digest, &state()));
    }
}
