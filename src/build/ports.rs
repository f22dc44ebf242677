//! The ports of a build.

use crate::port::{AddedSources, Breaks, Events, HookFiles, HostFiles, LayerStore, Logs, Packages, Sandbox};

/// The ports of a build.
pub struct Ports<'a> {
    /// Records and layers.
    pub store: &'a dyn LayerStore,
    /// The build host's own files.
    pub host: &'a dyn HostFiles,
    /// Runs hooks.
    pub sandbox: &'a dyn Sandbox,
    /// Lays out the files that hooks see.
    pub hooks: &'a dyn HookFiles,
    /// Package repositories.
    pub packages: &'a dyn Packages,
    /// Fetches the sources that hooks request.
    pub sources: &'a dyn AddedSources,
    /// Keeps the output of hooks.
    pub logs: &'a dyn Logs,
    /// Receives the progress of the build.
    pub events: &'a dyn Events,
    /// Receives the position of each step; `None` if no break points are set.
    pub breaks: Option<&'a dyn Breaks>,
}
