//! Converts a description to a layout.

use super::check::{Described, Description};
use super::fault::{Fault, Problem};
use super::node::Volumes;
use super::place::place_partitions;
use crate::disk::{
    Extent, FileSystem, Identity, Layout, LogicalVolume, Lvm, PhysicalVolume, Place, SectorSize, Table,
    VolumeGroup, VolumeName,
};

/// The disk to lay out, besides its description.
pub(super) struct Target<'a> {
    pub(super) identity: &'a Identity,
    pub(super) bytes: u64,
    pub(super) sector: SectorSize,
    pub(super) source_date_epoch: i64,
}

impl Description {
    pub(super) fn layout(&self, target: &Target<'_>) -> Result<Layout, Fault> {
        let (table, partitions) = match &self.table {
            None => (Table::None, Vec::new()),
            Some(table) => place_partitions(table, target.bytes, target.sector, target.identity)?,
        };
        let mut layout = Layout {
            bytes: target.bytes,
            sector: target.sector,
            table,
            partitions,
            lvm: Lvm::default(),
            file_systems: Vec::new(),
            source_date_epoch: target.source_date_epoch,
        };
        self.volumes.iter().for_each(|volumes| add_volumes(volumes, &mut layout));
        for described in &self.file_systems {
            layout.file_systems.push(self.file_system(described, &layout, target)?);
        }
        Ok(layout)
    }

    fn file_system(
        &self,
        described: &Described,
        layout: &Layout,
        target: &Target<'_>,
    ) -> Result<FileSystem, Fault> {
        let volume = self
            .volumes
            .iter()
            .flat_map(|volumes| &volumes.logical)
            .find(|volume| volume.name.text == described.base);
        let place = match volume {
            Some(volume) => Place::Volume(volume_name(volume)),
            None => Place::Extent(extent(layout, &described.base)),
        };
        let (bytes, least) = (
            place.extent().map_or(u64::MAX, |extent| extent.bytes),
            described.kind.least_bytes(target.sector),
        );
        if bytes < least {
            let name = described.name.clone();
            return Err(described.at.fault(Problem::SmallFat { name, bytes, least }));
        }
        let limit = described.kind.limit_bytes(&described.options);
        if limit.is_some_and(|limit| place.extent().is_some_and(|extent| extent.bytes >= limit)) {
            let (name, kind) = (described.name.clone(), described.kind.name());
            return Err(described.at.fault(Problem::LargeExt { name, kind }));
        }
        Ok(FileSystem {
            kind: described.kind.identified(&described.name, described.uuid, target.identity),
            label: described.label.clone(),
            place,
            options: described.options.clone(),
            mount: described.mount.clone(),
        })
    }
}

/// Returns the extent of a partition, or of the whole disk. [`Description`] has no other bases.
fn extent(layout: &Layout, base: &str) -> Extent {
    let partition = layout.partitions.iter().find(|partition| partition.name == base);
    partition.map_or(Extent { offset: 0, bytes: layout.bytes }, |partition| partition.extent)
}

fn add_volumes(volumes: &Volumes, layout: &mut Layout) {
    for volume in &volumes.physical {
        let extent = extent(layout, &volume.base.text);
        let (name, options) = (volume.name.text.clone(), volume.options.clone());
        layout.lvm.physical.push(PhysicalVolume { name, extent, options });
    }
    layout.lvm.groups.extend(volumes.groups.iter().map(|group| VolumeGroup {
        name: group.name.text.clone(),
        physical: group.bases.iter().map(|base| base.text.clone()).collect(),
        options: group.options.clone(),
    }));
    layout.lvm.logical.extend(volumes.logical.iter().map(|volume| LogicalVolume {
        name: volume_name(volume),
        size: volume.size.clone(),
        kind: volume.kind.clone(),
        options: volume.options.clone(),
    }));
}

fn volume_name(volume: &super::node::LogicalNode) -> VolumeName {
    VolumeName { group: volume.base.text.clone(), name: volume.name.text.clone() }
}
