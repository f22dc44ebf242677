//! Process set-up.

use std::process::ExitCode;

use plywood::sandbox;

fn main() -> ExitCode {
    sandbox::run_if_asked().unwrap_or(ExitCode::SUCCESS)
}
