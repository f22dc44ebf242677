//! dnf's repositories, as a build reaches them, with downloads and indices that builds share.
//!
//! ```text
//! base, caller's mirror ──► dnf.conf, keys, options ──► /run/plywood/dnf             of every job
//! cache/dnf/packages    ──► what the indices name  ──► below /var/cache/dnf/*/packages ──► new downloads
//! cache/dnf/indices/…   ──► links                  ──► below /var/cache/dnf
//!        └────────────────► copies ──► plywood's own refresh ──► back into the cache
//! ```
//!
//! As with apt, hooks write to a layer of their own, and only plywood's own refresh changes shared
//! indices. A download is shared if an index names it with its digest.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::cache::{copy_files, empty, exchange, failed, link_files};
use super::connection::Connection;
use super::downloads::{Downloads, Index};
use super::identity::dnf_sources;
use super::{MIRROR, Reach, mirror_variable};
use crate::distro::{
    BaseDefinition, BaseSource, CA_BUNDLE, Dnf, TOOLS, base_environment, ca_bundle, dnf, network_environment,
};
use crate::oci::{Digest, Hasher};
use crate::port::{Access, Bind, DnfStage, IndexState, Job, Network, PackageError, View};

/// The programs of a root that are dnf.
const PROGRAMS: [&str; 5] = ["dnf", "dnf-3", "dnf5", "microdnf", "yum"];

/// Comes before these programs, and adds the options of this build to each call.
const WRAPPER: &str = include_str!("dnf-wrapper");

/// The directory of a repository's index, and that of its downloads, below the repository's
/// directory in the cache.
const REPODATA: &str = "repodata";
const PACKAGES: &str = "packages";

/// Package repositories of the rpm family.
pub struct DnfPackages {
    caller: BTreeMap<String, String>,
    cache: PathBuf,
    reach: Reach,
    downloads: Downloads,
    /// Package sources whose indices this process has refreshed.
    fresh: Mutex<BTreeSet<Digest>>,
}

impl DnfPackages {
    /// Creates access to repositories with the `caller`'s environment. Keeps downloads below the
    /// directory `cache`.
    pub fn new(caller: BTreeMap<String, String>, cache: PathBuf, reach: Reach) -> Self {
        let downloads = Downloads::new(&cache);
        Self { caller, cache, reach, downloads, fresh: Mutex::default() }
    }

    /// Returns the caller's mirror for a base, if any.
    fn mirror(&self, base: Option<&BaseDefinition>) -> Option<&str> {
        let named =
            |name: &str| self.caller.get(name).map(String::as_str).filter(|mirror| !mirror.is_empty());
        base.and_then(|base| named(&mirror_variable(&base.distro))).or_else(|| named(MIRROR))
    }

    fn authorities(&self) -> Option<&'static str> {
        ca_bundle(&self.caller).map(|_| CA_BUNDLE)
    }
}

/// One step's view of the shared files: subdirectories of its scratch directory.
///
/// ```text
/// dnf/           configuration of a bootstrap, keys, options of later runs
/// dnf-cache/     see `Bind::LAYERS`: what jobs write goes to `own`, and no further
/// dnf-fresh/     seen by plywood's own refresh of the indices alone
/// ```
pub(super) struct DnfSession<'a> {
    packages: &'a DnfPackages,
    scratch: PathBuf,
    /// The digest of the files in `dnf/`.
    configuration: Digest,
    /// The package sources whose indices jobs see.
    shown: RefCell<Option<Digest>>,
    /// The package sources whose indices are being fetched.
    refreshing: RefCell<Option<Digest>>,
}

impl<'a> DnfSession<'a> {
    pub(super) fn open(
        packages: &'a DnfPackages,
        base: Option<&BaseDefinition>,
        scratch: &Path,
    ) -> Result<Self, PackageError> {
        let mut session = Self {
            packages,
            scratch: scratch.to_owned(),
            configuration: Digest::of(""),
            shown: RefCell::default(),
            refreshing: RefCell::default(),
        };
        for name in ["dnf".to_owned()].into_iter().chain(Bind::LAYERS.map(|name| format!("dnf-cache/{name}")))
        {
            session.make_directory(&name)?;
        }
        session.configuration = session.write_configuration(base)?;
        Ok(session)
    }

