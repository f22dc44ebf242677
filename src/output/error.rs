//! What can go wrong with a result.

use std::io;
use std::path::{Path, PathBuf};

use crate::exec::ExecError;
use crate::layer::LayerError;
use crate::port::IoError;

/// A result that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot write an OCI image layout to `{}`: the directory there is not one", path.display())]
    Occupied { path: PathBuf },
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
    #[error("`{}` is no {format} disk: {reason}", path.display())]
    Unexpected {
        path: PathBuf,
        format: &'static str,
        /// What was not found.
        reason: &'static str,
    },
    #[error(transparent)]
    Store(#[from] crate::port::StoreError),
    #[error(transparent)]
    Archive(#[from] LayerError),
    #[error("cannot write `{}`", path.display())]
    Incomplete { path: PathBuf, source: Box<OutputError> },
    #[error("`{}` needs {needed_bytes} bytes, and its file system has {free_bytes} bytes of free space", path.display())]
    NoRoom {
        path: PathBuf,
        /// What it takes at least.
        needed_bytes: u64,
        free_bytes: u64,
    },
    #[error("zstd compression needs `compat=1.1`: readers of version 0.10 know zlib alone")]
    ZstdNeedsVersion3,
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

/// Returns a function that adds to an error the action that failed, and its path.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> OutputError + use<> {
    let path = path.to_owned();
    move |error| IoError::new(action, &path)(error).into()
}
