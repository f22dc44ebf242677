//! What can be wrong with definitions on disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::PROJECT_FILE;
use crate::distro::BaseName;
use crate::element::{ElementNameError, SlotRuleError};
use crate::oci::Digest;
use crate::port::IoError;

/// A definition that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// An entry of `files` cannot be used.
    #[error("cannot use the entry `{name}` of `files` in the image definition")]
    Input {
        /// The entry.
        name: String,
        /// Why not.
        source: Box<LoadError>,
    },
    /// The directory is no project.
    #[error("{}", no_project(dir))]
    NoProject {
        /// The directory.
        dir: PathBuf,
    },
    /// A TOML file is not what it should be.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A block-device file describes no disk.
    #[error(transparent)]
    BlockDevices(#[from] crate::disk::BlockDeviceError),
    /// No directory of bases has this one.
    #[error("base `{name}` not found{}", known_list(known))]
    UnknownBase {
        /// The base.
        name: BaseName,
        /// All that could be had.
        known: Vec<BaseName>,
        /// The one with the most similar name.
        nearest: Option<BaseName>,
    },
    /// An entry of the search path of elements is something else.
    #[error("`{}` is in the search path of elements, but is no directory", path.display())]
    NoElementDirectory {
        /// The entry.
        path: PathBuf,
    },
    /// A line of `element-deps` or `element-provides` is no name.
    #[error("`{}`, line {line}", path.display())]
    Declaration {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: ElementNameError,
    },
    /// A line of `plywood-slots` says nothing.
    #[error("`{}`, line {line}", path.display())]
    Slots {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: SlotRuleError,
    },
    /// A file name or symlink target that no key could name.
    #[error("`{}` has a name or target that is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a file, directory or symlink.
    #[error("`{}` is neither a file nor a directory nor a symlink: expected one of these", path.display())]
    Special {
        /// The file.
        path: PathBuf,
    },
    /// A hook or a list of an element is a symlink that leads nowhere.
    #[error("`{}` is a symlink that leads nowhere", path.display())]
    Dangling {
        /// The symlink.
        path: PathBuf,
    },
    /// A list of an element is too large to be one.
    #[error("`{}` is larger than {} MiB: expected a text", path.display(), limit_bytes >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit_bytes: u64,
    },
    /// A symlink to a directory leads back to where it came from.
    #[error("`{}` leads back to a directory that it lies in", path.display())]
    Loop {
        /// The symlink.
        path: PathBuf,
    },
    /// A file of an element is no longer what it was when the plan was made.
    #[error("`{}` changed while it was used", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// When it was read first.
        expected: Digest,
        /// When it was copied.
        found: Digest,
    },
}

impl LoadError {
    /// Makes a function that wraps an I/O error.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| IoError::new(action, path)(error).into()
    }

    /// Returns something to try, as a sentence without full stop.
    pub fn hint(&self) -> Option<String> {
        match self {
            LoadError::Io(error) => error.hint(),
            LoadError::Definition(error) => error.hint.clone(),
            LoadError::UnknownBase { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?"))
            }
            LoadError::Dangling { path } => Some(format!("restore its target, or `rm {}`", path.display())),
            LoadError::NoProject { .. } => {
                Some("name the project's directory with `--project DIR`".to_owned())
            }
            _ => None,
        }
    }
}

fn no_project(dir: &Path) -> String {
    // `.` is the default, for which the directories above were searched as well.
    match dir == Path::new(".") {
        true => format!("neither `.` nor a directory above it has a `{PROJECT_FILE}`"),
        false => format!("`{}` has no `{PROJECT_FILE}`", dir.display()),
    }
}

fn known_list(known: &[BaseName]) -> String {
    let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => ": there are no bases at all".to_owned(),
        false => format!(": there are {}", names.join(", ")),
    }
}

/// A TOML file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
    /// Something to try.
    pub hint: Option<String>,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, message, hint: _ } = self;
        write!(f, "{}:{line}:{column}: {message}", path.display())
    }
}

impl std::error::Error for DefinitionError {}
