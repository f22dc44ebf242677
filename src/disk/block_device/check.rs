//! Checks the references between nodes, and returns a consistent description.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::fault::{Fault, Position, Problem};
use super::fields::Word;
use super::kind::FsType;
use super::node::{LocalLoop, Mkfs, Partitioning, Volumes, bad};
use super::parameters::RootParameters;
use super::tree::Nodes;
use crate::disk::{FsName, FstabEntry, MountPoint};

/// The name of the disk that becomes the image.
const MAIN_DISK: &str = "image0";

/// The name of the file system to which root parameters apply.
const MAIN_FILE_SYSTEM: &str = "mkfs_root";

/// A description of a disk. Every referenced name exists and has the right kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    pub(super) disk: LocalLoop,
    pub(super) table: Option<Partitioning>,
    pub(super) volumes: Vec<Volumes>,
    /// In the order of the file.
    pub(super) file_systems: Vec<Described>,
}

/// A file system and its mount point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) at: Position,
    /// The name of a disk, a partition or a logical volume.
    pub(super) base: String,
    pub(super) kind: FsType,
    pub(super) label: String,
    pub(super) options: Vec<String>,
    pub(super) uuid: Option<Uuid>,
    pub(super) mount: Option<MountPoint>,
}

impl Description {
    /// Checks and combines the nodes and the root parameters.
    pub(super) fn new(nodes: Nodes, parameters: &RootParameters) -> Result<Self, Fault> {
        check_names(&nodes)?;
        let disk = main_disk(&nodes)?;
        check_bases(&nodes, &disk)?;
        let mut file_systems = Vec::new();
        for mkfs in &nodes.file_systems {
            file_systems.push(described(mkfs, &nodes, parameters)?);
        }
        check_labels(&file_systems)?;
        check_mount_points(&nodes, &file_systems)?;
        Ok(Self { disk, table: nodes.tables.into_iter().next(), volumes: nodes.volumes, file_systems })
    }

    /// Returns the bytes of the partitions with a fixed size, without the partition of the root.
    pub(super) fn other_bytes(&self) -> u64 {
        let root = self.mounted_at("/").map(|fs| fs.base.as_str());
        let partitions = self.table.iter().flat_map(|table| &table.partitions);
        let others = partitions.filter(|partition| Some(partition.name.text.as_str()) != root);
        others.fold(0, |sum, partition| sum.saturating_add(partition.size.of(0)))
    }

    pub(super) fn mounted_at(&self, path: &str) -> Option<&Described> {
        let is_there = |fs: &&Described| fs.mount.as_ref().is_some_and(|mount| mount.path == path);
        self.file_systems.iter().find(is_there)
    }
}

fn check_names(nodes: &Nodes) -> Result<(), Fault> {
    let partitions = nodes.tables.iter().flat_map(|table| &table.partitions).map(|partition| &partition.name);
    let volumes = nodes.volumes.iter().flat_map(|volumes| {
        let physical = volumes.physical.iter().map(|volume| &volume.name);
        let groups = volumes.groups.iter().map(|group| &group.name);
        let logical = volumes.logical.iter().map(|volume| &volume.name);
        physical.chain(groups).chain(logical).chain([&volumes.name])
    });
    let loops = nodes.loops.iter().map(|disk| &disk.name);
    let mkfs = nodes.file_systems.iter().map(|fs| &fs.name);
    let mounts = nodes.mounts.iter().map(|mount| &mount.name);
    let fstabs = nodes.fstabs.iter().map(|fstab| &fstab.name);
    let mut seen = BTreeMap::new();
    for name in loops.chain(partitions).chain(volumes).chain(mkfs).chain(mounts).chain(fstabs) {
        if let Some(line) = seen.insert(name.text.as_str(), name.at.line) {
            return Err(name.at.fault(Problem::DuplicateName { name: name.text.clone(), line }));
        }
    }
    Ok(())
}

fn main_disk(nodes: &Nodes) -> Result<LocalLoop, Fault> {
    let fault = |at: Position, found: &str| Err(at.fault(Problem::Disk(found.to_owned())));
    match nodes.loops.as_slice() {
        [] => fault(Position::default(), "none"),
        [disk] if disk.name.text == MAIN_DISK => Ok(disk.clone()),
        [disk] => fault(disk.name.at, &format!("`{}`", disk.name.text)),
        [_, second, ..] => fault(second.name.at, &format!("a second one, `{}`", second.name.text)),
    }
}

