//! The events of a build or a transfer, for progress displays and logs.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::Exit;
use crate::oci::{DiffId, Digest};
use crate::plan::{Found, StepName};

/// One event. Serializes to one JSON object with a field `event`: the lines of `--progress json`.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event<'a> {
    /// An image's steps are known.
    ImageStarted {
        /// Its name.
        image: &'a str,
        /// How many steps it has.
        steps: usize,
    },
    /// A step's layer was found.
    StepHit {
        /// The image.
        image: &'a str,
        /// The step's name: an element, or `base:…`, `image:…`.
        step: &'a StepName,
        /// The key that found it: `input` or `content`.
        by: Found,
        /// Where it was found: `store`, or the repository that it was fetched from.
        from: &'a str,
        /// Its layers.
        diff_ids: &'a [DiffId],
    },
    /// A step's layer has to be built.
    StepStarted {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a StepName,
    },
    /// A hook or a provider of a step starts.
    TaskStarted {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a StepName,
        /// The phase: `install.d`.
        phase: &'a str,
        /// The hook's name, or the provider's.
        task: &'a str,
    },
    /// A line of a task's output.
    TaskOutput {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a StepName,
        /// The task's name.
        task: &'a str,
        /// The text without its line end; invalid UTF-8 is replaced.
        line: &'a str,
    },
    /// A task is still running: sent once a minute.
    TaskRunning {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a StepName,
        /// The phase.
        phase: &'a str,
        /// The task's name.
        task: &'a str,
        /// How long it has been running.
        milliseconds: u64,
    },
    /// A task ended.
    TaskFinished {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a StepName,
        /// The phase.
        phase: &'a str,
        /// The task's name.
        task: &'a str,
        /// How it ended: `exit status 0`.
        #[serde(serialize_with = "as_text")]
        #[schemars(with = "String")]
        exit: Exit,
        /// How long it ran.
        milliseconds: u64,
        /// Its log.
        log: &'a Path,
    },
    /// A step's layer is built and stored.
    StepFinished {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a StepName,
        /// Its layers, lowest first; empty if the step changed nothing.
        diff_ids: &'a [DiffId],
        /// How long it took.
        milliseconds: u64,
    },
    /// A part of the output starts: `fill disk`, `convert to qcow2`.
    StageStarted {
        /// The image.
        image: &'a str,
        /// The part that starts.
        stage: &'a str,
    },
    /// The part of the output that started last is complete.
    StageFinished {
        /// The image.
        image: &'a str,
        /// The part that is complete.
        stage: &'a str,
        /// How long it took.
        milliseconds: u64,
    },
    /// An output is written.
    OutputWritten {
        /// The image.
        image: &'a str,
        /// Its format.
        format: &'a str,
        /// The file or directory.
        path: &'a Path,
        /// Its size.
        bytes: u64,
    },
    /// Blobs start to be uploaded to a registry, or downloaded from one.
    TransfersStarted {
        /// The repository.
        repository: &'a str,
        /// The direction.
        direction: Direction,
        /// How many blobs.
        blobs: usize,
        /// Bytes of all of them.
        bytes: u64,
    },
    /// A blob's transfer starts.
    TransferStarted {
        /// The repository.
        repository: &'a str,
        /// The direction.
        direction: Direction,
        /// The blob.
        digest: &'a Digest,
        /// Its size.
        bytes: u64,
    },
    /// A blob is being transferred: sent a few times a second.
    TransferProgress {
        /// The repository.
        repository: &'a str,
        /// The direction.
        direction: Direction,
        /// The blob.
        digest: &'a Digest,
        /// The progress of this blob.
        blob: Pace,
        /// The progress of all blobs.
        all: Pace,
    },
    /// A blob's transfer is complete.
    TransferFinished {
        /// The repository.
        repository: &'a str,
        /// The direction.
        direction: Direction,
        /// The blob.
        digest: &'a Digest,
        /// Its size.
        bytes: u64,
        /// How the blob got there.
        how: How,
        /// How long it took.
        milliseconds: u64,
    },
    /// All transfers are complete.
    TransfersFinished {
        /// The repository.
        repository: &'a str,
        /// The direction.
        direction: Direction,
        /// How many blobs.
        blobs: usize,
        /// Bytes that were transferred over the network.
        moved: u64,
        /// How long it took.
        milliseconds: u64,
    },
    /// The steps of an image are published: other hosts can find them.
    StepsPublished {
        /// The image.
        image: &'a str,
        /// The repository.
        repository: &'a str,
        /// How many steps.
        steps: usize,
        /// How many of them the repository did not have before.
        new: usize,
        /// The step that is not published, because it was built with secrets; the steps above it
        /// are not published either.
        withheld: Option<&'a StepName>,
        /// The names of these secrets.
        secrets: &'a [String],
    },
    /// A warning that does not stop the build.
    Warning {
        /// A sentence without full stop.
        message: &'a str,
    },
}

impl Event<'_> {
    /// The name of the task that sources the files of `environment.d` before those of a phase.
    pub const ENVIRONMENT: &'static str = "environment.d";
}

/// Serializes the end of a job as messages name it: `exit status 0`.
fn as_text<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(exit)
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To the registry.
    Push,
    /// From the registry.
    Pull,
}

/// How a blob got to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its bytes were transferred.
    Moved,
    /// The registry had it in another repository.
    Mounted,
    /// The destination already had it.
    There,
}

/// The progress and speed of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Pace {
    /// Bytes transferred.
    pub done: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes per second, averaged over the whole transfer.
    pub rate: u64,
    /// Seconds left at this rate. `None` before the first byte.
    pub seconds_left: Option<u64>,
}

/// Receives events. Must not block for long, because hooks wait for it.
pub trait Events: Sync {
    /// Handles one event.
    fn emit(&self, event: Event<'_>);
}
