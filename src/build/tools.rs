//! The root with tools that the build host may lack.

use super::BuildError;
use super::builder::Builder;
use super::registries::Registries;
use super::stack::{Sources, find, stacked};
use crate::oci::DiffId;
use crate::plan::{Plan, Step};
use crate::port::{Root, RootSpec, Workspace};

/// An open root with tools, read-only.
pub(super) struct Tools {
    root: Box<dyn Root>,
    /// Keeps the unpacked layers of the root.
    _workspace: Box<dyn Workspace>,
}

impl Tools {
    /// Returns the path of the root.
    pub(super) fn path(&self) -> &std::path::Path {
        self.root.path()
    }

    pub(super) fn close(self) -> Result<(), BuildError> {
        Ok(self.root.close()?)
    }
}

impl Builder<'_> {
    /// Opens the tools of `plan`. Builds them if the store lacks them: they are a step like others,
    /// with a key and a record.
    pub(super) fn tools(&self, plan: &Plan) -> Result<Tools, BuildError> {
        let step = plan.tools.as_ref().expect("only images of the rpm family use tools");
        let layers = match self.stored_layers(step)? {
            Some(layers) => layers,
            None => stacked(&[], &self.steps(plan, std::slice::from_ref(step), &[])?),
        };
        let workspace = self.workspace(&layers)?;
        let spec = RootSpec::ReadOnly { lowers: workspace.lowers().to_vec() };
        Ok(Tools { root: self.ports.sandbox.open(&spec)?, _workspace: workspace })
    }

    /// Returns the layers of a lowest step in the store, also if steps of the image are built again:
    /// the tools are no part of it, and all of its steps use them.
    fn stored_layers(&self, step: &Step) -> Result<Option<Vec<DiffId>>, BuildError> {
        let hit =
            find(&Sources { registries: &Registries::none(self.ports.events), ..self.sources() }, step, &[])?;
        Ok(hit.map(|hit| hit.record.diff_ids))
    }
}
