//! The log of a build in the form of diskimage-builder's log.

use std::time::Duration;

use super::profile::{PREFIX, Profile};
use crate::element::Phase;
use crate::element::Place;
use crate::plan::StepName;
use crate::port::{Event, Exit, View};

/// Converts events to lines of the log. Keeps the times of the current phase.
#[derive(Debug, Default)]
pub struct Narrator {
    /// The step and phase of the running hooks, and their times.
    running: Option<(StepName, String, Profile)>,
}

impl Narrator {
    /// Returns the lines for an event, without timestamps.
    pub fn lines(&mut self, event: &Event<'_>) -> Vec<String> {
        match *event {
            Event::StepHit { step, from, .. } => self.told_after_the_phase(format!(
                "Layer of {} is cached{}: its hooks are not run",
                named(step),
                if from == "store" { String::new() } else { format!(" in {from}") }
            )),
            Event::StepStarted { step, .. } => {
                self.told_after_the_phase(format!("Building the layer of {}", named(step)))
            }
            Event::TaskStarted { step, phase, task, .. } => self.started(step, phase, task),
            Event::TaskOutput { line, .. } => vec![line.to_owned()],
            Event::TaskFinished { step, phase, task, exit, milliseconds, .. } => {
                self.finished(step, phase, task, exit, Duration::from_millis(milliseconds))
            }
            Event::StageStarted { stage, .. } => self.told_after_the_phase(format!("Starting: {stage}")),
            Event::OutputWritten { path, .. } => {
                self.told_after_the_phase(format!("Image file {} created...", path.display()))
            }
            Event::Warning { message } => vec![format!("WARNING: {message}")],
            Event::StepFinished { .. } | Event::StageFinished { .. } => self.end(),
            Event::StepsPublished { repository, steps, new, .. } => {
                vec![format!("Published {steps} layers in {repository}, {new} of them new")]
            }
            Event::TaskRunning { phase, task, milliseconds, .. } => {
                vec![format!("{PREFIX}{phase}/{task} has been running for {} s", milliseconds / 1000)]
            }
            Event::ImageStarted { .. }
            | Event::TransfersStarted { .. }
            | Event::TransferStarted { .. }
            | Event::TransferProgress { .. }
            | Event::TransferFinished { .. }
            | Event::TransfersFinished { .. } => Vec::new(),
        }
    }

    /// Returns the lines that end the current phase: its table of times.
    pub fn end(&mut self) -> Vec<String> {
        self.running.take().map(|(_, phase, profile)| profile.table(&phase)).unwrap_or_default()
    }

    fn told_after_the_phase(&mut self, line: String) -> Vec<String> {
        self.end().into_iter().chain([line]).collect()
    }

    fn started(&mut self, step: &StepName, phase: &str, task: &str) -> Vec<String> {
        let mut lines = self.enter(step, phase);
        if task != Event::ENVIRONMENT {
            lines.push(format!("{PREFIX}Running {}/{phase}/{task}", hooks_directory(phase)));
        }
        lines
    }

    fn finished(
        &mut self,
        step: &StepName,
        phase: &str,
        task: &str,
        exit: Exit,
        took: Duration,
    ) -> Vec<String> {
        // A failed phase has no table, so that the output of the hook is the end of the log.
        if !exit.is_success() {
            self.running = None;
            return Vec::new();
        }
        let mut lines = self.enter(step, phase);
        if task == Event::ENVIRONMENT {
            return lines;
        }
        if let Some((_, _, profile)) = &mut self.running {
            profile.add(task, took);
        }
        lines.push(format!("{PREFIX}{task} completed"));
        lines
    }

    /// Enters a phase of a step, if it differs from the current one.
    fn enter(&mut self, step: &StepName, phase: &str) -> Vec<String> {
        let is_running = self.running.as_ref().is_some_and(|(a, b, _)| (a, b.as_str()) == (step, phase));
        if is_running {
            return Vec::new();
        }
        let mut lines = self.end();
        self.running = Some((step.clone(), phase.to_owned(), Profile::default()));
        lines.push(format!("Running hooks from {}/{phase}", hooks_directory(phase)));
        lines
    }
}

/// Describes a step.
fn named(step: &StepName) -> String {
    match step {
        StepName::Final => "the final stage".to_owned(),
        StepName::Element(element) => format!("element {element}"),
        other => other.to_string(),
    }
}

/// Returns the path of the hooks directory in a phase.
fn hooks_directory(phase: &str) -> &'static str {
    match phase.parse::<Phase>().map(Phase::place) {
        Ok(Place::Host) => View::Host.hooks(),
        _ => View::Target.hooks(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::plan::Found;

    fn told(narrator: &mut Narrator, events: &[Event<'_>]) -> Vec<String> {
        events.iter().flat_map(|event| narrator.lines(event)).collect()
    }

    fn started<'a>(step: &'a StepName, phase: &'a str, task: &'a str) -> Event<'a> {
        Event::TaskStarted { image: "x", step, phase, task }
    }

    fn finished<'a>(step: &'a StepName, phase: &'a str, task: &'a str, exit: Exit) -> Event<'a> {
        Event::TaskFinished { image: "x", step, phase, task, exit, milliseconds: 1500, log: Path::new("log") }
    }

    #[test]
    fn a_phase_lists_its_hooks_and_ends_with_their_times() {
        let (mut narrator, web) = (Narrator::default(), &"web".parse().unwrap());
        let lines = told(
            &mut narrator,
            &[
                Event::StepStarted { image: "x", step: web },
                started(web, "install.d", Event::ENVIRONMENT),
                finished(web, "install.d", Event::ENVIRONMENT, Exit::Status(0)),
                started(web, "install.d", "50-web"),
                Event::TaskOutput { image: "x", step: web, task: "50-web", line: "+ true" },
                finished(web, "install.d", "50-web", Exit::Status(0)),
                started(web, "post-root.d", "60-look"),
            ],
        );
        let expected = [
            "Building the layer of element web",
            "Running hooks from /tmp/in_target.d/install.d",
            "dib-run-parts Running /tmp/in_target.d/install.d/50-web",
            "+ true",
            "dib-run-parts 50-web completed",
            "dib-run-parts ----------------------- PROFILING -----------------------",
        ];
        assert_eq!(lines[..expected.len()], expected);
        assert!(lines.contains(&format!("dib-run-parts {:<40} {:>10}", "50-web", "1.500")));
        assert_eq!(lines.last().unwrap(), "dib-run-parts Running /tmp/plywood/hooks/post-root.d/60-look");
        assert_eq!(narrator.end().len(), 9, "a hook that has not ended is in no table");
        assert!(narrator.end().is_empty());
    }

    #[test]
    fn a_phase_that_fails_has_no_table() {
        let (mut narrator, web) = (Narrator::default(), &"web".parse().unwrap());
        narrator.lines(&started(web, "install.d", "50-web"));
        assert!(narrator.lines(&finished(web, "install.d", "50-web", Exit::Status(3))).is_empty());
        assert!(narrator.end().is_empty());
    }

    #[test]
    fn a_cached_layer_has_a_line() {
        for (step, line) in [
            ("web", "Layer of element web is cached: its hooks are not run"),
            ("image:final", "Layer of the final stage is cached: its hooks are not run"),
            ("base:debian", "Layer of base:debian is cached: its hooks are not run"),
        ] {
            let step = &step.parse().unwrap();
            let hit = Event::StepHit { image: "x", step, by: Found::Input, from: "store", diff_ids: &[] };
            assert_eq!(Narrator::default().lines(&hit), [line]);
        }
    }
}
