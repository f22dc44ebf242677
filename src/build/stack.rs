//! The layers of an image: the layers of each step are found by one of its two keys, or built.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use super::builder::{Builder, OnFailure, OnMiss, Reuse, overlay};
use super::built::BuiltStep;
use super::evidence::{Witness, misses};
use super::facts::disk_parameters;
use super::job::JobRun;
use super::places::Places;
use super::receive::{Unavailable, refusal};
use super::registries::{Offer, Registries};
use super::step::StepRun;
use super::{BuildError, bootstrap};
use crate::distro::PackageManager;
use crate::element::Place;
use crate::oci::{ChainId, DiffId, Digest};
use crate::plan::{Action, Evidence, Found, Miss, Plan, Record, Step, StepName, Tasks, Work};
use crate::port::{Event, FailedStep, HostFiles, LayerStore, Root, RootSpec, StoreError, Workspace};
use crate::share::Refusal;

impl Builder<'_> {
    /// Returns every step of `plan` with its layers, lowest first; makes those that are missing.
    pub fn stack(&self, plan: &Plan) -> Result<Vec<BuiltStep>, BuildError> {
        self.ports.events.emit(Event::ImageStarted { image: &plan.image, steps: plan.steps.len() });
        self.ask_registries(plan)?;
        self.steps(plan, &plan.steps, &[])
    }

    /// Returns the final stage of `plan` above `stack`, with its layer if it changed anything: the
    /// top of a container.
    pub fn finish(&self, plan: &Plan, stack: &[DiffId]) -> Result<BuiltStep, BuildError> {
        if self.surroundings.is_some() {
            return self.build(plan, &plan.finish, stack);
        }
        let mut steps = self.steps(plan, std::slice::from_ref(&plan.finish), stack)?;
        Ok(steps.pop().expect("one step gives one"))
    }

    /// Opens the merged view of `stack`, read-only, and calls `work` with it.
    pub fn on_merged<T>(&self, stack: &[DiffId], work: impl FnOnce(&dyn Root) -> T) -> Result<T, BuildError> {
        let workspace = self.workspace(stack)?;
        let root = self.ports.sandbox.open(&RootSpec::ReadOnly { lowers: workspace.lowers().to_vec() })?;
        let result = work(root.as_ref());
        root.close()?;
        Ok(result)
    }

    /// Calls `work` with each unpacked layer of `steps` of `plan`, lowest first, if hooks may have
    /// left files for the caller there.
    ///
    /// # Errors
    /// If a layer cannot be unpacked, or as `work` says.
    pub fn on_left<E: From<StoreError>>(
        &self,
        plan: &Plan,
        steps: &[BuiltStep],
        mut work: impl FnMut(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        if !plan.steps.iter().any(has_hooks_on_host) {
            return Ok(());
        }
        let workspace = self.workspace(&stacked(&[], steps))?;
        workspace.lowers().iter().try_for_each(|layer| work(layer))
    }

    /// Finds or makes the layers of `steps` of `plan`, which stand on each other, the first on
    /// `below`.
    ///
    /// The layers of all hits in a row are fetched together, and only after it is certain that the
    /// build may continue after them.
    pub(super) fn steps(
        &self,
        plan: &Plan,
        steps: &[Step],
        below: &[DiffId],
    ) -> Result<Vec<BuiltStep>, BuildError> {
        let mut built = Vec::with_capacity(steps.len());
        while built.len() < steps.len() {
            let (rest, stack) = (&steps[built.len()..], stacked(below, &built));
            let hits = self.hits(rest, &stack)?;
            match rest.get(hits.len()) {
                Some(step) if self.on_miss == OnMiss::Fail => return Err(miss(plan, step)),
                Some(step) if hits.is_empty() => built.push(self.build(plan, step, &stack)?),
                _ => built.extend(self.take(plan, rest, hits, &stack)?),
            }
        }
        Ok(built)
    }

    /// Returns the hits among `steps`, up to the first miss.
    fn hits(&self, steps: &[Step], below: &[DiffId]) -> Result<Vec<Hit>, BuildError> {
        let (mut hits, mut stack) = (Vec::new(), below.to_vec());
        if self.reuse == Reuse::Refused {
            return Ok(hits);
        }
        for step in steps {
            if self.is_awaited(step) {
                break;
            }
            let Some(hit) = find(&self.sources(), step, &stack)? else { break };
            stack.extend_from_slice(&hit.record.diff_ids);
            hits.push(hit);
        }
        Ok(hits)
    }

    pub(super) fn sources(&self) -> Sources<'_> {
        Sources { store: self.ports.store, host: self.ports.host, registries: self.registries }
    }

    /// Returns true if a break point is set in a step. The step is then built, and not looked up.
    fn is_awaited(&self, step: &Step) -> bool {
        let (Some(breaks), Work::Tasks(tasks)) = (self.ports.breaks, &step.work) else { return false };
        tasks.list.iter().any(|task| breaks.await_phase(task.phase))
    }

    /// Fetches the layers of `hits` that the store lacks, and saves their records. The first of
    /// `hits` is above `stack`. Stops before the first step with a layer that cannot be fetched or
    /// used.
    fn take(
        &self,
        plan: &Plan,
        steps: &[Step],
        hits: Vec<Hit>,
        stack: &[DiffId],
    ) -> Result<Vec<BuiltStep>, BuildError> {
        let offers: Vec<_> = hits.iter().filter_map(|hit| hit.offer.as_ref()).collect();
        let unavailable = self.receive(plan, &offers)?;
        let (mut taken, mut stack) = (Vec::with_capacity(hits.len()), stack.to_vec());
        for (step, hit) in steps.iter().zip(&hits) {
            let Hit { record, found, offer } = hit;
            let from = offer.as_ref().map(|offer| self.registries.registry(offer.registry).name());
            stack.extend_from_slice(&record.diff_ids);
            if let Some(offer) = offer
                && let Some(why) = self.flaw(&record.diff_ids, &stack, &unavailable)?
            {
                self.registries.refuse(offer, why);
                break;
            }
            // From now on the input key finds it in the store.
            if offer.is_some() || *found == Found::Content {
                self.ports.store.save(record)?;
            }
            self.ports.events.emit(Event::StepHit {
                image: &plan.image,
                step: &step.name,
                by: *found,
                from: from.unwrap_or("store"),
                diff_ids: &record.diff_ids,
            });
            taken.push(BuiltStep::new(step, record.diff_ids.clone(), Some(*found)));
        }
        Ok(taken)
    }

    /// Returns why fetched layers, the highest of `stack`, cannot be used, if they cannot.
    fn flaw(
        &self,
        layers: &[DiffId],
        stack: &[DiffId],
        unavailable: &Unavailable,
    ) -> Result<Option<Refusal>, BuildError> {
        match layers.iter().find_map(|diff_id| unavailable.get(diff_id)) {
            Some(why) => Ok(Some(why.clone())),
            None => self
                .ports
                .store
                .prove(stack)
                .map_or_else(|error| refusal(error.into()).map(Some), |()| Ok(None)),
        }
    }

    fn build(&self, plan: &Plan, step: &Step, stack: &[DiffId]) -> Result<BuiltStep, BuildError> {
        self.tell_refusals(step, stack);
        let (diff_ids, evidence) = self.make(plan, step, stack)?;
        self.tell_gap(step, evidence.as_ref());
        let record = step.record(&plan.image, stack, diff_ids.clone());
        self.ports.store.save(&Record { evidence, ..record })?;
        Ok(BuiltStep::new(step, diff_ids, None))
    }

    /// Warns about a step that no later build will find, with the reason.
    fn tell_gap(&self, step: &Step, evidence: Option<&Evidence>) {
        if let Some(gap) = evidence.and_then(|evidence| evidence.gap.as_ref()) {
            let message = format!(
                "step `{}` will be built again by the next build: the evidence of host files \
                 that its hooks read is incomplete ({gap})",
                step.name
            );
            self.ports.events.emit(Event::Warning { message: &message });
        }
    }

    /// Warns about layers in registries for a step that is built nevertheless, with the reason.
    fn tell_refusals(&self, step: &Step, stack: &[DiffId]) {
        let refused = self.registries.refusals(step, Some(stack));
        // The user was warned of a layer that cannot be used when it was fetched.
        for refused in refused.iter().filter(|refused| !matches!(refused.why, Refusal::Layer { .. })) {
            let message = format!("step `{}`: {refused}", step.name);
            self.ports.events.emit(Event::Warning { message: &message });
        }
    }

    /// Asks registries for every step that the store does not know, all at once.
    fn ask_registries(&self, plan: &Plan) -> Result<(), BuildError> {
        match self.reuse {
            Reuse::Allowed => self.registries.ask_for(plan, self.ports.store),
            Reuse::Refused => Ok(()),
        }
    }

    /// Builds the layers of a step. Returns them, and the host files that its hooks read.
    fn make(&self, plan: &Plan, step: &Step, stack: &[DiffId]) -> Result<Made, BuildError> {
        let started = Instant::now();
        self.ports.events.emit(Event::StepStarted { image: &plan.image, step: &step.name });
        let (diff_ids, evidence) = match &step.work {
            Work::Base(base) => (bootstrap::make(self, plan, step, base)?, None),
            Work::Tasks(tasks) => self.run_tasks(plan, step, tasks, stack)?,
        };
        self.ports.events.emit(Event::StepFinished {
            image: &plan.image,
            step: &step.name,
            diff_ids: &diff_ids,
            milliseconds: started.elapsed().as_millis() as u64,
        });
        Ok((diff_ids, evidence))
    }

    fn run_tasks(
        &self,
        plan: &Plan,
        step: &Step,
        tasks: &Tasks,
        stack: &[DiffId],
    ) -> Result<Made, BuildError> {
        let workspace = self.workspace(stack)?;
        let root = self.ports.sandbox.open(&overlay(workspace.as_ref()))?;
        let run = self.prepare(plan, step, tasks, workspace.as_ref(), root.as_ref())?;
        let kept = match self.carry_out(plan, &run, root.as_ref()) {
            Ok(kept) => kept,
            Err(error) => {
                drop(run);
                return Err(self.failed(plan, step, stack, workspace, root, error));
            }
        };
        let evidence = run.close()?;
        // The upper directory is a layer only when nothing of the overlay is mounted any more.
        root.close()?;
        Ok((self.commit(plan, workspace, kept)?.into_iter().collect(), evidence))
    }

    /// Keeps the state that a failed hook or task left, if the user wants that. Returns the error
    /// of the hook or task, which then records that the state is kept.
    fn failed(
        &self,
        plan: &Plan,
        step: &Step,
        stack: &[DiffId],
        workspace: Box<dyn Workspace>,
        root: Box<dyn Root>,
        mut error: BuildError,
    ) -> BuildError {
        // A root that is dropped is unmounted, too, and `root` is dropped before `workspace`, which
        // has its directories. Closing it could fail, and would copy each directory that was moved,
        // for a layer that is thrown away.
        let Some((phase, task)) = error.failed_task().filter(|_| self.on_failure == OnFailure::Keep) else {
            return error;
        };
        let failed = FailedStep {
            image: plan.image.clone(),
            step: step.name.clone(),
            phase,
            task,
            stack: stack.to_vec(),
        };
        let kept = root.close().map_err(BuildError::from);
        match kept.and_then(|()| Ok(workspace.keep_failed(&failed)?)) {
            Ok(()) => error.note_kept(),
            // The user needs the error of the hook, so this error must not replace it.
            Err(why) => {
                let message = format!("the state that `{}` left could not be kept: {why}", failed.task);
                self.ports.events.emit(Event::Warning { message: &message });
            }
        }
        error
    }

    /// Lays out the files that the tasks of a step on `root` see, beside the workspace's layer.
    pub(super) fn prepare<'b>(
        &'b self,
        plan: &'b Plan,
        step: &'b Step,
        tasks: &'b Tasks,
        workspace: &dyn Workspace,
        root: &dyn Root,
    ) -> Result<StepRun<'b>, BuildError> {
        let surroundings = self.surroundings.clone().filter(|_| step.name == StepName::Final);
        let cache = self.surroundings.as_ref().and_then(|callers| callers.cache.clone());
        let sharing = self.sharing(plan);
        let places = Places::make(workspace, self.ports.store, (cache, &sharing), surroundings, tasks)?;
        self.ports.hooks.lay_out(tasks, &places.hooks)?;
        self.ports.hooks.show_elements(tasks, &places.elements)?;
        self.ports.hooks.show_machine_files(tasks, &places.machine)?;
        self.ports.hooks.lay_out_build(&disk_parameters(&tasks.environment), &places.build)?;
        let mut below = self.ports.hooks.take_over(places.left(), root.path())?;
        if step.name == StepName::Final {
            // In diskimage-builder, these mounts end before the tree is copied onto the disk. With
            // them, hooks that clean up would remove files of a cache in place of the image's.
            below.clear();
        }
        let scratch = workspace.scratch("packages", 0o755)?;
        let hooks = Some(places.left().hooks);
        let packages = self.ports.packages.session(plan.foundation.base(), &scratch, hooks)?;
        Ok(StepRun {
            jobs: JobRun { ports: &self.ports, image: &plan.image, step: &step.name },
            tasks,
            source_date_epoch: plan.source_date_epoch,
            manager: PackageManager::of(plan.foundation.base()),
            places,
            below,
            packages,
            witness: Witness::new(self.ports.host),
            disk: None,
        })
    }

    /// Returns a name for the builds whose hooks see each other's downloads: those of the same
    /// elements and the same image. For a caller with surroundings the image does not count: users
    /// of diskimage-builder often give it a new name each day.
    fn sharing(&self, plan: &Plan) -> String {
        let steps = plan.all_steps();
        let tasks = steps.filter_map(|step| match &step.work {
            Work::Tasks(tasks) => Some(tasks),
            Work::Base(_) => None,
        });
        let elements: BTreeSet<_> =
            tasks.flat_map(|tasks| tasks.hooks.values().map(|element| element.name.as_str())).collect();
        let image = if self.surroundings.is_some() { "" } else { plan.image.as_str() };
        let names = [image].into_iter().chain(elements).map(|name| format!("{name}\n"));
        Digest::of(names.collect::<String>()).short()
    }
}

