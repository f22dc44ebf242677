//! The writer of disks.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::boot::write_boot_code;
use super::copy::copy_tree;
use super::error::failed;
use super::fat::{Stamp, write_fat};
use super::loop_device::LoopDevice;
use super::lvm::{Volumes, require_device_mapper};
use super::measure::measure;
use super::mount::{BlockDevice, MountDirectory, Mounted};
use super::table::write_table;
use crate::disk::{self, Content, Extent, FileSystem, FsKind, Layout, Maker, Place};
use crate::exec::{ExecError, Program, Run};
use crate::port::{BootImages, DiskDevice, DiskError, DiskWriter, OpenDisk};

/// Writes disks with the file systems of the kernel, on loop devices. Needs root.
#[derive(Debug, Clone)]
pub struct LoopWriter {
    scratch: PathBuf,
    interrupt: Arc<AtomicBool>,
}

impl LoopWriter {
    /// Returns a writer that mounts below the directory `scratch` and stops when `interrupt`
    /// becomes true.
    ///
    /// The process must have its own mount namespace. Otherwise other processes would see the
    /// mounts and keep them in use.
    pub fn new(scratch: PathBuf, interrupt: Arc<AtomicBool>) -> Self {
        Self { scratch, interrupt }
    }
}

impl DiskWriter for LoopWriter {
    fn measure(&self, source: &Path) -> Result<Content, DiskError> {
        measure(source)
    }

    fn ask_for_space(&self, content: Content, raw: &Path) -> Result<(), DiskError> {
        // The smaller number is a lower bound: `bytes` is larger for files with holes, and `blocks`
        // counts a whole block for each small file.
        let needed_bytes = content.bytes.min(content.blocks.saturating_mul(BLOCK_BYTES));
        let (path, free_bytes) = free_space(raw)?;
        match free_bytes < needed_bytes {
            true => Err(DiskError::NoRoom { path, free_bytes, needed_bytes }),
            false => Ok(()),
        }
    }

    fn create(&self, layout: &Layout, raw: &Path) -> Result<Box<dyn OpenDisk>, DiskError> {
        if !layout.lvm.is_empty() {
            require_device_mapper()?;
        }
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(raw)
            .map_err(failed("create", raw))?;
        file.set_len(layout.bytes).map_err(failed("size", raw))?;
        write_table(layout, &mut file, raw)?;
        let name = raw.file_name().unwrap_or_default();
        let directory = MountDirectory::new(self.scratch.join(name).with_added_extension("mount"))?;
        let mut disk = LoopDisk {
            layout: layout.clone(),
            raw: raw.to_owned(),
            file,
            mounts: Vec::new(),
            devices: Vec::new(),
            volumes: Volumes::default(),
            directory,
            interrupt: Arc::clone(&self.interrupt),
        };
        disk.mount_all().map_err(|error| full(raw, error))?;
        Ok(Box::new(disk))
    }
}

struct LoopDisk {
    layout: Layout,
    raw: PathBuf,
    file: File,
    /// Parents first, each with its file system of the layout.
    mounts: Vec<(FileSystem, Mounted)>,
    /// Devices that only hooks use.
    devices: Vec<LoopDevice>,
    volumes: Volumes,
    /// Dropped after the mounts in it.
    directory: MountDirectory,
    interrupt: Arc<AtomicBool>,
}

impl OpenDisk for LoopDisk {
    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn fill(&mut self, source: &Path) -> Result<(), DiskError> {
        let copied = copy_tree(source, self.root(), &self.interrupt);
        copied.map_err(|error| full(&self.raw, error)).map_err(|error| match error {
            DiskError::Io(ref why) if why.kind() == io::ErrorKind::StorageFull => {
                self.too_small(source).unwrap_or(error)
            }
            error => error,
        })?;
        MOUNT_POINTS.iter().try_for_each(|(name, mode)| make_mount_point(&self.root().join(name), *mode))
    }

    fn devices(&mut self) -> Result<Vec<DiskDevice>, DiskError> {
        let whole = ("image0".to_owned(), Extent { offset: 0, bytes: self.layout.bytes });
        let partitions = self.layout.partitions.iter();
        let partitions = partitions.map(|partition| (partition.name.clone(), partition.extent));
        let parts: Vec<_> = [whole].into_iter().chain(partitions).collect();
        let shown =
            parts.into_iter().map(|(name, extent)| Ok(DiskDevice { name, path: self.attached(extent)? }));
        let mut devices = shown.collect::<Result<Vec<_>, DiskError>>()?;
        devices.extend(
            self.layout.lvm.logical.iter().map(|volume| DiskDevice {
                name: volume.name.name.clone(),
                path: volume.name.device().into(),
            }),
        );
        Ok(devices)
    }

