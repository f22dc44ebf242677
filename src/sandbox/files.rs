//! Reads and writes files of a root without running a program in it.
//!
//! Hooks can leave any links in an image. A link to `/etc/shadow` means the file of the image and
//! never that of the build host, so the kernel resolves each path beneath the root. Files are
//! examined before they are opened: opening a device may have effects, and opening a FIFO blocks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::directory::{open_in_root, reopen_regular};
use crate::port::EntryKind;
use crate::tree::names;

const EXECUTABLE_BY_ANYBODY: u32 = 0o111;

/// An open root.
pub(super) struct Files(OwnedFd);

impl Files {
    /// Opens the root at `path`.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    pub(super) fn look(&self, path: &str) -> io::Result<Option<EntryKind>> {
        let Some(found) = self.find(path, OFlags::PATH)? else { return Ok(None) };
        let mode = rustix::fs::fstat(&found)?.st_mode;
        Ok(Some(match FileType::from_raw_mode(mode) {
            FileType::RegularFile => EntryKind::File { is_executable: mode & EXECUTABLE_BY_ANYBODY != 0 },
            FileType::Directory => EntryKind::Directory,
            _ => EntryKind::Other,
        }))
    }

    pub(super) fn read(&self, path: &str, most_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(found) = self.find(path, OFlags::PATH)? else { return Ok(None) };
        let mut bytes = Vec::new();
        reopen_regular(&found, OFlags::RDONLY)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most_bytes {
            let text = format!("it has more than {most_bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(Some(bytes))
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let Some(found) = self.find(path, OFlags::RDONLY | OFlags::DIRECTORY)? else { return Ok(Vec::new()) };
        let mut names: Vec<_> = names(found)?.into_iter().flat_map(String::from_utf8).collect();
        names.sort();
        Ok(names)
    }

    pub(super) fn write(&self, path: &str, content: &[u8], seconds: i64) -> io::Result<()> {
        let (directory, name) = split(path)?;
        let directory = self.make_directories(directory)?;
        remove(&directory, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600))?);
        file.write_all(content)?;
        // A setgid directory gives its group to new files, and the umask of this process limits
        // their modes. The mode comes last: a change of owner may clear bits of it.
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        Ok(rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?)
    }

    pub(super) fn remove(&self, path: &str) -> io::Result<()> {
        let (directory, name) = split(path)?;
        let directory = self.open(directory, OFlags::PATH | OFlags::DIRECTORY);
        match directory {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            directory => remove(&directory?, name),
        }
    }

    /// Opens a directory. Creates it and those above it if they are missing.
    fn make_directories(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let (mut here, mut directory) = (PathBuf::from("/"), self.open(Path::new("/"), flags)?);
        for step in path.components().skip(1) {
            here.push(step);
            // From the root, and not from `directory`: a link may be absolute.
            directory = match self.open(&here, flags) {
                Err(Errno::NOENT) => make_directory(&directory, step.as_os_str())?,
                opened => opened?,
            };
        }
        Ok(directory)
    }

    /// Opens the entry at `path`; `None` if there is none.
    fn find(&self, path: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        match self.open(Path::new(path), flags) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        open_in_root(&self.0, path, flags)
    }
}

