//! The log of a build: on standard output, in a file, or both.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use jiff::Timestamp;

use super::privilege::Owner;
use crate::cli::report::shown;
use crate::directory::open_to_append;
use crate::dropin::{Environment, LogSettings, Narrator, is_shown, stamped};
use crate::engine::Redactor;
use crate::port::{Event, Events};

/// Writes each line at once, so that it can be read while the build runs.
pub(super) struct Log {
    settings: LogSettings,
    file: Option<File>,
    narrator: Mutex<Narrator>,
    redactor: Redactor,
}

impl Log {
    /// Opens the log file, if any, for appending, and gives it to the owner. Redacts the secrets in
    /// `environment`.
    pub(super) fn open(
        settings: LogSettings,
        owner: Option<Owner>,
        environment: &Environment,
    ) -> io::Result<Self> {
        let open = |path: &String| -> io::Result<File> {
            let (file, is_new) = open_to_append(Path::new(path))?;
            owner.filter(|_| is_new).map_or(Ok(()), |owner| owner.take_file(&file))?;
            Ok(file)
        };
        let file = settings.file.as_ref().map(open).transpose()?;
        Ok(Self { settings, file, narrator: Mutex::default(), redactor: Redactor::of(environment) })
    }

    /// Writes a text, line by line.
    pub(super) fn say(&self, text: &str) {
        text.lines().filter(|line| is_shown(line)).for_each(|line| self.line(&self.redactor.text(line)));
    }

    fn line(&self, line: &str) {
        let line_with_time = stamped(Timestamp::now(), line);
        // Ignore errors: the reader may have closed standard output, or the disk may be full. The
        // build continues.
        if self.settings.on_stdout {
            let shown = if self.settings.timestamps { &line_with_time } else { line };
            let mut stdout = io::stdout().lock();
            let _ = writeln!(stdout, "{shown}").and_then(|()| stdout.flush());
        }
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.write_all(format!("{line_with_time}\n").as_bytes());
        }
    }
}

impl Events for Log {
    fn emit(&self, event: Event<'_>) {
        let lines = self.narrator.lock().unwrap_or_else(|held| held.into_inner()).lines(&event);
        // Output of hooks passes unchanged, as with diskimage-builder. Other lines may contain
        // names from registries and archives, and with them control sequences for the terminal.
        let is_output = matches!(event, Event::TaskOutput { .. });
        let text = |line: &String| if is_output { line.clone() } else { shown(line) };
        lines.iter().filter(|line| is_shown(line)).for_each(|line| self.line(&text(line)));
    }
}
