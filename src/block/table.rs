//! The partition table.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition as Entry;
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, GptError};

use crate::disk::{Layout, Partition};
use crate::port::DiskError;

const SECTOR: u64 = 512;

/// Writes protective MBR and both copies of the GPT; nothing for a disk without partitions.
pub(super) fn write_table(layout: &Layout, file: &mut File, raw: &Path) -> Result<(), DiskError> {
    if layout.partitions.is_empty() {
        return Ok(());
    }
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| DiskError::PartitionTable {
        path: raw.to_owned(),
        source,
    };
    // The size in sectors, less the MBR itself; disks above 2 TiB say "as large as can be".
    let protected = u32::try_from(layout.bytes / SECTOR - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(protected).overwrite_lba0(file).map_err(|error| failed(error.into()))?;
    write_gpt(layout, file).map_err(|error| failed(error.into()))
}

fn write_gpt(layout: &Layout, file: &mut File) -> Result<(), GptError> {
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut disk = config.create_from_device(file, Some(layout.guid))?;
    let entries: BTreeMap<u32, Entry> = (1..).zip(layout.partitions.iter().map(entry)).collect();
    disk.update_partitions(entries)?;
    disk.write()?;
    Ok(())
}

fn entry(partition: &Partition) -> Entry {
    let first_lba = partition.extent.offset / SECTOR;
    Entry {
        part_type_guid: Type { guid: partition.kind.type_guid(), os: OperatingSystem::None },
        part_guid: partition.guid,
        first_lba,
        last_lba: first_lba + partition.extent.bytes / SECTOR - 1,
        flags: 0,
        name: partition.name.clone(),
    }
}
