//! Directory records, 32 bytes each.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(super) const RECORD_BYTES: usize = 32;

const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The label of the volume.
    Label,
    Directory,
    /// A file of this many bytes.
    File(u32),
}

/// A record with a short name.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Eight and three characters, without the dot, padded with spaces.
    pub(super) short: [u8; 11],
    pub(super) kind: Kind,
    /// The first cluster; 0 for an empty file.
    pub(super) cluster: u32,
    /// In seconds since 1970.
    pub(super) time: i64,
}

impl Record {
    pub(super) fn label(label: &str, time: i64) -> Self {
        Self { short: padded(label), kind: Kind::Label, cluster: 0, time }
    }

    /// Returns the first two records of every directory except the root: itself and its parent.
    pub(super) fn dots(own: u32, parent: u32, time: i64) -> [Self; 2] {
        let kind = Kind::Directory;
        [(".", own), ("..", parent)].map(|(name, cluster)| Self { short: padded(name), kind, cluster, time })
    }

    pub(super) fn bytes(&self) -> [u8; RECORD_BYTES] {
        let (attribute, size) = match self.kind {
            Kind::Label => (ATTRIBUTE_LABEL, 0),
            Kind::Directory => (ATTRIBUTE_DIRECTORY, 0),
            Kind::File(size) => (ATTRIBUTE_ARCHIVE, size),
        };
        let [time, date] = dos_time(self.time).map(u16::to_le_bytes);
        let [low0, low1, high0, high1] = self.cluster.to_le_bytes();
        let mut bytes = [0; RECORD_BYTES];
        bytes[..11].copy_from_slice(&self.short);
        bytes[11] = attribute;
        // Time and date of creation, date of access, upper half of the cluster, time and date of
        // modification, lower half of the cluster.
        let fields = [time, date, date, [high0, high1], time, date, [low0, low1]].concat();
        bytes[14..28].copy_from_slice(&fields);
        bytes[28..].copy_from_slice(&size.to_le_bytes());
        bytes
    }
}

/// Returns `text` in capitals, cut or padded with spaces.
pub(super) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    field.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    field
}

/// Returns time and date in UTC, in steps of two seconds. FAT has the years 1980 to 2107; times
/// outside become the first or last possible time.
fn dos_time(seconds: i64) -> [u16; 2] {
    const FIRST: i64 = 315_532_800;
    const LAST: i64 = 4_354_819_198;
    let time = Timestamp::from_second(seconds.clamp(FIRST, LAST)).unwrap_or_default();
    let time = TimeZone::UTC.to_datetime(time);
    let [hour, minute, second] = [time.hour(), time.minute(), time.second()].map(|part| part as u16);
    let [month, day] = [time.month(), time.day()].map(|part| part as u16);
    [(hour << 11) | (minute << 5) | (second / 2), ((time.year() as u16 - 1980) << 9) | (month << 5) | day]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_fat_does_not_have_are_clamped() {
        let year = |seconds| (dos_time(seconds)[1] >> 9) + 1980;
        assert_eq!([0, 1_700_000_001, i64::MAX].map(year), [1980, 2023, 2107]);
        assert_eq!(dos_time(i64::MIN), [0, 1 << 5 | 1]);
    }

    #[test]
    fn records_have_the_fields_of_the_specification() {
        let record =
            Record { short: *b"BOOTX64 EFI", kind: Kind::File(0x0102_0304), cluster: 0x0a0b_0c0d, time: 0 };
        let bytes = record.bytes();
        assert_eq!((&bytes[..11], bytes[11]), (&b"BOOTX64 EFI"[..], 0x20));
        assert_eq!((&bytes[20..22], &bytes[26..28]), (&[0x0b, 0x0a][..], &[0x0d, 0x0c][..]));
        assert_eq!(bytes[28..], [4, 3, 2, 1]);
    }
}
