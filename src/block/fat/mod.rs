//! Writes FAT32 in one pass without the kernel, because the kernel may lack vfat, and its driver
//! writes the time of the build.
//!
//! ```text
//! reserved, 32 sectors      FAT    its copy    clusters, from number 2
//! boot sector, FSInfo, and                     root directory, then each file and directory in
//! copies of both at 6                          byte order of the paths, without gaps
//! ```
//!
//! All times and ids are given by the caller, so equal content gives equal bytes.
//!
//! Source: Microsoft, "FAT32 File System Specification", 1.03; UEFI 2.10, 13.3, "File System
//! Format".

mod geometry;
mod name;
mod record;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FileType;

use self::geometry::Geometry;
use self::name::{Name, Names};
use self::record::{Kind, RECORD_BYTES, Record};
use crate::disk::{Extent, SectorSize, VolumeId};
use crate::tree::{Dir, Entry};

/// The size of a read: a multiple of every cluster size.
const BUFFER_BYTES: usize = 1 << 20;

const ROOT_CLUSTER: u32 = 2;

/// Marks the last cluster of a file.
const END_OF_CHAIN: u32 = 0x0fff_ffff;

/// The inputs besides the content. Two file systems with equal content and stamp are equal, byte
/// for byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp<'a> {
    /// The id of the volume.
    pub(super) id: VolumeId,
    /// The label of the volume, at most 11 ASCII characters.
    pub(super) label: &'a str,
    /// The time of all entries, in seconds since 1970.
    pub(super) time: i64,
    /// The sector size of the disk. Firmware and kernels refuse a file system with smaller sectors.
    pub(super) sector: SectorSize,
}

/// Makes a FAT32 file system with everything below the directory `content` in `extent` of `disk`.
/// The extent must contain only zeros.
///
/// FAT has no owners, modes and links. Symbolic links are refused.
///
/// # Errors
/// If a name, a file or the whole content does not fit. The error names it.
pub(super) fn write_fat(disk: &File, extent: Extent, stamp: Stamp, content: &Path) -> io::Result<()> {
    let geometry = Geometry::new(extent, stamp.sector)?;
    let mut writer =
        Writer { disk, extent, geometry, time: stamp.time, fat: vec![0x0fff_fff8, END_OF_CHAIN] };
    let label = Record::label(stamp.label, stamp.time);
    writer.directory(&Dir::open(content)?, None, vec![label])?;
    writer.finish(stamp)
}

struct Writer<'a> {
    disk: &'a File,
    extent: Extent,
    geometry: Geometry,
    time: i64,
    /// For each used cluster, the next cluster of its file.
    fat: Vec<u32>,
}

/// An entry of a directory, before it is written.
struct Child<'d> {
    entry: Entry<'d>,
    name: Name,
    /// `None` for a directory.
    bytes: Option<u32>,
}

