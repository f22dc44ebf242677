//! `plywood shell`: a shell on an image's root file system; what it changes is thrown away.

use std::process::ExitCode;

use super::Process;
use super::args::{Global, Shell};
use super::context::Context;
use super::progress::{Detail, renderer};
use super::report::{Failure, Message};
use super::wiring::Edges;
use crate::build::{Builder, OnMiss, Reuse};
use crate::plan::{Plan, Step};

/// Opens the shell; builds nothing.
pub(super) fn run(global: &Global, args: &Shell, process: &Process) -> Result<ExitCode, Failure> {
    let context = Context::load(global)?;
    let (name, image) = context.image(&args.image)?;
    let edges = Edges::new(global, process)?;
    let plan = context.plan(name, image, &edges.seal()?)?;
    let at = args.at.as_deref().map(|at| position(&plan, at)).transpose()?;
    let events = renderer(super::args::Progress::Plain, Detail::Quiet);
    let builder =
        Builder { ports: edges.ports(events.as_ref()), reuse: Reuse::Allowed, on_miss: OnMiss::Fail };
    let exit = builder.shell(&plan, at, &args.command)?;
    Ok(ExitCode::from(u8::try_from(exit.shell_status()).unwrap_or(u8::MAX)))
}

fn position(plan: &Plan, name: &str) -> Result<usize, Failure> {
    plan.steps.iter().position(|step| step.name == name).ok_or_else(|| {
        let names: Vec<_> = plan.steps.iter().map(|step: &Step| format!("`{}`", step.name)).collect();
        Message::with_hint(
            format!("image `{}` has no step `{name}`", plan.image),
            format!("its steps are {}", names.join(", ")),
        )
    })
}
