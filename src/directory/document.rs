//! Reads files that users write: definitions, lists, accounts, keys.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs};

use super::path_of;

/// Limit of the size of a document. Real ones are a few kilobytes; a wrong path may lead to a disk
/// image.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// `PIPEFS_MAGIC`: the file system of pipes without a name.
const PIPES: u64 = 0x5049_5045;

/// Reads a document: a regular file, or a pipe without a name such as `/dev/stdin` and a shell's
/// `<(command)`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a directory, FIFO, socket or device, without opening it;
/// [`io::ErrorKind::FileTooLarge`] for more than [`MAX_DOCUMENT_BYTES`].
pub fn read_document(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_document(path)?.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= MAX_DOCUMENT_BYTES {
        true => Ok(bytes),
        false => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} MiB: expected a text", MAX_DOCUMENT_BYTES >> 20),
        )),
    }
}

/// Reads a document of UTF-8 text.
///
/// # Errors
/// As [`read_document`]; [`io::ErrorKind::InvalidData`] with the line that is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    as_text(&read_document(path)?).map(str::to_owned)
}

/// Returns the bytes of a document as text, without the byte order mark that some editors write at
/// the start.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] with the line that is not UTF-8.
pub fn as_text(bytes: &[u8]) -> io::Result<&str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8 text"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Opens a regular file to read. Never waits, as opening a FIFO would.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for anything else, without opening it.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open_document(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe: expected a regular file")),
    }
}

fn open_document(path: &Path) -> io::Result<File> {
    // Examined first: opening a FIFO blocks, and opening a device may have effects.
    let found = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    refuse_special(&found)?;
    // By the descriptor: the name may belong to another file by now.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::open(path_of(&found), flags, Mode::empty()) {
        Ok(file) => Ok(file.into()),
        // Without `/proc`, by the name. Checked again, because the name may belong to another file
        // by now.
        Err(rustix::io::Errno::NOENT) => {
            let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty())?;
            refuse_special(&file)?;
            Ok(file.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn refuse_special(found: &OwnedFd) -> io::Result<()> {
    let kind = match FileType::from_raw_mode(fstat(found)?.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Fifo if fstatfs(found)?.f_type as u64 == PIPES => return Ok(()),
        FileType::Directory => "directory",
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        _ => "device",
    };
    let reason = format!("it is a {kind}: expected a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("text"), "\u{feff}a\n").unwrap();
        fs::write(at("latin"), b"a\nb\xe9\n").unwrap();
        symlink("text", at("link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        File::create(at("large")).unwrap().set_len(3 << 30).unwrap();
        let read = |path: PathBuf| read_text(&path).map_err(|error| error.to_string());
        assert_eq!(read(at("text")).as_deref(), Ok("a\n"));
        assert_eq!(read(at("link")).as_deref(), Ok("a\n"));
        for (path, expected) in [
            (at("latin"), "line 2 is not UTF-8 text"),
            (at("loop"), "Too many levels of symbolic links (os error 40)"),
            (at("pipe"), "it is a named pipe: expected a regular file"),
            (at("socket"), "it is a socket: expected a regular file"),
            (place.path().to_owned(), "it is a directory: expected a regular file"),
            ("/dev/zero".into(), "it is a device: expected a regular file"),
            (at("large"), "it is larger than 4 MiB: expected a text"),
        ] {
            assert_eq!(read(path.clone()), Err(expected.to_owned()), "{}", path.display());
        }
    }

    #[test]
    fn a_pipe_of_a_shell_is_read() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"text").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        assert_eq!(open_regular(&path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(read_text(&path).unwrap(), "text");
    }
}
