//! Assembles the container of an image from stored layers: the same container that `build -f oci`
//! would write.

use super::account::ContainerUser;
use super::build::stack_of;
use super::edges::Edges;
use super::failure::{Failure, Hint, Message};
use super::forecasts::built_steps;
use super::outputs::encoding;
use super::project::Project;
use super::session::Session;
use crate::build::{Builder, OnFailure, OnMiss, Registries, Reuse, container_config};
use crate::package::Reach;
use crate::plan::Plan;
use crate::port::{Events, LayerBlobs};
use crate::store::{Store, StoredImage};

/// Returns the container of the project's image `name`. Runs the final stage if it has not run yet,
/// and nothing else. Refuses a user that the image does not have.
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
        let why = "the final stage has not run for a container";
        let finished =
            with_builder(session, plan, why, events, |builder| Ok(builder.finish(plan, &stack_of(&steps))?))?;
        steps.push(finished);
    }
    let config = container_config(plan, &steps, settings, store)?;
    let encoding = encoding(settings.compression);
    let layers = stack_of(&steps);
    if let Some(user) = ContainerUser::of(&plan.image, &config, settings, &resolved.project) {
        let why = "the user of its container is looked up in the image";
        with_builder(session, plan, why, events, |builder| {
            builder.on_merged(&layers, |root| user.check(root))?
        })?;
    }
    let layers = layers.iter().map(|diff_id| store.layers().encoded(diff_id, encoding));
    Ok(store.images().of_layers(&config, &layers.collect::<Result<Vec<_>, _>>()?)?)
}

/// Calls `work` with a builder, which needs root. `why` is the reason for the call.
fn with_builder<T>(
    session: &Session<'_>,
    plan: &Plan,
    why: &str,
    events: &dyn Events,
    work: impl FnOnce(&Builder<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Checked here: `Edges` would report the missing right, but not the command that works without
    // it.
    if session.process.mounts.is_err() {
        return Err(Message::with_hint(
            format!("image `{}`: {why}, which needs root", plan.image),
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
    work(&builder)
}