impl Writer<'_> {
    /// Writes a directory, which begins with `records`, and everything below it. Returns its first
    /// cluster.
    ///
    /// Reserves the clusters of the directory first, so that directories below can name it as their
    /// parent.
    fn directory(
        &mut self,
        source: &Dir<'_>,
        parent: Option<u32>,
        mut records: Vec<Record>,
    ) -> io::Result<u32> {
        let children = children(source)?;
        let dots = if parent.is_some() { 2 } else { 0 };
        let slots = dots + records.len() + children.iter().map(|child| child.name.slots() + 1).sum::<usize>();
        let first = self.take((slots * RECORD_BYTES) as u64)?;
        records.extend(parent.into_iter().flat_map(|parent| Record::dots(first, parent, self.time)));
        let mut bytes: Vec<u8> = records.iter().flat_map(Record::bytes).collect();
        // The root directory is cluster 2, but the `..` of its children has 0.
        let own = if parent.is_some() { first } else { 0 };
        for child in children {
            let (cluster, kind) = match child.bytes {
                None => (self.directory(&child.entry.enter()?, Some(own), Vec::new())?, Kind::Directory),
                Some(size) => (self.file(&child.entry, size)?, Kind::File(size)),
            };
            let record = Record { short: child.name.short(), kind, cluster, time: self.time };
            bytes.extend(child.name.long_records());
            bytes.extend(record.bytes());
        }
        self.disk.write_all_at(&bytes, self.place(first)?)?;
        Ok(first)
    }

    /// Writes a file. Returns its first cluster, or 0 if it is empty.
    fn file(&mut self, source: &Entry<'_>, size: u32) -> io::Result<u32> {
        if size == 0 {
            return Ok(0);
        }
        let first = self.take(u64::from(size))?;
        let mut place = self.place(first)?;
        let mut reader = source.open()?.take(u64::from(size));
        let mut buffer = vec![0; BUFFER_BYTES.min(size as usize)];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(first),
                count => self.disk.write_all_at(&buffer[..count], place)?,
            }
            place = self.place(first)? + u64::from(size) - reader.limit();
        }
    }

    /// Reserves consecutive clusters for `bytes`. Returns the first one.
    fn take(&mut self, bytes: u64) -> io::Result<u32> {
        let (first, count) = (self.fat.len() as u64, bytes.div_ceil(self.geometry.cluster_bytes()).max(1));
        if first + count > u64::from(self.geometry.clusters) + u64::from(ROOT_CLUSTER) {
            let room = self.extent.bytes;
            let full = format!("a FAT file system of {room} bytes is too small for its content");
            return Err(io::Error::new(io::ErrorKind::StorageFull, full));
        }
        self.fat.extend((first + 1..first + count).map(|next| next as u32).chain([END_OF_CHAIN]));
        Ok(first as u32)
    }

    /// Returns the offset of a cluster on the disk.
    fn place(&self, cluster: u32) -> io::Result<u64> {
        let number = cluster.checked_sub(ROOT_CLUSTER).ok_or(io::ErrorKind::InvalidInput)?;
        let within = self.geometry.first_cluster_offset() + u64::from(number) * self.geometry.cluster_bytes();
        Ok(self.extent.offset + within)
    }

    fn finish(self, stamp: Stamp) -> io::Result<()> {
        let table: Vec<u8> = self.fat.iter().flat_map(|next| next.to_le_bytes()).collect();
        for offset in self.geometry.fat_offsets() {
            self.disk.write_all_at(&table, self.extent.offset + offset)?;
        }
        let taken = self.fat.len() as u32 - ROOT_CLUSTER;
        let sectors = [self.geometry.boot_sector(stamp.id, stamp.label), self.geometry.info_sector(taken)];
        for first in [0, geometry::BACKUP_SECTOR] {
            for (number, bytes) in (first..).zip(&sectors) {
                self.disk.write_all_at(bytes, self.extent.offset + self.geometry.offset(number))?;
            }
        }
        Ok(())
    }
}

/// Returns the entries of a directory, in byte order of the names.
fn children<'d>(source: &'d Dir<'_>) -> io::Result<Vec<Child<'d>>> {
    let mut names = Names::default();
    source.entries()?.map(|entry| child(entry?, &mut names)).collect()
}

