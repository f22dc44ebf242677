//! Joins edges to the ports that `build` sees.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Process;
use super::args::Global;
use super::context::open_store;
use super::host::Host;
use super::report::Failure;
use super::sources::SourcesOfHooks;
use crate::build::Ports;
use crate::element::Environment;
use crate::load::{self, HookLayout, HostFileSystem};
use crate::package::{AptPackages, Reach};
use crate::port::{Events, LayerStore, Limits};
use crate::sandbox::Namespaces;
use crate::store::Store;

/// Where apt's configuration is on a machine.
pub(super) const ETC_APT: &str = "/etc/apt";

/// The edges of one process.
pub(super) struct Edges {
    pub(super) store: Store,
    pub(super) interrupted: Arc<AtomicBool>,
    sandbox: Namespaces,
    pub(super) files: HostFileSystem,
    hooks: HookLayout,
    packages: AptPackages,
    sources: SourcesOfHooks,
}

impl Edges {
    /// Opens the store and gets ready to run hooks, with the caller's way to the network.
    ///
    /// # Errors
    /// If the kernel is too old, or the process lacks rights that a build needs.
    pub(super) fn new(
        global: &Global,
        process: &Process,
        environment: Environment,
        reach: Reach,
    ) -> Result<Self, Failure> {
        // Before the store is opened, which would make its directory for nothing.
        let mounts = Host::of(process).mounts()?;
        let store = open_store(global, process)?;
        let etc_apt = PathBuf::from(ETC_APT);
        let machine = load::load_apt_sources(&etc_apt)?;
        let packages = AptPackages::new(environment, machine, etc_apt, store.cache("apt")?, reach);
        let sandbox = Namespaces::new(mounts, process.interrupted.clone());
        Ok(Self {
            sandbox: if reach == Reach::Offline { sandbox.offline() } else { sandbox },
            files: HostFileSystem::default(),
            hooks: HookLayout,
            packages,
            sources: SourcesOfHooks::new(&store)?,
            interrupted: process.interrupted.clone(),
            store,
        })
    }

    /// Gives each hook these limits.
    ///
    /// # Errors
    /// If this host cannot hold them.
    pub(super) fn limited(self, limits: Limits) -> Result<Self, Failure> {
        Ok(Self { sandbox: self.sandbox.limited(limits)?, ..self })
    }

    /// Returns the edges as ports, with `events` to learn what happens.
    pub(super) fn ports<'a>(&'a self, events: &'a dyn Events) -> Ports<'a> {
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

/// Returns the variables of the process that are text.
pub(super) fn environment() -> Environment {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}
