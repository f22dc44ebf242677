//! Why a build stopped.

use std::path::PathBuf;
use std::time::Duration;

use crate::element::Phase;
use crate::plan::StepName;
use crate::port::{DiskError, Exit, HookFilesError, PackageError, SandboxError, StoreError};

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its status or signal.
    pub exit: Exit,
    /// The last lines it printed.
    pub tail: Vec<String>,
    /// The file with all it printed.
    pub log: PathBuf,
    /// Whether the store keeps the state that it left.
    pub is_kept: bool,
}

impl Outcome {
    /// Returns itself as error unless the job succeeded.
    pub(super) fn success(self) -> Result<(), Outcome> {
        if self.exit.is_success() { Ok(()) } else { Err(self) }
    }
}

/// A hook that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hook `{phase}/{hook}` of element `{element}` failed with {}", outcome.exit)]
pub struct HookFailure {
    pub image: String,
    /// The step: the element's own, or the final stage.
    pub step: StepName,
    /// Whose hook it is.
    pub element: String,
    pub phase: Phase,
    pub hook: String,
    pub outcome: Outcome,
}

/// A build that did not reach its end. Nothing of it is in the store but the steps that were
/// finished.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    HookFailed(Box<HookFailure>),
    /// Something that plywood does for an element failed: a package run, a copy, the bootstrap.
    #[error("`{task}` of step `{step}` failed with {}", outcome.exit)]
    TaskFailed { image: String, step: StepName, task: String, outcome: Box<Outcome> },
    #[error("environment.d of phase `{phase}` failed with {} in step `{step}`", outcome.exit)]
    EnvironmentFailed {
        image: String,
        step: StepName,
        phase: String,
        /// How the shell ended; its output is traced.
        outcome: Box<Outcome>,
    },
    #[error("cannot write the log of `{task}`")]
    Log { task: String, source: std::io::Error },
    #[error(
        "image `{image}` has a kernel, but no GRUB for {target}: `/usr/lib/grub/{target}` or `grub-mkimage` is missing"
    )]
    NoBootLoader {
        image: String,
        /// GRUB's name of the platform.
        target: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The config of a container could not be made, or not continued from its base's.
    #[error("the container of image `{image}` cannot have a config")]
    Config { image: String, source: crate::oci::ConfigError },
    #[error(transparent)]
    Layout(#[from] crate::disk::LayoutError),
    #[error("step `{step}` of image `{image}` is not in the store")]
    Miss { image: String, step: StepName },
    #[error("interrupted: `{phase}/{task}` of step `{step}` was running for {}", duration(*.ran))]
    Interrupted {
        step: StepName,
        phase: String,
        /// The hook or task.
        task: String,
        /// How long it had been running.
        ran: Duration,
    },
    #[error(transparent)]
    PackageData(#[from] crate::element::PackageDataError),
    #[error("step `{step}` has no hook `{hook}`")]
    NoSuchHook {
        step: StepName,
        /// The phase and the name that were asked for.
        hook: String,
        /// Those that the step has, in their order.
        known: Vec<String>,
    },
    #[error("nothing is below step `{step}`")]
    NothingBelow { step: StepName },
    #[error(transparent)]
    AddedSource(#[from] crate::port::AddedSourceError),
    #[error(transparent)]
    HookFiles(#[from] HookFilesError),
    #[error(transparent)]
    Packages(#[from] PackageError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Returns a duration for people: `12 s`, `3 min 5 s`.
fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

impl BuildError {
    /// Returns how the hook or task ended that made the build fail, if one did.
    pub fn exit(&self) -> Option<Exit> {
        match self {
            BuildError::HookFailed(failure) => Some(failure.outcome.exit),
            BuildError::TaskFailed { outcome, .. } | BuildError::EnvironmentFailed { outcome, .. } => {
                Some(outcome.exit)
            }
            _ => None,
        }
    }

    /// Returns the phase and the name of the hook or task that failed, if one did. A task of
    /// plywood's own has no phase.
    pub(super) fn failed_task(&self) -> Option<(String, String)> {
        match self {
            BuildError::HookFailed(failure) => Some((failure.phase.to_string(), failure.hook.clone())),
            BuildError::TaskFailed { task, .. } => Some((String::new(), task.clone())),
            BuildError::EnvironmentFailed { phase, .. } => Some((phase.clone(), "environment.d".to_owned())),
            _ => None,
        }
    }

    /// Notes that the store keeps the state that the failed hook or task left.
    pub(super) fn note_kept(&mut self) {
        match self {
            BuildError::HookFailed(failure) => failure.outcome.is_kept = true,
            BuildError::TaskFailed { outcome, .. } | BuildError::EnvironmentFailed { outcome, .. } => {
                outcome.is_kept = true;
            }
            _ => {}
        }
    }

    /// Returns the step in which a hook or task failed, if one did.
    pub fn step(&self) -> Option<&StepName> {
        match self {
            BuildError::HookFailed(failure) => Some(&failure.step),
            BuildError::TaskFailed { step, .. } | BuildError::EnvironmentFailed { step, .. } => Some(step),
            _ => None,
        }
    }
}