    fn finish(self: Box<Self>, boot: &BootImages) -> Result<(), DiskError> {
        let raw = self.raw.clone();
        self.close(boot).map_err(|error| full(&raw, error))
    }
}

/// The block size of the file systems that hold raw disks.
const BLOCK_BYTES: u64 = 4096;

/// A file system with less free space counts as full, because its last blocks often cannot be
/// allocated.
const FULL_BYTES: u64 = 1 << 20;

/// Returns the directory of `raw` and its free space in bytes.
fn free_space(raw: &Path) -> Result<(PathBuf, u64), DiskError> {
    let directory = raw.parent().unwrap_or(Path::new("."));
    let status = rustix::fs::statvfs(directory).map_err(failed("measure", directory))?;
    Ok((directory.to_owned(), status.f_bavail.saturating_mul(status.f_frsize)))
}

/// Replaces an error by [`DiskError::NoRoom`] if the file system that holds the disk is full.
/// Programs that write to a loop device get an I/O error in this case.
fn full(raw: &Path, error: DiskError) -> DiskError {
    match free_space(raw) {
        Ok((path, free_bytes)) if free_bytes < FULL_BYTES && !matches!(error, DiskError::Interrupted) => {
            DiskError::NoRoom { path, free_bytes, needed_bytes: FULL_BYTES }
        }
        _ => error,
    }
}