/// Splits an absolute path without `..` into a directory and a name.
fn split(path: &str) -> io::Result<(&Path, &OsStr)> {
    let path = Path::new(path);
    let is_plain = path.has_root() && path.components().all(|step| step != Component::ParentDir);
    let parts = path.parent().zip(path.file_name()).filter(|_| is_plain);
    parts.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(parent, name, mode)?;
    // mkdir(2) applies the umask of this process.
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

fn remove(directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// Returns a root with links that lead out of it. A directory beside it stands for the build
    /// host.
    fn planted() -> (tempfile::TempDir, Files) {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("machine/etc")).unwrap();
        fs::create_dir_all(at("root/usr/lib")).unwrap();
        fs::write(at("machine/secret"), "of the machine").unwrap();
        fs::write(at("root/usr/lib/os-release"), "ID=debian").unwrap();
        for (target, link) in [
            (at("machine/secret").to_str().unwrap(), "absolute"),
            ("../machine/secret", "upwards"),
            (at("machine").to_str().unwrap(), "etc"),
            ("../../../../machine", "boot"),
            ("/usr/lib", "lib"),
            ("loop", "loop"),
        ] {
            symlink(target, at("root").join(link)).unwrap();
        }
        let files = Files::of(&at("root")).unwrap();
        (place, files)
    }

    #[test]
    fn links_of_an_image_never_lead_to_files_of_the_build_host() {
        let (place, files) = planted();
        for path in ["/absolute", "/upwards", "/etc/secret", "/boot/secret", "/../machine/secret", "/loop"] {
            assert_eq!(files.look(path).unwrap(), None, "{path}");
            assert_eq!(files.read(path, 99).unwrap(), None, "{path}");
        }
        for path in ["/etc", "/boot", "/absolute"] {
            assert!(files.list(path).unwrap().is_empty(), "{path}");
        }
        // Writing replaces a link at the path itself. A link above it leads to a name that does not
        // exist in this root.
        files.write("/absolute", b"own", 1).unwrap();
        assert_eq!(files.read("/absolute", 3).unwrap().unwrap(), b"own");
        assert!(files.write("/etc/fstab", b"x", 1).is_err());
        assert!(files.write("/boot/../etc/fstab", b"x", 1).is_err());
        files.remove("/etc/secret").unwrap();
        files.remove("/upwards").unwrap();
        assert_eq!(fs::read(place.path().join("machine/secret")).unwrap(), b"of the machine");
        assert_eq!(fs::read_dir(place.path().join("machine")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(place.path().join("machine/etc")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_within_the_root_is_followed() {
        let (_place, files) = planted();
        assert_eq!(files.read("/lib/os-release", 99).unwrap().unwrap(), b"ID=debian");
        assert_eq!(files.list("/lib").unwrap(), ["os-release"]);
        assert_eq!(files.look("/lib").unwrap(), Some(EntryKind::Directory));
        files.write("/lib/grub/x", b"", 1).unwrap();
        assert_eq!(files.list("/usr/lib/grub").unwrap(), ["x"]);
    }

    #[test]
    fn a_file_is_written_with_its_mode_and_time_whatever_was_there() {
        let (place, files) = planted();
        let at = |name: &str| place.path().join("root").join(name);
        fs::write(at("old"), "longer than the new one").unwrap();
        fs::set_permissions(at("old"), PermissionsExt::from_mode(0o400)).unwrap();
        for path in ["old", "new/deep/file"] {
            files.write(&format!("/{path}"), b"text", 1_700_000_000).unwrap();
            let found = fs::metadata(at(path)).unwrap();
            assert_eq!(
                (found.mode() & 0o7777, found.mtime(), found.atime()),
                (0o644, 1_700_000_000, 1_700_000_000)
            );
            assert_eq!(fs::read(at(path)).unwrap(), b"text");
        }
        assert_eq!(fs::metadata(at("new/deep")).unwrap().mode() & 0o7777, 0o755);
        files.remove("/new/deep/file").unwrap();
        files.remove("/new/deep/file").unwrap();
        files.remove("/nowhere/file").unwrap();
        assert!(files.list("/new/deep").unwrap().is_empty());
    }

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let (place, files) = planted();
        let fifo = place.path().join("root/fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(files.look("/fifo").unwrap(), Some(EntryKind::Other));
        assert!(files.read("/fifo", 99).is_err() && files.read("/usr", 99).is_err());
        assert_eq!(files.read("/usr/lib/os-release", 9).unwrap().unwrap().len(), 9);
        let error = files.read("/usr/lib/os-release", 8).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 8 bytes");
        fs::set_permissions(place.path().join("root/usr/lib/os-release"), PermissionsExt::from_mode(0o755))
            .unwrap();
        assert_eq!(files.look("/lib/os-release").unwrap(), Some(EntryKind::File { is_executable: true }));
    }
}
