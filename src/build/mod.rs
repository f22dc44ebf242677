//! Carries out a plan, only through ports.
//!
//! ```text
//! builder         the settings of a build, and its workspaces
//! stack           for each step: uses its layers on a hit; otherwise runs it and commits a layer
//! registries      looks up steps in registries, and checks the answers
//! receive         fetches the layers of hits that the store lacks
//! publish         publishes built steps in a registry
//! prune           removes old steps from a registry
//! evidence        records the host files that hooks read, and compares them later
//! databases       writes the databases of rpm and dnf in one form, with tools that the build host may lack
//! step            one step's tasks on an open root: environment, hooks, packages, initramfs
//! disk            writes the stack onto a disk, and runs the final stage there
//! boot            makes that disk bootable
//! container       the config of an OCI image: that of the base, with a history of the steps
//! build_manifest  the layers, packages and outputs of an image, as JSON
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
mod databases;
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
mod tools;

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
