//! `plywood shell`: a shell on an image's root file system; what it changes is thrown away.

use std::process::ExitCode;

use super::Process;
use super::args::{CacheFrom, Global, Shell};
use super::context::{Context, unknown_step};
use super::progress::{Detail, renderer};
use super::registry::look_up_client;
use super::report::Failure;
use super::sharing::Sources;
use super::wiring::{Edges, environment};
use crate::build::{Builder, OnMiss, Reuse};
use crate::plan::{Plan, Step};

/// Opens the shell; builds nothing, but takes what the project's registries have.
pub(super) fn run(global: &Global, args: &Shell, process: &Process) -> Result<ExitCode, Failure> {
    let context = Context::load(global)?.in_order(args.order);
    let (name, image) = context.image(&args.image)?;
    let edges = Edges::new(global, process, environment())?;
    let plan = context.plan(name, image, &edges.store)?;
    let step = args.at.as_deref().map_or(Ok(&plan.finish), |at| find(&plan, at))?;
    let events = renderer(super::args::Progress::Plain, Detail::beside_answer(global));
    let client = look_up_client(global, process)?;
    let sources = Sources::new(&context, &CacheFrom::default(), &client, events.as_ref());
    let builder = Builder {
        ports: edges.ports(events.as_ref()),
        reuse: Reuse::Allowed,
        on_miss: OnMiss::Fail,
        registries: &sources.registries(),
        surroundings: None,
    };
    let exit = builder.shell(&plan, step, &args.command)?;
    Ok(ExitCode::from(u8::try_from(exit.shell_status()).unwrap_or(u8::MAX)))
}

fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a Step, Failure> {
    let mut steps = plan.steps.iter().chain([&plan.finish]);
    steps.find(|step| step.name == name).ok_or_else(|| unknown_step(plan, name))
}
