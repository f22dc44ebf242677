//! `plywood completions` and `plywood manual`: describe the command line for shells and for `man`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap_complete::aot::{Bash, Fish, Generator, Zsh};

use super::answer::say;
use super::args::Shells;
use super::command_line;
use super::report::{Failure, Message};

/// Prints the completion script of a shell.
pub(super) fn completions(shell: Shells) -> Result<ExitCode, Failure> {
    say!("{}", script(shell).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for each command into `directory`. Creates the directory if it is missing.
pub(super) fn pages(directory: &Path) -> Result<ExitCode, Failure> {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command_line(), directory))
        .map_err(|error| {
            Message::plain(format!("cannot write man pages into `{}`: {error}", directory.display()))
        })?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shells) -> String {
    match shell {
        Shells::Bash => generate(Bash),
        Shells::Zsh => generate(Zsh),
        Shells::Fish => generate(Fish),
    }
}

fn generate(generator: impl Generator) -> String {
    // Generate into memory: the generator panics if a write fails.
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut command_line(), "plywood", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
