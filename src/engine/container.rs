//! The container of an image, from the layers that the store has.

use super::edges::Edges;
use super::failure::{Failure, Message};
use super::outputs::encoding;
use super::project::Context;
use super::session::Session;
use crate::build::{
    Builder, BuiltStep, OnFailure, OnMiss, Registries, Reuse, container_config, stored_steps,
};
use crate::image::{ImageDefinition, ImageName};
use crate::load::HostFileSystem;
use crate::oci::DiffId;
use crate::package::Reach;
use crate::plan::Plan;
use crate::port::Events;
use crate::store::{Store, StoredImage};

/// Puts containers together that no build has written as such: the same that `build -f oci` would write.
pub(crate) struct Assembly<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) context: &'a Context,
    pub(crate) store: &'a Store,
    pub(crate) events: &'a dyn Events,
}

impl Assembly<'_> {
    /// Returns the container of an image whose layers the store has. The final stage runs if it has not yet; nothing else does.
    pub(crate) fn container(
        &self,
        name: &ImageName,
        image: &ImageDefinition,
    ) -> Result<StoredImage, Failure> {
        let plan = self.context.plan(name, image, self.store)?;
        let mut steps = stored_steps(&plan, self.store, &HostFileSystem::default())?;
        if let Some(step) = plan.steps.get(steps.len()) {
            return Err(not_built(name, &step.name));
        }
        if steps.len() == plan.steps.len() {
            steps.push(self.finish(&plan, &diff_ids(&steps))?);
        }
        let config = container_config(&plan, &steps, &image.container, self.store)?;
        let encoding = encoding(image.container.compression);
        let layers = diff_ids(&steps);
        let layers = layers.iter().map(|diff_id| self.store.encoded(diff_id, encoding));
        Ok(self.store.unnamed_image(&config, &layers.collect::<Result<Vec<_>, _>>()?)?)
    }

    fn finish(&self, plan: &Plan, stack: &[DiffId]) -> Result<BuiltStep, Failure> {
        if self.session.process.mounts.is_err() {
            return Err(Message::with_hint(
                format!(
                    "the final stage of image `{}` has not run for a container, which needs root",
                    plan.image
                ),
                format!("sudo plywood build {} -f oci", plan.image),
            ));
        }
        let edges = Edges::new(self.session, self.session.environment.clone(), Reach::Online)?;
        let builder = Builder {
            ports: edges.ports(self.events),
            reuse: Reuse::Allowed,
            on_miss: OnMiss::Build,
            on_failure: OnFailure::Discard,
            registries: &Registries::none(self.events),
            surroundings: None,
        };
        Ok(builder.finish(plan, stack)?)
    }
}

/// Says that a step has no layer yet.
pub(crate) fn not_built(image: &ImageName, step: &str) -> Failure {
    Message::with_hint(
        format!("step `{step}` of image `{image}` is not in the store"),
        format!("plywood build {image}"),
    )
}

fn diff_ids(steps: &[BuiltStep]) -> Vec<DiffId> {
    steps.iter().flat_map(|step| step.diff_ids.iter().copied()).collect()
}
