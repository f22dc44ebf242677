//! Arguments, messages, progress, exit status: front ends of the engine.
//!
//! Exit status: 0 success; 1 the request failed; 2 wrong command line; 128 plus the signal that
//! ended the command.

mod answer;
mod args;
mod boot;
mod build;
mod cache;
mod cut;
mod doctor;
mod dropin;
mod elements;
mod explain;
mod hint;
mod import;
mod interrupt;
mod key;
mod layers;
mod manual;
mod plan;
mod process;
mod progress;
mod pull;
mod push;
mod report;
mod shell;
mod store;
mod trace;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::{CommandFactory, Parser};

use args::{Cli, Command, Progress};
use process::environment;
use report::Failure;

use crate::engine::{Mounts, Process, Session};
use crate::exec::raise_open_files;

/// The state of the process at its start.
pub struct Program {
    process: Process,
    /// The number of the signal that asked to stop, or 0.
    caught: Arc<AtomicUsize>,
}

impl Program {
    /// Takes the process's own mount namespace, or the reason why it has none; a flag that becomes
    /// true when the user asks to stop; and the cell for the number of that signal.
    pub fn new(mounts: Mounts, interrupted: Arc<AtomicBool>, caught: Arc<AtomicUsize>) -> Self {
        Self { process: Process { mounts, interrupted }, caught }
    }

    /// Returns the exit status of a process that a signal ended, as a shell shows it; `None` if no
    /// signal was caught.
    pub fn signal_status(&self) -> Option<u8> {
        signal_status(&self.caught)
    }
}

fn signal_status(caught: &AtomicUsize) -> Option<u8> {
    match u8::try_from(caught.load(Ordering::Relaxed)) {
        Ok(signal @ 1..) => Some(128 + signal),
        _ => None,
    }
}

/// Returns the definition of the command line: for reference pages and shell completions.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the command in the process's arguments, and returns its exit status.
pub fn run(program: &Program) -> ExitCode {
    let process = &program.process;
    raise_open_files();
    // First of all: these commands have options of their own.
    if let Some((command, words)) = dropin::called(std::env::args_os()) {
        interrupt::end_in_time(program, Progress::Plain);
        if let Err(failure) = trace::start(0, Progress::Plain, &environment()) {
            interrupt::tell(&failure, Progress::Plain, "plywood");
            return ExitCode::FAILURE;
        }
        return dropin::run(command, words, process);
    }
    let mut cli = Cli::parse();
    cli.global.choose_project();
    // After the command line is parsed, because it decides the form of the last message.
    let progress = cli.command.progress().unwrap_or(Progress::Plain);
    interrupt::end_in_time(program, progress);
    let traced = trace::start(cli.global.verbose, progress, &environment());
    let done = traced
        .and_then(|()| dispatch(&cli, &cli.global.session(process)))
        .map_err(|failure| interrupt::reason(process, failure));
    match done {
        Ok(status) => status,
        Err(failure) => {
            let plywood = cli.global.invocation();
            interrupt::tell(&failure, progress, &plywood);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Build(args) => build::run(global, args, session),
        Command::Plan(args) => plan::run(global, args, session),
        Command::Explain(args) => explain::run(global, args, session),
        Command::Layers(args) => layers::run(global, args, session),
        Command::Elements(command) => elements::run(global, command, session),
        Command::Shell(args) => shell::run(global, args, session),
        Command::Boot(args) => boot::run(global, args, session.process),
        Command::Import(args) => import::run(global, args, session),
        Command::Push(args) => push::run(global, args, session),
        Command::Pull(args) => pull::run(global, args, session),
        Command::Store(command) => store::run(global, command, session),
        Command::Cache(command) => cache::run(global, command, session),
        Command::Doctor(args) => doctor::run(global, args, session),
        Command::Key(command) => key::run(command, session),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Manual { directory } => manual::pages(directory),
    }
}
