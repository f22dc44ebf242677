//! Determines the source date epoch in seconds.

use std::path::{Path, PathBuf};

use crate::exec::{ExecError, Program, Run};
use crate::image::EpochRequest;

const GIT: Program = Program { name: "git", package: "git" };

/// The time of the last commit cannot be read from git.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    #[error("`source-date-epoch` is \"git\", but the time of the last commit of `{}` cannot be read", dir.display())]
    Git { dir: PathBuf, source: ExecError },
    #[error("git prints `{answer}` as the time of the last commit of `{}`: expected seconds since 1970", dir.display())]
    Answer { dir: PathBuf, answer: String },
}

/// Returns the source date epoch of the project in `dir`, in seconds since 1970.
///
/// # Errors
/// [`EpochError`] if the request is the time of the last commit, and git does not have it.
pub fn load_epoch(request: EpochRequest, dir: &Path) -> Result<i64, EpochError> {
    match request {
        EpochRequest::Seconds(seconds) => Ok(seconds),
        EpochRequest::Git => commit_time(dir),
    }
}

fn commit_time(dir: &Path) -> Result<i64, EpochError> {
    let output = commit_time_query(dir).capture();
    let output = output.map_err(|source| EpochError::Git { dir: dir.to_owned(), source })?;
    let answer = String::from_utf8_lossy(&output).trim().to_owned();
    answer.parse().map_err(|_| EpochError::Answer { dir: dir.to_owned(), answer })
}

fn commit_time_query(dir: &Path) -> Run {
    // Builds run as root in projects of other users. By default, git refuses to read repositories
    // of other users.
    let read_any = ["-c", "safe.directory=*"];
    let query = ["log", "-1", "--format=%ct", "HEAD"];
    Run::new(GIT).args(read_any).arg("-C").arg(dir).args(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        Run::new(GIT)
            .arg("-C")
            .arg(dir)
            .args(args)
            .env("GIT_COMMITTER_DATE", "1700000000 +0200")
            .run()
            .unwrap();
    }

    #[test]
    fn the_time_of_the_last_commit_is_that_of_its_committer() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q"]);
        let identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        git(dir.path(), &[&identity[..], &["commit", "-q", "--allow-empty", "-m", "x"]].concat());
        assert_eq!(load_epoch(EpochRequest::Git, dir.path()).unwrap(), 1_700_000_000);
        assert_eq!(load_epoch(EpochRequest::Seconds(7), dir.path()).unwrap(), 7);
    }

    #[test]
    fn a_project_without_commits_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = load_epoch(EpochRequest::Git, dir.path()).unwrap_err();
        assert!(matches!(&error, EpochError::Git { dir: named, .. } if named == dir.path()), "{error}");
    }
}
