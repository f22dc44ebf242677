//! The verbs of plywood, for all front ends.
//!
//! Front ends parse arguments, choose a display, call one verb and render its answer. The engine
//! decides the rest. It takes plain values, prints nothing, ends no process, and reads no variables
//! or arguments of the process.
//!
//! ```text
//! session + project ──▶ resolve ──▶ build | plan | explain | layers | shell | push …
//! ```
//!
//! | part | files |
//! |---|---|
//! | the input of verbs | `session`, `project`, `failure`; `redaction` of traces |
//! | an image, resolved once | `resolve`, `sources`, `disk` |
//! | `build`: check, fetch the base, build layers, deliver, write outputs, publish | `build`, `preflight`, `base`, `delivery`, `outputs`, `sharing` |
//! | differences between front ends | `place`: directories and owners of files; `build::Options` |
//! | other verbs | `forecasts` (plan, explain, layers), `shell`, `push`, `pull`, `import`, `prune`, `stored`, `elements`, `doctor` |
//! | edges, connected to ports | `edges`, `host`, `images`, `writer`, `breaks`, `fetch`, `registry`, `origin`, `container` |

mod account;
mod base;
mod breaks;
mod build;
#[cfg(test)]
mod build_tests;
mod checks;
mod container;
mod delivery;
mod disk;
mod doctor;
mod edges;
mod elements;
mod failure;
#[cfg(test)]
mod fake;
mod fetch;
mod forecasts;
mod host;
mod images;
mod import;
mod origin;
mod outputs;
mod place;
mod preflight;
mod project;
mod prune;
mod pull;
mod push;
mod redaction;
mod registry;
mod resolve;
mod session;
mod sharing;
mod shell;
mod sources;
mod stored;
mod writer;

pub use failure::{Failure, Hint, Message};
pub use session::{Mounts, Process};

pub(crate) use breaks::Pauses;
pub(crate) use build::{Inspect, Options, Unpublished, Wanted, build};
pub(crate) use checks::require_whole;
pub(crate) use doctor::{Diagnosis, diagnose};
pub(crate) use failure::{causes_from, line};
pub(crate) use forecasts::Look;
pub(crate) use host::tool;
pub(crate) use import::{Import, ImportedBase, import};
pub(crate) use outputs::Extras;
pub(crate) use place::{OutputDirectory, Place, Places, cannot_use, refuse_own_store};
pub(crate) use project::{Project, load_file, machine_architecture, upstream_element_path};
pub(crate) use prune::{Prune, Pruned, prune};
pub(crate) use pull::{pull, pull_files};
pub(crate) use push::{Push, Pushed};
pub(crate) use redaction::{redact, redacted};
pub(crate) use registry::tables;
pub(crate) use session::Session;
pub(crate) use sharing::{PublishTo, signing_key};
pub(crate) use shell::{NothingKept, State, shell};
pub(crate) use stored::{Removed, collect, list_images, list_records, remove_images, verify};

/// Errors of verbs: front ends search them for exit statuses and hints.
pub(crate) use crate::{
    build::{BuildError, Outcome},
    output::OutputError,
    registry::{PullError, RegistryError, TlsTrouble},
};

pub(crate) use crate::build::{
    ImageForecast, LayerLine, OnFailure, OnMiss, Prospect, Redactor, Reuse, StepExplanation, Surroundings,
};
pub(crate) use crate::output::{Destination, DiskFormat, MemberNames};
pub(crate) use crate::package::Reach;
pub(crate) use crate::store::{
    CheckReport, GcPolicy, GcReport, ImagesDocument, ListedImage, ListedRecord, RemovedDocument,
    StepsDocument,
};
