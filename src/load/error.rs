//! Errors of reading definitions.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::PROJECT_FILE;
use crate::distro::BaseName;
use crate::element::{ElementNameError, SlotRuleError};
use crate::port::IoError;

/// A definition that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot use the entry `{name}` of `files` in the image definition")]
    Input { name: String, source: Box<LoadError> },
    #[error("{}", no_project(dir))]
    NoProject { dir: PathBuf },
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error(transparent)]
    BlockDevices(#[from] crate::disk::BlockDeviceError),
    #[error("base `{name}` not found{}", known_list(known))]
    UnknownBase {
        name: BaseName,
        /// All available bases.
        known: Vec<BaseName>,
        /// The base that was probably meant.
        nearest: Option<BaseName>,
    },
    #[error("no usable key for the repository `{repository}` of `{}`{}: {reason}", definition.display(), named(file))]
    RepositoryKey { definition: PathBuf, repository: String, file: Option<PathBuf>, reason: String },
    #[error("`{}` is in the search path of elements, but is not a directory", path.display())]
    NoElementDirectory { path: PathBuf },
    #[error("`{}`, line {line}", path.display())]
    Declaration {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        source: ElementNameError,
    },
    /// A line of `plywood-slots` is not a rule.
    #[error("`{}`, line {line}", path.display())]
    Slots {
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        source: SlotRuleError,
    },
    /// Keys are text, so they cannot contain such a name or target.
    #[error("`{}` has a name or target that is not UTF-8", path.display())]
    NotUtf8 { path: PathBuf },
    #[error("`{}` is a special file: expected a file, a directory or a symlink", path.display())]
    Special { path: PathBuf },
    #[error("`{}` is a dangling symlink: its target does not exist", path.display())]
    Dangling { path: PathBuf },
    #[error("`{}` is larger than {} MiB: expected a text", path.display(), limit_bytes >> 20)]
    TooLarge { path: PathBuf, limit_bytes: u64 },
    #[error("`{}` is a loop: it leads back to a directory above it", path.display())]
    Loop { path: PathBuf },
}

impl LoadError {
    /// Makes a function that wraps an I/O error.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| IoError::new(action, path)(error).into()
    }

    /// Returns a hint, as a sentence without full stop.
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
    // `.` is the default. In that case plywood has also searched the directories above.
    match dir == Path::new(".") {
        true => format!("neither `.` nor a directory above it has a `{PROJECT_FILE}`"),
        false => format!("`{}` has no `{PROJECT_FILE}`", dir.display()),
    }
}

fn known_list(known: &[BaseName]) -> String {
    let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    match names.is_empty() {
        true => ": there are no bases".to_owned(),
        false => format!(": there are {}", names.join(", ")),
    }
}

/// An error in a TOML file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionError {
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, message, hint: _ } = self;
        write!(f, "{}:{line}:{column}: {message}", path.display())
    }
}

impl std::error::Error for DefinitionError {}

fn named(file: &Option<PathBuf>) -> String {
    file.as_ref().map_or_else(String::new, |file| format!(", file `{}`", file.display()))
}
