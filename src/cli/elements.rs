//! `plywood elements`: what elements there are, and what is in them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::Process;
use super::answer::say;
use super::args::{Elements, Global};
use super::context::Context;
use super::dropin::{Verdict, tests_of};
use super::report::{Failure, Message};
use crate::element::{Catalog, Element, ElementName, Finding, Severity, check_elements, graph_dot, nearest};
use crate::load;

/// Lists, shows, draws or checks elements.
pub(super) fn run(global: &Global, command: &Elements, process: &Process) -> Result<ExitCode, Failure> {
    let context = Context::load(global)?;
    match command {
        Elements::List => list(&context)?,
        Elements::Show { element } => show(find(&context, element)?.as_ref())?,
        Elements::Graph { image } => graph(&context, image.as_deref())?,
        Elements::Check { elements } => return check(&context, elements),
        Elements::Test { elements, output } => return test(&context, global, elements, output, process),
    }
    Ok(ExitCode::SUCCESS)
}

fn find(context: &Context, name: &str) -> Result<Arc<Element>, Failure> {
    if let Some(unusable) = context.catalog.unusable().get(name) {
        return Err(unusable.clone().into());
    }
    context.catalog.get(name).cloned().ok_or_else(|| {
        let places: Vec<_> = context.element_path.iter().map(|dir| format!("`{}`", dir.display())).collect();
        let known = context.catalog.iter().map(|element| element.name.as_str());
        let hint = nearest(name, known).map(|nearest| format!("did you mean `{nearest}`?"));
        Message::with_hint(
            format!("element `{name}` not found in {}", places.join(", ")),
            hint.unwrap_or_else(|| "plywood elements list".to_owned()),
        )
    })
}

fn list(context: &Context) -> Result<(), Failure> {
    let width = context.catalog.iter().map(|element| element.name.as_str().len()).max().unwrap_or_default();
    for element in context.catalog.iter() {
        say!("{:width$}  {}", element.name.as_str(), element.describe().summary.unwrap_or_default())?;
    }
    Ok(())
}

fn show(element: &Element) -> Result<(), Failure> {
    let description = element.describe();
    say!("{}  {}", element.name, description.summary.unwrap_or_default())?;
    say!("  directory: {}", element.root.display())?;
    print_words("depends on", description.deps.iter().map(ElementName::as_str))?;
    print_words("provides", description.provides.iter().map(ElementName::as_str))?;
    for (phase, hooks) in &description.hooks {
        print_words(phase.dir(), hooks.iter().copied())?;
    }
    print_words("environment.d", description.environment.iter().copied())?;
    print_words("packages", description.packages.iter().map(String::as_str))?;
    for skipped in element.skipped_hooks() {
        say!("  warning: {skipped}")?;
    }
    for stray in element.strays([element].into_iter()) {
        say!("  warning: {stray}")?;
    }
    Ok(())
}

fn print_words<'a>(label: &str, words: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let words: Vec<_> = words.collect();
    if words.is_empty() { Ok(()) } else { say!("  {label}: {}", words.join(" ")) }
}

fn graph(context: &Context, image: Option<&str>) -> Result<(), Failure> {
    let Some(image) = image else {
        return say!("{}", graph_dot(&context.catalog).trim_end());
    };
    let (name, image) = context.image(image)?;
    let elements = context.resolve(name, image, image.order)?.elements;
    say!("{}", graph_dot(&Catalog::new(elements.iter().map(|element| element.as_ref().clone()))).trim_end())
}

fn check(context: &Context, wanted: &[String]) -> Result<ExitCode, Failure> {
    for name in wanted {
        find(context, name)?;
    }
    let mut provided = BTreeSet::new();
    for name in load::load_base_names(&context.layer_path)? {
        provided.extend(load::load_base(&name, &context.layer_path)?.provided_names());
    }
    let mut findings = check_elements(&context.catalog, &provided);
    findings.extend(load::check_syntax(&context.catalog)?);
    findings
        .retain(|finding| wanted.is_empty() || wanted.iter().any(|name| name == finding.element.as_str()));
    findings.iter().try_for_each(print)?;
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    eprintln!("{errors} errors, {} warnings", findings.len() - errors);
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn test(
    context: &Context,
    global: &Global,
    wanted: &[String],
    output: &Path,
    process: &Process,
) -> Result<ExitCode, Failure> {
    let mut failures = 0;
    for name in wanted {
        let element = find(context, name)?;
        for test in tests_of(&element)? {
            let place = output.join(test.title());
            let verdict = test.run(&context.element_path, global.store.as_deref(), &place, process)?;
            match verdict {
                Verdict::Passed => say!("passed  {}", test.title())?,
                Verdict::Failed => say!("FAILED  {}: see {}", test.title(), place.join("log").display())?,
            }
            failures += usize::from(verdict == Verdict::Failed);
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(finding: &Finding) -> Result<(), Failure> {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = finding.file.as_ref().map(|file| format!("/{file}")).unwrap_or_default();
    say!("{severity}: {}{place}: {}", finding.element, finding.message)
}
