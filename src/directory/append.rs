//! Opens files to append to them, such as logs.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat, fstat};
use rustix::io::Errno;

use super::walk::trusted_users;
use super::{Directory, PATH_ONLY, reopen_regular};

/// Mode bits that allow users other than the owner to write.
const SHARED: u32 = 0o022;

/// Opens a file to append to it, and makes it if it is missing. Returns the file, and true if it is
/// new.
///
/// In a directory that only this user, root or the caller of `sudo` can write to, the name may also
/// be a link, a FIFO or a device (`/dev/stdout`). Elsewhere it must be a regular file with one
/// name, because other users may have put it there.
///
/// # Errors
/// As [`Directory::open`]; [`io::ErrorKind::PermissionDenied`] for anything other than a regular
/// file with one name in a directory that other users can write to.
pub fn open_to_append(path: &Path) -> io::Result<(File, bool)> {
    let (directory, name) = Directory::of_file(path)?;
    // First as a new file: `O_EXCL` makes sure that it is not a link of another user.
    match directory.create_file(&name, 0o666) {
        Ok(file) => {
            rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
            return Ok((file, true));
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if is_private(&fstat(&directory)?) {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &name, flags, Mode::from_raw_mode(0o666))?;
        return Ok((file.into(), false));
    }
    let found = rustix::fs::openat(&directory, &name, PATH_ONLY, Mode::empty())?;
    // A file with a second name may be a file of root that another user has linked here.
    let file = match fstat(&found)?.st_nlink {
        1 => reopen_regular(&found, OFlags::WRONLY | OFlags::APPEND),
        _ => Err(Errno::MLINK.into()),
    };
    file.map(|file| (file, false)).map_err(|_| {
        let reason = "others can write to its directory, and have put a link or something else there that is not a plain file";
        io::Error::new(io::ErrorKind::PermissionDenied, reason)
    })
}

fn is_private(directory: &Stat) -> bool {
    trusted_users().contains(&directory.st_uid) && directory.st_mode & SHARED == 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn append(path: &Path, text: &str) -> io::Result<bool> {
        let (mut file, is_new) = open_to_append(path)?;
        file.write_all(text.as_bytes())?;
        Ok(is_new)
    }

    #[test]
    fn a_file_is_continued() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        assert!(append(&path, "a").unwrap());
        assert!(!append(&path, "b").unwrap());
        symlink("log", place.path().join("link")).unwrap();
        assert!(!append(&place.path().join("link"), "c").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        append(Path::new("/dev/null"), "d").unwrap();
    }

    #[test]
    fn links_and_fifos_of_other_users_are_not_written_to() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("secret"), "kept").unwrap();
        fs::create_dir(at("shared")).unwrap();
        fs::set_permissions(at("shared"), Permissions::from_mode(0o1777)).unwrap();
        symlink("../secret", at("shared/link")).unwrap();
        symlink("../new", at("shared/dangling")).unwrap();
        fs::hard_link(at("secret"), at("shared/hard")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("shared/fifo"), rustix::fs::FileType::Fifo, 0o666.into(), 0)
            .unwrap();
        for name in ["link", "dangling", "hard", "fifo"] {
            let error = append(&at("shared").join(name), "x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}: {error}");
        }
        assert_eq!((fs::read(at("secret")).unwrap(), at("new").exists()), (b"kept".to_vec(), false));
        assert!(append(&at("shared/log"), "a").unwrap());
        assert!(!append(&at("shared/log"), "b").unwrap());
    }
}
