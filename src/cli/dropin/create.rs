//! `disk-image-create` and `ramdisk-image-create`.

use std::error::Error;

use super::log::Log;
use super::privilege::{Owner, end_with_caller, run_as_root};
use super::settings::variable_of;
use super::{Call, PLYWOOD, UPSTREAM_VERSION, image, told};
use crate::cli::answer::{line, remark, tell};
use crate::cli::report::{self, Failure};
use crate::dropin::{Arguments, Environment, Invocation, LogSettings, help};
use crate::engine::BuildError;
use crate::exec::ExecError;
use crate::load::ShellError;
use crate::port::Exit;

/// Runs one call; returns its exit status.
pub(super) fn run(call: &Call<'_>) -> u8 {
    match Invocation::parse(&call.words) {
        Ok(Invocation::Help) => shown(&help(call.command)),
        // Only this line, as diskimage-builder prints it: callers compare versions.
        Ok(Invocation::Version) => shown(UPSTREAM_VERSION),
        Ok(Invocation::Build(arguments)) => return build(call, &arguments),
        Err(error) => {
            remark!("{}: {error}", call.command);
            return 1;
        }
    }
    0
}

/// Writes to standard output. Ignores errors: a closed standard output does not stop a build.
fn shown(text: &str) {
    let _ = line(format_args!("{}", text.trim_end()));
}

fn build(call: &Call<'_>, arguments: &Arguments) -> u8 {
    // A call without elements ends with an error, for which it does not need root.
    if !rustix::process::geteuid().is_root() && !arguments.elements.is_empty() {
        return run_as_root(call).unwrap_or_else(|failure| {
            tell(&report::render(&failure, PLYWOOD));
            1
        });
    }
    // sudo cannot forward SIGKILL, so this process watches the process that called sudo.
    end_with_caller(&call.environment);
    let environment = environment(call, arguments);
    let settings = LogSettings::new(arguments.log_file.as_deref(), &environment);
    if let Some(file) = &settings.file {
        shown(&format!("Output logs going to: {file}"));
    }
    let log = match Log::open(settings, Owner::of(&call.environment), &call.environment) {
        Ok(log) => log,
        Err(error) => {
            let file = arguments.log_file.as_deref().unwrap_or_default();
            remark!("error: cannot write the log `{file}`: {error}");
            return 1;
        }
    };
    log.say(&format!("diskimage-builder version {UPSTREAM_VERSION} (plywood {})", env!("CARGO_PKG_VERSION")));
    match image::build(call, arguments, &environment, &log) {
        Ok(()) => {
            log.say("Build completed successfully");
            0
        }
        Err(failure) => {
            log.say(&told(&failure));
            if let Some(Exit::OverLimit(limit)) = exit_of(&failure) {
                log.say(&format!("hint: to allow more: raise {}", variable_of(limit)));
            }
            status_of(&failure)
        }
    }
}

/// Returns the variables that the build starts from; almost none if the caller asked for a clear
/// environment.
fn environment(call: &Call<'_>, arguments: &Arguments) -> Environment {
    let clears = arguments.clear || call.environment.get("CLEAR_ENV").is_some_and(|value| value == "1");
    if !clears {
        return call.environment.clone();
    }
    shown(
        "Clearing the environment.\n(note this will prevent much of the local-config element from working)",
    );
    // plywood uses it to find elements, as diskimage-builder does; hooks do not see it.
    let kept = call.environment.get_key_value("VIRTUAL_ENV");
    kept.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the exit of the hook or task that made the build fail, if any.
fn exit_of(failure: &Failure) -> Option<Exit> {
    let exit = |error: &(dyn Error + 'static)| error.downcast_ref::<BuildError>().and_then(BuildError::exit);
    report::causes_from(failure.as_ref()).find_map(exit)
}

/// Returns the status of a fragment of `environment.d` that failed. Fragments are sourced on the
/// host before planning, and may refuse the image as hooks do.
fn status_of_fragment(failure: &Failure) -> Option<i32> {
    let status = |error: &(dyn Error + 'static)| match error.downcast_ref() {
        Some(ShellError::Fragment { exit, .. } | ShellError::Environment(ExecError::Failed { exit, .. })) => {
            Some(exit.code().unwrap_or(1))
        }
        _ => None,
    };
    report::causes_from(failure.as_ref()).find_map(status)
}

/// Returns the status of the hook that failed; 1 for all other failures.
fn status_of(failure: &Failure) -> u8 {
    let status = exit_of(failure).map(Exit::shell_status).or_else(|| status_of_fragment(failure));
    // Callers treat 0 as success.
    status.and_then(|status| u8::try_from(status).ok()).filter(|status| *status != 0).unwrap_or(1)
}
