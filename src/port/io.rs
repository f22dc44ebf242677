//! Files and directories that cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// A system call on a file, directory or device failed. The errors of all modules that read and write files hold this one.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct IoError {
    /// What was tried, in the imperative: `write`, `read directory`.
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl IoError {
    /// Returns a function that adds to an error what was tried with `path`. The path is copied only when that fails.
    pub fn new<S: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(S) -> Self {
        move |source| Self { action, path: path.to_owned(), source: source.into() }
    }

    /// Returns the kind of its cause.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn an_error_names_action_and_path_and_has_a_cause() {
        let error = IoError::new("read directory", Path::new("/srv/a"))(io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "cannot read directory `/srv/a`");
        assert_eq!(error.source().unwrap().to_string(), "permission denied");
    }
}
