//! Connects edges to the ports that `build` uses.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::failure::{Failure, Message};
use super::host::Host;
use super::project::machine_architecture;
use super::session::{Session, open_store};
use super::sources::SourcesOfHooks;
use crate::build::Ports;
use crate::distro::ca_bundle;
use crate::element::Environment;
use crate::load::{self, HostFileSystem};
use crate::package::{AptPackages, DnfPackages, HostPackages, Reach};
use crate::port::{Events, LayerStore, Limits};
use crate::sandbox::Namespaces;
use crate::staging::HookLayout;
use crate::store::Store;

/// The directory of apt's configuration on the build host.
pub(crate) const ETC_APT: &str = "/etc/apt";

/// The edges of one process.
pub(crate) struct Edges {
    pub(crate) store: Store,
    pub(crate) interrupted: Arc<AtomicBool>,
    sandbox: Namespaces,
    pub(crate) files: HostFileSystem,
    hooks: HookLayout,
    packages: HostPackages,
    sources: SourcesOfHooks,
}

impl Edges {
    /// Opens the store and prepares the sandbox, with the caller's network settings.
    ///
    /// # Errors
    /// If the kernel is too old, if the process lacks rights that a build needs, or if a variable
    /// names certificate authorities that cannot be read.
    pub(crate) fn new(
        session: &Session<'_>,
        environment: Environment,
        reach: Reach,
    ) -> Result<Self, Failure> {
        let process = session.process;
        // Before the store is opened, which would create its directory in vain.
        let mounts = Host::of(process).mounts()?;
        check_authorities(&environment)?;
        let store = open_store(session)?;
        let etc_apt = PathBuf::from(ETC_APT);
        let machine = load::load_apt_sources(&etc_apt)?;
        let packages = HostPackages {
            dnf: DnfPackages::new(environment.clone(), store.cache("dnf")?, reach),
            apt: AptPackages::new(
                environment,
                machine,
                machine_architecture()?,
                etc_apt,
                store.cache("apt")?,
                reach,
            ),
        };
        // Hidden by its real path. A hook that read the store would depend on more than its key
        // covers.
        let sandbox =
            Namespaces::new(mounts, process.interrupted.clone()).hiding(&fs::canonicalize(store.path())?);
        Ok(Self {
            sandbox: if reach == Reach::Offline { sandbox.offline() } else { sandbox },
            files: HostFileSystem::default(),
            hooks: HookLayout,
            packages,
            sources: SourcesOfHooks::new(session.environment.clone(), &store)?,
            interrupted: process.interrupted.clone(),
            store,
        })
    }

    /// Sets the limits of each hook.
    ///
    /// # Errors
    /// If this host cannot enforce them.
    pub(crate) fn limited(self, limits: Limits) -> Result<Self, Failure> {
        Ok(Self { sandbox: self.sandbox.limited(limits)?, ..self })
    }

    /// Returns the edges as ports that report to `events`.
    pub(crate) fn ports<'a>(&'a self, events: &'a dyn Events) -> Ports<'a> {
        Ports {
            store: &self.store,
            host: &self.files,
            sandbox: &self.sandbox,
            hooks: &self.hooks,
            packages: &self.packages,
            sources: &self.sources,
            logs: &self.store,
            events,
            breaks: None,
        }
    }
}

/// Checks the file of certificate authorities that each job will see.
fn check_authorities(environment: &Environment) -> Result<(), Failure> {
    let Some(bundle) = ca_bundle(environment) else { return Ok(()) };
    // Opened, because root may see a file on a network file system that it cannot read.
    let reason = match fs::File::open(bundle.path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_dir() => "it is a directory".to_owned(),
        Ok(_) => return Ok(()),
        Err(error) => error.to_string(),
    };
    let (variable, path) = (bundle.variable, bundle.path.display());
    Err(Message::with_hint(
        format!("cannot read the certificate authorities `{path}` (variable `{variable}`): {reason}"),
        format!("set `{variable}` to a file of certificates in PEM form, or unset it"),
    ))
}
