//! The layers of an image: each step's are found by one of its two keys, or made.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::job::JobRun;
use super::step::{Places, StepRun};
use super::{BuildError, bootstrap};
use crate::distro::apt::Choices;
use crate::layer::CaptureRules;
use crate::oci::{ChainId, DiffId};
use crate::plan::{Foundation, InputKey, Plan, Record, Step, Tasks, Work};
use crate::port::{
    Commit, Event, Events, HookFiles, LayerStore, Logs, Packages, RootSpec, Sandbox, StoreError, Workspace,
};

/// The world, as a build sees it.
pub struct Ports<'a> {
    /// Keys and layers.
    pub store: &'a dyn LayerStore,
    /// Runs hooks.
    pub sandbox: &'a dyn Sandbox,
    /// Lays out what hooks see.
    pub hooks: &'a dyn HookFiles,
    /// Package repositories.
    pub packages: &'a dyn Packages,
    /// Keeps what hooks print.
    pub logs: &'a dyn Logs,
    /// Learns what happens.
    pub events: &'a dyn Events,
}

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

/// A step whose layers are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltStep {
    /// Its name.
    pub name: String,
    /// Its key.
    pub input_key: InputKey,
    /// Its layers, lowest first; none if it changed nothing.
    pub diff_ids: Vec<DiffId>,
    /// How they came to be there.
    pub found: Found,
}

/// How a step's layers came to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// Found by the input key.
    Input,
    /// Found by the content key: a step below was made again and came out the same.
    Content,
    /// Made now.
    Built,
}

/// Makes the layers of images.
pub struct Builder<'a> {
    /// The world.
    pub ports: Ports<'a>,
    /// Whether layers of earlier builds may be used.
    pub reuse: Reuse,
    /// What happens when a step has no layer yet.
    pub on_miss: OnMiss,
}

