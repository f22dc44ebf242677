//! The partition table.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition as Entry;
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, GptError};
use uuid::Uuid;

use super::mbr::mbr_sectors;
use crate::disk::{Layout, Partition, PartitionEntry, SectorSize, Table};
use crate::port::DiskError;

/// Writes the partition table of `layout`, if it has one: MBR and extended boot records, or
/// protective MBR and both copies of the GPT.
pub(super) fn write_table(layout: &Layout, file: &mut File, raw: &Path) -> Result<(), DiskError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| DiskError::PartitionTable {
        path: raw.to_owned(),
        source,
    };
    match layout.table {
        Table::None => Ok(()),
        Table::Mbr { id } => mbr_sectors(layout, id)
            .into_iter()
            .try_for_each(|(offset, sector)| file.write_all_at(&sector, offset))
            .map_err(|error| failed(error.into())),
        Table::Gpt { guid } => {
            // The size in sectors without the MBR itself. If it exceeds 32 bits, the specification
            // wants the largest number.
            let sectors = layout.bytes / layout.sector.bytes() - 1;
            let protected = ProtectiveMBR::with_lb_size(u32::try_from(sectors).unwrap_or(u32::MAX));
            protected.overwrite_lba0(file).map_err(|error| failed(error.into()))?;
            write_gpt(layout, guid, file).map_err(|error| failed(error.into()))
        }
    }
}

fn write_gpt(layout: &Layout, guid: Uuid, file: &mut File) -> Result<(), GptError> {
    let block = match layout.sector {
        SectorSize::B512 => LogicalBlockSize::Lb512,
        SectorSize::B4096 => LogicalBlockSize::Lb4096,
    };
    let mut disk =
        GptConfig::new().writable(true).logical_block_size(block).create_from_device(file, Some(guid))?;
    let entries: BTreeMap<u32, Entry> =
        layout.partitions.iter().filter_map(|partition| entry(partition, layout.sector)).collect();
    disk.update_partitions(entries)?;
    disk.write()?;
    Ok(())
}

fn entry(partition: &Partition, sector: SectorSize) -> Option<(u32, Entry)> {
    let PartitionEntry::Gpt { kind, guid } = partition.entry else { return None };
    let first_lba = partition.extent.offset / sector.bytes();
    let entry = Entry {
        part_type_guid: Type { guid: kind.0, os: OperatingSystem::None },
        part_guid: guid,
        first_lba,
        last_lba: first_lba + partition.extent.bytes / sector.bytes() - 1,
        flags: 0,
        name: partition.name.clone(),
    };
    Some((partition.number, entry))
}
