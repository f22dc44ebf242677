//! A raw disk in another format.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::error::{OutputError, io_error};
use super::format::{Compatibility, DiskFormat, Qcow2Options};
use super::pending::{Pending, write_file};
use super::qcow2::write_qcow2;
use super::raw::copy_sparse;
use super::stamp::{Stamp, stamp};
use crate::disk::Identity;
use crate::exec::{Program, Run};
use crate::image::Qcow2Compression;
use crate::oci::{Digest, HashingReader};

const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };

/// Turns raw disks into files of other formats. The same disk and converter always give the same bytes.
#[derive(Debug, Clone)]
pub struct Converter {
    /// What ids inside the files are derived from.
    pub identity: Identity,
    /// What times inside the files are set to, in seconds since 1970.
    pub source_date_epoch: i64,
    /// How qcow2 files are written.
    pub qcow2: Qcow2Options,
    /// Stops the work when it becomes true.
    pub interrupt: Arc<AtomicBool>,
}

/// A file in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its path.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its digest, also in the file `<path>.sha256`.
    pub digest: Digest,
}

impl Converter {
    /// Writes the complete disk `raw` to `target`, and `<target>.sha256`, in place of files that are there.
    ///
    /// Both appear complete or not at all; a checksum is never beside a file that it is not of.
    pub fn convert(&self, raw: &Path, target: &Path, format: DiskFormat) -> Result<Written, OutputError> {
        let pending = Pending::new(target)?;
        match format {
            DiskFormat::Qcow2 => self.write_qcow2(raw, &pending)?,
            DiskFormat::Raw => open(raw).and_then(|disk| {
                copy_sparse(&disk, pending.file()).map_err(io_error("write", pending.path()))
            })?,
            other => self.convert_by_qemu(raw, &pending, other)?,
        }
        publish(pending, target)
    }

    fn write_qcow2(&self, raw: &Path, pending: &Pending) -> Result<(), OutputError> {
        let options = self.qcow2;
        if (options.compression, options.compatibility) == (Qcow2Compression::Zstd, Compatibility::V2) {
            return Err(OutputError::ZstdNeedsVersion3);
        }
        write_qcow2(&open(raw)?, pending.file(), options, &self.interrupt).map_err(|error| {
            match error.kind() {
                io::ErrorKind::Interrupted => OutputError::Interrupted,
                _ => io_error("write", pending.path())(error),
            }
        })
    }

    fn convert_by_qemu(&self, raw: &Path, pending: &Pending, format: DiskFormat) -> Result<(), OutputError> {
        Run::new(QEMU_IMG).args(qemu_img_arguments(raw, pending.path(), format)).run()?;
        let name = pending.target().file_name().unwrap_or_default().to_string_lossy();
        let marks = Stamp { identity: &self.identity, time: self.source_date_epoch, name: &name };
        stamp(pending.file(), pending.path(), format, &marks)
    }
}

/// Returns the arguments of `qemu-img` that turn `raw` into `target`.
fn qemu_img_arguments(raw: &Path, target: &Path, format: DiskFormat) -> Vec<OsString> {
    let options: &[&str] = match format {
        // Without this the size is rounded up to a whole number of CHS cylinders.
        DiskFormat::Vhd => &["-o", "subformat=fixed,force_size=on"],
        DiskFormat::Vmdk => &["-o", "subformat=streamOptimized"],
        DiskFormat::Qcow2 | DiskFormat::Raw | DiskFormat::Vdi => &[],
    };
    let words = ["convert", "-f", "raw", "-O", format.qemu_name()].into_iter().chain(options.iter().copied());
    words.map(OsString::from).chain([raw.into(), target.into()]).collect()
}

/// Gives a complete file its name, and its checksum beside it.
pub(super) fn publish(pending: Pending, target: &Path) -> Result<Written, OutputError> {
    let (digest, bytes) = digest_of(pending.path())?;
    let checksum = target.with_added_extension("sha256");
    match fs::remove_file(&checksum) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &checksum)(error));
        }
        _ => pending.commit()?,
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    write_file(&checksum, format!("{}  {name}\n", digest.hex()).as_bytes())?;
    Ok(Written { path: target.to_owned(), bytes, digest })
}

pub(super) fn digest_of(path: &Path) -> Result<(Digest, u64), OutputError> {
    let mut reader = io::BufReader::with_capacity(1 << 20, HashingReader::new(open(path)?));
    io::copy(&mut reader, &mut io::sink()).map_err(io_error("read", path))?;
    Ok(reader.into_inner().finish())
}

fn open(path: &Path) -> Result<File, OutputError> {
    File::open(path).map_err(io_error("open", path))
}
