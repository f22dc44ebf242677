//! The errors of a block-device file.

use std::fmt;

use super::size::SizeError;

/// A position in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Counted from 1.
    pub(super) line: usize,
    /// Counted from 1, in characters.
    pub(super) column: usize,
}

impl Default for Position {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl Position {
    pub(super) fn fault(self, problem: Problem) -> Fault {
        Fault { at: self, problem }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A problem with its position, without the name of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub(super) struct Fault {
    pub(super) at: Position,
    pub(super) problem: Problem,
}

impl Fault {
    pub(super) fn of(self, file: &str) -> BlockDeviceError {
        let Position { line, column } = self.at;
        BlockDeviceError { file: file.to_owned(), line, column, problem: Box::new(self.problem) }
    }
}

/// An invalid block-device file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct BlockDeviceError {
    /// The file, or the variable, that holds the text.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    pub problem: Box<Problem>,
}

/// A problem in a block-device file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Syntax(String),
    #[error("{what} is {found}: expected {expected}")]
    Unexpected {
        /// The owner of the value.
        what: &'static str,
        expected: &'static str,
        found: String,
    },
    #[error("expected a node with one key, the name of its plugin; found {}", if .0.is_empty() { "none".to_owned() } else { .0.join(", ") })]
    NotOnePlugin(Vec<String>),
    #[error("`{name}` is not a plugin: expected one of local_loop, partitioning, lvm, mkfs, mount, fstab")]
    UnknownPlugin { name: String },
    #[error("`{what}` has no key `{name}`: {}", match .nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("expected one of {known}"),
    })]
    UnknownKey {
        /// The map that has the key.
        what: &'static str,
        name: String,
        /// The key with the most similar name.
        nearest: Option<String>,
        /// All valid keys.
        known: String,
    },
    #[error("`{plugin}` has no `{key}`")]
    Missing {
        /// The plugin that needs the key.
        plugin: &'static str,
        key: &'static str,
    },
    #[error("the name `{name}` is used by a node in line {line}")]
    DuplicateName {
        name: String,
        /// Where the first one is.
        line: usize,
    },
    #[error("`{base}`, the base of `{name}`, is not {expected}")]
    BadBase {
        name: String,
        base: String,
        /// The kinds of valid bases.
        expected: &'static str,
    },
    #[error("`{value}` is not {what}: expected {expected}")]
    BadValue { value: String, what: &'static str, expected: String },
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error("expected exactly one `local_loop`, with the name `image0`; found {}", .0)]
    Disk(String),
    /// A second file system, partition table or volume on one base, or a second mount of one file
    /// system.
    #[error("`{0}` is already the base of another node")]
    Occupied(String),
    #[error("label `{label}` is too long for {kind}: {} characters, {limit} at most", .label.chars().count())]
    LongLabel {
        label: String,
        /// The type of the file system.
        kind: &'static str,
        limit: usize,
    },
    #[error("label `{label}` is used by the file system in line {line}")]
    DuplicateLabel {
        label: String,
        /// Where the first one is.
        line: usize,
    },
    #[error("mount point `{path}` is used in line {line}")]
    DuplicateMountPoint {
        path: String,
        /// Where the first one is.
        line: usize,
    },
    #[error("the layout has no file system mounted at `/`")]
    NoRoot,
    #[error("primary partition `{0}` follows a logical one: list primary partitions first")]
    LatePrimary(String),
    #[error(
        "partition `{0}` does not fit: an MBR holds four primary partitions, or three primary ones and an extended one"
    )]
    ManyPrimaries(String),
    #[error("partitions of a GPT do not have the flag `primary`: remove it")]
    PrimaryInGpt,
    #[error("an MBR needs sectors of 512 bytes: use `label: gpt` for other sizes")]
    MbrSectors,
    #[error("partition `{name}` of {wanted} bytes does not fit: {free} bytes are left")]
    NoRoom {
        name: String,
        wanted: u64,
        /// The space left for it.
        free: u64,
    },
    /// These file systems cannot number so many blocks.
    #[error(
        "file system `{name}` is too large for {kind}, which has to be smaller than 16TiB: make it ext4 or xfs"
    )]
    LargeExt {
        name: String,
        /// ext2 or ext3.
        kind: &'static str,
    },
    /// An MBR stores the number of 512-byte sectors in 32 bits.
    #[error("an MBR supports disks of at most 2 TiB: use `label: gpt` for larger ones")]
    LargeMbr,
    #[error("`{name}` of {bytes} bytes is too small for FAT32: {least} bytes at least")]
    SmallFat {
        name: String,
        bytes: u64,
        /// The smallest possible size.
        least: u64,
    },
}
