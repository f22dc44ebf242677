//! Fetches the sources in `source-repository-<name>` files of elements. This happens before the
//! plan is made, so that keys contain the commit or the digest, and not the name of a branch.
//!
//! ```text
//! SourceRequest ─▶ Sources::resolve ─▶ ResolvedSource
//!                        │
//!          <cache>/<name>-<digest of type and location>/
//!            mirror.git          all branches and tags of a git repository
//!            trust               settings by which git reads repositories of other users
//!            <digest>            a file, by its content
//!            latest              the file that was fetched last, with the time of the server's copy
//!            lock                locked while one of these changes
//! ```
//!
//! Builds share the cache. A build that has resolved a source can rely on it until its end: plywood
//! prunes no commit and overwrites no file.

mod download;
mod error;
mod git;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub use error::SourceError;

use crate::element::{Selection, SourceRequest};
use crate::exec::{Program, Run};
use crate::oci::Digest;
use crate::plan::{ResolvedSource, SourceContent};

/// Whether plywood may use the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Checks the location each time.
    Online,
    /// Uses only the cache.
    Offline,
}

/// Fetches sources into a cache.
#[derive(Debug)]
pub struct Sources {
    cache: PathBuf,
    environment: BTreeMap<String, String>,
    reach: Reach,
}

impl Sources {
    /// Makes a fetcher with the cache directory `cache`. `caller` is the caller's environment, in
    /// which git and curl find proxies, keys and settings.
    pub fn new(cache: PathBuf, caller: BTreeMap<String, String>, reach: Reach) -> Self {
        Self { cache, environment: caller, reach }
    }

    /// Resolves `request` to its current commit or digest, and fetches the source if the cache
    /// lacks it. Waits while another process does so for the same location.
    ///
    /// # Errors
    /// If it cannot be fetched. With [`Reach::Offline`], if it was never fetched.
    pub fn resolve(&self, request: SourceRequest) -> Result<ResolvedSource, SourceError> {
        let place = self.place(&request)?;
        let lock = place.join("lock");
        // Until the end of this function: two builds must not change one mirror at the same time.
        let file = File::create(&lock).map_err(SourceError::io("open", &lock))?;
        file.lock().map_err(SourceError::io("lock", &lock))?;
        let (content, path) = match &request.selection {
            Selection::Git(reference) => {
                let mirror = git::Mirror::at(self, &place, &request.location);
                (SourceContent::Git(mirror.resolve(reference)?), mirror.path)
            }
            Selection::Tar(_) | Selection::File => {
                let digest = download::fetch(self, &place, &request.location)?;
                (SourceContent::File(digest), place.join(digest.hex()))
            }
        };
        Ok(ResolvedSource { request, content, path })
    }

    /// Returns the cache directory of a location, and makes it if it is absent.
    fn place(&self, request: &SourceRequest) -> Result<PathBuf, SourceError> {
        let kind = if matches!(request.selection, Selection::Git(_)) { "git" } else { "file" };
        let readable: String =
            request.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let location = Digest::of(format!("{kind} {}", request.location));
        let path = self.cache.join(format!("{readable}-{}", location.short()));
        fs::create_dir_all(&path).map_err(SourceError::io("make directory", &path))?;
        Ok(path)
    }

    /// Calls a program with the caller's environment, except for the variables that [`Run`] sets:
    /// the output of git and curl must not depend on the locale.
    fn call(&self, program: Program) -> Run {
        let own = ["PATH", "LC_ALL", "TZ"];
        let passed = self.environment.iter().filter(|(name, _)| !own.contains(&name.as_str()));
        passed.fold(Run::new(program), |run, (name, value)| run.env(name, value))
    }
}

