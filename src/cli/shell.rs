//! `plywood shell`: a shell on an image's root file system; what it changes is thrown away.

use std::process::ExitCode;

use super::args::{Global, Shell};
use super::progress::{Detail, renderer};
use super::report::{Failure, Message};
use crate::build::{Builder, OnFailure, OnMiss, Reuse, ShellAt};
use crate::element::Phase;
use crate::engine::Edges;
use crate::engine::Session;
use crate::engine::Sources;
use crate::engine::look_up_client;
use crate::engine::{Context, unknown_step};
use crate::package::Reach;
use crate::plan::{Plan, Step};
use crate::port::Event;

/// Opens the shell; builds nothing, but takes what the project's registries have.
pub(super) fn run(global: &Global, args: &Shell, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let context = Context::load(session)?.in_order(args.order);
    let (name, image) = context.image(&args.image)?;
    let edges = Edges::new(session, session.environment.clone(), Reach::Online)?;
    let plan = context.plan(name, image, &edges.store)?;
    // Hooks may have to run first, which takes time: show them.
    let detail = if args.at.is_some() { Detail::of(global) } else { Detail::beside_answer(global) };
    let events = renderer(super::args::Progress::Plain, detail);
    let client = look_up_client(session)?;
    let sources = Sources::new(&context, &[], &client, events.as_ref());
    let builder = Builder {
        ports: edges.ports(events.as_ref()),
        reuse: Reuse::Allowed,
        on_miss: OnMiss::Fail,
        on_failure: OnFailure::Discard,
        registries: &sources.registries(),
        surroundings: None,
    };
    let kept = match args.failed {
        true => Some(edges.store.failed(name.as_str())?.ok_or_else(|| nothing_kept(global, &args.image))?),
        false => None,
    };
    let at = match (&kept, args.at.as_deref()) {
        (Some((failed, upper)), _) => {
            let message = format!("`{}` of step `{}` failed here", failed.task, failed.step);
            events.emit(Event::Warning { message: &message });
            ShellAt::Failed(find(&plan, &failed.step)?, failed, upper)
        }
        (None, Some(at)) => place(&plan, at)?,
        (None, None) => ShellAt::Step(&plan.finish),
    };
    let exit = builder.shell(&plan, at, &args.command)?;
    Ok(ExitCode::from(u8::try_from(exit.shell_status()).unwrap_or(u8::MAX)))
}

/// Finds the step, or the hook of a step, that `at` names. Names of steps may hold colons, too.
fn place<'a>(plan: &'a Plan, at: &'a str) -> Result<ShellAt<'a>, Failure> {
    let hook = at.rsplit_once(':').and_then(|(step, hook)| Some((step, hook.split_once('/')?)));
    let Some((step, (phase, hook))) = hook else { return Ok(ShellAt::Step(find(plan, at)?)) };
    let phase: Phase = phase.parse()?;
    Ok(ShellAt::Hook(find(plan, step)?, phase, hook))
}

fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a Step, Failure> {
    let mut steps = plan.steps.iter().chain([&plan.finish]);
    steps.find(|step| step.name == name).ok_or_else(|| unknown_step(plan, name))
}

fn nothing_kept(global: &Global, image: &str) -> Failure {
    Message::with_hint(
        format!("no state of a failed hook of image `{image}` was kept"),
        format!("{} build {image} --keep-failed", global.invocation()),
    )
}
