//! What happens during a build, for whoever shows it.

use std::path::PathBuf;

use serde::Serialize;

use crate::oci::DiffId;

/// One thing that happened. Serialises to one JSON object with a field `event`: the lines of `--progress json`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// An image's steps are known.
    ImageStarted {
        /// Its name.
        image: String,
        /// How many steps it has.
        steps: usize,
    },
    /// A step's layer was found.
    StepHit {
        /// The image.
        image: String,
        /// The step's name: an element, or `base:…`, `image:…`.
        step: String,
        /// Which of the two keys found it: `input` or `content`.
        by: &'static str,
        /// Its layers.
        diff_ids: Vec<DiffId>,
    },
    /// A step's layer has to be made.
    StepStarted {
        /// The image.
        image: String,
        /// The step's name.
        step: String,
    },
    /// A hook or a provider of a step starts.
    TaskStarted {
        /// The image.
        image: String,
        /// The step's name.
        step: String,
        /// The phase: `install.d`.
        phase: String,
        /// The hook's name, or the provider's.
        task: String,
    },
    /// A line of a task's output.
    TaskOutput {
        /// The step's name.
        step: String,
        /// The task's name.
        task: String,
        /// Without its line end; bytes that are no UTF-8 replaced.
        line: String,
    },
    /// A task ended.
    TaskFinished {
        /// The step's name.
        step: String,
        /// The phase.
        phase: String,
        /// The task's name.
        task: String,
        /// How it ended: `exit status 0`.
        exit: String,
        /// How long it ran.
        milliseconds: u64,
        /// Its log.
        log: PathBuf,
    },
    /// A step's layer is made and stored.
    StepFinished {
        /// The image.
        image: String,
        /// The step's name.
        step: String,
        /// Its layers, lowest first; none if it changed nothing.
        diff_ids: Vec<DiffId>,
        /// How long it took.
        milliseconds: u64,
    },
    /// A part of the output starts: `fill disk`, `convert to qcow2`.
    StageStarted {
        /// The image.
        image: String,
        /// What starts.
        stage: String,
    },
    /// The part of the output that started last is done.
    StageFinished {
        /// The image.
        image: String,
        /// What is done.
        stage: String,
        /// How long it took.
        milliseconds: u64,
    },
    /// A result is in place.
    OutputWritten {
        /// The image.
        image: String,
        /// Its format.
        format: String,
        /// The file or directory.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Something the user should know that does not stop the build.
    Warning {
        /// A sentence without full stop.
        message: String,
    },
}

/// Receives events. Must not block for long: hooks wait for it.
pub trait Events: Sync {
    /// Takes one event.
    fn emit(&self, event: Event);
}
