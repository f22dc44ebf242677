//! The verbs `plan`, `explain` and `layers`: show what a build would do, and what the store holds.
//! They run nothing.

use std::collections::BTreeMap;

use super::failure::{Failure, Hint, Message};
use super::images::warn_of_set_aside;
use super::preflight::{self, check_sizes};
use super::project::Project;
use super::registry::look_up_client;
use super::resolve::Resolved;
use super::session::{Session, open_store_to_read};
use super::sharing::Sources;
use crate::build::{
    BuiltStep, ExplainDocument, Forecast, ImageForecast, LayerLine, LayersDocument, PlanDocument,
    StepExplanation, forecast, stored_steps,
};
use crate::dropin::OutputType;
use crate::element::Relevance;
use crate::image::ImageName;
use crate::load::HostFileSystem;
use crate::oci::{DiffId, Repository};
use crate::plan::{Step, StepName, Work};
use crate::port::{Event, Events, StoreError};
use crate::registry::Client;
use crate::store::Store;

/// Looks up the steps of a project's images in the store and in registries.
pub(crate) struct Look<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) project: &'a Project,
    /// The repositories in which steps are looked up, besides the store; if empty, those of the
    /// project.
    pub(crate) cache_from: &'a [Repository],
    pub(crate) events: &'a dyn Events,
}

impl Look<'_> {
    /// Returns the forecast of a build for each step of these images, or of all images.
    pub(crate) fn plan(&self, images: &[String]) -> Result<PlanDocument, Failure> {
        let client = self.client()?;
        let sources = Sources::new(self.project, self.cache_from, &client, self.events);
        let registries = sources.registries();
        let store = open_store_to_read(self.session, self.events)?;
        let mut forecasts = Vec::new();
        for (name, definition) in self.project.select(images)? {
            let resolved = self.project.resolve(self.project.elements_of(name, definition)?, &store)?;
            let outputs: Vec<_> = definition.outputs.iter().copied().map(OutputType::File).collect();
            // The one check of a build that needs no host: a plan should fail where the build
            // would.
            let Resolved { plan, disk, .. } = &resolved;
            let request =
                preflight::Request { plan, disk, container: &definition.container, outputs: &outputs };
            check_sizes(request)?;
            let steps = forecast(&resolved.plan, &store, &HostFileSystem::default(), &registries)?;
            let warnings = preflight::warnings(request, &steps, &store);
            for message in resolved.warnings.iter().chain(&warnings) {
                self.events.emit(Event::Warning { message });
            }
            forecasts.push(ImageForecast { image: name.to_string(), steps });
        }
        warn_of_set_aside(&store, self.events);
        Ok(PlanDocument::new(forecasts))
    }

    /// Explains the outcome of one step of an image, or of all.
    pub(crate) fn explain(&self, image: &str, step: Option<&str>) -> Result<ExplainDocument, Failure> {
        let client = self.client()?;
        let sources = Sources::new(self.project, self.cache_from, &client, self.events);
        let store = open_store_to_read(self.session, self.events)?;
        let resolved = self.project.resolved(image, &store)?;
        // A misspelled step fails before any registry is asked.
        if let Some(step) = step {
            resolved.step(step)?;
        }
        let forecasts = forecast(&resolved.plan, &store, &HostFileSystem::default(), &sources.registries())?;
        warn_of_set_aside(&store, self.events);
        let all = resolved.plan.steps.iter().zip(forecasts);
        let chosen = all.filter(|(found, _)| step.is_none_or(|step| found.name == step));
        Ok(ExplainDocument::new(image.to_owned(), chosen.map(explain).collect()))
    }

    fn client(&self) -> Result<Client, Failure> {
        look_up_client(self.session, &self.project.file.registry)
    }

    /// Lists the layers of a built image.
    pub(crate) fn layers(&self, image: &str) -> Result<LayersDocument, Failure> {
        let store = open_store_to_read(self.session, self.events)?;
        let resolved = self.project.resolved(image, &store)?;
        let steps = built_steps(&resolved, &store);
        warn_of_set_aside(&store, self.events);
        let steps = steps?;
        // The final stage has a layer in containers and archives only, so it is left out.
        let layers = steps.iter().take(resolved.plan.steps.len());
        let layers = layers.flat_map(|step| step.diff_ids.iter().map(|diff_id| (&step.name, *diff_id)));
        let lines = layers.enumerate().map(|(index, (step, diff_id))| line(&store, index, step, diff_id));
        Ok(LayersDocument::new(image.to_owned(), lines.collect::<Result<_, _>>()?))
    }
}

fn explain((step, forecast): (&Step, Forecast)) -> StepExplanation {
    StepExplanation {
        step: step.name.clone(),
        input_key: step.input_key,
        parent: step.parent,
        outcome: forecast.outcome,
        fields: step.fields.clone(),
        environment: relevance(step),
    }
}

/// Returns the reasons why the step's fragments of `environment.d` are in its key.
fn relevance(step: &Step) -> BTreeMap<String, Relevance> {
    match &step.work {
        Work::Tasks(tasks) => tasks.relevance.clone(),
        Work::Base(_) => BTreeMap::new(),
    }
}

/// Returns the steps of an image, including the final stage if it has run.
///
/// # Errors
/// A message that names the first step without a layer.
pub(super) fn built_steps(resolved: &Resolved<'_>, store: &Store) -> Result<Vec<BuiltStep>, Failure> {
    let steps = stored_steps(&resolved.plan, store, &HostFileSystem::default())?;
    match resolved.plan.steps.get(steps.len()) {
        Some(step) => Err(not_built(resolved.name, &step.name)),
        None => Ok(steps),
    }
}

fn not_built(image: &ImageName, step: &StepName) -> Failure {
    Message::with_hint(
        format!("step `{step}` of image `{image}` is not in the store"),
        Hint::call(["build", image.as_str()]),
    )
}

fn line(store: &Store, index: usize, step: &StepName, diff_id: DiffId) -> Result<LayerLine, StoreError> {
    let layer = store.layers().require(&diff_id)?;
    Ok(LayerLine {
        index,
        step: step.clone(),
        diff_id,
        digest: layer.blob,
        blob_bytes: layer.blob_bytes,
        tar_bytes: layer.tar_bytes,
        entries: layer.entries,
    })
}