impl LoopDisk {
    fn close(mut self: Box<Self>, boot: &BootImages) -> Result<(), DiskError> {
        // Data that hooks wrote directly to a device is in the cache of the device, which is
        // separate from the caches of file systems.
        for device in self.devices.drain(..) {
            let path = device.path();
            File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))?;
        }
        self.write_own()?;
        while let Some((file_system, mounted)) = self.mounts.pop() {
            mounted.trim()?;
            let device = mounted.unmount()?;
            check(&file_system, device.path())?;
        }
        std::mem::take(&mut self.volumes).release()?;
        write_boot_code(&self.layout, boot, &self.file, &self.raw)
    }

    /// Makes every file system that a program makes, and mounts those that the running system
    /// mounts. File systems that plywood writes itself stay directories until [`OpenDisk::finish`].
    fn mount_all(&mut self) -> Result<(), DiskError> {
        self.volumes = Volumes::make(&self.layout, &self.file, &self.raw)?;
        let layout = self.layout.clone();
        let unmounted = layout.file_systems.iter().filter(|file_system| file_system.mount.is_none());
        for file_system in layout.mounts().into_iter().chain(unmounted) {
            let maker = Maker::from(file_system.kind);
            if maker == Maker::Own {
                continue;
            }
            let device = self.device(&file_system.place)?;
            make(file_system, device.path(), layout.source_date_epoch)?;
            match file_system.mount_path() {
                Some(path) if maker != Maker::Swap => self.mount(file_system, device, path)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn device(&self, place: &Place) -> Result<BlockDevice, DiskError> {
        match place {
            Place::Extent(extent) => LoopDevice::attach(&self.file, *extent, self.layout.sector)
                .map(BlockDevice::Loop)
                .map_err(failed("attach a loop device to", &self.raw)),
            Place::Volume(name) => Ok(BlockDevice::Volume(name.device().into())),
        }
    }

    /// Returns the device of this range of the disk. Attaches one if needed.
    fn attached(&mut self, extent: Extent) -> Result<PathBuf, DiskError> {
        let shows = |file_system: &FileSystem| file_system.place.extent() == Some(extent);
        if let Some((_, mounted)) = self.mounts.iter().find(|(file_system, _)| shows(file_system)) {
            return Ok(mounted.device().to_owned());
        }
        let device = LoopDevice::attach(&self.file, extent, self.layout.sector)
            .map_err(failed("attach a loop device to", &self.raw))?;
        let path = device.path().to_owned();
        self.devices.push(device);
        Ok(path)
    }

    fn mount(&mut self, file_system: &FileSystem, device: BlockDevice, path: &str) -> Result<(), DiskError> {
        let target = self.target(path)?;
        let mounted = Mounted::new(device, file_system.kind, target)?;
        // This makes ext4 read its bitmaps of free blocks. Otherwise it would read them while files
        // are created, and the places of files would depend on the bitmaps that it has read so far.
        mounted.trim()?;
        self.mounts.push((file_system.clone(), mounted));
        Ok(())
    }

    /// Creates and returns the directory for the absolute `path` of the running system.
    fn target(&self, path: &str) -> Result<PathBuf, DiskError> {
        let target = self.directory.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(&target).map_err(failed("create", &target))?;
        Ok(target)
    }

    /// Writes the file systems that plywood writes itself, with the files below their mount points,
    /// and empties these directories. A file system without a mount point is empty.
    fn write_own(&self) -> Result<(), DiskError> {
        for file_system in &self.layout.file_systems {
            let (FsKind::Vfat(id), Place::Extent(extent)) = (file_system.kind, &file_system.place) else {
                continue;
            };
            let (time, sector) = (self.layout.source_date_epoch, self.layout.sector);
            let stamp = Stamp { id, label: &file_system.label, time, sector };
            // A file system without a mount point is made from an empty directory.
            let (content, _nothing) = match file_system.mount_path() {
                Some(path) => (self.target(path)?, None),
                None => {
                    let nothing = MountDirectory::new(self.directory.path().with_added_extension("empty"))?;
                    (nothing.path().to_owned(), Some(nothing))
                }
            };
            write_fat(&self.file, *extent, stamp, &content)
                .map_err(failed("write a FAT file system from", &content))?;
            empty(&content).map_err(failed("empty", &content))?;
        }
        Ok(())
    }

    /// Returns an error with the needed size for "no space left", if the content can be measured.
    fn too_small(&self, source: &Path) -> Option<DiskError> {
        let needed_bytes = self.layout.needed_bytes(measure(source).ok()?);
        Some(DiskError::TooSmall { given_bytes: self.layout.bytes, needed_bytes })
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Children must be unmounted before their parents, and a vector drops its first element
        // first.
        while self.mounts.pop().is_some() {}
    }
}

/// Directories on which a running system mounts file systems of the kernel. A root from an archive
/// may lack them, and would not boot.
const MOUNT_POINTS: [(&str, u32); 5] =
    [("dev", 0o755), ("proc", 0o555), ("run", 0o755), ("sys", 0o555), ("tmp", 0o1777)];

fn make_mount_point(path: &Path, mode: u32) -> Result<(), DiskError> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    fs::create_dir(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(failed("make directory", path))
}

fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn make(file_system: &FileSystem, device: &Path, time: i64) -> Result<(), DiskError> {
    let Some((name, package)) = Maker::from(file_system.kind).program() else { return Ok(()) };
    let run = |arguments: &[String]| {
        Run::new(Program { name, package })
            .args(arguments)
            // e2fsprogs before 1.47.1 reads only the first variable, and ignores a time of 0.
            .env("E2FSPROGS_FAKE_TIME", time.max(1).to_string())
            .env("SOURCE_DATE_EPOCH", time.to_string())
            // mkfs.btrfs refuses a UUID that is in the blkid cache of the machine. An earlier build
            // of the same image may be in that cache.
            .env("BLKID_FILE", "/dev/null")
            .run()
    };
    let arguments = disk::make_arguments(file_system, device);
    match disk::prezeroed(&arguments).map(|arguments| run(&arguments)) {
        // An older mke2fs refuses the setting before it writes anything.
        Some(Err(ExecError::Failed { stderr, .. })) if stderr.contains(disk::PREZEROED) => {}
        Some(made) => return Ok(made?),
        None => {}
    }
    Ok(run(&arguments)?)
}

fn check(file_system: &FileSystem, device: &Path) -> Result<(), DiskError> {
    let Some((name, package)) = Maker::from(file_system.kind).checker() else { return Ok(()) };
    Ok(Run::new(Program { name, package }).args(disk::check_arguments(file_system, device)).run()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_checked_before_a_disk_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let raw = directory.path().join("disk.raw");
        let writer = LoopWriter::new(directory.path().to_owned(), Arc::default());
        let content =
            |bytes: u64| Content { bytes, entries: 1, blocks: bytes.div_ceil(BLOCK_BYTES), inodes: 1 };
        writer.ask_for_space(content(1), &raw).unwrap();
        // A sparse file needs only space for its blocks.
        writer.ask_for_space(Content { bytes: 1 << 60, ..content(1) }, &raw).unwrap();
        let error = writer.ask_for_space(content(1 << 60), &raw).unwrap_err();
        let DiskError::NoRoom { path, needed_bytes, .. } = error else { panic!("{error}") };
        assert_eq!((path.as_path(), needed_bytes), (directory.path(), 1 << 60));
    }
}
