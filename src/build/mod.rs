//! Carries out a plan, through ports alone.
//!
//! ```text
//! stack     for each step: key known? take its layers; else run it in a workspace and commit a layer
//! registries  what registries have of steps, and what of it counts
//! receive   layers of found steps, fetched where the store lacks them
//! publish   built steps to a registry
//! prune     old ones out of it
//! evidence  what hooks read of the host, and whether it is still so
//! step      one step's tasks on an open root: environment, hooks, packages, initramfs
//! disk      the stack onto a disk, the final stage on it, boot code, conversion
//! container the config of an OCI image: the base's, and an entry of history for each step
//! manifest  what an image is made of, as JSON
//! ```

mod added;
mod boot;
mod boot_files;
mod boot_menu;
mod bootstrap;
mod build_manifest;
mod builder;
mod built;
mod command;
mod container;
mod disk;
#[cfg(test)]
mod disk_tests;
mod disk_under_hooks;
mod document;
mod error;
mod evidence;
#[cfg(test)]
mod evidence_tests;
mod facts;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
pub(crate) mod fake_disk;
#[cfg(test)]
pub(crate) mod fake_registry;
mod forecast;
mod inventory;
mod job;
mod packages;
mod places;
mod ports;
mod prune;
mod publish;
mod receive;
mod redact;
mod registries;
#[cfg(test)]
mod share_tests;
mod shell;
mod stack;
#[cfg(test)]
mod stack_tests;
mod stage;
mod step;
#[cfg(test)]
mod step_tests;
mod surroundings;

pub use build_manifest::{BuildManifest, LayerEntry, OutputEntry};
pub use builder::{Builder, OnFailure, OnMiss, Reuse};
pub use built::BuiltStep;
pub use container::container_config;
pub use disk::{FinishedDisk, hooks_look_at_disk};
pub use document::{
    ExplainDocument, ImageForecast, LayerLine, LayersDocument, PlanDocument, StepExplanation,
};
pub use error::{BuildError, HookFailure, Outcome};
pub use facts::host_facts;
pub use forecast::{Forecast, Prospect, forecast};
pub use inventory::Package;
pub use ports::Ports;
pub use prune::Pruning;
pub use publish::{Publication, Publisher};
pub use redact::Redactor;
pub use registries::{Refused, Registries};
pub use shell::ShellAt;
pub use stack::stored_steps;
pub use stage::Stage;
pub use surroundings::Surroundings;
