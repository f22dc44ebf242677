//! The package runs of one step.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::cache::{failed, harvest, link, link_files, replace_file, replace_files};
use super::{AptPackages, MIRROR};
use crate::distro::apt::Choices;
use crate::distro::{
    BaseDefinition, CA_BUNDLE, Keyring, Mirror, Mmdebstrap, PRIVATE, apt, base_environment, ca_bundle,
    network_environment,
};
use crate::element::Place;
use crate::oci::{Digest, Hasher};
use crate::port::{Access, Bind, Job, Network, PackageError, PackageSession, View};

/// Where a root has its downloads, and its package indices.
const ARCHIVES: &str = "/var/cache/apt/archives";
const LISTS: &str = "/var/lib/apt/lists";

/// One step's own copies: subdirectories of its scratch directory.
pub(super) struct AptSession<'a> {
    packages: &'a AptPackages,
    /// `None` if the image has package sources of its own.
    base: Option<&'a BaseDefinition>,
    scratch: PathBuf,
}

impl<'a> AptSession<'a> {
    pub(super) fn open(
        packages: &'a AptPackages,
        base: Option<&'a BaseDefinition>,
        scratch: &Path,
    ) -> Result<Self, PackageError> {
        let session = Self { packages, base, scratch: scratch.to_owned() };
        for name in ["apt", "state", "lists", "lists/partial", "archives", "archives/partial"] {
            session.make_directory(name)?;
        }
        session.write_configuration()?;
        link_files(&packages.cache.join("archives"), &session.scratch.join("archives"))?;
        Ok(session)
    }

    /// Writes what `/run/plywood/apt` shows: apt's configuration, the mirrors, and their keyrings.
    fn write_configuration(&self) -> Result<(), PackageError> {
        let authorities = ca_bundle(&self.packages.caller).map(|_| CA_BUNDLE);
        let choices = if self.base.is_some() { Choices::Plywood } else { Choices::Image };
        let configuration = apt::configuration(choices, &self.packages.machine.transport, authorities);
        self.write("apt/apt.conf", configuration.as_bytes())?;
        self.base.map_or(Ok(()), |base| self.write_mirrors(base))
    }

    fn write_mirrors(&self, base: &BaseDefinition) -> Result<(), PackageError> {
        let mirrors = self.packages.mirrors(base);
        let archive = self.reached(mirrors.archive.as_ref(), "archive")?;
        let security = self.reached(mirrors.security.as_ref(), "security")?;
        let [archive, security] = [&archive, &security]
            .map(|mirror| mirror.as_ref().map(|(uri, keyring)| (uri.as_str(), keyring.as_deref())));
        let table = apt::mirror_table(&base.distro, &base.release, archive, security);
        self.write("apt/mirrors.tsv", table.as_bytes())
    }

    /// Copies a mirror's keyring beside the configuration; returns the mirror's URI and the keyring's name there.
    fn reached(
        &self,
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
            Some(Keyring::File(path)) => {
                let extension = path.extension().unwrap_or_default().to_string_lossy();
                let name = format!("{kind}.{extension}");
                self.write(&format!("apt/{name}"), &fs::read(path).map_err(failed("read", path))?)?;
                Some(name)
            }
        };
        Ok(Some((uri.clone(), name)))
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

    fn private_binds(&self) -> Vec<Bind> {
        let mut binds = self.network_binds();
        binds.push(self.bind("apt", format!("{PRIVATE}/apt"), Access::ReadOnly));
        binds.push(self.bind("state", format!("{PRIVATE}/state"), Access::ReadWrite));
        binds
    }

    /// Where the indices for these package sources are kept between builds.
    fn kept_lists(&self, sources: &Digest) -> PathBuf {
        self.packages.cache.join("lists").join(sources.hex())
    }

    /// Where apt's digest of these indices is kept: reading the indices anew is half of what a run of apt costs. apt itself
    /// sees whether it fits them.
    fn kept_digest(&self, sources: &Digest) -> PathBuf {
        self.kept_lists(sources).with_added_extension("bin")
    }

    fn digest(&self) -> PathBuf {
        self.scratch.join("state").join(apt::INDEX_DIGEST)
    }
}

/// Says whether the root at `root` has packages that apt looks after.
fn has_dpkg(root: &Path) -> bool {
    root.join("var/lib/dpkg").is_dir()
}

/// Sets a mode whatever the user's umask: apt fetches as a user of its own, and where that one cannot read, it leaves
/// directories with other owners in the layer.
fn publish(path: &Path, mode: u32) -> Result<(), PackageError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

