//! Copies the files of an element.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{io_error, open_planned, set_mode};
use crate::element::{Element, ElementFile, FileKind};
use crate::oci::{Digest, HashingReader};
use crate::port::HookFilesError;

/// Copies the files of `element` for which `place` returns a path. The path is relative to the
/// directory `target`, which is created if it is missing.
///
/// The copies match the identity of the element: their bytes have the recorded digests, and their
/// modes are 0755 or 0644, whatever the umask. Directories get mode 0755. An existing file is an
/// error.
///
/// # Errors
/// [`HookFilesError::Changed`] if a file has changed since the element was read.
pub(super) fn copy_element<'a>(
    element: &'a Element,
    place: impl Fn(&'a str) -> Option<&'a str>,
    target: &Path,
) -> Result<(), HookFilesError> {
    make_directory(target)?;
    for (path, file) in &element.files {
        if let Some(below) = place(path) {
            let target_file = target.join(below);
            make_directories(target, below)?;
            copy_file(file, &element.root.join(path), &target_file)?;
        }
    }
    Ok(())
}

/// Creates the directories between `target` and the file `below` it, each with mode 0755.
fn make_directories(target: &Path, below: &str) -> Result<(), HookFilesError> {
    let mut dir = target.to_owned();
    let parent = Path::new(below).parent().unwrap_or(Path::new(""));
    parent.components().try_for_each(|component| {
        dir.push(component);
        make_directory(&dir)
    })
}

fn make_directory(path: &Path) -> Result<(), HookFilesError> {
    if !path.is_dir() {
        fs::create_dir_all(path).map_err(io_error("make directory", path))?;
        set_mode(path, 0o755)?;
    }
    Ok(())
}

fn copy_file(file: &ElementFile, source: &Path, target: &Path) -> Result<(), HookFilesError> {
    match &file.kind {
        FileKind::EmptyDirectory => make_directory(target),
        FileKind::Symlink(link) => symlink(link, target).map_err(io_error("make symlink", target)),
        FileKind::File { digest, .. } => {
            match &file.text {
                Some(text) => write_file(&mut text.as_ref(), target)?,
                None => copy_checked(source, target, digest)?,
            }
            set_mode(target, file.mode.bits())
        }
    }
}

fn copy_checked(source: &Path, target: &Path, expected: &Digest) -> Result<(), HookFilesError> {
    let mut reader = HashingReader::new(open_planned(source)?);
    write_file(&mut reader, target)?;
    match reader.finish().0 {
        found if found == *expected => Ok(()),
        _ => Err(HookFilesError::Changed { path: source.to_owned() }),
    }
}

fn write_file(content: &mut impl Read, target: &Path) -> Result<(), HookFilesError> {
    let mut file = File::create_new(target).map_err(io_error("write", target))?;
    io::copy(content, &mut file).map(drop).map_err(io_error("write", target))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::load::load_catalog;

    /// Returns a directory of elements with the element `e`.
    fn source() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("e");
        fs::create_dir_all(root.join("static/etc/empty")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("static/etc/motd"), "hello").unwrap();
        fs::write(root.join("bin/tool"), "#!/bin/sh").unwrap();
        fs::set_permissions(root.join("bin/tool"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("motd", root.join("static/etc/issue")).unwrap();
        dir
    }

    fn load(elements: &Path) -> Arc<Element> {
        let catalog = load_catalog(&[elements.to_owned()]).unwrap();
        catalog.get("e").unwrap().clone()
    }

    #[test]
    fn chosen_files_are_copied_as_the_identity_records_them() {
        let (from, to) = (source(), tempfile::tempdir().unwrap());
        let element = load(from.path());
        copy_element(&element, |path| path.strip_prefix("static/"), to.path()).unwrap();
        assert_eq!(fs::read(to.path().join("etc/motd")).unwrap(), b"hello");
        assert_eq!(fs::read_link(to.path().join("etc/issue")).unwrap(), Path::new("motd"));
        assert!(to.path().join("etc/empty").is_dir() && !to.path().join("bin").exists());

        let all = to.path().join("all/e");
        copy_element(&element, Some, &all).unwrap();
        let copied = load(&to.path().join("all"));
        assert!(copied.identity().eq(element.identity()));
    }

    #[test]
    fn a_file_that_changed_since_it_was_read_is_an_error() {
        let (from, to) = (source(), tempfile::tempdir().unwrap());
        let element = load(from.path());
        fs::write(from.path().join("e/static/etc/motd"), "other").unwrap();
        let error = copy_element(&element, Some, to.path()).unwrap_err();
        assert!(matches!(error, HookFilesError::Changed { .. }), "{error}");
    }

    #[test]
    fn a_file_that_became_a_fifo_does_not_block() {
        let (from, to) = (source(), tempfile::tempdir().unwrap());
        let element = load(from.path());
        let path = from.path().join("e/static/etc/motd");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = copy_element(&element, Some, to.path()).unwrap_err();
        assert!(matches!(error, HookFilesError::Changed { .. }), "{error}");
    }
}
