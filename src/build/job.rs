//! Runs jobs, keeps their output, and reports how they ended.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use super::error::Outcome;
use super::redact::Redactor;
use super::{BuildError, Ports};
use crate::element::{Environment, Phase, split_environment};
use crate::plan::StepName;
use crate::port::{Event, Exit, Job, Root, SandboxError};

/// How many lines of output an error shows.
const TAIL_LINES: usize = 20;

/// Where a line is cut: a progress bar or a binary may go on for ever without the end of one.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Runs the jobs of one step.
#[derive(Clone, Copy)]
pub(super) struct JobRun<'a> {
    pub(super) ports: &'a Ports<'a>,
    pub(super) image: &'a str,
    pub(super) step: &'a StepName,
}

impl JobRun<'_> {
    /// Runs `job`, called `task`, to its end; its output goes to its log and, line by line, into
    /// events.
    pub(super) fn perform(
        &self,
        root: &dyn Root,
        job: &Job,
        phase: &str,
        task: &str,
    ) -> Result<Outcome, BuildError> {
        self.announce(phase, task);
        let started = Instant::now();
        let mut output = self.output(job, phase, task)?;
        let mut minutes = Minutes::since(started);
        let ran = root.run(job, &mut |bytes| {
            output.take(bytes);
            if let Some(milliseconds) = minutes.passed() {
                let (image, step) = (self.image, self.step);
                self.ports.events.emit(Event::TaskRunning { image, step, phase, task, milliseconds });
            }
        });
        let exit = self.until(phase, task, started, ran)?;
        self.conclude(phase, task, exit, started, output)
    }

    /// Runs the job that sources environment.d files and returns the environment they leave.
    pub(super) fn source_environment(
        &self,
        root: &dyn Root,
        job: &Job,
        phase: Phase,
    ) -> Result<Environment, BuildError> {
        const TASK: &str = Event::ENVIRONMENT;
        self.announce(phase.dir(), TASK);
        let started = Instant::now();
        let mut printed = Vec::new();
        let ran = root.run(job, &mut |bytes| printed.extend_from_slice(bytes));
        let exit = self.until(phase.dir(), TASK, started, ran)?;
        let (text, environment) = split_environment(&printed);
        let mut output = self.output(job, phase.dir(), TASK)?;
        output.take(text);
        let outcome = self.conclude(phase.dir(), TASK, exit, started, output)?;
        environment.filter(|_| exit.is_success()).ok_or_else(|| BuildError::EnvironmentFailed {
            image: self.image.to_owned(),
            step: self.step.to_owned(),
            phase: phase.to_string(),
            outcome: Box::new(outcome),
        })
    }

    /// Runs `job`, called `task`, and returns its output. Only a failure leaves a log.
    pub(super) fn capture(
        &self,
        root: &dyn Root,
        job: &Job,
        phase: Phase,
        task: &str,
    ) -> Result<Vec<u8>, BuildError> {
        let started = Instant::now();
        let mut printed = Vec::new();
        let ran = root.run(job, &mut |bytes| printed.extend_from_slice(bytes));
        let exit = self.until(phase.dir(), task, started, ran)?;
        if exit.is_success() {
            return Ok(printed);
        }
        let mut output = self.output(job, phase.dir(), task)?;
        output.take(&printed);
        let outcome = self.conclude(phase.dir(), task, exit, started, output)?;
        Err(self.task_failed(task, outcome))
    }

    /// Makes the error of a task that is plywood's own work.
    pub(super) fn task_failed(&self, task: &str, outcome: Outcome) -> BuildError {
        BuildError::TaskFailed {
            image: self.image.to_owned(),
            step: self.step.to_owned(),
            task: task.to_owned(),
            outcome: Box::new(outcome),
        }
    }

    /// Adds to the error of a job that the user stopped which job it was, and how long it ran.
    fn until(
        &self,
        phase: &str,
        task: &str,
        started: Instant,
        ran: Result<Exit, SandboxError>,
    ) -> Result<Exit, BuildError> {
        ran.map_err(|error| match error {
            SandboxError::Interrupted => BuildError::Interrupted {
                step: self.step.to_owned(),
                phase: phase.to_owned(),
                task: task.to_owned(),
                ran: started.elapsed(),
            },
            other => other.into(),
        })
    }

    fn announce(&self, phase: &str, task: &str) {
        self.ports.events.emit(Event::TaskStarted { image: self.image, step: self.step, phase, task });
    }

    fn output<'b>(&'b self, job: &Job, phase: &str, task: &'b str) -> Result<Output<'b>, BuildError> {
        let name = format!("{phase}-{task}");
        let (log, file) = self
            .ports
            .logs
            .create(self.image, self.step, &name)
            .map_err(|source| BuildError::Log { task: name, source })?;
        Ok(Output {
            jobs: self,
            task,
            redactor: self.redactor(job),
            log,
            file,
            line: Vec::new(),
            tail: VecDeque::new(),
        })
    }

    /// Returns a redactor of the secrets of a job's environment, and of those that package managers
    /// read from files.
    fn redactor(&self, job: &Job) -> Redactor {
        let mut environment = self.ports.packages.secrets();
        environment.extend(job.env.clone());
        Redactor::of(&environment)
    }

    fn conclude(
        &self,
        phase: &str,
        task: &str,
        exit: Exit,
        started: Instant,
        mut output: Output<'_>,
    ) -> Result<Outcome, BuildError> {
        output.end_line();
        output.file.flush().map_err(|source| BuildError::Log { task: task.to_owned(), source })?;
        self.ports.events.emit(Event::TaskFinished {
            image: self.image,
            step: self.step,
            phase,
            task,
            exit,
            milliseconds: started.elapsed().as_millis() as u64,
            log: &output.log,
        });
        Ok(Outcome { exit, tail: output.tail.into(), log: output.log, is_kept: false })
    }
}

