//! Copies the files and directories that an image definition names.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{io_error, open_planned, set_mode};
use crate::oci::{Digest, HashingReader};
use crate::plan::{InputFile, InputKind};
use crate::port::HookFilesError;
use crate::tree::sorted_paths;

/// Copies an input with modes 0644 and 0755, whatever the umask. Writes the content that the plan
/// has kept, if it has.
///
/// # Errors
/// [`HookFilesError::Changed`] if the input has changed since the plan was made.
pub(super) fn copy_input(file: &InputFile, target: &Path) -> Result<(), HookFilesError> {
    if let Some(content) = &file.content {
        fs::write(target, content).map_err(io_error("write", target))?;
        return set_mode(target, mode_of(file.is_executable));
    }
    // Hashed while it is copied: hashing the source first would miss a change before the copy.
    match copy(&file.path, target)? {
        digest if digest == file.digest => Ok(()),
        _ => Err(HookFilesError::Changed { path: file.path.clone() }),
    }
}

/// Copies a file or a directory. Returns its digest as an input.
fn copy(source: &Path, target: &Path) -> Result<Digest, HookFilesError> {
    if fs::metadata(source).map_err(io_error("read", source))?.is_dir() {
        return copy_directory(source, target);
    }
    // The plan refuses FIFOs and devices, so `source` was a file.
    let found = open_planned(source)?;
    let mode = found.metadata().map_err(io_error("read", source))?.permissions().mode();
    let is_executable = mode & 0o111 != 0;
    let mut reader = HashingReader::new(found);
    let mut file = File::create_new(target).map_err(io_error("write", target))?;
    io::copy(&mut reader, &mut file).map_err(io_error("copy", source))?;
    set_mode(target, mode_of(is_executable))?;
    Ok(InputFile::digest(reader.finish().0, is_executable))
}

fn copy_directory(source: &Path, target: &Path) -> Result<Digest, HookFilesError> {
    fs::create_dir(target).map_err(io_error("make directory", target))?;
    set_mode(target, 0o755)?;
    let mut entries = Vec::new();
    for entry in sorted_paths(source).map_err(io_error("read", source))? {
        let name = entry.file_name().unwrap_or_default().to_owned();
        let copied = target.join(&name);
        let (kind, digest) = if entry.is_symlink() {
            let link = fs::read_link(&entry).map_err(io_error("read", &entry))?;
            symlink(&link, &copied).map_err(io_error("make symlink", &copied))?;
            (InputKind::Symlink, Digest::of(link.as_os_str().as_encoded_bytes()))
        } else {
            let digest = copy(&entry, &copied)?;
            (if copied.is_dir() { InputKind::Directory } else { InputKind::File }, digest)
        };
        entries.push((name, kind, digest));
    }
    Ok(InputFile::digest_of_directory(&entries))
}

const fn mode_of(is_executable: bool) -> u32 {
    if is_executable { 0o755 } else { 0o644 }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::load::load_input_files;

    fn load(dir: &Path) -> InputFile {
        let files = [("repository".to_owned(), PathBuf::from("repository"))].into();
        load_input_files(dir, &files).unwrap().remove("repository").unwrap()
    }

    #[test]
    fn a_directory_is_copied_whole_unless_it_changed_since_the_plan() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repository");
        fs::create_dir_all(root.join("pool/a")).unwrap();
        fs::write(root.join("pool/a/x.deb"), "x").unwrap();
        symlink("pool", root.join("link")).unwrap();
        let planned = load(dir.path());
        copy_input(&planned, &dir.path().join("copy")).unwrap();
        assert_eq!(fs::read(dir.path().join("copy/link/a/x.deb")).unwrap(), b"x");

        fs::set_permissions(root.join("pool/a/x.deb"), fs::Permissions::from_mode(0o700)).unwrap();
        copy_input(&load(dir.path()), &dir.path().join("program")).unwrap();
        let mode = fs::metadata(dir.path().join("program/pool/a/x.deb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let changed = copy_input(&planned, &dir.path().join("other")).unwrap_err();
        assert!(matches!(changed, HookFilesError::Changed { path } if path == root));
    }

    #[test]
    fn a_file_that_became_a_fifo_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repository");
        fs::write(&path, "x").unwrap();
        let planned = load(dir.path());
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let changed = copy_input(&planned, &dir.path().join("copy")).unwrap_err();
        assert!(matches!(changed, HookFilesError::Changed { .. }), "{changed}");
    }
}
