//! Computes the positions of partitions.
//!
//! ```text
//! MBR   | table ..align | primary | primary | record ..align | logical | record ..align | logical | ...
//! GPT   | table ..1 MiB | one | two | three ...                                     | 1 MiB, copy of the table
//! ```
//!
//! A size in percent refers to the space that is left after the partitions before. In an MBR, each
//! partition starts at a multiple of the alignment, and the extended boot record of a logical
//! partition is one alignment before it. Partitions of a GPT have whole MiB and follow each other
//! without gaps.
//!
//! Source: diskimage-builder, `block_device/level1/mbr.py`, `partitioning.py`.

use super::fault::{Fault, Problem};
use super::node::{PartitionNode, Partitioning, Rank, TableLabel, bad};
use crate::disk::{Extent, Identity, Partition, PartitionEntry, PartitionKind, SectorSize, Table};

const MIB: u64 = 1 << 20;

/// Places partitions one after the other.
struct Placer<'a> {
    disk_bytes: u64,
    next: u64,
    identity: &'a Identity,
    partitions: Vec<Partition>,
}

/// Returns the table and its partitions in order.
pub(super) fn place_partitions(
    table: &Partitioning,
    disk_bytes: u64,
    sector: SectorSize,
    identity: &Identity,
) -> Result<(Table, Vec<Partition>), Fault> {
    let mut placer = Placer { disk_bytes, next: table.align, identity, partitions: Vec::new() };
    match table.label {
        TableLabel::Gpt => {
            placer.next = MIB;
            table.partitions.iter().try_for_each(|partition| placer.gpt(partition))?;
            Ok((Table::Gpt { guid: identity.uuid("disk") }, placer.partitions))
        }
        TableLabel::Mbr if sector != SectorSize::B512 => Err(table.at.fault(Problem::MbrSectors)),
        TableLabel::Mbr if disk_bytes / sector.bytes() > u64::from(u32::MAX) => {
            Err(table.at.fault(Problem::LargeMbr))
        }
        TableLabel::Mbr => {
            check_ranks(&table.partitions)?;
            table.partitions.iter().try_for_each(|partition| placer.mbr(partition, table.align))?;
            Ok((Table::Mbr { id: identity.disk_id() }, placer.partitions))
        }
    }
}

/// An MBR has four entries: four primary partitions, or three and an extended one for logical
/// partitions.
fn check_ranks(partitions: &[PartitionNode]) -> Result<(), Fault> {
    let logical = partitions.iter().position(|partition| partition.rank == Rank::Logical);
    let primaries = &partitions[..logical.unwrap_or(partitions.len())];
    if let Some(late) = partitions[primaries.len()..].iter().find(|partition| partition.rank == Rank::Primary)
    {
        return Err(late.name.at.fault(Problem::LatePrimary(late.name.text.clone())));
    }
    let room = if logical.is_some() { 3 } else { 4 };
    match primaries.get(room) {
        Some(extra) => Err(extra.name.at.fault(Problem::ManyPrimaries(extra.name.text.clone()))),
        None => Ok(()),
    }
}

impl Placer<'_> {
    fn gpt(&mut self, node: &PartitionNode) -> Result<(), Fault> {
        if node.rank == Rank::Primary {
            return Err(node.name.at.fault(Problem::PrimaryInGpt));
        }
        let kind = match &node.kind {
            None => PartitionKind::LINUX,
            Some(word) => PartitionKind::parse(&word.text).ok_or_else(|| {
                bad(word, "a type of GPT partition", "a code such as 8300, ef00, ef02, 8200, 8e00, or a GUID")
            })?,
        };
        // The last MiB holds the copy of the table.
        let free = self.disk_bytes.saturating_sub(MIB + self.next);
        let bytes = self.fitting(node, free, MIB)?;
        let guid = self.identity.uuid(&format!("partition {}", node.name.text));
        let number = self.partitions.len() as u32 + 1;
        self.push(node, number, PartitionEntry::Gpt { kind, guid }, Extent { offset: self.next, bytes });
        self.next += bytes;
        Ok(())
    }

    fn mbr(&mut self, node: &PartitionNode, align: u64) -> Result<(), Fault> {
        let kind = match &node.kind {
            None => 0x83,
            Some(word) => {
                let digits = word.text.strip_prefix("0x").unwrap_or(&word.text);
                u8::from_str_radix(digits, 16).map_err(|_| {
                    bad(word, "a type of MBR partition", "two hexadecimal digits, such as 0x83")
                })?
            }
        };
        let (record, number) = match node.rank {
            Rank::Primary => (None, self.partitions.len() as u32 + 1),
            Rank::Logical => (Some(self.next), self.next_logical()),
        };
        let free = self.disk_bytes.saturating_sub(self.next + align);
        let bytes = self.fitting(node, free, SectorSize::B512.bytes())?;
        let offset = self.next + if record.is_some() { align } else { 0 };
        self.push(
            node,
            number,
            PartitionEntry::Mbr { kind, boot: node.boot, record },
            Extent { offset, bytes },
        );
        self.next = (offset + bytes).next_multiple_of(align);
        Ok(())
    }

    /// The numbers of logical partitions start at 5, whatever the number of primary ones.
    fn next_logical(&self) -> u32 {
        let last = self.partitions.last().map_or(0, |partition| partition.number);
        last.max(4) + 1
    }

    /// Returns the size of a partition in bytes, rounded down to a multiple of `unit`.
    fn fitting(&self, node: &PartitionNode, free: u64, unit: u64) -> Result<u64, Fault> {
        let wanted = node.size.of(free);
        let bytes = wanted - wanted % unit;
        if bytes == 0 || bytes > free {
            let name = node.name.text.clone();
            return Err(node.name.at.fault(Problem::NoRoom { name, wanted, free }));
        }
        Ok(bytes)
    }

    fn push(&mut self, node: &PartitionNode, number: u32, entry: PartitionEntry, extent: Extent) {
        self.partitions.push(Partition { number, name: node.name.text.clone(), entry, extent });
    }
}
