//! Reads a file as a process sees it whose root is some directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::open_in_root;

/// Reads at most `limit` bytes of the regular file at `path` of the root file system in `root`:
/// symbolic links do not lead out of it. `None` if there is no such file.
///
/// # Errors
/// If it cannot be read.
pub fn read_inside(root: &Path, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let directory = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // A FIFO would keep the reader waiting for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_in_root(directory, Path::new(path), flags) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
        opened => File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_to_files_inside_only() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/real"), "inside").unwrap();
        fs::write(scratch.path().join("secret"), "outside").unwrap();
        symlink("/etc/real", root.join("etc/absolute")).unwrap();
        symlink("../../../../etc/real", root.join("etc/far")).unwrap();
        symlink("../../secret", root.join("etc/out")).unwrap();
        let read = |path: &str| read_inside(&root, path, 4).unwrap();
        for path in ["/etc/real", "etc/absolute", "/etc/far"] {
            assert_eq!(read(path).as_deref(), Some(b"insi".as_slice()), "{path}");
        }
        for path in ["/etc/out", "/etc/none", "/etc", "/etc/real/x"] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}
