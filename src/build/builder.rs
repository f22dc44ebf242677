//! The builder of images: its settings, and the workspaces of its steps.

use super::BuildError;
use super::ports::Ports;
use super::registries::Registries;
use super::surroundings::Surroundings;
use crate::layer::CaptureRules;
use crate::oci::DiffId;
use crate::plan::Plan;
use crate::port::{Commit, Event, RootSpec, StoreError, Workspace};

/// Whether layers of earlier builds may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// As the keys say.
    Allowed,
    /// Every step is made again.
    Refused,
}

/// What happens when a step has no layer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMiss {
    /// It is built.
    Build,
    /// The build stops with [`BuildError::Miss`].
    Fail,
}

/// What becomes of the state that a failed hook left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It is thrown away.
    Discard,
    /// The store keeps it, one for each image.
    Keep,
}

/// Makes the layers of images.
pub struct Builder<'a> {
    /// The world.
    pub ports: Ports<'a>,
    /// Whether layers of earlier builds may be used.
    pub reuse: Reuse,
    /// What happens when a step has no layer yet.
    pub on_miss: OnMiss,
    /// What becomes of the state that a failed hook left.
    pub on_failure: OnFailure,
    /// Where else layers may be found.
    pub registries: &'a Registries<'a>,
    /// What hooks of the final stage may write to. With it, that stage always runs: what it leaves
    /// there is in no layer.
    pub surroundings: Option<Surroundings>,
}

impl Builder<'_> {
    /// Makes a workspace above `stack`; warns of layers below that had been changed in the store.
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

    /// Turns what was changed in the workspace into a layer.
    pub(super) fn commit(
        &self,
        plan: &Plan,
        workspace: Box<dyn Workspace>,
    ) -> Result<Option<DiffId>, BuildError> {
        Ok(workspace.commit(&commit(plan))?.map(|layer| layer.diff_id))
    }
}

/// Returns how what hooks of `plan` change is normalized: in layers and on disks alike.
pub(super) fn commit(plan: &Plan) -> Commit {
    Commit { source_date_epoch: plan.source_date_epoch, rules: CaptureRules::default() }
}

/// Returns the root that a step of this workspace works on.
pub(super) fn overlay(workspace: &dyn Workspace) -> RootSpec {
    RootSpec::Overlay {
        lowers: workspace.lowers().to_vec(),
        upper: workspace.upper().to_owned(),
        work: workspace.work().to_owned(),
    }
}