    /// Writes the content of `/run/plywood/dnf`, and returns its digest.
    fn write_configuration(&self, base: Option<&BaseDefinition>) -> Result<Digest, PackageError> {
        let (mirror, authorities) = (self.packages.mirror(base), self.packages.authorities());
        let mut options = dnf::options(base, mirror, authorities);
        if self.packages.reach == Reach::Offline {
            options.push("--cacheonly".to_owned());
        }
        let mut files =
            vec![("options".to_owned(), options.iter().map(|option| format!("{option}\n")).collect())];
        if let Some(BaseSource::Dnf(source)) = base.map(|base| &base.source) {
            files.push(("dnf.conf".to_owned(), dnf::configuration(source, mirror, authorities)));
            let keys = source.repositories.iter().flat_map(dnf::keys);
            files.extend(keys.map(|(name, key)| (name, key.to_owned())));
            files.push(("keys".to_owned(), dnf::keys_to_fetch(source)));
        }
        let mut hasher = Hasher::default();
        for (name, text) in &files {
            self.write(&format!("dnf/{name}"), text, 0o644)?;
            hasher.update(Digest::of(name).bytes());
            hasher.update(Digest::of(text).bytes());
        }
        self.write("dnf/wrapper", WRAPPER, 0o755)?;
        Ok(hasher.finish())
    }

