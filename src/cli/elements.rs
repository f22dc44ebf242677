//! `plywood elements`: lists, shows, draws, checks and tests elements.

use std::path::Path;
use std::process::ExitCode;

use super::answer::{remark, say};
use super::args::{Elements, Global};
use super::dropin::{Verdict, tests_of};
use super::progress::count;
use super::report::Failure;
use crate::element::{Catalog, Element, ElementName, ElementOption, Finding, Severity, graph_dot};
use crate::engine::{Project, Session, refuse_own_store};

/// Runs one of the commands.
pub(super) fn run(global: &Global, command: &Elements, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let project = Project::load_elements(session)?;
    match command {
        Elements::List => list(&project)?,
        Elements::Show { element } => show(&project, project.element(element)?.as_ref())?,
        Elements::Graph { image } => graph(&project, image.as_deref())?,
        Elements::Check { elements } => return check(&project, elements),
        Elements::Test { elements, output } => {
            let default = || global.output_directory(None).join("element-tests");
            let output = output.clone().unwrap_or_else(default);
            // Before anything of an earlier run is removed there.
            refuse_own_store(session, &output)?;
            return test(&project, global, elements, &output, session);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(project: &Project) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for element in project.catalog.iter() {
        let what = element.describe().summary.unwrap_or_default();
        rows.push((element.name.as_str(), element.root.display().to_string(), what));
    }
    for (name, unusable) in project.catalog.unusable() {
        rows.push((
            name.as_str(),
            unusable.root.display().to_string(),
            format!("cannot be used: {unusable}"),
        ));
    }
    rows.sort();
    let names = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    let places = rows.iter().map(|(_, place, _)| place.len()).max().unwrap_or_default();
    for (name, place, what) in &rows {
        let hidden: Vec<_> = hidden(project, name).map(|place| format!(" (hides {place})")).collect();
        say!("{}", format!("{name:names$}  {place:places$}  {what}{}", hidden.concat()).trim_end())?;
    }
    Ok(())
}

/// Returns the directories of the elements that the element `name` hides.
fn hidden<'a>(project: &'a Project, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let hidden = project.catalog.hidden().iter().filter(move |(hidden, _)| hidden.as_str() == name);
    hidden.map(|(_, root)| root.display().to_string())
}

fn show(project: &Project, element: &Element) -> Result<(), Failure> {
    let description = element.describe();
    say!("{}  {}", element.name, description.summary.unwrap_or_default())?;
    say!("  directory: {}", element.root.display())?;
    for place in hidden(project, element.name.as_str()) {
        say!("  hides: {place}")?;
    }
    print_words("depends on", description.deps.iter().map(ElementName::as_str))?;
    print_words("provides", description.provides.iter().map(ElementName::as_str))?;
    for (phase, hooks) in &description.hooks {
        print_words(phase.dir(), hooks.iter().copied())?;
    }
    for (slot, hooks) in &description.slots {
        print_words(&format!("slot {slot}"), hooks.iter().map(String::as_str))?;
    }
    print_words("environment.d", description.environment.iter().copied())?;
    print_words("static", description.statics.iter().copied())?;
    print_words("bin", description.programs.iter().copied())?;
    print_list("packages", description.packages.iter().map(String::as_str))?;
    print_options(&description.options)?;
    for skipped in element.skipped_hooks() {
        say!("  warning: {skipped}")?;
    }
    Ok(())
}

fn print_options(options: &[ElementOption<'_>]) -> Result<(), Failure> {
    if options.is_empty() {
        return Ok(());
    }
    say!("  options (default; read by):")?;
    for ElementOption { name, default, files } in options {
        let default = match default.as_deref() {
            None => "no default",
            Some("") => "empty",
            Some(default) => default,
        };
        say!("    {name} ({default}; {})", files.join(", "))?;
    }
    Ok(())
}

/// Prints entries that may contain spaces.
fn print_list<'a>(label: &str, entries: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let entries = entries.collect::<Vec<_>>().join(", ");
    if entries.is_empty() { Ok(()) } else { say!("  {label}: {entries}") }
}

fn print_words<'a>(label: &str, words: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let words: Vec<_> = words.collect();
    if words.is_empty() { Ok(()) } else { say!("  {label}: {}", words.join(" ")) }
}

fn graph(project: &Project, image: Option<&str>) -> Result<(), Failure> {
    let Some(image) = image else {
        return say!("{}", graph_dot(&project.catalog).trim_end());
    };
    let (name, image) = project.image(image)?;
    let elements = project.elements_of(name, image)?.elements;
    say!("{}", graph_dot(&Catalog::new(elements.iter().map(|element| element.as_ref().clone()))).trim_end())
}

fn check(project: &Project, wanted: &[String]) -> Result<ExitCode, Failure> {
    let findings = project.check_elements(wanted)?;
    findings.iter().try_for_each(print)?;
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    remark!("{}, {}", count(errors, "error"), count(findings.len() - errors, "warning"));
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn test(
    project: &Project,
    global: &Global,
    wanted: &[String],
    output: &Path,
    session: &Session<'_>,
) -> Result<ExitCode, Failure> {
    let mut failures = 0;
    for name in wanted {
        let element = project.element(name)?;
        for test in tests_of(&element)? {
            let place = output.join(test.title());
            let verdict =
                test.run(&project.element_path, global.store.as_deref(), &place, session.process)?;
            match verdict {
                Verdict::Passed => say!("passed  {}", test.title())?,
                Verdict::Failed => say!("FAILED  {}: see {}", test.title(), place.join("log").display())?,
            }
            // The tests after a failed one also run.
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
