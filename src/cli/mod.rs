//! Arguments, messages, progress, exit status; the one place that wires edges to ports.
//!
//! Exit status: 0 done; 1 the request cannot be met; 2 wrong command line; 128 and the signal that ended it.

mod answer;
mod args;
mod base;
mod boot;
mod breaks;
mod build;
mod cache;
mod container;
mod context;
mod delivery;
mod disk;
mod doctor;
mod dropin;
mod elements;
mod explain;
mod fetch;
mod hint;
mod host;
mod import;
mod interrupt;
mod key;
mod layers;
mod origin;
mod outputs;
mod plan;
mod preflight;
mod progress;
mod pull;
mod push;
mod registry;
mod report;
mod sharing;
mod shell;

mod sources;
mod store;
mod wiring;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::{CommandFactory, Parser};

use args::{Cli, Command, Progress};
use report::Failure;

/// What the process was given at its start.
pub struct Process {
    /// The process' own mount namespace, or why it has none.
    pub mounts: Result<crate::sandbox::PrivateMounts, crate::port::SandboxError>,
    /// Becomes true when the user asks to stop.
    pub interrupted: Arc<AtomicBool>,
    /// The number of the signal that asked, or 0.
    pub caught: Arc<AtomicUsize>,
}

impl Process {
    /// Returns the exit status of a process that a signal ended, as a shell shows it; `None` if none was caught.
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

/// Runs the command that the arguments of the process name, and returns its exit status.
pub fn run(process: &Process) -> ExitCode {
    if let Some((command, words)) = dropin::called(std::env::args_os()) {
        interrupt::end_in_time(process, Progress::Plain);
        return dropin::run(command, words, process);
    }
    let mut cli = Cli::parse();
    if cli.global.project == Path::new(".") {
        cli.global.project = crate::load::find_project();
    }
    // Not before the command line is read: how the last message looks depends on it.
    let progress = cli.command.progress().unwrap_or(Progress::Plain);
    interrupt::end_in_time(process, progress);
    let done = dispatch(&cli, process).map_err(|failure| interrupt::reason(process, failure));
    match done {
        Ok(status) => status,
        Err(failure) if answer::is_enough(&failure) => ExitCode::SUCCESS,
        Err(failure) => {
            let plywood = cli.global.invocation();
            interrupt::tell(&failure, progress, &plywood);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: &Cli, process: &Process) -> Result<ExitCode, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Build(args) => build::run(global, args, process),
        Command::Plan(args) => plan::run(global, args, process),
        Command::Explain(args) => explain::run(global, args, process),
        Command::Layers(args) => layers::run(global, args),
        Command::Elements(command) => elements::run(global, command, process),
        Command::Shell(args) => shell::run(global, args, process),
        Command::Boot(args) => boot::run(global, args, process),
        Command::Import(args) => import::run(global, args, process),
        Command::Push(args) => push::run(global, args, process),
        Command::Pull(args) => pull::run(global, args, process),
        Command::Store(command) => store::run(global, command, process),
        Command::Cache(command) => cache::run(global, command, process),
        Command::Doctor(args) => doctor::run(global, args, process),
        Command::Key(command) => key::run(global, command),
    }
}
