//! The package access of one step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::cache::{
    copy, copy_files, empty, failed, link, link_files, remove_file, replace_file, replace_files,
};
use super::connection::Connection;
use super::downloads::{Download, Index};
use super::identity::{self, Identity};
use super::{AptPackages, KEYRING, MIRROR, Reach};
use crate::directory::read_document;
use crate::distro::apt::Choices;
use crate::distro::{
    BaseDefinition, CA_BUNDLE, Keyring, Mirror, Mirrors, Mmdebstrap, PRIVATE, Setting, apt, base_environment,
    ca_bundle, is_taken, names_file, network_environment,
};
use crate::element::Place;
use crate::oci::{Digest, Hasher};
use crate::port::{Access, Bind, EarlierDownloads, IndexState, Job, Network, PackageError, View};

/// The directories of downloads and of package indices in a root.
const ARCHIVES: &str = "/var/cache/apt/archives";
const LISTS: &str = "/var/lib/apt/lists";

/// Subdirectories of a session's scratch directory with shared files, and above them files of jobs.
const LAYERED: [&str; 3] = ["archives", "lists", "state"];

/// The directory into which indices are fetched. Hooks do not see it.
const FRESH_LISTS: &str = "fresh/lists";
const FRESH_STATE: &str = "fresh/state";

/// One step's view of the shared files: subdirectories of its scratch directory.
///
/// ```text
/// apt/                      apt's configuration
/// {archives,lists,state}/   see `Bind::LAYERS`: files that hooks write are in `own`
/// fresh/{lists,state}/      only plywood's refresh of the indices sees these; shared indices come only from here
/// ```
pub(super) struct AptSession<'a> {
    packages: &'a AptPackages,
    /// `None` if the image has its own package sources.
    base: Option<&'a BaseDefinition>,
    scratch: PathBuf,
    /// The directory that jobs see as their hooks directory. Elements may have repositories in it.
    hooks: Option<PathBuf>,
    /// The digest of the files in `apt/`, without accounts.
    configuration: Digest,
    /// The package sources when they were last read.
    identity: RefCell<Option<Identity>>,
    /// The package sources whose indices jobs see.
    shown: RefCell<Option<Digest>>,
    /// The package sources of the running refresh.
    refreshing: RefCell<Option<Digest>>,
    /// The earlier downloads that the bootstrap sees.
    offered: RefCell<BTreeSet<Download>>,
}

impl<'a> AptSession<'a> {
    pub(super) fn open(
        packages: &'a AptPackages,
        base: Option<&'a BaseDefinition>,
        scratch: &Path,
        hooks: Option<&Path>,
    ) -> Result<Self, PackageError> {
        let mut session = Self {
            packages,
            base,
            scratch: scratch.to_owned(),
            hooks: hooks.map(Path::to_owned),
            configuration: Digest::of(""),
            identity: RefCell::default(),
            shown: RefCell::default(),
            refreshing: RefCell::default(),
            offered: RefCell::default(),
        };
        session.make_directory("apt")?;
        for name in LAYERED {
            session.make_layers(name)?;
        }
        for name in ["lists/own/partial", "archives/own/partial"] {
            session.make_directory(name)?;
        }
        session.write_configuration()?;
        // Accounts are written after the digest is computed, because the indices of an archive do
        // not depend on the account.
        session.configuration = digest_of_files(&session.scratch.join("apt"))?;
        session.write_accounts(None)?;
        Ok(session)
    }

    fn make_layers(&self, name: &str) -> Result<(), PackageError> {
        Bind::LAYERS.iter().try_for_each(|layer| self.make_directory(&format!("{name}/{layer}")))
    }

    /// Writes the files of `/run/plywood/apt`: the configuration of apt, the mirrors and their
    /// keyrings.
    fn write_configuration(&self) -> Result<(), PackageError> {
        let authorities = ca_bundle(&self.packages.caller).map(|_| CA_BUNDLE);
        let choices = if self.base.is_some() { Choices::Plywood } else { Choices::Image };
        let configuration = apt::configuration(choices, &self.transport()?, authorities);
        self.write("apt/apt.conf", configuration.as_bytes())?;
        self.base.map_or(Ok(()), |base| self.write_mirrors(base))
    }

