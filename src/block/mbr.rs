//! Master boot records, and the chain of extended boot records, which hold logical partitions.
//!
//! ```text
//! MBR               record of 5          record of 6
//! primary ...       partition 5          partition 6
//! extended ---->    next record ---->    nothing
//! ```
//!
//! All records have the same form: four entries at byte 446 and the signature 55 aa at the end. The
//! extended partition extends to the end of the disk. The start of a partition is relative to the
//! sector of its record. The start of the next record is relative to the extended partition.
//!
//! Source: UEFI 2.10, 5.2.1, "Legacy Master Boot Record"; Linux, `block/partitions/msdos.c`.

use crate::disk::{BootFlag, Layout, Partition, PartitionEntry};

const SECTOR: u64 = 512;

/// The offset of the disk's signature.
const DISK_ID: usize = 440;

/// The offset of the four entries, and the size of each.
const ENTRIES: usize = 446;
const ENTRY_BYTES: usize = 16;

/// The type of an extended partition that is addressed by sector numbers.
const EXTENDED: u8 = 0x0f;
/// The type of a link to the next record.
const LINK: u8 = 0x05;

/// The value of cylinder, head and sector for positions beyond 8 GB, which they cannot express.
/// Systems read the sector numbers instead.
const NO_GEOMETRY: [u8; 3] = [0xfe, 0xff, 0xff];

/// A sector of partition entries.
type Record = [u8; SECTOR as usize];

/// One entry, in sectors.
struct Entry {
    boot: BootFlag,
    kind: u8,
    start: u64,
    sectors: u64,
}

/// Returns the sectors of the partition table of a disk with the signature `id`, each with its
/// offset on the disk. The first one is without boot code.
pub(super) fn mbr_sectors(layout: &Layout, id: u32) -> Vec<(u64, Record)> {
    let logical: Vec<_> =
        layout.partitions.iter().filter_map(|partition| Some((partition, record(partition)?))).collect();
    let primary = layout.partitions.iter().filter(|partition| record(partition).is_none());
    let mut entries: Vec<_> = primary.filter_map(|partition| entry(partition, 0)).collect();
    if let Some((_, start)) = logical.first() {
        let sectors = (layout.bytes - start) / SECTOR;
        entries.push(Entry { boot: BootFlag::Inactive, kind: EXTENDED, start: start / SECTOR, sectors });
    }
    let mut first = sector(&entries);
    first[DISK_ID..][..4].copy_from_slice(&id.to_le_bytes());
    [(0, first)].into_iter().chain(chain(&logical)).collect()
}

fn chain(logical: &[(&Partition, u64)]) -> Vec<(u64, Record)> {
    let Some((_, extended)) = logical.first() else { return Vec::new() };
    let links = logical.iter().skip(1).map(|(next, record)| {
        let end = next.extent.offset + next.extent.bytes;
        let (start, sectors) = ((record - extended) / SECTOR, (end - record) / SECTOR);
        Entry { boot: BootFlag::Inactive, kind: LINK, start, sectors }
    });
    let mut links = links.map(Some).chain([None]);
    let records = logical.iter().map(|(partition, record)| {
        let entries: Vec<_> = entry(partition, *record).into_iter().chain(links.next().flatten()).collect();
        (*record, sector(&entries))
    });
    records.collect()
}

/// Returns the offset of the extended boot record of a logical partition; `None` for a primary one.
fn record(partition: &Partition) -> Option<u64> {
    match partition.entry {
        PartitionEntry::Mbr { record, .. } => record,
        PartitionEntry::Gpt { .. } => None,
    }
}

/// Returns the entry of a partition in the record at `origin`.
fn entry(partition: &Partition, origin: u64) -> Option<Entry> {
    let PartitionEntry::Mbr { kind, boot, .. } = partition.entry else { return None };
    let start = (partition.extent.offset - origin) / SECTOR;
    Some(Entry { boot, kind, start, sectors: partition.extent.bytes / SECTOR })
}

fn sector(entries: &[Entry]) -> Record {
    let mut sector = [0; SECTOR as usize];
    for (place, entry) in entries.iter().enumerate() {
        sector[ENTRIES + place * ENTRY_BYTES..][..ENTRY_BYTES].copy_from_slice(&entry.bytes());
    }
    sector[SECTOR as usize - 2..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

impl Entry {
    fn bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0] = if self.boot == BootFlag::Active { 0x80 } else { 0 };
        bytes[1..4].copy_from_slice(&NO_GEOMETRY);
        bytes[4] = self.kind;
        bytes[5..8].copy_from_slice(&NO_GEOMETRY);
        bytes[8..12].copy_from_slice(&(self.start as u32).to_le_bytes());
        bytes[12..].copy_from_slice(&(self.sectors as u32).to_le_bytes());
        bytes
    }
}
