//! The trace of a command: the actions of its edges, line by line on standard error, for bug
//! reports.
//!
//! Edge modules trace through the macros of `tracing`, which cost one comparison if there is no
//! trace. Secrets are redacted in the finished line, so that no event can leak one.

use std::io::{self, Write};
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;

use super::answer::tell;
use super::args::Progress;
use super::cut::cut;
use super::report::{Failure, Message, printable};
use crate::element::Environment;
use crate::engine::{redact, redacted};

/// The variable that chooses modules and levels, in the form of `RUST_LOG`: `debug`,
/// `plywood::registry=trace,plywood::store=debug`.
pub(super) const VARIABLE: &str = "PLYWOOD_LOG";

/// The first segment of the crate's module paths.
const CRATE: &str = env!("CARGO_CRATE_NAME");

/// The maximum length of a line in characters, and the part that is kept of its beginning. Mount
/// options name every layer, so lines are longer than other messages.
const MAX_CHARACTERS: usize = 20_000;
const BEGINNING: usize = 15_000;

/// Starts the trace, if `-vv` or [`VARIABLE`] in `environment` asks for one.
///
/// # Errors
/// If the variable's value cannot be read.
pub(super) fn start(verbose: u8, progress: Progress, environment: &Environment) -> Result<(), Failure> {
    let named = environment.get(VARIABLE).map(String::as_str).unwrap_or_default();
    let Some(filter) = filter(named, verbose)? else { return Ok(()) };
    let lines = fmt::layer().with_ansi(false).with_writer(move || Lines(progress));
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // This fails if a subscriber exists; each process starts at most one command.
    let _ = tracing::subscriber::set_global_default(subscriber);
    // After the trace has started: without a trace, `redact` keeps nothing.
    redact(environment);
    Ok(())
}

/// Returns true if there is a trace.
pub(super) fn is_on() -> bool {
    LevelFilter::current() != LevelFilter::OFF
}

fn filter(named: &str, verbose: u8) -> Result<Option<Targets>, Failure> {
    if !named.is_empty() {
        return parse(named).map(Some);
    }
    Ok(match verbose {
        0 | 1 => None,
        2 => Some(Targets::new().with_target(CRATE, LevelFilter::DEBUG)),
        _ => Some(Targets::new().with_target(CRATE, LevelFilter::TRACE)),
    })
}

fn parse(named: &str) -> Result<Targets, Failure> {
    let wrong = |problem: String| {
        Message::with_hint(
            format!("cannot use {VARIABLE}=`{named}`: {problem}"),
            format!(
                "name a level, or modules with levels: {VARIABLE}=debug, {VARIABLE}={CRATE}::registry=trace"
            ),
        )
    };
    let targets = Targets::from_str(named).map_err(|error| wrong(error.to_string()))?;
    // The filter would accept any other name, and then match nothing.
    match targets.iter().find(|(target, _)| target.split("::").next() != Some(CRATE)) {
        Some((other, _)) => Err(wrong(format!("`{other}` is neither a level nor a module of plywood"))),
        None => Ok(targets),
    }
}

/// Receives one finished line at a time.
struct Lines(Progress);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = line_of(&String::from_utf8_lossy(line));
        let text = match self.0 {
            Progress::Json => serde_json::json!({ "event": "trace", "message": text }).to_string(),
            Progress::Auto | Progress::Plain => text,
        };
        tell(&format!("{text}\n"));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a line that is safe to show. Redacts before it cuts: half a secret would not be
/// recognized.
fn line_of(text: &str) -> String {
    printable(&cut(redacted(text.trim_end()), MAX_CHARACTERS, BEGINNING)).replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_choose_what_is_traced() {
        let level = |named: &str, verbose, target: &str| {
            let filter = filter(named, verbose).map_err(|error| error.to_string()).unwrap();
            filter.and_then(|filter| {
                let levels = [tracing::Level::ERROR, tracing::Level::DEBUG, tracing::Level::TRACE];
                levels.into_iter().rfind(|level| filter.would_enable(target, level))
            })
        };
        let registry = "plywood::registry::transport";
        assert_eq!(level("", 0, registry), None);
        assert_eq!(level("", 1, registry), None);
        assert_eq!(level("", 2, registry), Some(tracing::Level::DEBUG));
        assert_eq!(level("", 3, registry), Some(tracing::Level::TRACE));
        assert_eq!(level("", 3, "ureq"), None, "other crates do not know what is secret");
        assert_eq!(level("error", 3, registry), Some(tracing::Level::ERROR));
        assert_eq!(level("plywood::registry=trace", 0, registry), Some(tracing::Level::TRACE));
        assert_eq!(level("plywood::registry=trace", 0, "plywood::store"), None);
    }

    #[test]
    fn a_filter_that_matches_nothing_is_refused() {
        for named in ["registry=debug", "verbose", "plywood=loud", "plywoodx=debug"] {
            let error = filter(named, 0).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot use PLYWOOD_LOG=`{named}`: ")), "{error}");
        }
    }

    #[test]
    fn a_line_has_no_break_and_no_control_character() {
        assert_eq!(line_of("argv=a\nnext\u{1b}[0m\n"), "argv=a\\nnext\u{fffd}[0m");
    }
}
