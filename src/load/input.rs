//! Files that an image definition names.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::oci::{Digest, HashingReader};
use crate::plan::InputFile;

/// Reads the digests of the files that an image definition names; relative paths count from the project `dir`.
///
/// # Errors
/// [`LoadError::Io`] if a file cannot be read.
pub fn load_input_files(
    dir: &Path,
    files: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, InputFile>, LoadError> {
    files
        .iter()
        .map(|(name, path)| {
            let path = dir.join(path);
            let digest = digest_of(&path)?;
            Ok((name.clone(), InputFile { path, digest }))
        })
        .collect()
}

fn digest_of(path: &Path) -> Result<Digest, LoadError> {
    let mut reader = HashingReader::new(File::open(path).map_err(LoadError::io("read", path))?);
    io::copy(&mut reader, &mut io::sink()).map_err(LoadError::io("read", path))?;
    Ok(reader.finish().0)
}

/// Copies an input file, with mode 0644.
///
/// # Errors
/// [`LoadError::Changed`] if it is no longer what it was when the plan was made.
pub(super) fn copy_input_file(file: &InputFile, target: &Path) -> Result<(), LoadError> {
    let source = File::open(&file.path).map_err(LoadError::io("read", &file.path))?;
    let mut reader = HashingReader::new(source);
    let mut copy = File::create_new(target).map_err(LoadError::io("write", target))?;
    io::copy(&mut reader, &mut copy).and_then(|_| copy.flush()).map_err(LoadError::io("write", target))?;
    fs::set_permissions(target, Permissions::from_mode(0o644)).map_err(LoadError::io("write", target))?;
    let (found, _) = reader.finish();
    match found == file.digest {
        true => Ok(()),
        false => Err(LoadError::Changed { path: file.path.clone(), expected: file.digest, found }),
    }
}
