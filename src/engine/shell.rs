//! The verb `shell`: opens a shell on an image's root file system; its changes are discarded.

use super::edges::Edges;
use super::failure::Failure;
use super::project::Project;
use super::registry::look_up_client;
use super::resolve::unknown_step;
use super::session::Session;
use super::sharing::Sources;
use crate::build::{Builder, OnFailure, OnMiss, Reuse, ShellAt};
use crate::element::Phase;
use crate::package::Reach;
use crate::plan::{Plan, Step};
use crate::port::{Event, Events, Exit};

/// The state of an image that a shell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State<'a> {
    /// The finished image.
    Finished,
    /// The state before a step or a hook: `STEP` or `STEP:PHASE/HOOK`.
    At(&'a str),
    /// The state that a failed hook left.
    Failed,
}

/// Opens the shell, or runs `command`. Fetches layers from the project's registries, but builds
/// none.
pub(crate) fn shell(
    session: &Session<'_>,
    project: &Project,
    (image, state): (&str, State<'_>),
    command: &[String],
    events: &dyn Events,
) -> Result<Exit, Failure> {
    let (name, _) = project.image(image)?;
    let edges = Edges::new(session, session.environment.clone(), Reach::Online)?;
    let plan = &project.resolved(image, &edges.store)?.plan;
    let client = look_up_client(session, &project.file.registry)?;
    let sources = Sources::new(project, &[], &client, events);
    let builder = Builder {
        ports: edges.ports(events),
        reuse: Reuse::Allowed,
        // Layers may be fetched but not built, because opening a shell should not take an hour.
        on_miss: OnMiss::Fail,
        on_failure: OnFailure::Discard,
        registries: &sources.registries(),
        surroundings: None,
    };
    let kept = match state {
        State::Failed => Some(
            edges
                .store
                .failures()
                .get(name.as_str())?
                .ok_or_else(|| NothingKept { image: image.to_owned() })?,
        ),
        State::Finished | State::At(_) => None,
    };
    let at = match (&kept, state) {
        (Some((failed, upper)), _) => {
            let message = format!("`{}` of step `{}` failed here", failed.task, failed.step);
            events.emit(Event::Warning { message: &message });
            ShellAt::Failed(find(plan, &failed.step.to_string())?, failed, upper)
        }
        (None, State::At(at)) => place(plan, at)?,
        (None, _) => ShellAt::Step(&plan.finish),
    };
    Ok(builder.shell(plan, at, command)?)
}

/// Finds the step, or the hook of a step, with the name `at`. Names of steps may contain colons
/// too.
fn place<'a>(plan: &'a Plan, at: &'a str) -> Result<ShellAt<'a>, Failure> {
    let hook = at.rsplit_once(':').and_then(|(step, hook)| Some((step, hook.split_once('/')?)));
    let Some((step, (phase, hook))) = hook else { return Ok(ShellAt::Step(find(plan, at)?)) };
    let phase: Phase = phase.parse()?;
    Ok(ShellAt::Hook(find(plan, step)?, phase, hook))
}

fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a Step, Failure> {
    plan.all_steps().find(|step| step.name == name).ok_or_else(|| unknown_step(plan, name))
}

/// No state of a failed hook was kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the state of a failed hook of image `{image}`: none was kept")]
pub(crate) struct NothingKept {
    pub(crate) image: String,
}
