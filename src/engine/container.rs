//! Assembles the container of an image from stored layers: the same container that `build -f oci`
//! would write.

use super::build::stack_of;
use super::edges::Edges;
use super::failure::{Failure, Hint, Message};
use super::forecasts::built_steps;
use super::outputs::encoding;
use super::project::Project;
use super::session::Session;
use crate::build::{Builder, BuiltStep, OnFailure, OnMiss, Registries, Reuse, container_config};
use crate::package::Reach;
use crate::plan::Plan;
use crate::port::{Events, LayerBlobs};
use crate::store::{Store, StoredImage};

/// Returns the container of the project's image `name`. Runs the final stage if it has not run yet,
/// and nothing else.
pub(super) fn container(
    session: &Session<'_>,
    project: &Project,
    name: &str,
    store: &Store,
    events: &dyn Events,
) -> Result<StoredImage, Failure> {
    let resolved = project.resolved(name, store)?;
    let (plan, settings) = (&resolved.plan, &resolved.definition.container);
    let mut steps = built_steps(&resolved, store)?;
    if steps.len() == plan.steps.len() {
        steps.push(finish(session, plan, &steps, events)?);
    }
    let config = container_config(plan, &steps, settings, store)?;
    let encoding = encoding(settings.compression);
    let layers = stack_of(&steps);
    let layers = layers.iter().map(|diff_id| store.layers().encoded(diff_id, encoding));
    Ok(store.images().of_layers(&config, &layers.collect::<Result<Vec<_>, _>>()?)?)
}

fn finish(
    session: &Session<'_>,
    plan: &Plan,
    steps: &[BuiltStep],
    events: &dyn Events,
) -> Result<BuiltStep, Failure> {
    // Checked here: `Edges` would report the missing right, but not the command that works without
    // it.
    if session.process.mounts.is_err() {
        return Err(Message::with_hint(
            format!(
                "the final stage of image `{}` has not run for a container, which needs root",
                plan.image
            ),
            Hint::from("sudo ").then_call(["build", &plan.image, "-f", "oci"]),
        ));
    }
    let edges = Edges::new(session, session.environment.clone(), Reach::Online)?;
    let builder = Builder {
        ports: edges.ports(events),
        reuse: Reuse::Allowed,
        on_miss: OnMiss::Build,
        on_failure: OnFailure::Discard,
        registries: &Registries::none(events),
        surroundings: None,
    };
    Ok(builder.finish(plan, &stack_of(steps))?)
}