    /// Returns the settings with which the build host reaches archives. Paths in them lead to the
    /// copies that jobs see.
    fn transport(&self) -> Result<Vec<Setting>, PackageError> {
        let machine = &self.packages.machine;
        let mut settings = Vec::new();
        for (number, (name, value)) in
            machine.acquire.iter().enumerate().filter(|(_, (name, _))| is_taken(name))
        {
            let value = if names_file(name) { self.shown_file(number, value)? } else { value.clone() };
            settings.push((name.clone(), value));
        }
        settings.extend(self.packages.detected_proxies(self.base)?);
        if !machine.accounts.trim().is_empty() {
            settings.push(apt::accounts_setting());
        }
        Ok(settings)
    }

    /// Copies a file, or the files in a directory, beside the configuration. Returns the path of
    /// the copy for jobs. All users may read the copy, because apt's methods run as another user.
    /// The parents of the scratch directory protect it from users of the build host.
    fn shown_file(&self, number: usize, value: &str) -> Result<String, PackageError> {
        let (source, name) = (Path::new(value), format!("setting-{number}"));
        let copied = |from: &Path, to: &str| {
            let content = read_document(from).map_err(failed("read", from))?;
            self.write(to, &content)
        };
        if source.is_dir() {
            self.make_directory(&format!("apt/{name}"))?;
            for entry in fs::read_dir(source).map_err(failed("read", source))? {
                let path = entry.map_err(failed("read", source))?.path();
                if path.is_file() {
                    let inner = path.file_name().unwrap_or_default().to_string_lossy();
                    copied(&path, &format!("apt/{name}/{inner}"))?;
                }
            }
        } else if source.is_file() {
            copied(source, &format!("apt/{name}"))?;
        } else {
            // If apt needs the missing file, it reports it.
            return Ok(value.to_owned());
        }
        Ok(format!("{}/{name}", apt::apt_directory()))
    }