/// Returns the package whose scriptlet failed, if dnf says so in this line. dnf calls it a warning,
/// and its exit status is 0.
fn failed_scriptlet(line: &str) -> Option<&str> {
    let (_, package) = line.strip_prefix("Error in ")?.split_once(" scriptlet in rpm package ")?;
    Some(package.trim())
}

/// Tells once for each minute that a job runs.
struct Minutes {
    started: Instant,
    told: u64,
}

impl Minutes {
    fn since(started: Instant) -> Self {
        Self { started, told: 0 }
    }

    /// Returns how long the job has been running, in milliseconds, if a minute has passed since the
    /// last time.
    fn passed(&mut self) -> Option<u64> {
        let elapsed = self.started.elapsed();
        let minutes = elapsed.as_secs() / 60;
        if minutes <= self.told {
            return None;
        }
        self.told = minutes;
        Some(elapsed.as_millis() as u64)
    }
}

/// Takes a job's output apart into lines, without the secrets that the job was given.
struct Output<'a> {
    jobs: &'a JobRun<'a>,
    task: &'a str,
    redactor: Redactor,
    log: PathBuf,
    file: Box<dyn Write + Send>,
    line: Vec<u8>,
    tail: VecDeque<String>,
}

impl Output<'_> {
    fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.end_line();
            } else if self.line.len() >= MAX_LINE_BYTES {
                self.cut_line();
            }
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            let redacted = self.redactor.apply(&self.line);
            self.line.clear();
            self.show(&redacted);
        }
    }

    /// Ends the line here, and begins another one with the bytes that may begin a secret.
    fn cut_line(&mut self) {
        let (redacted, covered) = self.redactor.apply_to_beginning(&self.line);
        self.line.drain(..covered);
        self.show(&redacted);
    }

    fn show(&mut self, redacted: &[u8]) {
        // A log that cannot be written (a full disk) must not end the hook; the flush at its end
        // reports it.
        let _ = self.file.write_all(redacted);
        let line = String::from_utf8_lossy(redacted.trim_ascii_end()).into_owned();
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        if let Some(package) = failed_scriptlet(&line) {
            let step = self.jobs.step;
            let message = format!(
                "step `{step}`: a scriptlet of package `{package}` failed, and the package manager went on: {}",
                self.log.display()
            );
            self.jobs.ports.events.emit(Event::Warning { message: &message });
        }
        self.jobs.ports.events.emit(Event::TaskOutput {
            image: self.jobs.image,
            step: self.jobs.step,
            task: self.task,
            line: &line,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_scriptlet_is_found_in_the_output_of_dnf() {
        for (line, package) in [
            ("Error in POSTIN scriptlet in rpm package broken-scriptlet", Some("broken-scriptlet")),
            ("Error in PREUN scriptlet in rpm package a ", Some("a")),
            ("Error: Unable to find a match: a", None),
            ("warning: %post(a-1-1.noarch) scriptlet failed, exit status 1", None),
        ] {
            assert_eq!(failed_scriptlet(line), package, "{line}");
        }
    }
}