    fn make_directory(&self, name: &str) -> Result<(), PackageError> {
        let path = self.scratch.join(name);
        fs::create_dir_all(&path).map_err(failed("make directory", &path))
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<(), PackageError> {
        let path = self.scratch.join(name);
        fs::write(&path, text).map_err(failed("write", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed("set the mode of", &path))
    }

    fn bind(&self, name: &str, target: impl Into<String>, access: Access) -> Bind {
        Bind { source: self.scratch.join(name), target: target.into(), access }
    }

    /// Returns a job of the bootstrap, which runs in the tools: first it fetches the indices, then it
    /// installs the packages. The job for the second stage is made after the first one has run.
    ///
    /// # Errors
    /// [`PackageError::OfflineBase`] in an offline build.
    pub(super) fn bootstrap(
        &self,
        source: &Dnf,
        source_date_epoch: i64,
        stage: DnfStage,
    ) -> Result<Job, PackageError> {
        if self.packages.reach == Reach::Offline {
            let (distro, release) = ("rpm distribution".to_owned(), source.releasever.clone());
            return Err(PackageError::OfflineBase { distro, release });
        }
        let cache = |name, access| self.bind(name, dnf::bootstrap_cache(), access);
        let (argv, cache) = match stage {
            DnfStage::Index => {
                self.prepare_fresh(&self.configuration)?;
                (dnf::bootstrap_index(source, View::HOST_MOUNT), cache("dnf-fresh", Access::ReadWrite))
            }
            DnfStage::Install => {
                self.index_refreshed()?;
                (dnf::bootstrap_install(source, View::HOST_MOUNT), cache("dnf-cache", Access::CopyOnWrite))
            }
        };
        let mut env = base_environment(source_date_epoch);
        env.extend(network_environment(&self.packages.caller));
        Ok(Job {
            argv,
            env,
            cwd: "/".to_owned(),
            view: View::HostBare,
            binds: vec![self.configuration_bind(), cache],
            network: Network::Host,
            traced: false,
            tools: None,
        })
    }

    fn configuration_bind(&self) -> Bind {
        self.bind("dnf", dnf::dnf_directory(), Access::ReadOnly)
    }

    pub(super) fn binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError> {
        if !has_dnf(root) {
            return Ok(Vec::new());
        }
        self.show(&self.sources(root)?)?;
        let mut binds = self.program_binds(root);
        binds.push(self.bind("dnf-cache", dnf::CACHE, Access::CopyOnWrite));
        Ok(binds)
    }

    /// Returns the mounts of the options, and of the wrapper over each name of dnf. A root without
    /// dnf has no such commands: hooks ask for them to find out what they run on.
    fn program_binds(&self, root: &Path) -> Vec<Bind> {
        let present = PROGRAMS.into_iter().filter(|name| has_program(root, name));
        let wrappers =
            present.map(|name| self.bind("dnf/wrapper", format!("{TOOLS}/{name}"), Access::ReadOnly));
        [self.configuration_bind()].into_iter().chain(wrappers).collect()
    }

    pub(super) fn refresh_binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError> {
        self.prepare_fresh(&self.sources(root)?)?;
        let mut binds = self.program_binds(root);
        binds.push(self.bind("dnf-fresh", dnf::CACHE, Access::ReadWrite));
        Ok(binds)
    }

    pub(super) fn prepare_index(&self, root: &Path) -> Result<IndexState, PackageError> {
        let sources = self.sources(root)?;
        if self.packages.fresh.lock().unwrap_or_else(|held| held.into_inner()).contains(&sources) {
            self.show(&sources)?;
            return Ok(IndexState::Fresh);
        }
        let may_do_with_kept =
            self.packages.reach != Reach::Online || Connection::of_this_machine() == Connection::Nothing;
        match may_do_with_kept && self.show(&sources)? {
            true => Ok(IndexState::Kept),
            false if self.packages.reach == Reach::Offline => Err(PackageError::NoIndices),
            false => Ok(IndexState::Stale),
        }
    }

    pub(super) fn use_kept_indices(&self, root: &Path) -> Result<bool, PackageError> {
        if Connection::of_this_machine() == Connection::Routed {
            return Ok(false);
        }
        self.show(&self.sources(root)?)
    }

    /// Keeps the indices that a refresh has fetched. Jobs then see them, and the earlier downloads
    /// that they name.
    pub(super) fn index_refreshed(&self) -> Result<(), PackageError> {
        // Without a refresh, there is nothing to keep.
        let Some(sources) = self.refreshing.take() else { return Ok(()) };
        let (fresh, kept) = (self.scratch.join("dnf-fresh"), self.kept(&sources));
        for repository in repositories(&fresh)? {
            for name in directories(&fresh.join(&repository))?.iter().filter(|name| *name != REPODATA) {
                let path = fresh.join(&repository).join(name);
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        let next = self.scratch.join("dnf-next");
        copy_tree(&fresh, &next, link_files)?;
        exchange(&next, &kept)?;
        self.packages.fresh.lock().unwrap_or_else(|held| held.into_inner()).insert(sources);
        self.shown.replace(None);
        empty(&self.scratch.join("dnf-cache/own"))?;
        self.show(&sources).map(drop)
    }

    pub(super) fn close(&self) -> Result<(), PackageError> {
        let layers = self.scratch.join("dnf-cache");
        for repository in repositories(&layers.join("below"))? {
            let index = Index::Rpm(&layers.join("below").join(&repository).join(REPODATA));
            let own = layers.join("own").join(&repository).join(PACKAGES);
            // A hook may have put a link there, which would be followed on the build host.
            let is_real = [layers.join("own").join(&repository), own.clone()]
                .iter()
                .all(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()));
            if is_real {
                self.packages.downloads.keep(&own, index)?;
            }
            self.packages.downloads.take_back(&layers.join("below").join(&repository).join(PACKAGES))?;
        }
        Ok(())
    }

    /// Returns the directory in which the indices of these package sources are kept between builds.
    fn kept(&self, sources: &Digest) -> PathBuf {
        self.packages.cache.join("indices").join(sources.hex())
    }

    fn sources(&self, root: &Path) -> Result<Digest, PackageError> {
        dnf_sources(root, &self.configuration)
    }

    /// Makes an empty cache for a refresh, with copies of the kept indices: dnf fetches only those
    /// that changed.
    fn prepare_fresh(&self, sources: &Digest) -> Result<(), PackageError> {
        self.refreshing.replace(Some(*sources));
        let fresh = self.scratch.join("dnf-fresh");
        empty(&fresh)?;
        copy_tree(&self.kept(sources), &fresh, copy_files)
    }

    /// Shows jobs the kept indices of these package sources, beneath the files that jobs write, and
    /// the earlier downloads that they name. Returns false if no indices are kept.
    fn show(&self, sources: &Digest) -> Result<bool, PackageError> {
        let kept = self.kept(sources);
        if !kept.is_dir() {
            return Ok(false);
        }
        if *self.shown.borrow() == Some(*sources) {
            return Ok(true);
        }
        let below = self.scratch.join("dnf-cache/below");
        empty(&below)?;
        copy_tree(&kept, &below, link_files)?;
        for repository in repositories(&below)? {
            let directory = below.join(repository);
            self.packages
                .downloads
                .offer(Index::Rpm(&directory.join(REPODATA)), &directory.join(PACKAGES))?;
        }
        self.shown.replace(Some(*sources));
        Ok(true)
    }
}

/// Returns true if the root at `root` has packages that dnf manages.
pub(super) fn has_dnf(root: &Path) -> bool {
    !root.join("var/lib/dpkg").is_dir() && PROGRAMS.iter().any(|name| has_program(root, name))
}

fn has_program(root: &Path, name: &str) -> bool {
    fs::symlink_metadata(root.join("usr/bin").join(name)).is_ok()
}

/// Returns the directories of repositories in a cache.
fn repositories(cache: &Path) -> Result<Vec<String>, PackageError> {
    let mut found = directories(cache)?;
    found.retain(|name| {
        fs::symlink_metadata(cache.join(name).join(REPODATA)).is_ok_and(|found| found.is_dir())
    });
    Ok(found)
}

fn directories(path: &Path) -> Result<Vec<String>, PackageError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("read", path))? {
        let entry = entry.map_err(failed("read", path))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(entry.file_name().into_string());
        }
    }
    Ok(found)
}

/// Gives `to` the files of `from` and of its directories, two levels deep, by `take`. Makes `to`.
fn copy_tree(
    from: &Path,
    to: &Path,
    take: fn(&Path, &Path) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    take(from, to)?;
    if !from.is_dir() {
        return Ok(());
    }
    for name in directories(from)? {
        copy_tree(&from.join(&name), &to.join(&name), take)?;
    }
    Ok(())
}
