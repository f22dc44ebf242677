//! Errors of fetching.

use std::io;
use std::path::{Path, PathBuf};

use crate::element::{ElementName, SourceLine};
use crate::exec::ExecError;
use crate::plan::without_credentials;
use crate::port::IoError;

/// A source that cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source on a line of an element cannot be fetched.
    #[error("cannot fetch the source on line {line} of `{file}` (element `{element}`)")]
    Line {
        element: ElementName,
        file: String,
        /// Counted from 1.
        line: usize,
        source: Box<SourceError>,
    },
    /// It was never fetched, and the build is offline.
    #[error("`{}` was never fetched, and this build is offline", without_credentials(location))]
    NotCached { location: String },
    /// The location cannot be reached, or does not exist.
    #[error("cannot fetch `{}`", without_credentials(location))]
    Fetch { location: String, source: ExecError },
    /// A git repository has no such branch, tag or commit.
    #[error("`{}` has no branch, tag or commit `{reference}`{}", without_credentials(location), if *offline { " as far as it was fetched, and this build is offline" } else { "" })]
    NoReference {
        location: String,
        reference: String,
        /// Whether the build is offline, so that only the mirror was searched.
        offline: bool,
    },
    /// A git repository has no commit at all.
    #[error("`{}` has no commit on its default branch", without_credentials(location))]
    Empty { location: String },
    /// git failed on a repository of the cache.
    #[error("cannot read the copy of `{}` in `{}`: remove the directory, and build again", without_credentials(location), mirror.display())]
    Mirror { location: String, mirror: PathBuf, source: ExecError },
    /// Reading or writing the cache failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl SourceError {
    /// Adds the line of `element` that lists the source.
    pub fn at(self, element: &ElementName, line: SourceLine<'_>) -> Self {
        let (element, file) = (element.clone(), line.file.to_owned());
        SourceError::Line { element, file, line: line.number, source: Box::new(self) }
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| IoError::new(action, path)(error).into()
    }
}