/// The layers of a built step, and the host files that its hooks read.
type Made = (Vec<DiffId>, Option<Evidence>);

/// Where steps are looked up, and the host that they have to fit.
pub(super) struct Sources<'a> {
    pub(super) store: &'a dyn LayerStore,
    pub(super) host: &'a dyn HostFiles,
    pub(super) registries: &'a Registries<'a>,
}

/// A step that was found.
pub(super) struct Hit {
    /// Its record, under its own keys.
    pub(super) record: Record,
    /// Which key found it.
    pub(super) found: Found,
    /// Where it comes from, if not from the store.
    pub(super) offer: Option<Offer>,
}

/// Looks up a step that was built on this stack, first in the store and then in registries.
///
/// The input key alone is not enough. If a step below was built again, because its layer was lost
/// or the user refused it, it may have another result, with other packages. Layers above the old
/// result do not fit the new one.
pub(super) fn find(sources: &Sources<'_>, step: &Step, stack: &[DiffId]) -> Result<Option<Hit>, StoreError> {
    let Sources { store, host, registries } = *sources;
    for (record, found) in stored(store, step, stack)? {
        if misses(step, &record, host).is_empty() {
            return Ok(Some(Hit { record, found, offer: None }));
        }
    }
    Ok(registries.find(step, stack, host).map(|(offer, found)| {
        // Another user wrote the record in the registry: keys and their fields come from the plan.
        let record = step.record(&offer.step.record.image, stack, offer.diff_ids());
        let record = Record { evidence: offer.step.record.evidence.clone(), ..record };
        Hit { record, found, offer: Some(offer) }
    }))
}

