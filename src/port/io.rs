//! Failed system calls on files and directories.

use std::io;
use std::path::{Path, PathBuf};

/// A failed system call on a file, directory or device. The errors of all modules that read and
/// write files contain it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct IoError {
    /// An imperative such as `write` or `read directory`.
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl IoError {
    /// Returns a function that adds the action and the path to an error. Copies the path only after
    /// a failure.
    pub fn new<S: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(S) -> Self {
        move |source| Self { action, path: path.to_owned(), source: source.into() }
    }

    /// Returns advice for a missing right, as a sentence without full stop.
    pub fn hint(&self) -> Option<String> {
        let Self { action, path, .. } = self;
        let is_closed = self.kind() == io::ErrorKind::PermissionDenied;
        is_closed
            .then(|| format!("run plywood as a user who may {action} `{}`, such as root", path.display()))
    }

    /// Returns the kind of the cause.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl From<IoError> for io::Error {
    fn from(error: IoError) -> Self {
        Self::new(error.kind(), error)
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
        let hint = "run plywood as a user who may read directory `/srv/a`, such as root";
        assert_eq!(error.hint().as_deref(), Some(hint));
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), "cannot read directory `/srv/a`");
    }
}
