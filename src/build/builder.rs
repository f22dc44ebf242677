//! The builder of images: its settings, and the workspaces of its steps.

use std::collections::BTreeSet;

use super::BuildError;
use super::ports::Ports;
use super::registries::Registries;
use super::surroundings::Surroundings;
use crate::layer::{CaptureRules, Clamp};
use crate::oci::DiffId;
use crate::plan::Plan;
use crate::port::{Commit, Event, RootSpec, StoreError, Workspace};

/// Whether layers of earlier builds may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// The keys decide.
    Allowed,
    /// Every step is built again.
    Refused,
}

/// The reaction to a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMiss {
    /// The step is built.
    Build,
    /// The build stops with [`BuildError::Miss`].
    Fail,
}

/// The treatment of the state that a failed hook left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It is removed.
    Discard,
    /// The store keeps it, one for each image.
    Keep,
}

/// Times of files that layers keep, in seconds since 1970.
pub(super) type KeptTimes = BTreeSet<i64>;

/// Makes the layers of images.
pub struct Builder<'a> {
    pub ports: Ports<'a>,
    /// Whether layers of earlier builds may be used.
    pub reuse: Reuse,
    /// The reaction to a miss.
    pub on_miss: OnMiss,
    /// The treatment of the state that a failed hook left.
    pub on_failure: OnFailure,
    /// The registries in which steps are looked up besides the store.
    pub registries: &'a Registries<'a>,
    /// The caller's directories that hooks of the final stage may write to. If there are any, that
    /// stage always runs, because no layer contains the files that it writes there.
    pub surroundings: Option<Surroundings>,
}

impl Builder<'_> {
    /// Creates a workspace above `stack`. Warns about layers below that were changed in the store.
    pub(super) fn workspace(&self, stack: &[DiffId]) -> Result<Box<dyn Workspace>, StoreError> {
        let workspace = self.ports.store.workspace(stack)?;
        for diff_id in workspace.renewed() {
            let message = format!(
                "the unpacked layer {diff_id} in the store was changed, and is unpacked again \
                 (`plywood store check` looks for more damage)"
            );
            self.ports.events.emit(Event::Warning { message: &message });
        }
        Ok(workspace)
    }

    /// Turns the changes in the workspace into a layer, in which `kept` times stay as they are.
    /// Returns `None` if there are no changes.
    pub(super) fn commit(
        &self,
        plan: &Plan,
        workspace: Box<dyn Workspace>,
        kept: KeptTimes,
    ) -> Result<Option<DiffId>, BuildError> {
        Ok(workspace.commit(&commit(plan, kept))?.map(|layer| layer.diff_id))
    }
}

/// Returns the settings that normalize the changes of hooks of `plan`. They are the same for layers
/// and for disks.
pub(super) fn commit(plan: &Plan, kept: KeptTimes) -> Commit {
    Commit { clamp: Clamp::to(plan.source_date_epoch).keeping(kept), rules: CaptureRules::default() }
}

/// Returns the root for the jobs of a step in this workspace.
pub(super) fn overlay(workspace: &dyn Workspace) -> RootSpec {
    RootSpec::Overlay {
        lowers: workspace.lowers().to_vec(),
        upper: workspace.upper().to_owned(),
        work: workspace.work().to_owned(),
    }
}
