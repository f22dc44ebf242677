//! Reads the keys of single nodes. References between nodes are checked later.

use super::fault::{Fault, Position, Problem};
use super::fields::{Fields, Word};
use super::size::{Size, parse_bytes};
use crate::disk::{BootFlag, ByteSize, LARGEST_DISK, SectorSize, VolumeKind, VolumeSize};

/// The disk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LocalLoop {
    pub(super) name: Word,
    pub(super) bytes: Option<u64>,
    pub(super) sector: SectorSize,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Partitioning {
    pub(super) base: Word,
    pub(super) at: Position,
    pub(super) label: TableLabel,
    /// The alignment of the partitions of an MBR, in bytes.
    pub(super) align: u64,
    pub(super) partitions: Vec<PartitionNode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableLabel {
    Mbr,
    Gpt,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PartitionNode {
    pub(super) name: Word,
    pub(super) size: Size,
    pub(super) kind: Option<Word>,
    pub(super) boot: BootFlag,
    pub(super) rank: Rank,
}

/// The place of a partition in an MBR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    Primary,
    Logical,
}

/// The volumes of one node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Volumes {
    pub(super) name: Word,
    pub(super) physical: Vec<PhysicalNode>,
    pub(super) groups: Vec<GroupNode>,
    pub(super) logical: Vec<LogicalNode>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PhysicalNode {
    pub(super) name: Word,
    pub(super) base: Word,
    pub(super) options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupNode {
    pub(super) name: Word,
    pub(super) bases: Vec<Word>,
    pub(super) options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct LogicalNode {
    pub(super) name: Word,
    pub(super) base: Word,
    pub(super) size: VolumeSize,
    pub(super) kind: VolumeKind,
    pub(super) options: Vec<String>,
}

/// A file system, before the root parameters are merged into it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mkfs {
    pub(super) name: Word,
    pub(super) base: Word,
    pub(super) kind: Option<Word>,
    pub(super) label: Option<Word>,
    pub(super) options: Option<Word>,
    pub(super) uuid: Option<Word>,
}

/// A mount point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mount {
    pub(super) name: Word,
    pub(super) base: Word,
    pub(super) path: Word,
}

/// A line of `/etc/fstab`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fstab {
    pub(super) name: Word,
    pub(super) base: Word,
    pub(super) options: String,
    pub(super) dump: u8,
    pub(super) check: u8,
}

impl LocalLoop {
    pub(super) fn read(name: Word, fields: &mut Fields<'_>) -> Result<Self, Fault> {
        // plywood itself decides where the raw file is.
        fields.skip("directory");
        let bytes = fields.optional("size")?.map(|word| bytes(&word)).transpose()?;
        let sector = fields.optional("block_size")?.map(|word| sector(&word)).transpose()?;
        Ok(Self { name, bytes, sector: sector.unwrap_or_default() })
    }
}

/// Parses a size of at most [`LARGEST_DISK`].
fn bytes(word: &Word) -> Result<u64, Fault> {
    // With this limit, the sum of a few sizes cannot overflow.
    match parse_bytes(&word.text).map_err(|error| word.at.fault(error.into()))? {
        large if large > LARGEST_DISK.bytes() => {
            Err(bad(word, "a size of a disk", format!("{LARGEST_DISK}iB at most")))
        }
        bytes => Ok(bytes),
    }
}

fn sector(word: &Word) -> Result<SectorSize, Fault> {
    SectorSize::parse(&word.text).ok_or_else(|| bad(word, "a sector size", "512 or 4096"))
}

pub(super) fn bad(word: &Word, what: &'static str, expected: impl Into<String>) -> Fault {
    word.at.fault(Problem::BadValue { value: word.text.clone(), what, expected: expected.into() })
}

impl Partitioning {
    /// Reads everything except the partitions.
    pub(super) fn read(base: Word, fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let label = fields.needed("label")?;
        let label = match label.text.as_str() {
            "mbr" => TableLabel::Mbr,
            "gpt" => TableLabel::Gpt,
            _ => return Err(bad(&label, "a partition table", "mbr or gpt")),
        };
        let align = match fields.optional("align")? {
            None => 1 << 20,
            Some(word) => Some(bytes(&word)?)
                .filter(|align| *align > 0 && align.is_multiple_of(SectorSize::B512.bytes()))
                .ok_or_else(|| bad(&word, "an alignment", "a multiple of 512 bytes, such as 1MiB"))?,
        };
        Ok(Self { base, at: fields.at(), label, align, partitions: Vec::new() })
    }
}