    /// Writes the accounts for archives: first those of the root at `root`, then those of the build
    /// host. apt uses the first match.
    fn write_accounts(&self, root: Option<&Path>) -> Result<(), PackageError> {
        let accounts = &self.packages.machine.accounts;
        if accounts.trim().is_empty() {
            return Ok(());
        }
        let own = root.map_or_else(|| Ok(Vec::new()), identity::own_accounts)?;
        let path = self.scratch.join("apt").join(apt::ACCOUNTS);
        // Created with its final mode, because the file has passwords. apt reads it before it
        // changes to another user.
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&[&own, b"\n".as_slice(), accounts.as_bytes()].concat()))
            .map_err(failed("write", &path))
    }

    fn write_mirrors(&self, base: &BaseDefinition) -> Result<(), PackageError> {
        let mirrors = self.packages.mirrors(base);
        let archive = self.reached(base, mirrors.archive.as_ref(), "archive")?;
        let security = self.reached(base, mirrors.security.as_ref(), "security")?;
        let [archive, security] = [&archive, &security]
            .map(|mirror| mirror.as_ref().map(|(uri, keyring)| (uri.as_str(), keyring.as_deref())));
        let origins = base.source.mmdebstrap().map(Mmdebstrap::archives).unwrap_or_default();
        let table = apt::mirror_table(&base.distro, &base.release, &origins, archive, security);
        self.write("apt/mirrors.tsv", table.as_bytes())
    }

    /// Checks that this host knows the archives of `base`, and has the keys that sign them.
    fn check_archives(&self, base: &BaseDefinition) -> Result<(), PackageError> {
        let Mirrors { archive, security } = self.packages.mirrors(base);
        if archive.is_none() {
            let (distro, release) = (base.distro.clone(), base.release.clone());
            let etc_apt = self.packages.etc_apt.clone();
            return Err(PackageError::NoMirror { distro, release, variable: MIRROR, etc_apt });
        }
        let keyrings = [archive, security].into_iter().flatten().filter_map(|mirror| mirror.keyring);
        let files = keyrings.filter_map(|keyring| match keyring {
            Keyring::File(path) => Some(path),
            Keyring::Armoured(_) => None,
        });
        match files.into_iter().find(|path| !path.exists()) {
            Some(path) => Err(no_keyring(base, &path)),
            None => Ok(()),
        }
    }

    /// Copies the keyring of a mirror beside the configuration. Returns the URI of the mirror and
    /// the name of the keyring there.
    fn reached(
        &self,
        base: &BaseDefinition,
        mirror: Option<&Mirror>,
        kind: &str,
    ) -> Result<Option<(String, Option<String>)>, PackageError> {
        let Some(Mirror { uri, keyring }) = mirror else { return Ok(None) };
        let name = match keyring {
            None => None,
            Some(Keyring::Armoured(text)) => {
                let name = format!("{kind}.asc");
                self.write(&format!("apt/{name}"), text.as_bytes())?;
                Some(name)
            }
            // A finished root has its own keys. Only a bootstrap needs the file.
            Some(Keyring::File(path)) if base.keyring() == Some(path) && !path.exists() => None,
            Some(Keyring::File(path)) if !path.exists() => return Err(no_keyring(base, path)),
            Some(Keyring::File(path)) => {
                let extension = path.extension().unwrap_or_default().to_string_lossy();
                let name = format!("{kind}.{extension}");
                self.write(&format!("apt/{name}"), &read_document(path).map_err(failed("read", path))?)?;
                Some(name)
            }
        };
        Ok(Some((uri.clone(), name)))
    }

    /// Replaces a directory by an empty one that all users may read. Returns its path.
    fn clear(&self, name: &str) -> Result<PathBuf, PackageError> {
        let path = self.scratch.join(name);
        empty(&path)?;
        publish(&path, 0o755)?;
        Ok(path)
    }

    fn make_directory(&self, name: &str) -> Result<(), PackageError> {
        let path = self.scratch.join(name);
        fs::create_dir_all(&path).map_err(failed("make directory", &path))?;
        publish(&path, 0o755)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), PackageError> {
        let path = self.scratch.join(name);
        fs::write(&path, content).map_err(failed("write", &path))?;
        publish(&path, 0o644)
    }

    fn bind(&self, name: &str, target: impl Into<String>, access: Access) -> Bind {
        Bind { source: self.scratch.join(name), target: target.into(), access }
    }

    /// Returns the mounts for each job that runs apt.
    fn configuration_binds(&self) -> Vec<Bind> {
        let mut binds = self.network_binds();
        binds.push(self.bind("apt", format!("{PRIVATE}/apt"), Access::ReadOnly));
        binds
    }

    /// Returns the directory that keeps the indices of these package sources between builds.
    fn kept_lists(&self, sources: &Digest) -> PathBuf {
        self.packages.cache.join("lists").join(sources.hex())
    }

    /// Returns the file that keeps apt's binary cache of these indices. Without it, apt parses all
    /// indices again, which takes half the time of a run. apt itself checks whether the cache
    /// matches the indices.
    fn kept_digest(&self, sources: &Digest) -> PathBuf {
        self.kept_lists(sources).with_added_extension("bin")
    }

    /// Returns the identity of the package sources of the root at `root`, with the configuration of
    /// the build host.
    fn sources(&self, root: &Path) -> Result<Digest, PackageError> {
        let last = self.identity.take();
        let identity = Identity::of(root, self.hooks.as_deref(), &self.configuration, last)?;
        let digest = identity.digest;
        self.identity.replace(Some(identity));
        Ok(digest)
    }

    /// Shows jobs the kept indices of these package sources, below the files that jobs write. If
    /// none are kept, the shown indices stay, and apt uses those that also belong to the new
    /// sources.
    fn show_lists(&self, sources: &Digest) -> Result<(), PackageError> {
        let kept = self.kept_lists(sources);
        let shown = *self.shown.borrow();
        if shown == Some(*sources) || (shown.is_some() && !kept.is_dir()) {
            return Ok(());
        }
        let (lists, state) = (self.clear("lists/below")?, self.clear("state/below")?);
        link_files(&kept, &lists)?;
        link(&self.kept_digest(sources), &state.join(apt::INDEX_DIGEST))?;
        self.shown.replace(Some(*sources));
        Ok(())
    }

    /// Shows jobs the indices of an earlier build and the downloads that they name. Returns false
    /// if no indices are kept.
    fn show_kept(&self, sources: &Digest) -> Result<bool, PackageError> {
        if !self.kept_lists(sources).is_dir() {
            return Ok(false);
        }
        self.show_lists(sources)?;
        self.offer_downloads()?;
        Ok(true)
    }

    /// Shows jobs the downloads that their indices name.
    fn offer_downloads(&self) -> Result<(), PackageError> {
        let index = Index::Apt(&self.scratch.join("lists/below"));
        self.packages.downloads.offer(index, &self.scratch.join("archives/below"))
    }

    /// Creates empty directories for the lists and the state of a refresh.
    fn clear_fresh(&self) -> Result<[PathBuf; 2], PackageError> {
        self.make_directory("fresh")?;
        let fresh = [self.clear(FRESH_LISTS)?, self.clear(FRESH_STATE)?];
        self.make_directory("fresh/lists/partial")?;
        Ok(fresh)
    }
}

