//! Git repositories: a mirror of each in the cache, in which references are resolved.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Reach, SourceError, Sources, local_path};
use crate::element::GitReference;
use crate::exec::{ExecError, Program, Run};
use crate::plan::GitCheckout;

const GIT: Program = Program { name: "git", package: "git" };

/// The references to fetch. Without `--prune`: a plan of a running build may name a branch that was
/// deleted since.
const REFSPECS: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// Number of attempts before a location counts as unreachable.
const ATTEMPTS: usize = 3;

/// A bare copy of one repository.
pub(super) struct Mirror<'a> {
    sources: &'a Sources,
    location: &'a str,
    pub(super) path: PathBuf,
}

impl<'a> Mirror<'a> {
    /// Returns the mirror of the repository at `location` in the directory `place`. It may not
    /// exist yet.
    pub(super) fn at(sources: &'a Sources, place: &Path, location: &'a str) -> Self {
        Self { sources, location, path: place.join("mirror.git") }
    }

    /// Returns the checkout of `reference`. Fetches from the repository, unless the build is
    /// offline or the reference is a commit that the mirror has.
    pub(super) fn resolve(&self, reference: &GitReference) -> Result<GitCheckout, SourceError> {
        match self.sources.reach {
            Reach::Offline if !self.path.exists() => {
                return Err(SourceError::NotCached { location: self.location.to_owned() });
            }
            Reach::Offline => {}
            Reach::Online if self.path.exists() && self.holds(reference) => {}
            Reach::Online => self.update(reference)?,
        }
        match reference {
            GitReference::All => self.all(),
            GitReference::One(reference) => self.one(reference),
        }
    }

    /// Returns true if a reference is a full commit id in the mirror. Unlike a branch or tag, it
    /// can never change, so no request is needed.
    fn holds(&self, reference: &GitReference) -> bool {
        let GitReference::One(reference) = reference else { return false };
        let whole =
            matches!(reference.len(), 40 | 64) && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        whole && self.commit(reference).is_ok()
    }

    fn all(&self) -> Result<GitCheckout, SourceError> {
        let commit =
            self.commit("HEAD").map_err(|_| SourceError::Empty { location: self.location.to_owned() })?;
        Ok(GitCheckout { commit, branch: self.branch()?, refs: self.refs(&["refs/heads", "refs/tags"])? })
    }

    /// Returns one commit as diskimage-builder leaves it: on the default branch, with a branch
    /// `fetch_<reference>` and the tags of its history.
    fn one(&self, reference: &str) -> Result<GitCheckout, SourceError> {
        let commit = self.commit(reference).map_err(|_| SourceError::NoReference {
            location: self.location.to_owned(),
            reference: reference.to_owned(),
            offline: self.sources.reach == Reach::Offline,
        })?;
        let mut refs = self.refs(&[&format!("--merged={commit}"), "refs/tags"])?;
        refs.push((format!("refs/heads/fetch_{reference}"), commit.clone()));
        Ok(GitCheckout { commit, branch: self.branch()?, refs })
    }

    /// Fetches all branches and tags, and the reference itself if it is neither, such as a change
    /// under review.
    fn update(&self, reference: &GitReference) -> Result<(), SourceError> {
        if !self.path.exists() {
            self.create()?;
        }
        let named = match reference {
            GitReference::One(name) if name.starts_with("refs/") => Some(format!("+{name}:{name}")),
            _ => None,
        };
        let fetch = self.git(&[
            "fetch",
            "--quiet",
            "--force",
            "--update-head-ok",
            "--no-auto-gc",
            "--",
            self.location,
        ]);
        let fetch = fetch.args(REFSPECS).args(named);
        attempt(|| fetch.run()).map_err(|source| self.unreachable(source))?;
        self.follow_default_branch()
    }