impl PartitionNode {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        // The base of a partition is always the disk of its table.
        fields.skip("base");
        let name = fields.needed("name")?;
        let size = fields.needed("size")?;
        let size = Size::parse(&size.text).map_err(|error| size.at.fault(error.into()))?;
        let kind = fields.optional("type")?;
        let (mut boot, mut rank) = (BootFlag::Inactive, Rank::Logical);
        for flag in fields.words("flags")? {
            match flag.text.as_str() {
                "boot" => boot = BootFlag::Active,
                "primary" => rank = Rank::Primary,
                _ => return Err(bad(&flag, "a flag", "boot or primary")),
            }
        }
        Ok(Self { name, size, kind, boot, rank })
    }
}

impl Volumes {
    pub(super) fn read(name: Word, fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            name,
            physical: each(fields, "pvs", PhysicalNode::read)?,
            groups: each(fields, "vgs", GroupNode::read)?,
            logical: each(fields, "lvs", LogicalNode::read)?,
        })
    }
}

fn each<T>(
    fields: &mut Fields<'_>,
    key: &'static str,
    read: impl Fn(&mut Fields<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let one = |item| {
        let mut fields = Fields::open(key, item)?;
        let node = read(&mut fields)?;
        fields.finish().map(|()| node)
    };
    fields.items(key)?.iter().map(one).collect()
}

fn options(fields: &mut Fields<'_>) -> Result<Vec<String>, Fault> {
    Ok(fields.words("options")?.into_iter().map(|word| word.text).collect())
}

impl PhysicalNode {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self { name: fields.needed("name")?, base: fields.needed("base")?, options: options(fields)? })
    }
}

impl GroupNode {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let (name, bases) = (fields.needed("name")?, fields.words("base")?);
        if bases.is_empty() {
            return Err(fields.missing("base"));
        }
        Ok(Self { name, bases, options: options(fields)? })
    }
}

impl LogicalNode {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let (name, base) = (fields.needed("name")?, fields.needed("base")?);
        let pool = fields.optional("thin-pool")?.map(|word| word.text);
        let kind = match fields.optional("type")? {
            None => VolumeKind::Plain,
            Some(word) if word.text == "thin-pool" => VolumeKind::ThinPool,
            Some(word) if word.text == "thin" => VolumeKind::Thin(pool),
            Some(word) => return Err(bad(&word, "a type of volume", "thin or thin-pool")),
        };
        let size = match (fields.optional("size")?, fields.optional("extents")?) {
            (Some(size), _) => VolumeSize::Bytes(ByteSize::from_bytes(bytes(&size)?)),
            (None, Some(extents)) => VolumeSize::Extents(extents.text),
            (None, None) => return Err(fields.missing("size` or `extents")),
        };
        Ok(Self { name, base, size, kind, options: options(fields)? })
    }
}

impl Mkfs {
    pub(super) fn read(name: Word, base: Word, fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let (kind, label) = (fields.optional("type")?, fields.optional("label")?);
        Ok(Self {
            name,
            base,
            kind,
            label,
            options: fields.optional("opts")?,
            uuid: fields.optional("uuid")?,
        })
    }
}

impl Mount {
    pub(super) fn read(name: Word, base: Word, fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self { name, base, path: fields.needed("mount_point")? })
    }
}

impl Fstab {
    pub(super) fn read(name: Word, base: Word, fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let options = fields.optional("options")?.map_or_else(|| "defaults".to_owned(), |word| word.text);
        let (dump, check) = (digit(fields, "dump-freq", 0)?, digit(fields, "fsck-passno", 2)?);
        Ok(Self { name, base, options, dump, check })
    }
}

fn digit(fields: &mut Fields<'_>, key: &'static str, default: u8) -> Result<u8, Fault> {
    match fields.optional(key)? {
        None => Ok(default),
        Some(word) => word.text.parse().map_err(|_| bad(&word, "a number of fstab", "0, 1 or 2")),
    }
}