impl Builder<'_> {
    /// Returns every step of `plan` with its layers, lowest first; makes those that are missing.
    pub fn stack(&self, plan: &Plan) -> Result<Vec<BuiltStep>, BuildError> {
        self.ports.events.emit(Event::ImageStarted { image: &plan.image, steps: plan.steps.len() });
        let mut stack = Vec::new();
        let mut built = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let step = self.step(plan, step, &stack)?;
            stack.extend_from_slice(&step.diff_ids);
            built.push(step);
        }
        Ok(built)
    }

    /// Returns the final stage of `plan` above `stack`, with its layer if it changed anything: the top of a container.
    pub fn finish(&self, plan: &Plan, stack: &[DiffId]) -> Result<BuiltStep, BuildError> {
        self.step(plan, &plan.finish, stack)
    }

    /// Mounts the merged view of `stack` and calls `work` with the place.
    pub fn on_merged<T>(&self, stack: &[DiffId], work: impl FnOnce(&Path) -> T) -> Result<T, BuildError> {
        let workspace = self.ports.store.workspace(stack)?;
        let root = self.ports.sandbox.open(&RootSpec::ReadOnly { lowers: workspace.lowers().to_vec() })?;
        let result = work(root.path());
        root.close()?;
        Ok(result)
    }

    /// Finds or makes the layers of one step of `plan` above `stack`.
    pub(super) fn step(&self, plan: &Plan, step: &Step, stack: &[DiffId]) -> Result<BuiltStep, BuildError> {
        if let Some((record, found)) = self.find(step, stack)? {
            self.ports.events.emit(Event::StepHit {
                image: &plan.image,
                step: &step.name,
                by: if found == Found::Input { "input" } else { "content" },
                diff_ids: &record.diff_ids,
            });
            return Ok(built_step(step, record.diff_ids, found));
        }
        if self.on_miss == OnMiss::Fail {
            return Err(BuildError::Miss { image: plan.image.clone(), step: step.name.clone() });
        }
        let diff_ids = self.make(plan, step, stack)?;
        self.save(plan, step, stack, &diff_ids)?;
        Ok(built_step(step, diff_ids, Found::Built))
    }

    fn find(&self, step: &Step, stack: &[DiffId]) -> Result<Option<(Record, Found)>, BuildError> {
        if self.reuse == Reuse::Refused {
            return Ok(None);
        }
        let Some((record, found)) = find(self.ports.store, step, stack)? else { return Ok(None) };
        if found == Found::Content {
            // From now on the input key finds it, too.
            let (input_key, parent) = (step.input_key, step.parent);
            self.ports.store.save(&Record { input_key, parent, ..record.clone() })?;
        }
        Ok(Some((record, found)))
    }

    fn save(
        &self,
        plan: &Plan,
        step: &Step,
        stack: &[DiffId],
        diff_ids: &[DiffId],
    ) -> Result<(), BuildError> {
        Ok(self.ports.store.save(&Record {
            step: step.name.clone(),
            image: plan.image.clone(),
            input_key: step.input_key,
            content_key: step.content_key(ChainId::of(stack)),
            parent: step.parent,
            fields: step.fields.clone(),
            diff_ids: diff_ids.to_vec(),
        })?)
    }

    fn make(&self, plan: &Plan, step: &Step, stack: &[DiffId]) -> Result<Vec<DiffId>, BuildError> {
        let started = Instant::now();
        self.ports.events.emit(Event::StepStarted { image: &plan.image, step: &step.name });
        let diff_ids = match &step.work {
            Work::Base(base) => bootstrap::make(self, plan, step, base)?,
            Work::Tasks(tasks) => self.run_tasks(plan, step, tasks, stack)?.into_iter().collect(),
        };
        self.ports.events.emit(Event::StepFinished {
            image: &plan.image,
            step: &step.name,
            diff_ids: &diff_ids,
            milliseconds: started.elapsed().as_millis() as u64,
        });
        Ok(diff_ids)
    }

    fn run_tasks(
        &self,
        plan: &Plan,
        step: &Step,
        tasks: &Tasks,
        stack: &[DiffId],
    ) -> Result<Option<DiffId>, BuildError> {
        let workspace = self.ports.store.workspace(stack)?;
        let root = self.ports.sandbox.open(&overlay(workspace.as_ref()))?;
        let run = self.prepare(plan, step, tasks, workspace.as_ref())?;
        run.run(root.as_ref())?;
        run.close()?;
        root.close()?;
        self.commit(plan, workspace)
    }

    /// Lays out what the tasks of a step see, beside the workspace's layer.
    pub(super) fn prepare<'b>(
        &'b self,
        plan: &'b Plan,
        step: &'b Step,
        tasks: &'b Tasks,
        workspace: &dyn Workspace,
    ) -> Result<StepRun<'b>, BuildError> {
        let places = Places {
            hooks: workspace.scratch("hooks")?,
            elements: workspace.scratch("elements")?,
            image: workspace.scratch("image")?,
            cache: self.ports.store.cache("dib")?,
        };
        self.ports.hooks.lay_out(tasks, &places.hooks)?;
        self.ports.hooks.show_elements(tasks, &places.elements)?;
        let packages =
            self.ports.packages.session(plan.foundation.base(), &workspace.scratch("packages")?)?;
        Ok(StepRun {
            jobs: JobRun { ports: &self.ports, image: &plan.image, step: &step.name },
            tasks,
            source_date_epoch: plan.source_date_epoch,
            choices: match plan.foundation {
                Foundation::Base { .. } => Choices::Plywood,
                Foundation::Elements { .. } => Choices::Image,
            },
            places,
            packages,
        })
    }

    /// Turns what was changed in the workspace into a layer.
    pub(super) fn commit(
        &self,
        plan: &Plan,
        workspace: Box<dyn Workspace>,
    ) -> Result<Option<DiffId>, BuildError> {
        let commit = Commit { source_date_epoch: plan.source_date_epoch, rules: CaptureRules::default() };
        Ok(workspace.commit(&commit)?.map(|layer| layer.diff_id))
    }
}

/// Returns the record of a step whose layers were made on just this stack, and which key found it.
///
/// The input key alone does not do: a step below that was made again, because its layer was lost or the user refused it,
/// may have come out as another one, with other packages. Nothing that stands on the old one fits the new one.
pub(super) fn find(
    store: &dyn LayerStore,
    step: &Step,
    stack: &[DiffId],
) -> Result<Option<(Record, Found)>, StoreError> {
    let content_key = step.content_key(ChainId::of(stack));
    if let Some(record) = store.by_input(step.input_key)?
        && record.content_key == content_key
    {
        return Ok(Some((record, Found::Input)));
    }
    Ok(store.by_content(content_key)?.map(|record| (record, Found::Content)))
}

/// Returns the root that a step of this workspace works on.
pub(super) fn overlay(workspace: &dyn Workspace) -> RootSpec {
    RootSpec::Overlay {
        lowers: workspace.lowers().to_vec(),
        upper: workspace.upper().to_owned(),
        work: workspace.work().to_owned(),
    }
}

fn built_step(step: &Step, diff_ids: Vec<DiffId>, found: Found) -> BuiltStep {
    BuiltStep { name: step.name.clone(), input_key: step.input_key, diff_ids, found }
}