/// Returns the path of a location on the build host.
fn local_path(location: &str) -> Option<&Path> {
    let path = location.strip_prefix("file://").unwrap_or(location);
    path.starts_with('/').then(|| Path::new(path))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::element::GitReference;
    use crate::plan::GitCheckout;

    /// A repository, a cache beside it, and the machine's `PATH` alone.
    struct World(tempfile::TempDir);

    impl World {
        fn new() -> Self {
            let world = Self(tempfile::tempdir().expect("a temporary directory"));
            world.git("init --quiet --initial-branch=trunk .");
            world.commit("one");
            world
        }

        fn repository(&self) -> PathBuf {
            let path = self.0.path().join("repository");
            fs::create_dir_all(&path).unwrap();
            path
        }

        fn git(&self, args: &str) -> String {
            let identity =
                ["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), format!("GIT_{who}_NAME")));
            let mut git = Command::new("git");
            git.current_dir(self.repository()).args(args.split(' ')).env("GIT_CONFIG_GLOBAL", "/dev/null");
            git.envs(identity.into_iter().flat_map(|(email, name)| [(email, "a@b"), (name, "a")]));
            let done = git.output().expect("this test needs the program `git`");
            assert!(done.status.success(), "git {args}: {}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap().trim().to_owned()
        }

        fn commit(&self, name: &str) -> String {
            fs::write(self.repository().join("file"), name).unwrap();
            self.git("add file");
            self.git(&format!("commit --quiet --message {name}"));
            self.git("rev-parse HEAD")
        }

        fn resolve(
            &self,
            selection: Selection,
            location: &str,
            reach: Reach,
        ) -> Result<SourceContent, SourceError> {
            let environment = std::env::vars().filter(|(name, _)| name == "PATH").collect();
            let sources = Sources::new(self.0.path().join("cache"), environment, reach);
            let (name, destination, location) =
                ("web".to_owned(), "/opt/web".to_owned(), location.to_owned());
            let resolved = sources.resolve(SourceRequest { name, destination, location, selection })?;
            assert!(resolved.path.exists());
            Ok(resolved.content)
        }

        fn checkout(&self, reference: &str, reach: Reach) -> Result<GitCheckout, SourceError> {
            let reference = match reference {
                "*" => GitReference::All,
                one => GitReference::One(one.to_owned()),
            };
            let location = format!("file://{}", self.repository().display());
            match self.resolve(Selection::Git(reference), &location, reach)? {
                SourceContent::Git(checkout) => Ok(checkout),
                SourceContent::File(digest) => panic!("{digest} is no checkout"),
            }
        }
    }

    #[test]
    fn references_are_resolved_again_only_online() {
        let world = World::new();
        let one = world.git("rev-parse HEAD");
        world.git("tag v1");
        let before = world.checkout("trunk", Reach::Online).unwrap();
        assert_eq!((before.commit.as_str(), before.branch.as_str()), (one.as_str(), "trunk"));
        let names: Vec<_> = before.refs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["refs/tags/v1", "refs/heads/fetch_trunk"]);

        let two = world.commit("two");
        world.git("tag v2");
        for (reference, reach, expected) in [
            ("trunk", Reach::Offline, &one),
            ("trunk", Reach::Online, &two),
            ("v1", Reach::Online, &one),
            (&one[..10], Reach::Online, &one),
            (one.as_str(), Reach::Offline, &one),
            ("*", Reach::Online, &two),
        ] {
            assert_eq!(&world.checkout(reference, reach).unwrap().commit, expected, "{reference} {reach:?}");
        }
        // A tag above a commit is none of its history.
        let names: Vec<_> =
            world.checkout("v1", Reach::Online).unwrap().refs.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["refs/tags/v1", "refs/heads/fetch_v1"]);
    }

    #[test]
    fn a_commit_without_a_branch_is_found_by_its_full_reference() {
        let world = World::new();
        let change = world.commit("change");
        world.git("update-ref refs/changes/01/1 HEAD");
        world.git("reset --quiet --hard HEAD~1");
        assert_eq!(world.checkout("refs/changes/01/1", Reach::Online).unwrap().commit, change);
    }

    #[test]
    fn errors_name_the_location_and_the_reference() {
        let world = World::new();
        let location = format!("file://{}", world.repository().display());
        let error = world.checkout("trunk", Reach::Offline).unwrap_err();
        assert_eq!(error.to_string(), format!("`{location}` was never fetched, and this build is offline"));
        let error = world.checkout("nosuch", Reach::Online).unwrap_err();
        assert_eq!(error.to_string(), format!("`{location}` has no branch, tag or commit `nosuch`"));
        let error =
            world.resolve(Selection::Git(GitReference::All), "/not/there", Reach::Online).unwrap_err();
        assert_eq!(error.to_string(), "cannot fetch `/not/there`");
        let error = world.resolve(Selection::File, "/not/there", Reach::Online).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `/not/there`");
    }

    #[test]
    fn a_file_is_kept_by_its_content() {
        let world = World::new();
        let file = world.0.path().join("file");
        let mut found = Vec::new();
        for text in ["one", "two"] {
            fs::write(&file, text).unwrap();
            let content = world.resolve(Selection::File, file.to_str().unwrap(), Reach::Online).unwrap();
            assert_eq!(content, SourceContent::File(Digest::of(text)));
            found.push(content);
        }
        fs::remove_file(&file).unwrap();
        let offline = || world.resolve(Selection::File, file.to_str().unwrap(), Reach::Offline);
        assert_eq!(Some(&offline().unwrap()), found.last());

        // A damaged copy is not used.
        let kept = fs::read_dir(world.0.path().join("cache")).unwrap().next().unwrap().unwrap().path();
        fs::write(kept.join("latest"), "twO").unwrap();
        assert!(offline().is_err());
    }
}
