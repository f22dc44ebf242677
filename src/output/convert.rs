//! Converts raw disks to other formats.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::clusters::ClusterCache;
use super::destination::{Destination, Written};
use super::error::{OutputError, io_error};
use super::format::{Compatibility, DiskFormat, Qcow2Options};
use super::pending::Pending;
use super::qcow2::write_qcow2;
use super::raw::copy_sparse;
use super::stamp::{Stamp, stamp};
use crate::disk::Identity;
use crate::exec::{Program, Run};
use crate::image::Qcow2Compression;

const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };

/// Converts raw disks to other formats. The same disk and converter always give the same bytes.
#[derive(Debug, Clone)]
pub struct Converter {
    /// Ids in the files are derived from this.
    pub identity: Identity,
    /// The value of times in the files, in seconds since 1970.
    pub source_date_epoch: i64,
    pub qcow2: Qcow2Options,
    /// The compressed clusters of earlier qcow2 files, if they may be reused.
    pub clusters: Option<ClusterCache>,
    /// Stops the conversion when it becomes true.
    pub interrupt: Arc<AtomicBool>,
}

/// A format of qemu-img with options of the user. Its output is not normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QemuFormat<'a> {
    pub name: &'a str,
    /// Passes `-c` to qemu-img.
    pub compressed: bool,
    /// The argument of `-o`.
    pub options: Option<&'a str>,
}

impl Converter {
    /// Converts the complete disk `raw` and writes it to `destination`. Atomic.
    pub fn convert(
        &self,
        raw: &Path,
        destination: &Destination,
        format: DiskFormat,
    ) -> Result<Written, OutputError> {
        if matches!(format, DiskFormat::Raw | DiskFormat::Vhd) {
            // The other formats are compressed, and their size is unknown.
            destination.ask_for_space(data_bytes(raw)?)?;
        }
        let pending = destination.pending()?;
        match format {
            DiskFormat::Qcow2 => self.write_qcow2(raw, &pending)?,
            DiskFormat::Raw => open(raw).and_then(|disk| {
                copy_sparse(&disk, pending.file()).map_err(io_error("write", pending.target()))
            })?,
            other => self.convert_by_qemu(raw, &pending, other)?,
        }
        destination.publish(pending)
    }

    /// Converts the complete disk `raw` to a format of qemu-img, with options for qemu-img.
    pub fn convert_for_qemu(
        &self,
        raw: &Path,
        destination: &Destination,
        format: QemuFormat<'_>,
    ) -> Result<Written, OutputError> {
        let pending = destination.pending()?;
        run_qemu_img(format.arguments(raw, &pending.path_for_programs()), &pending)?;
        destination.publish(pending)
    }

    fn write_qcow2(&self, raw: &Path, pending: &Pending) -> Result<(), OutputError> {
        let options = self.qcow2;
        if (options.compression, options.compatibility) == (Qcow2Compression::Zstd, Compatibility::V2) {
            return Err(OutputError::ZstdNeedsVersion3);
        }
        let cache = self.clusters.as_ref().filter(|_| options.compression != Qcow2Compression::None);
        let known = cache.map(|cache| cache.load(options.compression));
        let written = write_qcow2(&open(raw)?, pending.file(), options, known.as_ref(), &self.interrupt);
        let clusters = written.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => OutputError::Interrupted,
            _ => io_error("write", pending.target())(error),
        })?;
        if let Some((cache, known)) = cache.zip(known) {
            // The disk itself is complete. Without the cache, the next one is compressed again.
            let _ = cache.keep(&known, pending.file(), &clusters);
        }
        Ok(())
    }

    fn convert_by_qemu(&self, raw: &Path, pending: &Pending, format: DiskFormat) -> Result<(), OutputError> {
        run_qemu_img(qemu_img_arguments(raw, &pending.path_for_programs(), format), pending)?;
        let name = pending.target().file_name().unwrap_or_default().to_string_lossy();
        let marks = Stamp { identity: &self.identity, time: self.source_date_epoch, name: &name };
        stamp(pending.file(), pending.target(), format, &marks)
    }
}

impl QemuFormat<'_> {
    /// Returns the arguments of `qemu-img` that convert `raw` to `target`.
    fn arguments(&self, raw: &Path, target: &Path) -> Vec<OsString> {
        let compress = self.compressed.then_some("-c");
        let options = self.options.into_iter().flat_map(|options| ["-o", options]);
        let words = ["convert", "-f", "raw", "-O", self.name].into_iter().chain(compress).chain(options);
        words.map(OsString::from).chain([raw.into(), target.into()]).collect()
    }
}

/// Returns the names of the formats that the qemu-img of the build host supports.
pub fn qemu_formats() -> Result<Vec<String>, OutputError> {
    let help = Run::new(QEMU_IMG).arg("--help").capture()?;
    let help = String::from_utf8_lossy(&help);
    let formats = help.split_once("Supported formats:").map_or("", |(_, formats)| formats);
    let words = formats.lines().take_while(|line| !line.is_empty()).flat_map(str::split_whitespace);
    Ok(words.map(str::to_owned).collect())
}

fn run_qemu_img(arguments: Vec<OsString>, pending: &Pending) -> Result<(), OutputError> {
    let run = Run::new(QEMU_IMG).args(arguments).run();
    run.map_err(|error| OutputError::from(error).of_result(pending.target()))
}

/// Returns the arguments of `qemu-img` that convert `raw` to `target`.
fn qemu_img_arguments(raw: &Path, target: &Path, format: DiskFormat) -> Vec<OsString> {
    let options: &[&str] = match format {
        // Without `force_size`, the size is rounded up to a whole number of CHS cylinders.
        DiskFormat::Vhd => &["-o", "subformat=fixed,force_size=on"],
        DiskFormat::Vmdk => &["-o", "subformat=streamOptimized"],
        DiskFormat::Qcow2 | DiskFormat::Raw | DiskFormat::Vdi => &[],
    };
    let words = ["convert", "-f", "raw", "-O", format.qemu_name()].into_iter().chain(options.iter().copied());
    words.map(OsString::from).chain([raw.into(), target.into()]).collect()
}

/// Returns the size of a file without its holes, in bytes.
fn data_bytes(path: &Path) -> Result<u64, OutputError> {
    const SECTOR: u64 = 512;
    let status = std::fs::metadata(path).map_err(io_error("examine", path))?;
    Ok(status.blocks().saturating_mul(SECTOR).min(status.len()))
}

fn open(path: &Path) -> Result<File, OutputError> {
    File::open(path).map_err(io_error("open", path))
}
