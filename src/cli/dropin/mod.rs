//! diskimage-builder's commands: the same program under other names.
//!
//! Each command is called by the program's own name (a symlink), or as the first argument:
//! `plywood disk-image-create …`. The exit status is 0, that of the hook that failed, or 1; 2 if
//! `diskimage-builder` or `element-info` cannot parse its arguments.

mod create;
mod definition;
mod image;
mod info;
mod log;
mod place;
mod privilege;
mod settings;
mod test;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use super::answer::remark;
use super::process::environment;
use super::report::{Failure, Message, causes_from, chain, shown};
use crate::dropin::{Command, Environment};
use crate::element::ResolveError;
use crate::engine::Process;

pub(super) use test::{Verdict, tests_of};

/// The version of diskimage-builder whose behavior the commands follow.
const UPSTREAM_VERSION: &str = "3.43.0";

/// The program's name in hints.
const PLYWOOD: &str = "plywood";

/// Returns the text for an error: its chain of causes, then a hint for the caller of such a
/// command. The hints of plywood's own commands refer to a project and tables of `plywood.toml`,
/// which callers of diskimage-builder do not have.
fn told(failure: &Failure) -> String {
    let hint = causes_from(failure.as_ref()).find_map(|error| {
        let own = error.downcast_ref::<Message>().and_then(|message| message.hint(PLYWOOD));
        own.or_else(|| error.downcast_ref().and_then(missing_element))
    });
    chain(failure) + &hint.map(|hint| format!("hint: {}\n", shown(&hint))).unwrap_or_default()
}

/// Returns a hint for an element that is not found.
fn missing_element(error: &ResolveError) -> Option<String> {
    match error {
        ResolveError::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
        ResolveError::Unknown { nearest: None, .. } => {
            Some("add its directory to ELEMENTS_PATH, whose entries are separated by `:`".to_owned())
        }
        ResolveError::NoOperatingSystem => {
            Some("add an element that makes an operating system, such as `debian-minimal`".to_owned())
        }
        _ => None,
    }
}

/// One call of a command.
struct Call<'a> {
    command: Command,
    /// Without the program's name.
    words: Vec<String>,
    environment: Environment,
    process: &'a Process,
}

/// Returns the command that the process's arguments (program name first) call, and the command's
/// own arguments.
pub(super) fn called(arguments: impl IntoIterator<Item = OsString>) -> Option<(Command, Vec<OsString>)> {
    let mut words = arguments.into_iter().peekable();
    let program = words.next()?.to_string_lossy().into_owned();
    let named = |name: &OsString| Command::ALL.into_iter().find(|command| command.name() == name);
    // The first argument wins over the name: under sudo, the program keeps the name of its first
    // call, which may belong to another command.
    let command = match words.peek().and_then(named) {
        Some(command) => words.next().map(|_| command),
        None => Command::of_program(&program),
    };
    Some((command?, words.collect()))
}

/// Runs a command and returns its exit status.
pub(super) fn run(command: Command, words: Vec<OsString>, process: &Process) -> ExitCode {
    let words = match words.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>() {
        Ok(words) => words,
        // Read as something like it, the name of a file would be that of another.
        Err(word) => {
            remark!("{command}: the argument `{}` is not UTF-8 text", word.display());
            return ExitCode::FAILURE;
        }
    };
    let call = Call { command, words, environment: environment(), process };
    ExitCode::from(match command {
        Command::DiskImageCreate | Command::RamdiskImageCreate => create::run(&call),
        Command::DiskimageBuilder => definition::run(&call),
        Command::ElementInfo => info::run(&call),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_called_by_the_programs_name_or_as_its_first_word() {
        type Called<'a> = Option<(Command, &'a [&'a str])>;
        let table: [(&[&str], Called<'_>); 6] = [
            (&["/usr/bin/disk-image-create", "-x", "vm"], Some((Command::DiskImageCreate, &["-x", "vm"]))),
            (&["plywood", "element-info", "vm"], Some((Command::ElementInfo, &["vm"]))),
            (&["diskimage-builder", "disk-image-create", "vm"], Some((Command::DiskImageCreate, &["vm"]))),
            (&["plywood", "build"], None),
            (&["plywood"], None),
            (&[], None),
        ];
        for (arguments, expected) in table {
            let found = called(arguments.iter().map(OsString::from));
            let expected =
                expected.map(|(command, words)| (command, words.iter().map(OsString::from).collect()));
            assert_eq!(found, expected, "{arguments:?}");
        }
    }
}
