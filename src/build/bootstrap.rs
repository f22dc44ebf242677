//! The base: the root file system that everything else stands on.

use super::job::JobRun;
use super::stack::overlay;
use super::{BuildError, Builder};
use crate::distro::{BaseDefinition, BaseSource, Mmdebstrap};
use crate::oci::DiffId;
use crate::plan::{Plan, Step};

/// Makes or takes the layers of `base`, the base of `plan`, lowest first; `step` is its step.
pub(super) fn make(
    builder: &Builder<'_>,
    plan: &Plan,
    step: &Step,
    base: &BaseDefinition,
) -> Result<Vec<DiffId>, BuildError> {
    match &base.source {
        BaseSource::Mmdebstrap(source) => {
            Ok(bootstrap(builder, plan, step, base, source)?.into_iter().collect())
        }
        layers => Ok(builder.ports.store.base_image(layers, plan.architecture)?.diff_ids()),
    }
}

fn bootstrap(
    builder: &Builder<'_>,
    plan: &Plan,
    step: &Step,
    base: &BaseDefinition,
    source: &Mmdebstrap,
) -> Result<Option<DiffId>, BuildError> {
    const TASK: &str = "bootstrap";
    let workspace = builder.ports.store.workspace(&[])?;
    let packages = builder.ports.packages.session(Some(base), &workspace.scratch("packages")?)?;
    let root = builder.ports.sandbox.open(&overlay(workspace.as_ref()))?;
    let jobs = JobRun { ports: &builder.ports, image: &plan.image, step: &step.name };
    let job = packages.bootstrap(source, plan.source_date_epoch)?;
    let outcome = jobs.perform(root.as_ref(), &job, "root.d", TASK)?;
    outcome.success().map_err(|outcome| jobs.task_failed(TASK, outcome))?;
    // The bootstrap has fetched the indices of the very sources that the root has now.
    packages.index_refreshed(root.path())?;
    packages.close()?;
    root.close()?;
    builder.commit(plan, workspace)
}
