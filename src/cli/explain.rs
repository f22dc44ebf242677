//! `plywood explain`: shows why a step has to be built, field by field.

use std::process::ExitCode;

use super::answer::{json, say};
use super::args::{Explain, Global, Progress};
use super::plan::describe;
use super::progress::{Detail, renderer};
use super::report::Failure;
use crate::engine::{Look, Project, Prospect, Session, StepExplanation};

/// Prints the keys of an image's steps with their fields, and the differences from the most similar
/// earlier build.
pub(super) fn run(global: &Global, args: &Explain, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let project = &Project::load(session)?.in_order(args.order);
    let events = &*renderer(Progress::Plain, Detail::beside_answer(global));
    let look = Look { session, project, cache_from: &args.cache_from.cache_from, events };
    let document = look.explain(&args.image, args.step.as_deref())?;
    if args.json {
        json(&document)?;
    } else {
        let detail = if args.step.is_some() { Fields::Shown } else { Fields::Hidden };
        document.steps.iter().try_for_each(|step| print(step, detail))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether to list the fields of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fields {
    Shown,
    Hidden,
}

fn print(explained: &StepExplanation, fields: Fields) -> Result<(), Failure> {
    let StepExplanation { step, input_key, parent, outcome, fields: key, environment } = explained;
    say!("{step}  {}", describe(outcome))?;
    // The line above shows a single reason.
    if let Prospect::Miss { reasons, refused } = outcome
        && reasons.len() + refused.len() > 1
    {
        refused.iter().try_for_each(|refused| say!("  - {refused}"))?;
        reasons.iter().try_for_each(|reason| say!("  - {reason}"))?;
    }
    if fields == Fields::Shown {
        say!("  key {input_key}")?;
        if let Some(parent) = parent {
            say!("  step below {parent}")?;
        }
        for field in key.fields() {
            say!("  {} = {}", field.label, field.value)?;
        }
        for (fragment, why) in environment {
            say!("  environment.d/{fragment} is in the key because {why}")?;
        }
    }
    Ok(())
}