    /// Makes an empty mirror. A rename at the end makes sure that an interrupted call leaves none.
    fn create(&self) -> Result<(), SourceError> {
        // A killed call may have left this directory.
        let unfinished = self.path.with_extension("new");
        let trust = self.trust();
        fs::write(&trust, "[safe]\n\tdirectory = *\n").map_err(SourceError::io("write", &trust))?;
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(SourceError::io("remove", &unfinished))?;
        }
        let init = ["init", "--quiet", "--bare", "--template=", "--initial-branch=master", "--"];
        let init = self.bare_git().args(init).arg(&unfinished);
        init.run().map_err(|source| self.broken(source))?;
        // A checkout fetches commits by id, and no branch may point at them any more. Garbage
        // collection would remove such commits.
        for (name, value) in [("uploadpack.allowAnySHA1InWant", "true"), ("gc.auto", "0")] {
            let config = self.bare_git().arg("-C").arg(&unfinished).args(["config", name, value]);
            config.run().map_err(|source| self.broken(source))?;
        }
        fs::rename(&unfinished, &self.path).map_err(SourceError::io("rename", &unfinished))
    }

    /// Sets the default branch of the mirror to that of the repository.
    fn follow_default_branch(&self) -> Result<(), SourceError> {
        let query = self.git(&["ls-remote", "--symref", "--", self.location, "HEAD"]);
        let printed = attempt(|| query.capture()).map_err(|source| self.unreachable(source))?;
        let printed = String::from_utf8_lossy(&printed);
        let branch = printed.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        match branch {
            Some(branch) => self.read(&["symbolic-ref", "HEAD", branch]).map(drop),
            None => Ok(()),
        }
    }

    fn branch(&self) -> Result<String, SourceError> {
        self.read(&["symbolic-ref", "--short", "HEAD"])
    }

    fn commit(&self, reference: &str) -> Result<String, SourceError> {
        self.read(&["rev-parse", "--quiet", "--verify", &format!("{reference}^{{commit}}")])
    }

    fn refs(&self, which: &[&str]) -> Result<Vec<(String, String)>, SourceError> {
        let printed = self.read(&[&["for-each-ref", "--format=%(objectname) %(refname)"], which].concat())?;
        let pairs = printed.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs.map(|(object, name)| (name.to_owned(), object.to_owned())).collect())
    }

    fn read(&self, args: &[&str]) -> Result<String, SourceError> {
        let printed = self.git(args).capture().map_err(|source| self.broken(source))?;
        Ok(String::from_utf8_lossy(&printed).trim_end().to_owned())
    }

    fn git(&self, args: &[&str]) -> Run {
        self.bare_git().arg("-C").arg(&self.path).args(args)
    }

    /// Calls git without prompts for passwords. For a repository on the build host, git starts a
    /// second process that reads it, and takes its settings from files only. So the setting that
    /// allows repositories of other users is in a file.
    fn bare_git(&self) -> Run {
        let run = self.sources.call(GIT).env("GIT_TERMINAL_PROMPT", "0");
        match local_path(self.location) {
            Some(_) => run.env("GIT_CONFIG_GLOBAL", self.trust()),
            None => run,
        }
    }

    /// Returns the path of the settings that allow git to read repositories of other users.
    fn trust(&self) -> PathBuf {
        self.path.with_file_name("trust")
    }

    fn unreachable(&self, source: ExecError) -> SourceError {
        SourceError::Fetch { location: self.location.to_owned(), source }
    }

    fn broken(&self, source: ExecError) -> SourceError {
        SourceError::Mirror { location: self.location.to_owned(), mirror: self.path.clone(), source }
    }
}

fn attempt<T>(mut call: impl FnMut() -> Result<T, ExecError>) -> Result<T, ExecError> {
    let mut result = call();
    for _ in 1..ATTEMPTS {
        // Only a failure of git itself may be transient. A missing program or an interrupt is not.
        if !matches!(result, Err(ExecError::Failed { .. })) {
            break;
        }
        result = call();
    }
    result
}
