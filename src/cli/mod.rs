//! Arguments, messages, progress, exit status; the one place that wires edges to ports.
//!
//! Exit status: 0 done; 1 the request cannot be met; 2 wrong command line; 128 and the signal that ended it.

mod answer;
mod args;
mod base;
mod boot;
mod build;
mod cache;
mod container;
mod context;
mod delivery;
mod disk;
mod dropin;
mod elements;
mod explain;
mod fetch;
mod hint;

mod import;
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

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use report::Failure;

/// What the process was given at its start.
pub struct Process {
    /// The process' own mount namespace; `None` without root.
    pub mounts: Option<crate::sandbox::PrivateMounts>,
    /// Becomes true when the user asks to stop.
    pub interrupted: Arc<AtomicBool>,
}

/// Returns the definition of the command line: for reference pages and shell completions.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Runs the command that the arguments of the process name, and returns its exit status.
pub fn run(process: &Process) -> ExitCode {
    if let Some((command, words)) = dropin::called(std::env::args_os()) {
        return dropin::run(command, words, process);
    }
    let cli = Cli::parse();
    match dispatch(&cli, process) {
        Ok(status) => status,
        Err(failure) if answer::is_enough(&failure) => ExitCode::SUCCESS,
        Err(failure) => {
            let plywood = cli.global.invocation();
            let text = match cli.command.progress() {
                Some(args::Progress::Json) => report::render_json(&failure, &plywood),
                _ => report::render(&failure, &plywood),
            };
            // Nobody is left to be told if this fails.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
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
        Command::Boot(args) => boot::run(args),
        Command::Import(args) => import::run(global, args, process),
        Command::Push(args) => push::run(global, args, process),
        Command::Pull(args) => pull::run(global, args, process),
        Command::Store(command) => store::run(global, command),
        Command::Cache(command) => cache::run(global, command, process),
        Command::Key(command) => key::run(global, command),
    }
}
