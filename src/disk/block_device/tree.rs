//! Reads the nodes of a file in tree form, in graph form, or in a mixture of both.
//!
//! In the tree form, the key of a plugin inside a node or a partition is a nested node. The default
//! of its `base` is the name of the outer node, and the default of its `name` is `<plugin>_<base>`.
//! The graph form has no nesting.

use super::document::Item;
use super::fault::{Fault, Problem};
use super::fields::{Fields, Word};
use super::node::{Fstab, LocalLoop, Mkfs, Mount, PartitionNode, Partitioning, Volumes};
use super::plugin::Plugin;

/// All nodes of a file, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Nodes {
    pub(super) loops: Vec<LocalLoop>,
    pub(super) tables: Vec<Partitioning>,
    pub(super) volumes: Vec<Volumes>,
    pub(super) file_systems: Vec<Mkfs>,
    pub(super) mounts: Vec<Mount>,
    pub(super) fstabs: Vec<Fstab>,
}

impl Nodes {
    pub(super) fn read(document: &Item) -> Result<Self, Fault> {
        let mut nodes = Self::default();
        for entry in document.list("a block-device file")? {
            let entries = entry.map("a node")?;
            let [(key, value)] = entries else {
                let keys = entries.iter().map(|(key, _)| format!("`{}`", key.text("a key").unwrap_or("?")));
                return Err(entry.at.fault(Problem::NotOnePlugin(keys.collect())));
            };
            let name = key.text("a plugin")?;
            let unknown = || key.at.fault(Problem::UnknownPlugin { name: name.to_owned() });
            let plugin = Plugin::of(name).ok_or_else(unknown)?;
            nodes.node(plugin, value, None)?;
        }
        Ok(nodes)
    }

    /// Reads a node and then its nested nodes. `parent` is the name of the outer node.
    fn node(&mut self, plugin: Plugin, item: &Item, parent: Option<&Word>) -> Result<(), Fault> {
        let mut fields = Fields::open(plugin.name(), item)?;
        let nested = fields.nested();
        let base = base(plugin, &mut fields, parent)?;
        let name = name(plugin, &mut fields, base.as_ref())?;
        let (fields, own) = (&mut fields, name.clone());
        match (plugin, base) {
            (Plugin::LocalLoop, _) => self.loops.push(LocalLoop::read(own, fields)?),
            (Plugin::Lvm, _) => self.volumes.push(Volumes::read(own, fields)?),
            (_, None) => return Err(fields.missing("base")),
            (Plugin::Partitioning, Some(base)) => self.table(Partitioning::read(base, fields)?, fields)?,
            (Plugin::Mkfs, Some(base)) => self.file_systems.push(Mkfs::read(own, base, fields)?),
            (Plugin::Mount, Some(base)) => self.mounts.push(Mount::read(own, base, fields)?),
            (Plugin::Fstab, Some(base)) => self.fstabs.push(Fstab::read(own, base, fields)?),
        }
        fields.finish()?;
        nested.into_iter().try_for_each(|(plugin, item)| self.node(plugin, item, Some(&name)))
    }

    fn table(&mut self, table: Partitioning, fields: &mut Fields<'_>) -> Result<(), Fault> {
        let items = fields.items("partitions")?;
        let place = self.tables.len();
        self.tables.push(table);
        for item in items {
            let mut fields = Fields::open("partition", item)?;
            let nested = fields.nested();
            let partition = PartitionNode::read(&mut fields)?;
            let name = partition.name.clone();
            self.tables[place].partitions.push(partition);
            fields.finish()?;
            nested.into_iter().try_for_each(|(plugin, item)| self.node(plugin, item, Some(&name)))?;
        }
        Ok(())
    }
}

/// Returns the base of a node. A `base` of LVM is ignored, because each physical volume has its
/// own.
fn base(plugin: Plugin, fields: &mut Fields<'_>, parent: Option<&Word>) -> Result<Option<Word>, Fault> {
    if plugin == Plugin::Lvm {
        fields.skip("base");
        return Ok(parent.cloned());
    }
    Ok(fields.optional("base")?.or_else(|| parent.cloned()))
}

fn name(plugin: Plugin, fields: &mut Fields<'_>, base: Option<&Word>) -> Result<Word, Fault> {
    let at = fields.at();
    match (fields.optional("name")?, base, plugin) {
        (Some(name), ..) => Ok(name),
        (None, Some(base), _) => Ok(Word { at, text: format!("{}_{}", plugin.name(), base.text) }),
        (None, None, Plugin::Lvm) => Ok(Word { at, text: Plugin::Lvm.name().to_owned() }),
        (None, None, Plugin::LocalLoop) => Err(fields.missing("name")),
        (None, None, _) => Err(fields.missing("base")),
    }
}
