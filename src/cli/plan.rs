//! `plywood plan`: hit or miss, key and reason for each step. Runs nothing.

use std::process::ExitCode;

use serde::Serialize;

use super::args::{Global, Plan};
use super::context::{Context, open_store};
use super::report::Failure;
use crate::build::{Forecast, Prospect, forecast};

/// One image's forecast, as `--json` prints it.
#[derive(Serialize)]
struct ImageForecast {
    image: String,
    steps: Vec<Forecast>,
}

/// Prints what a build would do.
pub(super) fn run(global: &Global, args: &Plan) -> Result<ExitCode, Failure> {
    let context = Context::load(global)?;
    let store = open_store(global)?;
    let seal = store.seal()?;
    let mut images = Vec::new();
    for (name, image) in context.select(&args.images)? {
        context.warnings(name, image)?.iter().for_each(|warning| eprintln!("warning: {warning}"));
        let plan = context.plan(name, image, &seal)?;
        images.push(ImageForecast { image: name.to_string(), steps: forecast(&plan, &store)? });
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&images)?);
    } else {
        images.iter().for_each(print);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(image: &ImageForecast) {
    let width = image.steps.iter().map(|step| step.step.len()).max().unwrap_or_default();
    println!("{}", image.image);
    for step in &image.steps {
        println!("  {:width$}  {}  {}", step.step, step.input_key.short(), describe(&step.outcome));
    }
}

/// Returns a line for people.
pub(super) fn describe(outcome: &Prospect) -> String {
    match outcome {
        Prospect::Hit { diff_ids } if diff_ids.is_empty() => "hit   no layer: nothing changes".to_owned(),
        Prospect::Hit { diff_ids } => {
            let ids: Vec<_> = diff_ids.iter().map(|id| id.short()).collect();
            format!("hit   {}", ids.join(" "))
        }
        Prospect::Depends { on } => format!("maybe unless `{on}` comes out as another layer"),
        Prospect::Miss { reasons } => match reasons.as_slice() {
            [reason] => format!("miss  {reason}"),
            [first, rest @ ..] => format!("miss  {first}, and {} more", rest.len()),
            [] => "miss".to_owned(),
        },
    }
}