/// Checks that every base exists and is used only once.
fn check_bases(nodes: &Nodes, disk: &LocalLoop) -> Result<(), Fault> {
    let mut devices = Bases::default();
    devices.free.insert(&disk.name.text);
    for table in &nodes.tables {
        devices.take_disk(table, disk)?;
        devices.free.extend(table.partitions.iter().map(|partition| partition.name.text.as_str()));
    }
    for volumes in &nodes.volumes {
        for volume in &volumes.physical {
            devices.take(&volume.base, &volume.name, "a partition or a local_loop")?;
        }
        check_groups(volumes)?;
        devices.free.extend(volumes.logical.iter().map(|volume| volume.name.text.as_str()));
    }
    let expected = "a local_loop, a partition or a logical volume";
    nodes.file_systems.iter().try_for_each(|mkfs| devices.take(&mkfs.base, &mkfs.name, expected))?;
    let mut file_systems = Bases::of(nodes.file_systems.iter().map(|mkfs| &mkfs.name));
    nodes.mounts.iter().try_for_each(|mount| file_systems.take(&mount.base, &mount.name, "a mkfs"))?;
    let mut mounts = Bases::of(nodes.mounts.iter().map(|mount| &mount.name));
    nodes.fstabs.iter().try_for_each(|fstab| mounts.take(&fstab.base, &fstab.name, "a mount"))
}

/// Names that can be a base, and names that are a base already.
#[derive(Default)]
struct Bases<'a> {
    free: BTreeSet<&'a str>,
    used: BTreeSet<&'a str>,
}

impl<'a> Bases<'a> {
    fn of(names: impl Iterator<Item = &'a Word>) -> Self {
        Self { free: names.map(|name| name.text.as_str()).collect(), used: BTreeSet::new() }
    }

    fn take(&mut self, base: &'a Word, name: &Word, expected: &'static str) -> Result<(), Fault> {
        if self.free.remove(base.text.as_str()) {
            self.used.insert(&base.text);
            return Ok(());
        }
        match self.used.contains(base.text.as_str()) {
            true => Err(base.at.fault(Problem::Occupied(base.text.clone()))),
            false => Err(wrong_base(base, name, expected)),
        }
    }

    fn take_disk(&mut self, table: &'a Partitioning, disk: &LocalLoop) -> Result<(), Fault> {
        let name = Word { at: table.at, text: "partitioning".to_owned() };
        match table.base.text == disk.name.text {
            true => self.take(&table.base, &name, "a local_loop"),
            false => Err(wrong_base(&table.base, &name, "a local_loop")),
        }
    }
}

fn wrong_base(base: &Word, name: &Word, expected: &'static str) -> Fault {
    let (name, base, at) = (name.text.clone(), base.text.clone(), base.at);
    at.fault(Problem::BadBase { name, base, expected })
}

fn check_groups(volumes: &Volumes) -> Result<(), Fault> {
    let is_physical = |base: &Word| volumes.physical.iter().any(|volume| volume.name.text == base.text);
    let is_group = |base: &Word| volumes.groups.iter().any(|group| group.name.text == base.text);
    for group in &volumes.groups {
        if let Some(base) = group.bases.iter().find(|base| !is_physical(base)) {
            return Err(wrong_base(base, &group.name, "one of the pvs"));
        }
    }
    match volumes.logical.iter().find(|volume| !is_group(&volume.base)) {
        Some(volume) => Err(wrong_base(&volume.base, &volume.name, "one of the vgs")),
        None => Ok(()),
    }
}

