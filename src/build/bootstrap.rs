//! The base: the root file system that everything else stands on.

use super::BuildError;
use super::builder::{Builder, KeptTimes, overlay};
use super::job::JobRun;
use crate::distro::{BaseDefinition, BaseSource, Dnf, Mmdebstrap};
use crate::oci::DiffId;
use crate::plan::{Plan, Step};
use crate::port::{DnfStage, EarlierDownloads, Job, Workspace};

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
        BaseSource::Dnf(source) => {
            Ok(bootstrap_by_dnf(builder, plan, step, base, source)?.into_iter().collect())
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
    let bootstrap = Bootstrap { builder, plan, step, base, source };
    let workspace = match bootstrap.attempt(EarlierDownloads::Offered)? {
        // apt has looked at the sizes of earlier downloads, and not at their digests.
        Attempt::UnfitDownloads => bootstrap.attempt(EarlierDownloads::Withheld)?,
        done => done,
    };
    match workspace {
        Attempt::Done(workspace) => builder.commit(plan, workspace, KeptTimes::default()),
        Attempt::UnfitDownloads => unreachable!("a bootstrap without earlier downloads uses none"),
    }
}

fn bootstrap_by_dnf(
    builder: &Builder<'_>,
    plan: &Plan,
    step: &Step,
    base: &BaseDefinition,
    source: &Dnf,
) -> Result<Option<DiffId>, BuildError> {
    let ports = &builder.ports;
    let tools = builder.tools(plan)?;
    let workspace = ports.store.workspace(&[])?;
    let packages = ports.packages.session(Some(base), &workspace.scratch("packages", 0o755)?, None)?;
    let root = ports.sandbox.open(&overlay(workspace.as_ref()))?;
    let jobs = JobRun { ports, image: &plan.image, step: &step.name };
    for (task, stage) in [("fetch-package-index", DnfStage::Index), ("bootstrap", DnfStage::Install)] {
        let job = packages.bootstrap_dnf(source, plan.source_date_epoch, stage)?;
        let job = Job { tools: Some(tools.path().to_owned()), ..job };
        let outcome = jobs.perform(root.as_ref(), &job, "root.d", task)?;
        outcome.success().map_err(|outcome| jobs.task_failed(task, outcome))?;
    }
    packages.close()?;
    let kept = builder.normalize_databases(plan, &jobs, root.as_ref())?;
    root.close()?;
    tools.close()?;
    builder.commit(plan, workspace, kept)
}

struct Bootstrap<'a> {
    builder: &'a Builder<'a>,
    plan: &'a Plan,
    step: &'a Step,
    base: &'a BaseDefinition,
    source: &'a Mmdebstrap,
}

enum Attempt {
    /// The workspace holds the root file system.
    Done(Box<dyn Workspace>),
    /// The root file system may contain an earlier download whose digest no index names.
    UnfitDownloads,
}

impl Bootstrap<'_> {
    fn attempt(&self, earlier: EarlierDownloads) -> Result<Attempt, BuildError> {
        const TASK: &str = "bootstrap";
        let ports = &self.builder.ports;
        let workspace = ports.store.workspace(&[])?;
        let packages =
            ports.packages.session(Some(self.base), &workspace.scratch("packages", 0o755)?, None)?;
        let root = ports.sandbox.open(&overlay(workspace.as_ref()))?;
        let jobs = JobRun { ports, image: &self.plan.image, step: &self.step.name };
        let job = packages.bootstrap(self.source, self.plan.source_date_epoch, earlier)?;
        let outcome = jobs.perform(root.as_ref(), &job, "root.d", TASK)?;
        if earlier == EarlierDownloads::Offered && !packages.downloads_fitted()? {
            return Ok(Attempt::UnfitDownloads);
        }
        outcome.success().map_err(|outcome| jobs.task_failed(TASK, outcome))?;
        // The bootstrap has fetched the indices of the very sources that the root has now.
        packages.index_refreshed(root.path())?;
        packages.close()?;
        root.close()?;
        Ok(Attempt::Done(workspace))
    }
}