impl PackageSession for AptSession<'_> {
    fn bootstrap(&self, source: &Mmdebstrap, source_date_epoch: i64) -> Result<Job, PackageError> {
        if let Some(base) = self.base
            && self.packages.mirrors(base).archive.is_none()
        {
            return Err(PackageError::NoMirror {
                distro: base.distro.clone(),
                release: base.release.clone(),
                variable: MIRROR,
                etc_apt: self.packages.etc_apt.clone(),
            });
        }
        let mut binds = self.private_binds();
        for name in ["archives", "lists"] {
            binds.push(self.bind(name, format!("{PRIVATE}/{name}"), Access::ReadWrite));
        }
        let mut env = base_environment(source_date_epoch);
        env.extend(network_environment(&self.packages.caller));
        Ok(Job {
            argv: apt::bootstrap(source, View::HOST_MOUNT),
            env,
            cwd: "/".to_owned(),
            view: View::HostBare,
            binds,
            network: Network::Host,
        })
    }

    fn binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError> {
        let mut binds = self.private_binds();
        if has_dpkg(root) {
            let sources = self.sources(root)?;
            link_files(&self.kept_lists(&sources), &self.scratch.join("lists"))?;
            link(&self.kept_digest(&sources), &self.digest())?;
            binds.push(self.bind("archives", ARCHIVES, Access::ReadWrite));
            binds.push(self.bind("lists", LISTS, Access::ReadWrite));
        }
        Ok(binds)
    }

    fn serves(&self, target: &str) -> bool {
        [ARCHIVES, LISTS].contains(&target)
    }

    fn network_binds(&self) -> Vec<Bind> {
        let bundle = ca_bundle(&self.packages.caller).map(|bundle| Bind {
            source: bundle.to_owned(),
            target: CA_BUNDLE.to_owned(),
            access: Access::ReadOnly,
        });
        bundle.into_iter().collect()
    }

    fn environment(&self, place: Place) -> BTreeMap<String, String> {
        let mut environment = network_environment(&self.packages.caller);
        if place == Place::Target {
            environment.insert("APT_CONFIG".to_owned(), format!("{PRIVATE}/apt/apt.conf"));
        }
        environment
    }

    fn is_index_stale(&self, root: &Path) -> Result<bool, PackageError> {
        if !has_dpkg(root) {
            return Ok(false);
        }
        let sources = self.sources(root)?;
        let fresh = self.packages.fresh.lock().unwrap_or_else(|held| held.into_inner());
        Ok(!fresh.contains(&sources))
    }

    fn index_refreshed(&self, root: &Path) -> Result<(), PackageError> {
        let sources = self.sources(root)?;
        replace_files(&self.scratch.join("lists"), &self.kept_lists(&sources))?;
        replace_file(&self.digest(), &self.kept_digest(&sources))?;
        self.packages.fresh.lock().unwrap_or_else(|held| held.into_inner()).insert(sources);
        Ok(())
    }

    fn take_initramfs_request(&self) -> bool {
        fs::remove_file(self.scratch.join("state/initramfs")).is_ok()
    }

    fn close(self: Box<Self>) -> Result<(), PackageError> {
        harvest(&self.scratch.join("archives"), ".deb", &self.packages.cache.join("archives"))
    }
}

impl AptSession<'_> {
    /// Returns the identity of the package sources of the root at `root`, as this machine reaches them: sources, pins, and the
    /// keys they are trusted by.
    fn sources(&self, root: &Path) -> Result<Digest, PackageError> {
        let mut files = vec![self.scratch.join("apt/mirrors.tsv")];
        files_below(&root.join("etc/apt"), &mut files)?;
        let mut hasher = Hasher::default();
        for file in files {
            match fs::read(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                content => hasher.update(Digest::of(content.map_err(failed("read", &file))?).bytes()),
            }
        }
        Ok(hasher.finish())
    }
}

/// Adds the files below a directory, sorted; nothing if it is not there. Symlinks are not followed: in a root they may lead out
/// of it.
fn files_below(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), PackageError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("read", directory))?,
    };
    let mut paths = entries
        .map(|entry| Ok(entry.map_err(failed("read", directory))?.path()))
        .collect::<Result<Vec<_>, PackageError>>()?;
    paths.sort();
    for path in paths {
        match path.symlink_metadata().map_err(failed("read", &path))?.file_type() {
            kind if kind.is_dir() => files_below(&path, files)?,
            kind if kind.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}