fn described(mkfs: &Mkfs, nodes: &Nodes, parameters: &RootParameters) -> Result<Described, Fault> {
    let is_main = mkfs.name.text == MAIN_FILE_SYSTEM;
    let kind = kind(mkfs, parameters, is_main)?;
    let label = match (&mkfs.label, &parameters.label) {
        (Some(label), _) => label.text.clone(),
        (None, Some(label)) if is_main => label.clone(),
        (None, None) if is_main => kind.root_label().to_owned(),
        _ => mkfs.name.text.clone(),
    };
    // Labels of FAT have no lower-case letters.
    let label = if kind == FsType::Vfat { label.to_uppercase() } else { label };
    let options = match &mkfs.options {
        Some(options) => options.text.split_whitespace().map(str::to_owned).collect(),
        None if is_main => parameters.root_options(kind),
        None => Vec::new(),
    };
    let uuid = mkfs.uuid.as_ref().filter(|_| kind != FsType::Vfat);
    let no_uuid = |word: &Word| bad(word, "a UUID", "such as 7b6f4bd9-3a5e-4f5b-9c3a-1d2e3f4a5b6c");
    Ok(Described {
        name: mkfs.name.text.clone(),
        at: mkfs.label.as_ref().unwrap_or(&mkfs.name).at,
        base: mkfs.base.text.clone(),
        kind,
        label,
        options,
        uuid: uuid.map(|word| Uuid::parse_str(&word.text).map_err(|_| no_uuid(word))).transpose()?,
        mount: mount(mkfs, kind, nodes)?,
    })
}

fn kind(mkfs: &Mkfs, parameters: &RootParameters, is_main: bool) -> Result<FsType, Fault> {
    let word = match &mkfs.kind {
        Some(kind) => kind.clone(),
        None if is_main => Word { at: mkfs.name.at, text: parameters.kind.clone() },
        None => return Err(mkfs.name.at.fault(Problem::Missing { plugin: "mkfs", key: "type" })),
    };
    FsType::parse(&word.text).ok_or_else(|| bad(&word, "a type of file system", FsType::NAMES))
}

fn mount(mkfs: &Mkfs, kind: FsType, nodes: &Nodes) -> Result<Option<MountPoint>, Fault> {
    let Some(mount) = nodes.mounts.iter().find(|mount| mount.base.text == mkfs.name.text) else {
        return Ok(None);
    };
    let fstab = nodes.fstabs.iter().find(|fstab| fstab.base.text == mount.name.text);
    if kind == FsType::Swap {
        let entry = FstabEntry { by: FsName::Label, options: "sw".to_owned(), dump: 0, check: 0 };
        return Ok(Some(MountPoint { path: MountPoint::NONE.to_owned(), fstab: fstab.map(|_| entry) }));
    }
    let path = mount.path.text.as_str();
    if !path.starts_with('/')
        || path.contains(char::is_whitespace)
        || path.split('/').any(|part| part == "..")
    {
        return Err(bad(&mount.path, "a mount point", "an absolute path without `..` and spaces"));
    }
    let path = if path == "/" { path } else { path.trim_end_matches('/') };
    let entry = |fstab: &super::node::Fstab| FstabEntry {
        by: FsName::Label,
        options: fstab.options.clone(),
        dump: fstab.dump,
        check: fstab.check,
    };
    Ok(Some(MountPoint { path: path.to_owned(), fstab: fstab.map(entry) }))
}

fn check_labels(file_systems: &[Described]) -> Result<(), Fault> {
    let mut seen = BTreeMap::new();
    for Described { label, kind, at, .. } in file_systems {
        let limit = kind.label_limit();
        if label.chars().count() > limit {
            return Err(at.fault(Problem::LongLabel { label: label.clone(), kind: kind.name(), limit }));
        }
        if let Some(line) = seen.insert(label.as_str(), at.line) {
            return Err(at.fault(Problem::DuplicateLabel { label: label.clone(), line }));
        }
    }
    Ok(())
}

fn check_mount_points(nodes: &Nodes, file_systems: &[Described]) -> Result<(), Fault> {
    let mut seen = BTreeMap::new();
    let words = nodes.mounts.iter().map(|mount| &mount.path).filter(|path| path.text.starts_with('/'));
    for Word { at, text } in words {
        if let Some(line) = seen.insert(text.as_str(), at.line) {
            return Err(at.fault(Problem::DuplicateMountPoint { path: text.clone(), line }));
        }
    }
    let has_root = file_systems.iter().any(|fs| fs.mount.as_ref().is_some_and(|mount| mount.path == "/"));
    if has_root { Ok(()) } else { Err(Position::default().fault(Problem::NoRoot)) }
}