fn child<'d>(entry: Entry<'d>, names: &mut Names) -> io::Result<Child<'d>> {
    let refuse = |why: &str| {
        let path = entry.location();
        io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` {why}", path.display()))
    };
    let name = str::from_utf8(&entry.name).map_err(|_| refuse("has a name that is not UTF-8"))?;
    let name = names.add(name).map_err(refuse)?;
    let bytes = match entry.file_type() {
        FileType::Directory => None,
        FileType::RegularFile => Some(
            u32::try_from(entry.stat.st_size)
                .map_err(|_| refuse("is larger than the 4 GiB that FAT can hold"))?,
        ),
        _ => return Err(refuse("is not a file or directory, and FAT holds only these")),
    };
    Ok(Child { entry, name, bytes })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    const EXTENT: Extent = Extent { offset: 1 << 20, bytes: 64 << 20 };
    const STAMP: Stamp =
        Stamp { id: VolumeId(0x1234_abcd), label: "esp", time: 1_700_000_000, sector: SectorSize::B512 };

    fn content() -> tempfile::TempDir {
        let content = tempfile::tempdir().unwrap();
        fs::create_dir_all(content.path().join("EFI/BOOT")).unwrap();
        fs::write(content.path().join("EFI/BOOT/BOOTX64.EFI"), vec![7; 3_000_001]).unwrap();
        fs::write(content.path().join("EFI/a long name.txt"), "text").unwrap();
        fs::write(content.path().join("empty"), "").unwrap();
        fs::create_dir(content.path().join("many")).unwrap();
        for number in 0..100 {
            fs::write(content.path().join(format!("many/a rather long name {number}")), [number]).unwrap();
        }
        content
    }

    fn disk(content: &Path) -> File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(EXTENT.offset + EXTENT.bytes + (1 << 20)).unwrap();
        write_fat(&disk, EXTENT, STAMP, content).unwrap();
        disk
    }

    fn bytes(disk: &File) -> Vec<u8> {
        let mut bytes = vec![0; disk.metadata().unwrap().len() as usize];
        disk.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Returns an independent reader, the crate `fatfs`, of a copy of the extent.
    fn read(disk: &File) -> fatfs::FileSystem<File> {
        let mut copy = tempfile::tempfile().unwrap();
        copy.write_all(&bytes(disk)[EXTENT.offset as usize..][..EXTENT.bytes as usize]).unwrap();
        copy.seek(SeekFrom::Start(0)).unwrap();
        fatfs::FileSystem::new(copy, fatfs::FsOptions::new()).unwrap()
    }

    #[test]
    fn content_can_be_read_and_has_the_time_of_the_stamp() {
        let fat = read(&disk(content().path()));
        assert_eq!((fat.volume_id(), fat.volume_label().as_str()), (0x1234_abcd, "ESP"));
        assert_eq!(fat.fat_type(), fatfs::FatType::Fat32);
        let read = |path: &str| {
            let mut bytes = Vec::new();
            fat.root_dir().open_file(path).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read("efi/A LONG NAME.TXT"), b"text");
        assert!(read("EFI/BOOT/bootx64.efi") == vec![7; 3_000_001]);
        assert_eq!(read("empty"), b"");
        assert_eq!(read("many/a rather long name 99"), [99]);
        let modified = fat.root_dir().iter().find_map(|e| e.ok().filter(|e| e.is_dir())).unwrap().modified();
        assert_eq!((modified.date.year, modified.date.month, modified.date.day), (2023, 11, 14));
        assert_eq!((modified.time.hour, modified.time.min, modified.time.sec), (22, 13, 20));
    }

    #[test]
    fn equal_content_gives_equal_bytes_and_no_write_outside_the_extent() {
        let (first, second) = (bytes(&disk(content().path())), bytes(&disk(content().path())));
        assert!(first == second);
        assert!(first[..1 << 20].iter().chain(&first[first.len() - (1 << 20)..]).all(|&byte| byte == 0));
    }

    #[test]
    fn an_entry_that_fat_cannot_hold_is_named() {
        let refused = |make: &dyn Fn(&Path)| {
            let content = tempfile::tempdir().unwrap();
            make(content.path());
            let disk = tempfile::tempfile().unwrap();
            disk.set_len(EXTENT.offset + EXTENT.bytes).unwrap();
            write_fat(&disk, EXTENT, STAMP, content.path()).unwrap_err().to_string()
        };
        let link = refused(&|root| std::os::unix::fs::symlink("x", root.join("link")).unwrap());
        assert!(link.contains("/link` is not a file or directory"), "{link}");
        let case = refused(&|root| {
            ["A", "a"].map(|name| fs::write(root.join(name), "").unwrap()).into_iter().collect()
        });
        assert!(case.contains("/a` differs from another name only by case"), "{case}");
        let large = refused(&|root| File::create(root.join("f")).unwrap().set_len(100 << 20).unwrap());
        assert!(large.contains("too small"), "{large}");
        let huge = refused(&|root| File::create(root.join("f")).unwrap().set_len(5 << 30).unwrap());
        assert!(huge.contains("4 GiB"), "{huge}");
    }
}
