//! The events of a build or a transfer, for progress displays and logs.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::oci::{DiffId, Digest};

/// One thing that happened. Serialises to one JSON object with a field `event`: the lines of `--progress json`.
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
        step: &'a str,
        /// Which of the two keys found it: `input` or `content`.
        by: &'static str,
        /// Where: `store`, or the repository it was fetched from.
        from: &'a str,
        /// Its layers.
        diff_ids: &'a [DiffId],
    },
    /// A step's layer has to be made.
    StepStarted {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a str,
    },
    /// A hook or a provider of a step starts.
    TaskStarted {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a str,
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
        step: &'a str,
        /// The task's name.
        task: &'a str,
        /// Without its line end; bytes that are no UTF-8 replaced.
        line: &'a str,
    },
    /// A task is still running: sent once a minute.
    TaskRunning {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a str,
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
        step: &'a str,
        /// The phase.
        phase: &'a str,
        /// The task's name.
        task: &'a str,
        /// How it ended: `exit status 0`.
        exit: &'a str,
        /// How long it ran.
        milliseconds: u64,
        /// Its log.
        log: &'a Path,
    },
    /// A step's layer is made and stored.
    StepFinished {
        /// The image.
        image: &'a str,
        /// The step's name.
        step: &'a str,
        /// Its layers, lowest first; none if it changed nothing.
        diff_ids: &'a [DiffId],
        /// How long it took.
        milliseconds: u64,
    },
    /// A part of the output starts: `fill disk`, `convert to qcow2`.
    StageStarted {
        /// The image.
        image: &'a str,
        /// What starts.
        stage: &'a str,
    },
    /// The part of the output that started last is done.
    StageFinished {
        /// The image.
        image: &'a str,
        /// What is done.
        stage: &'a str,
        /// How long it took.
        milliseconds: u64,
    },
    /// A result is in place.
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
    /// Blobs start to go to a registry, or to come from one.
    TransfersStarted {
        /// The repository.
        repository: &'a str,
        /// Which way.
        direction: Direction,
        /// How many blobs.
        blobs: usize,
        /// Bytes of all of them.
        bytes: u64,
    },
    /// A blob starts to move.
    TransferStarted {
        /// The repository.
        repository: &'a str,
        /// Which way.
        direction: Direction,
        /// The blob.
        digest: &'a Digest,
        /// Its size.
        bytes: u64,
    },
    /// A blob moves: sent a few times a second.
    TransferProgress {
        /// The repository.
        repository: &'a str,
        /// Which way.
        direction: Direction,
        /// The blob.
        digest: &'a Digest,
        /// How far this blob is.
        blob: Pace,
        /// How far all blobs are.
        all: Pace,
    },
    /// A blob has arrived.
    TransferFinished {
        /// The repository.
        repository: &'a str,
        /// Which way.
        direction: Direction,
        /// The blob.
        digest: &'a Digest,
        /// Its size.
        bytes: u64,
        /// What it took to get it there.
        how: How,
        /// How long it took.
        milliseconds: u64,
    },
    /// All blobs have arrived.
    TransfersFinished {
        /// The repository.
        repository: &'a str,
        /// Which way.
        direction: Direction,
        /// How many blobs.
        blobs: usize,
        /// Bytes that went over the wire.
        moved: u64,
        /// How long it took.
        milliseconds: u64,
    },
    /// The steps of an image can be found by other machines.
    StepsPublished {
        /// The image.
        image: &'a str,
        /// The repository.
        repository: &'a str,
        /// How many steps.
        steps: usize,
        /// How many of them it did not have before.
        new: usize,
        /// The step that is kept back with all above, because it was made with secrets.
        withheld: Option<&'a str>,
        /// The names of these secrets.
        secrets: &'a [String],
    },
    /// Something the user should know that does not stop the build.
    Warning {
        /// A sentence without full stop.
        message: &'a str,
    },
}

impl Event<'_> {
    /// The task that sources the files of `environment.d` before those of a phase.
    pub const ENVIRONMENT: &'static str = "environment.d";
}

/// Which way blobs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To the registry.
    Push,
    /// From the registry.
    Pull,
}

/// What it took to get a blob where it was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its bytes went over the wire.
    Moved,
    /// The registry had it in another repository.
    Mounted,
    /// It was there already.
    There,
}

/// How far a transfer is, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Pace {
    /// Bytes that have moved.
    pub done: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes a second, over all of its time.
    pub rate: u64,
    /// Seconds to go at this rate. `None` while nothing has moved.
    pub seconds_left: Option<u64>,
}

/// Receives events. Must not block for long: hooks wait for it.
pub trait Events: Sync {
    /// Takes one event.
    fn emit(&self, event: Event<'_>);
}
