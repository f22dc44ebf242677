//! Shows events: a live display on a terminal, plain lines elsewhere, JSON for programs. All of it
//! on standard error.

mod json;
mod live;
mod plain;
mod text;
mod transfer;

pub(super) use text::{count, size};

use std::io::IsTerminal;

use super::{args, trace};
use crate::port::Events;

/// The amount of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The caller reports the error that ends a command.
    Quiet,
    Warnings,
    /// Also the start and end of steps and stages.
    Normal,
    /// Also the output of hooks.
    Verbose,
}

impl Detail {
    /// Returns the detail that the command line asks for.
    pub(super) fn of(global: &args::Global) -> Self {
        match (global.quiet, global.verbose) {
            (true, _) => Detail::Quiet,
            (_, 1..) => Detail::Verbose,
            _ => Detail::Normal,
        }
    }

    /// Returns the detail for commands that print an answer: warnings at most.
    pub(super) fn beside_answer(global: &args::Global) -> Self {
        if global.quiet { Detail::Quiet } else { Detail::Warnings }
    }
}

/// Returns a display of this kind.
pub(super) fn renderer(kind: args::Progress, detail: Detail) -> Box<dyn Events> {
    // Trace lines would break up a live display.
    let live = detail == Detail::Normal && std::io::stderr().is_terminal() && !trace::is_on();
    match kind {
        args::Progress::Json => Box::new(json::Json),
        args::Progress::Auto if live => Box::new(live::Live::new()),
        args::Progress::Auto | args::Progress::Plain => Box::new(plain::Plain::new(detail)),
    }
}