/// Returns the error about a keyring that this host lacks.
fn no_keyring(base: &BaseDefinition, path: &Path) -> PackageError {
    PackageError::NoKeyring {
        distro: base.distro.clone(),
        release: base.release.clone(),
        path: path.to_owned(),
        variable: KEYRING,
    }
}

/// Returns true if the root at `root` has packages that apt manages.
fn has_dpkg(root: &Path) -> bool {
    root.join("var/lib/dpkg").is_dir()
}

/// Sets a mode, whatever the umask. apt fetches as its own user. If that user cannot read a
/// directory, apt creates directories with other owners in the layer.
fn publish(path: &Path, mode: u32) -> Result<(), PackageError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

/// The operations of [`crate::port::PackageSession`].
impl AptSession<'_> {
    pub(super) fn bootstrap(
        &self,
        source: &Mmdebstrap,
        source_date_epoch: i64,
        earlier: EarlierDownloads,
    ) -> Result<Job, PackageError> {
        if let Some(base) = self.base
            && self.is_offline()
        {
            let (distro, release) = (base.distro.clone(), base.release.clone());
            return Err(PackageError::OfflineBase { distro, release });
        }
        self.base.map_or(Ok(()), |base| self.check_archives(base))?;
        self.clear_fresh()?;
        let archives = self.clear("archives/below")?;
        if earlier == EarlierDownloads::Offered {
            self.offered.replace(self.packages.downloads.offer_all(&archives)?);
        }
        let mut binds = self.configuration_binds();
        binds.push(self.bind("archives", format!("{PRIVATE}/archives"), Access::CopyOnWrite));
        binds.push(self.bind(FRESH_LISTS, format!("{PRIVATE}/lists"), Access::ReadWrite));
        binds.push(self.bind(FRESH_STATE, format!("{PRIVATE}/state"), Access::ReadWrite));
        let mut env = base_environment(source_date_epoch);
        env.extend(network_environment(&self.packages.caller));
        Ok(Job {
            argv: apt::bootstrap(source, self.packages.architecture, View::HOST_MOUNT),
            env,
            cwd: "/".to_owned(),
            view: View::HostBare,
            binds,
            network: Network::Host,
            // Not traced: the key of the base covers all its inputs.
            traced: false,
            tools: None,
        })
    }

    pub(super) fn downloads_fitted(&self) -> Result<bool, PackageError> {
        Download::all_fit(&self.offered.borrow(), &self.scratch.join(FRESH_LISTS))
    }

    pub(super) fn binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError> {
        let mut binds = self.configuration_binds();
        self.write_accounts(Some(root))?;
        if has_dpkg(root) {
            self.show_lists(&self.sources(root)?)?;
            binds.push(self.bind("archives", ARCHIVES, Access::CopyOnWrite));
            binds.push(self.bind("lists", LISTS, Access::CopyOnWrite));
        }
        binds.push(self.bind("state", format!("{PRIVATE}/state"), Access::CopyOnWrite));
        Ok(binds)
    }

    pub(super) fn refresh_binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError> {
        self.write_accounts(Some(root))?;
        let sources = self.sources(root)?;
        self.refreshing.replace(Some(sources));
        let [lists, state] = self.clear_fresh()?;
        // With the kept indices, apt fetches only those that changed. They are copies, because apt
        // updates indices in place.
        self.show_lists(&sources)?;
        copy_files(&self.scratch.join("lists/below"), &lists)?;
        copy(&self.scratch.join("state/below").join(apt::INDEX_DIGEST), &state.join(apt::INDEX_DIGEST))?;
        let mut binds = self.configuration_binds();
        binds.push(self.bind(FRESH_LISTS, LISTS, Access::ReadWrite));
        binds.push(self.bind(FRESH_STATE, format!("{PRIVATE}/state"), Access::ReadWrite));
        Ok(binds)
    }

    pub(super) fn serves(&self, target: &str) -> bool {
        [ARCHIVES, LISTS].contains(&target)
    }

    pub(super) fn network_binds(&self) -> Vec<Bind> {
        let bundle = ca_bundle(&self.packages.caller).map(|bundle| Bind {
            source: bundle.path.to_owned(),
            target: CA_BUNDLE.to_owned(),
            access: Access::ReadOnly,
        });
        bundle.into_iter().collect()
    }

    pub(super) fn environment(&self, place: Place) -> BTreeMap<String, String> {
        let mut environment = network_environment(&self.packages.caller);
        if place == Place::Target {
            environment.insert("APT_CONFIG".to_owned(), format!("{PRIVATE}/apt/apt.conf"));
        }
        environment
    }

    pub(super) fn prepare_index(&self, root: &Path) -> Result<IndexState, PackageError> {
        if !has_dpkg(root) {
            return Ok(IndexState::Fresh);
        }
        let sources = self.sources(root)?;
        // Another step of this process has refreshed them. All steps of a run use the same state of
        // the archive.
        if self.packages.fresh.lock().unwrap_or_else(|held| held.into_inner()).contains(&sources) {
            self.show_lists(&sources)?;
            self.offer_downloads()?;
            return Ok(IndexState::Fresh);
        }
        // Without a network, apt would retry for a while and then print an error for each index.
        let may_do_with_kept =
            self.packages.reach != Reach::Online || Connection::of_this_machine() == Connection::Nothing;
        match may_do_with_kept && self.show_kept(&sources)? {
            true => Ok(IndexState::Kept),
            false if self.is_offline() => Err(PackageError::NoIndices),
            false => Ok(IndexState::Stale),
        }
    }

    pub(super) fn use_kept_indices(&self, root: &Path) -> Result<bool, PackageError> {
        if Connection::of_this_machine() == Connection::Routed {
            return Ok(false);
        }
        self.show_kept(&self.sources(root)?)
    }

    pub(super) fn is_offline(&self) -> bool {
        self.packages.reach == Reach::Offline
    }

    pub(super) fn index_refreshed(&self, root: &Path) -> Result<(), PackageError> {
        // A refresh runs programs of the root, which could change the sources, so their state
        // before the refresh counts. A bootstrap creates the sources, so they are read now.
        let refreshed = self.refreshing.take();
        let sources = refreshed.map_or_else(|| self.sources(root), Ok)?;
        let digest = Path::new(FRESH_STATE).join(apt::INDEX_DIGEST);
        replace_files(&self.scratch.join(FRESH_LISTS), &self.kept_lists(&sources))?;
        replace_file(&self.scratch.join(digest), &self.kept_digest(&sources))?;
        self.packages.fresh.lock().unwrap_or_else(|held| held.into_inner()).insert(sources);
        // The kept indices of these sources have just changed, so they must be shown again.
        self.shown.replace(None);
        self.show_lists(&sources)?;
        if refreshed.is_none() {
            return Ok(());
        }
        // Files that hooks made from the old indices would hide the new ones.
        self.clear("lists/own")?;
        self.make_directory("lists/own/partial")?;
        remove_file(&self.scratch.join("state/own").join(apt::INDEX_DIGEST))?;
        self.offer_downloads()
    }

    pub(super) fn take_initramfs_request(&self) -> bool {
        fs::remove_file(self.scratch.join("state/own/initramfs")).is_ok()
    }

    pub(super) fn close(self) -> Result<(), PackageError> {
        let downloads = &self.packages.downloads;
        let index = Index::Apt(&self.scratch.join("lists/below"));
        downloads.keep(&self.scratch.join("archives/own"), index)?;
        downloads.take_back(&self.scratch.join("archives/below"))
    }
}

/// Returns the digest of the names and contents of the files in a directory.
fn digest_of_files(directory: &Path) -> Result<Digest, PackageError> {
    let entries = fs::read_dir(directory).map_err(failed("read", directory))?;
    let paths = entries.map(|entry| Ok(entry.map_err(failed("read", directory))?.path()));
    let paths = paths.collect::<Result<BTreeSet<_>, PackageError>>()?;
    let mut hasher = Hasher::default();
    for path in paths {
        hasher.update(Digest::of(path.file_name().unwrap_or_default().as_encoded_bytes()).bytes());
        if path.is_file() {
            hasher.update(Digest::of(fs::read(&path).map_err(failed("read", &path))?).bytes());
        }
    }
    Ok(hasher.finish())
}
