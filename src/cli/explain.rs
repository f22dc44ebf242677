//! `plywood explain`: why a step has to be built, field by field.

use std::collections::BTreeMap;
use std::process::ExitCode;

use super::answer::{json, say};
use super::args::{Explain, Global, Progress};
use super::plan::describe;
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::build::{ExplainDocument, Forecast, Prospect, StepExplanation, forecast};
use crate::element::Relevance;
use crate::engine::Session;
use crate::engine::Sources;
use crate::engine::look_up_client;
use crate::engine::{Context, open_store_to_read, unknown_step};
use crate::load::HostFileSystem;
use crate::plan::{Plan, Step, Work};

/// Prints the keys of an image's steps, what they are made of, and what differs from the nearest earlier build.
pub(super) fn run(global: &Global, args: &Explain, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let context = Context::load(session)?.in_order(args.order);
    let events = renderer(Progress::Plain, Detail::beside_answer(global));
    let client = look_up_client(session)?;
    let sources = Sources::new(&context, &args.cache_from.cache_from, &client, events.as_ref());
    let registries = sources.registries();
    let (name, image) = context.image(&args.image)?;
    let store = open_store_to_read(session, events.as_ref())?;
    let plan = context.plan(name, image, &store)?;
    let forecasts = forecast(&plan, &store, &HostFileSystem::default(), &registries)?;
    let chosen = choose(&plan, forecasts, args.step.as_deref())?;
    if args.json {
        let steps = chosen.into_iter().map(|(step, forecast)| describe_in_full(step, forecast)).collect();
        json(&ExplainDocument::new(name.to_string(), steps))?;
    } else {
        let detail = if args.step.is_some() { Fields::Shown } else { Fields::Hidden };
        chosen.iter().try_for_each(|(step, forecast)| print(step, forecast, detail))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the fields of a key are listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    Shown,
    Hidden,
}

fn choose<'a>(
    plan: &'a Plan,
    forecasts: Vec<Forecast>,
    wanted: Option<&str>,
) -> Result<Vec<(&'a Step, Forecast)>, Failure> {
    let all = plan.steps.iter().zip(forecasts);
    let chosen: Vec<_> = all.filter(|(step, _)| wanted.is_none_or(|wanted| step.name == wanted)).collect();
    if chosen.is_empty() {
        return Err(unknown_step(plan, wanted.unwrap_or_default()));
    }
    Ok(chosen)
}

fn describe_in_full(step: &Step, forecast: Forecast) -> StepExplanation {
    StepExplanation {
        step: step.name.clone(),
        input_key: step.input_key,
        parent: step.parent,
        outcome: forecast.outcome,
        fields: step.fields.clone(),
        environment: relevance(step).clone(),
    }
}

fn print(step: &Step, forecast: &Forecast, fields: Fields) -> Result<(), Failure> {
    say!("{}  {}", step.name, describe(&forecast.outcome))?;
    if let Prospect::Miss { reasons, refused } = &forecast.outcome
        && reasons.len() + refused.len() > 1
    {
        refused.iter().try_for_each(|refused| say!("  - {refused}"))?;
        reasons.iter().try_for_each(|reason| say!("  - {reason}"))?;
    }
    if fields == Fields::Shown {
        say!("  key {}", step.input_key)?;
        if let Some(parent) = step.parent {
            say!("  above {parent}")?;
        }
        for field in step.fields.fields() {
            say!("  {} = {}", field.label, field.value)?;
        }
        for (fragment, why) in relevance(step) {
            say!("  environment.d/{fragment} is in the key because {why}")?;
        }
    }
    Ok(())
}

/// Returns why the step's fragments of `environment.d` are in its key.
fn relevance(step: &Step) -> &BTreeMap<String, Relevance> {
    static NONE: BTreeMap<String, Relevance> = BTreeMap::new();
    if let Work::Tasks(tasks) = &step.work { &tasks.relevance } else { &NONE }
}
