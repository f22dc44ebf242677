//! The world, as a build sees it.

use crate::port::{AddedSources, Breaks, Events, HookFiles, HostFiles, LayerStore, Logs, Packages, Sandbox};

/// What a build needs of the world.
pub struct Ports<'a> {
    /// Keys and layers.
    pub store: &'a dyn LayerStore,
    /// The build host's own files.
    pub host: &'a dyn HostFiles,
    /// Runs hooks.
    pub sandbox: &'a dyn Sandbox,
    /// Lays out what hooks see.
    pub hooks: &'a dyn HookFiles,
    /// Package repositories.
    pub packages: &'a dyn Packages,
    /// Fetches what hooks ask for.
    pub sources: &'a dyn AddedSources,
    /// Keeps what hooks print.
    pub logs: &'a dyn Logs,
    /// Learns what happens.
    pub events: &'a dyn Events,
    /// Receives the position of each step; `None` if no break points are set.
    pub breaks: Option<&'a dyn Breaks>,
}
