//! Runs the checks of the host: all of them for `plywood doctor`, and the necessary ones before a
//! build.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::checks::{Checks, failure, require};
use super::failure::{Failure, Message};
use super::session::Process;
use crate::block;
use crate::host::{self, Finding, Rights, StoreFacts, Tool, Trial, space, tool_named};
use crate::output::qemu_formats;
use crate::port::{LayerStore, RootSpec, Sandbox, SandboxError, Workspace};
use crate::probe;
use crate::sandbox::{Namespaces, PrivateMounts};
use crate::store::Store;

/// The host, as this process sees it.
pub(crate) struct Host<'a> {
    process: &'a Process,
    rights: Rights,
}

impl<'a> Host<'a> {
    /// Reads what the process may do.
    pub(crate) fn of(process: &'a Process) -> Self {
        Self { process, rights: probe::rights() }
    }

    /// Returns the process's own mounts.
    ///
    /// # Errors
    /// The finding with the reason, if the process has no mounts of its own or lacks rights.
    pub(crate) fn mounts(&self) -> Result<PrivateMounts, Failure> {
        // The kernel first: on an old kernel, the other checks fail with misleading reasons.
        require(self.kernel())?;
        match &self.process.mounts {
            Ok(mounts) => require(self.privileges()).map(|()| *mounts),
            Err(error) => {
                require(self.privileges())?;
                Err(failure(host::namespaces(&trial_of(error), &self.rights)))
            }
        }
    }

    /// Checks the kernel.
    pub(crate) fn kernel(&self) -> Finding {
        host::kernel(&probe::kernel_release())
    }

    /// Checks root's rights.
    pub(crate) fn privileges(&self) -> Finding {
        host::privileges(&self.rights)
    }

    /// Checks all kinds of namespaces.
    pub(crate) fn namespaces(&self) -> Finding {
        let trial = match &self.process.mounts {
            Ok(_) => probe::namespaces(),
            Err(error) => trial_of(error),
        };
        host::namespaces(&trial, &self.rights)
    }

    /// Returns true if trials that need root and mounts are possible.
    pub(crate) fn may_try(&self) -> bool {
        self.process.mounts.is_ok()
    }

    /// Measures the store, and tries the operations of unpacking a layer in it.
    pub(crate) fn store_facts(&self, store: &Store) -> Result<StoreFacts, Failure> {
        let workspace = store.workspace(&[])?;
        let facts = probe::store(store.path(), &workspace.scratch("trial", 0o755)?, self.may_try());
        facts.map_err(|error| {
            Message::plain(format!("cannot measure the store `{}`: {error}", store.path().display()))
        })
    }

    /// Checks that layers can be unpacked in the store.
    pub(crate) fn store(&self, facts: &StoreFacts) -> Finding {
        host::store(facts, &self.rights)
    }

    /// Checks that layers can be stacked: opens a root in the store, as each step does.
    pub(crate) fn overlay(&self, store: &Store, facts: &StoreFacts) -> Result<Finding, Failure> {
        let Ok(mounts) = &self.process.mounts else { return Ok(Finding::untried("overlayfs")) };
        let workspace = store.workspace(&[])?;
        let sandbox = Namespaces::new(*mounts, self.process.interrupted.clone());
        let opened = sandbox.open(&overlay(workspace.as_ref())).and_then(|root| root.close());
        let trial = opened.map_or_else(|error| trial_of(&error), |()| Trial::Works);
        Ok(host::overlay(&trial, facts, &self.rights))
    }

    /// Checks that disks can be laid out: attaches a file of the store.
    pub(crate) fn loop_devices(&self, store: &Store) -> Result<Finding, Failure> {
        let workspace = store.workspace(&[])?;
        let scratch = workspace.scratch("trial", 0o755)?;
        let trial = probe::try_action("attach a loop device", || block::try_loop_device(&scratch));
        Ok(host::loop_devices(&trial, &self.rights))
    }

    /// Checks that logical volumes can be made.
    pub(crate) fn device_mapper(&self) -> Finding {
        host::device_mapper(block::has_device_mapper())
    }
}

/// The checks before a build, on this host and in one store.
pub(crate) struct HostChecks<'a> {
    pub(crate) host: Host<'a>,
    pub(crate) store: &'a Store,
}

impl Checks for HostChecks<'_> {
    fn now(&self) -> Result<i64, Failure> {
        now()
    }

    fn file(&self, path: &Path) -> io::Result<()> {
        path.metadata().map(drop)
    }

    fn tool(&self, name: &str) -> Finding {
        tool(&tool_named(name))
    }

    fn device_mapper(&self) -> Finding {
        self.host.device_mapper()
    }

    fn store(&self) -> Result<(), Failure> {
        let facts = self.host.store_facts(self.store)?;
        // The overlay last: in a full store or on an unsuitable file system, it fails with a
        // misleading reason.
        require(self.host.store(&facts))?;
        require(space(&facts))?;
        require(self.host.overlay(self.store, &facts)?)
    }

    fn loop_devices(&self) -> Result<Finding, Failure> {
        self.host.loop_devices(self.store)
    }

    fn qemu_formats(&self) -> Result<Vec<String>, Failure> {
        Ok(qemu_formats()?)
    }
}

/// Returns the seconds since 1970.
pub(crate) fn now() -> Result<i64, Failure> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

fn overlay(workspace: &dyn Workspace) -> RootSpec {
    RootSpec::Overlay {
        lowers: workspace.lowers().to_vec(),
        upper: workspace.upper().to_owned(),
        work: workspace.work().to_owned(),
    }
}

/// Checks that a tool is installed.
pub(crate) fn tool(tool: &Tool) -> Finding {
    host::tool(tool, probe::is_installed(tool), probe::installer())
}

/// Checks that a mirror, or its proxy, answers. Returns `None` for a URI without a host.
pub(crate) fn mirror(uri: &str, proxy: Option<&str>) -> Option<Finding> {
    if let Some(path) = uri.strip_prefix("file:").or_else(|| uri.strip_prefix("copy:")) {
        // apt accepts these URIs with one slash and with three.
        let path = format!("/{}", path.trim_start_matches('/'));
        let trial = probe::try_action("read", || Path::new(&path).metadata().map(drop));
        return Some(host::mirror(uri, None, &trial));
    }
    let endpoint = host::endpoint(proxy.unwrap_or(uri))?;
    Some(host::mirror(uri, proxy, &probe::mirror(&endpoint)))
}

/// Returns the error of the kernel when a sandbox could not be made.
fn trial_of(error: &SandboxError) -> Trial {
    let action = match error {
        SandboxError::Setup { action, .. } => action.clone(),
        SandboxError::Mount { what, .. } => format!("mount {what}"),
        other => other.to_string(),
    };
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    Trial::Fails {
        action,
        errno: cause.and_then(io::Error::raw_os_error),
        reason: cause.map_or_else(|| error.to_string(), io::Error::to_string),
    }
}
