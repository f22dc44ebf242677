//! `plywood plan`: shows hit or miss, key and reason for each step. Runs nothing.

use std::process::ExitCode;

use super::answer::{json, say};
use super::args::{Global, Plan, Progress};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::engine::{ImageForecast, Look, Project, Prospect, Session};

/// Prints the steps of a build.
pub(super) fn run(global: &Global, args: &Plan, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let project = &Project::load(session)?.in_order(args.order);
    let events = &*renderer(Progress::Plain, Detail::beside_answer(global));
    let look = Look { session, project, cache_from: &args.cache_from.cache_from, events };
    let document = look.plan(&args.images)?;
    if args.json {
        json(&document)?;
    } else {
        document.images.iter().try_for_each(print)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(image: &ImageForecast) -> Result<(), Failure> {
    let width = image.steps.iter().map(|step| step.step.to_string().len()).max().unwrap_or_default();
    say!("{}", image.image)?;
    for step in &image.steps {
        say!("  {:width$}  {}  {}", step.step, step.input_key.short(), describe(&step.outcome))?;
    }
    Ok(())
}

/// Describes the prospect of a step in one line.
pub(super) fn describe(outcome: &Prospect) -> String {
    match outcome {
        Prospect::Hit { diff_ids, registry } => {
            let place = if registry.is_some() { "hit (registry)" } else { "hit  " };
            let ids: Vec<_> = diff_ids.iter().map(|id| id.short()).collect();
            match ids.as_slice() {
                [] => format!("{place} nothing to add"),
                ids => format!("{place} {}", ids.join(" ")),
            }
        }
        Prospect::Depends { on } => format!("hit if `{on}` comes out the same"),
        Prospect::Miss { refused, .. } if !refused.is_empty() => format!("miss  {}", refused[0]),
        Prospect::Miss { reasons, .. } => match reasons.as_slice() {
            [reason] => format!("miss  {reason}"),
            [first, rest @ ..] => format!("miss  {first}, and {} more", rest.len()),
            [] => "miss".to_owned(),
        },
    }
}
