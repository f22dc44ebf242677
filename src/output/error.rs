//! What can go wrong with a result.

use std::io;
use std::path::{Path, PathBuf};

use crate::exec::ExecError;
use crate::layer::LayerError;
use crate::port::IoError;

/// A result that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A directory that is not an OCI layout is at the path of the result.
    #[error("cannot write an OCI image layout to `{}`: the directory there is not one", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// A directory has the name of a file.
    #[error("cannot write the file `{}`: a directory has that name", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// A file is no longer the one that was verified.
    #[error("`{}` changed while it was read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The program that converts the disk failed.
    #[error(transparent)]
    Program(#[from] ExecError),
    /// A converted disk is not built as its format says.
    #[error("`{}` is no {format} disk: {reason}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The format.
        format: &'static str,
        /// What was not found.
        reason: &'static str,
    },
    /// A layer could not be read from the store.
    #[error(transparent)]
    Store(#[from] crate::port::StoreError),
    /// A root file system cannot be archived.
    #[error(transparent)]
    Archive(#[from] LayerError),
    /// A result is not complete.
    #[error("cannot write `{}`", path.display())]
    Incomplete {
        /// Its final name.
        path: PathBuf,
        /// Why it failed.
        source: Box<OutputError>,
    },
    /// The file system of a result has no space for it.
    #[error("`{}` needs {needed_bytes} bytes, and its file system has {free_bytes} bytes of free space", path.display())]
    NoRoom {
        /// The result.
        path: PathBuf,
        /// What it takes at least.
        needed_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// Options that exclude each other.
    #[error("zstd compression needs `compat=1.1`: readers of version 0.10 know zlib alone")]
    ZstdNeedsVersion3,
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl OutputError {
    /// Names the result that an archive's member, or a program, was meant for.
    pub(super) fn of_result(self, path: &Path) -> Self {
        match self {
            OutputError::Archive(_) | OutputError::Program(_) => {
                OutputError::Incomplete { path: path.to_owned(), source: Box::new(self) }
            }
            named => named,
        }
    }
}

/// Says what was tried, and where.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> OutputError + use<> {
    let path = path.to_owned();
    move |error| IoError::new(action, &path)(error).into()
}
