//! `plywood plan`: hit or miss, key and reason for each step. Runs nothing.

use std::process::ExitCode;

use super::answer::{json, say};
use super::args::{Global, Plan, Progress};
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::build::{ImageForecast, PlanDocument, Prospect, forecast};
use crate::dropin::OutputType;
use crate::engine::Session;
use crate::engine::Sources;
use crate::engine::look_up_client;
use crate::engine::{Context, open_store_to_read};
use crate::engine::{base_layers, is_container, too_many_layers};
use crate::load::HostFileSystem;
use crate::port::Event;

/// Prints what a build would do.
pub(super) fn run(global: &Global, args: &Plan, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let context = Context::load(session)?.in_order(args.order);
    let events = renderer(Progress::Plain, Detail::beside_answer(global));
    let client = look_up_client(session)?;
    let sources = Sources::new(&context, &args.cache_from.cache_from, &client, events.as_ref());
    let registries = sources.registries();
    let store = open_store_to_read(session, events.as_ref())?;
    let host = HostFileSystem::default();
    let mut images = Vec::new();
    for (name, image) in context.select(&args.images)? {
        for message in &context.warnings(name, image)? {
            events.emit(Event::Warning { message });
        }
        // A block-device file that is wrong fails a build; a plan says so as well.
        context.disk(name, image)?;
        let plan = context.plan(name, image, &store)?;
        let steps = forecast(&plan, &store, &host, &registries)?;
        let is_container = image.outputs.iter().any(|format| is_container(&OutputType::File(*format)));
        if let Some(message) = too_many_layers(&steps, base_layers(&store, &plan), is_container) {
            events.emit(Event::Warning { message: &message });
        }
        images.push(ImageForecast { image: name.to_string(), steps });
    }
    if args.json {
        json(&PlanDocument::new(images))?;
    } else {
        images.iter().try_for_each(print)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(image: &ImageForecast) -> Result<(), Failure> {
    let width = image.steps.iter().map(|step| step.step.len()).max().unwrap_or_default();
    say!("{}", image.image)?;
    for step in &image.steps {
        say!("  {:width$}  {}  {}", step.step, step.input_key.short(), describe(&step.outcome))?;
    }
    Ok(())
}

/// Returns a line for people.
pub(super) fn describe(outcome: &Prospect) -> String {
    match outcome {
        Prospect::Hit { diff_ids, registry } => {
            let place = if registry.is_some() { "hit (registry)" } else { "hit  " };
            let ids: Vec<_> = diff_ids.iter().map(|id| id.short()).collect();
            match ids.as_slice() {
                [] => format!("{place} no layer: nothing changes"),
                ids => format!("{place} {}", ids.join(" ")),
            }
        }
        Prospect::Depends { on } => format!("maybe unless `{on}` comes out as another layer"),
        Prospect::Miss { refused, .. } if !refused.is_empty() => format!("miss  {}", refused[0]),
        Prospect::Miss { reasons, .. } => match reasons.as_slice() {
            [reason] => format!("miss  {reason}"),
            [first, rest @ ..] => format!("miss  {first}, and {} more", rest.len()),
            [] => "miss".to_owned(),
        },
    }
}
