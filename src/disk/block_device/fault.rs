//! What can be wrong with a block-device file.

use std::fmt;

use super::size::SizeError;

/// A place in the file.
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

/// Something wrong in the file, without the file's name.
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

/// A block-device file that describes no disk.
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

/// What is wrong at a place of a block-device file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Syntax(String),
    #[error("{what} is {found}: expected {expected}")]
    Unexpected {
        /// Whose value.
        what: &'static str,
        /// What it should be.
        expected: &'static str,
        found: String,
    },
    #[error("a node has one key, its plugin; found {}", if .0.is_empty() { "none".to_owned() } else { .0.join(", ") })]
    NotOnePlugin(Vec<String>),
    #[error("`{name}` is not a plugin: expected one of local_loop, partitioning, lvm, mkfs, mount, fstab")]
    UnknownPlugin { name: String },
    #[error("`{what}` has no key `{name}`: {}", match .nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("expected one of {known}"),
    })]
    UnknownKey {
        /// What the key is in.
        what: &'static str,
        name: String,
        /// The key that looks most like it.
        nearest: Option<String>,
        /// All keys that there could be.
        known: String,
    },
    #[error("`{plugin}` has no `{key}`")]
    Missing {
        /// Whose key.
        plugin: &'static str,
        /// Which one.
        key: &'static str,
    },
    #[error("the name `{name}` is taken by a node in line {line}")]
    DuplicateName {
        name: String,
        /// Where the first one is.
        line: usize,
    },
    #[error("`{base}`, the base of `{name}`, is not {expected}")]
    BadBase {
        name: String,
        /// What it stands on.
        base: String,
        /// What that would have to be.
        expected: &'static str,
    },
    #[error("`{value}` is not {what}: expected {expected}")]
    BadValue {
        value: String,
        /// What it should be.
        what: &'static str,
        /// What would be right.
        expected: String,
    },
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error("the disk is a `local_loop` called `image0`, and the only one; found {}", .0)]
    Disk(String),
    /// A second file system, partition table or volume in one place, or a second mount of one file
    /// system.
    #[error("`{0}` is in use already")]
    Occupied(String),
    #[error("label `{label}` is too long for {kind}: {} characters, {limit} at most", .label.chars().count())]
    LongLabel {
        label: String,
        /// The file system.
        kind: &'static str,
        /// How many characters it takes.
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
    #[error("nothing has the mount point `/`")]
    NoRoot,
    #[error("primary partition `{0}` stands behind a logical one: primary partitions come first")]
    LatePrimary(String),
    #[error("an MBR has room for four primary partitions, or three and logical ones; `{0}` is one too many")]
    ManyPrimaries(String),
    #[error("partitions of a GPT have no flag `primary`")]
    PrimaryInGpt,
    #[error("an MBR needs sectors of 512 bytes (`label: gpt` takes all sizes)")]
    MbrSectors,
    #[error("partition `{name}` of {wanted} bytes does not fit: {free} bytes are left")]
    NoRoom {
        name: String,
        wanted: u64,
        /// What is left before it.
        free: u64,
    },
    /// More blocks than these file systems can number.
    #[error(
        "file system `{name}` is too large for {kind}, which has to be smaller than 16TiB: make it ext4 or xfs"
    )]
    LargeExt {
        /// Its name.
        name: String,
        /// ext2 or ext3.
        kind: &'static str,
    },
    /// An MBR counts 512-byte sectors in 32 bits.
    #[error("an MBR describes 2 TiB at most (`label: gpt` takes more)")]
    LargeMbr,
    #[error("`{name}` of {bytes} bytes is too small for FAT32: {least} bytes at least")]
    SmallFat {
        name: String,
        bytes: u64,
        /// What it takes.
        least: u64,
    },
}
