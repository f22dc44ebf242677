//! FAT file systems, written without the kernel: it may have no vfat, and its driver writes the time of the build.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fatfs::{Date, DateTime, Dir, FatType, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use jiff::tz::TimeZone;

use crate::disk::{Extent, VolumeId};

/// What makes two file systems of the same content the same, byte for byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp<'a> {
    /// The volume's id.
    pub(super) id: VolumeId,
    /// Its label, 11 ASCII characters at most.
    pub(super) label: &'a str,
    /// The time of everything on it, in seconds since 1970.
    pub(super) time: i64,
}

/// Makes a FAT32 file system in `extent` of `disk`, which must read as zeros, with everything below the directory `content`.
///
/// Names are written in byte order. Owners, modes and links have no place in FAT; symbolic links are refused.
pub(super) fn write_fat(disk: &File, extent: Extent, stamp: Stamp, content: &Path) -> io::Result<()> {
    let mut slice = Slice { disk, extent, position: 0 };
    fatfs::format_volume(&mut slice, format_options(stamp))?;
    // fatfs wants a clock that lives as long as the program: 8 bytes a disk are given for it.
    let clock: &'static FixedClock = Box::leak(Box::new(FixedClock(date_time(stamp.time))));
    let file_system = fatfs::FileSystem::new(slice, FsOptions::new().time_provider(clock))?;
    copy_directory(content, &file_system.root_dir())?;
    file_system.unmount()
}

fn format_options(stamp: Stamp) -> FormatVolumeOptions {
    let mut label = [b' '; 11];
    let ascii = stamp.label.bytes().take(label.len());
    label.iter_mut().zip(ascii).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    FormatVolumeOptions::new().fat_type(FatType::Fat32).volume_id(stamp.id.0).volume_label(label)
}

fn copy_directory(source: &Path, target: &Dir<Slice>) -> io::Result<()> {
    let mut entries = fs::read_dir(source)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let refused =
            |why| io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` {why}", path.display()));
        let name = name.to_str().ok_or_else(|| refused("has a name that FAT cannot hold"))?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_directory(&path, &target.create_dir(name)?)?;
        } else if kind.is_file() {
            copy_file(&path, target, name)?;
        } else {
            return Err(refused("is neither file nor directory, and FAT has nothing else"));
        }
    }
    Ok(())
}

fn copy_file(source: &Path, target: &Dir<Slice>, name: &str) -> io::Result<()> {
    let mut file = target.create_file(name)?;
    io::copy(&mut File::open(source)?, &mut file)?;
    file.flush()
}

/// Every file is as old as the image says.
#[derive(Debug)]
struct FixedClock(DateTime);

impl TimeProvider for FixedClock {
    fn get_current_date(&self) -> Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

/// FAT knows the years 1980 to 2107; earlier and later times become the first and last of them.
fn date_time(seconds: i64) -> DateTime {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let time = jiff::Timestamp::from_second(seconds.clamp(FIRST, LAST)).unwrap_or_default();
    let time = TimeZone::UTC.to_datetime(time);
    DateTime {
        date: Date { year: time.year() as u16, month: time.month() as u16, day: time.day() as u16 },
        time: Time {
            hour: time.hour() as u16,
            min: time.minute() as u16,
            sec: time.second() as u16,
            millis: 0,
        },
    }
}

/// A range of a disk, seen as a file of its own.
struct Slice<'a> {
    disk: &'a File,
    extent: Extent,
    position: u64,
}

impl Slice<'_> {
    /// Returns how much of `wanted` lies before the end.
    fn room(&self, wanted: usize) -> usize {
        let left = self.extent.bytes.saturating_sub(self.position);
        usize::try_from(left).map_or(wanted, |left| left.min(wanted))
    }
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let count = self.disk.read_at(&mut buffer[..room], self.extent.offset + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Slice<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let count = self.disk.write_at(&buffer[..room], self.extent.offset + self.position)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Slice<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.extent.bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { offset: 1 << 20, bytes: 64 << 20 };
    const STAMP: Stamp = Stamp { id: VolumeId(0x1234_abcd), label: "esp", time: 1_700_000_000 };

    fn content() -> tempfile::TempDir {
        let content = tempfile::tempdir().unwrap();
        fs::create_dir_all(content.path().join("EFI/BOOT")).unwrap();
        fs::write(content.path().join("EFI/BOOT/BOOTX64.EFI"), vec![7; 100_000]).unwrap();
        fs::write(content.path().join("EFI/a long name.txt"), "text").unwrap();
        content
    }

    fn disk(content: &Path) -> File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(EXTENT.offset + EXTENT.bytes + (1 << 20)).unwrap();
        write_fat(&disk, EXTENT, STAMP, content).unwrap();
        disk
    }

    #[test]
    fn content_is_read_back_with_the_stamps_time() {
        let disk = disk(content().path());
        let slice = Slice { disk: &disk, extent: EXTENT, position: 0 };
        let fat = fatfs::FileSystem::new(slice, FsOptions::new()).unwrap();
        assert_eq!((fat.volume_id(), fat.volume_label().as_str()), (0x1234_abcd, "ESP"));
        assert_eq!(fat.fat_type(), FatType::Fat32);
        let mut text = String::new();
        fat.root_dir().open_file("efi/A LONG NAME.TXT").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let modified = fat.root_dir().iter().find_map(|e| e.ok().filter(|e| e.is_dir())).unwrap().modified();
        assert_eq!(
            (modified.date.year, modified.date.month, modified.date.day, modified.time.hour),
            (2023, 11, 14, 22)
        );
    }

    #[test]
    fn equal_content_gives_equal_bytes_and_nothing_outside() {
        let bytes = |disk: File| {
            let mut bytes = vec![0; (EXTENT.offset + EXTENT.bytes + (1 << 20)) as usize];
            disk.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        let (first, second) = (bytes(disk(content().path())), bytes(disk(content().path())));
        assert!(first == second);
        assert!(first[..1 << 20].iter().chain(&first[first.len() - (1 << 20)..]).all(|&byte| byte == 0));
    }

    #[test]
    fn what_fat_cannot_hold_is_named() {
        let content = content();
        std::os::unix::fs::symlink("x", content.path().join("link")).unwrap();
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(EXTENT.offset + EXTENT.bytes).unwrap();
        let error = write_fat(&disk, EXTENT, STAMP, content.path()).unwrap_err();
        assert!(error.to_string().contains("/link` is neither file nor directory"), "{error}");
    }

    #[test]
    fn times_outside_of_fats_years_are_clamped() {
        for (seconds, year) in [(0, 1980), (1_700_000_001, 2023), (i64::MAX, 2107)] {
            assert_eq!(date_time(seconds).date.year, year);
        }
    }
}