/// Returns why the record that the store has of a step on this stack does not fit the host; empty
/// if it fits, or if there is no record.
pub(super) fn host_misses(
    store: &dyn LayerStore,
    host: &dyn HostFiles,
    step: &Step,
    stack: &[DiffId],
) -> Result<Vec<Miss>, StoreError> {
    let records = stored(store, step, stack)?;
    let first = records.first().map(|(record, _)| misses(step, record, host));
    Ok(first.unwrap_or_default())
}

/// Returns the records that the store has of a step on this stack, each with the key that found it.
/// They may not fit the host.
fn stored(store: &dyn LayerStore, step: &Step, stack: &[DiffId]) -> Result<Vec<(Record, Found)>, StoreError> {
    let content_key = step.content_key(ChainId::of(stack));
    let mut found = Vec::new();
    // The input key finds a record of these inputs on any stack below; the content key tells
    // whether it is this stack.
    if let Some(record) = store.by_input(step.input_key)?
        && record.content_key == content_key
    {
        found.push((record, Found::Input));
    }
    let (input_key, parent) = (step.input_key, step.parent);
    let by_content = store.by_content(content_key)?;
    found.extend(by_content.map(|record| (Record { input_key, parent, ..record }, Found::Content)));
    Ok(found)
}

/// Returns the steps of `plan` that the store has, lowest first, the final stage last: all of them,
/// or those below the first that it lacks, or that does not fit the host any more.
///
/// # Errors
/// If the store cannot be read.
pub fn stored_steps(
    plan: &Plan,
    store: &dyn LayerStore,
    host: &dyn HostFiles,
) -> Result<Vec<BuiltStep>, StoreError> {
    let (mut steps, mut stack) = (Vec::new(), Vec::new());
    for step in plan.all_steps() {
        let records = stored(store, step, &stack)?;
        let fitting = records.into_iter().find(|(record, _)| misses(step, record, host).is_empty());
        let Some((record, found)) = fitting else { break };
        stack.extend_from_slice(&record.diff_ids);
        steps.push(BuiltStep::new(step, record.diff_ids, Some(found)));
    }
    Ok(steps)
}

pub(super) fn has_hooks_on_host(step: &Step) -> bool {
    let Work::Tasks(tasks) = &step.work else { return false };
    tasks.list.iter().any(|task| task.action == Action::Hook && task.phase.place() == Place::Host)
}

pub(super) fn stacked(below: &[DiffId], built: &[BuiltStep]) -> Vec<DiffId> {
    let built = built.iter().flat_map(|step| &step.diff_ids);
    below.iter().chain(built).copied().collect()
}

fn miss(plan: &Plan, step: &Step) -> BuildError {
    BuildError::Miss { image: plan.image.clone(), step: step.name.clone() }
}
