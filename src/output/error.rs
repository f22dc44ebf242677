//! The errors of writing outputs.

use std::io;
use std::path::{Path, PathBuf};

use crate::exec::ExecError;
use crate::layer::LayerError;
use crate::port::IoError;

/// An output that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot write an OCI image layout to `{}`: the directory there is not one", path.display())]
    Occupied { path: PathBuf },
    #[error("cannot write the file `{}`: a directory has that name", path.display())]
    Directory { path: PathBuf },
    /// A file has changed since it was verified.
    #[error("`{}` changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error(transparent)]
    Program(#[from] ExecError),
    #[error("`{}` is not a {format} disk: {reason}", path.display())]
    Unexpected { path: PathBuf, format: &'static str, reason: &'static str },
    #[error(transparent)]
    Store(#[from] crate::port::StoreError),
    #[error(transparent)]
    Archive(#[from] LayerError),
    #[error("cannot write `{}`", path.display())]
    Incomplete { path: PathBuf, source: Box<OutputError> },
    #[error("`{}` needs {needed_bytes} bytes, and its file system has {free_bytes} bytes of free space", path.display())]
    NoRoom {
        path: PathBuf,
        /// A lower bound.
        needed_bytes: u64,
        free_bytes: u64,
    },
    #[error("zstd compression needs `compat=1.1`: version 0.10 supports only zlib")]
    ZstdNeedsVersion3,
    #[error("interrupted")]
    Interrupted,
}

impl OutputError {
    /// Adds the path of the output to an error of an archive or a program.
    pub(super) fn of_result(self, path: &Path) -> Self {
        match self {
            OutputError::Archive(_) | OutputError::Program(_) => {
                OutputError::Incomplete { path: path.to_owned(), source: Box::new(self) }
            }
            named => named,
        }
    }
}

/// Returns a function that adds `action` and `path` to an error.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> OutputError + use<> {
    let path = path.to_owned();
    move |error| IoError::new(action, &path)(error).into()
}
