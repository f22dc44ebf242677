//! The lines of a log.
//!
//! Source: diskimage-builder, `lib/outfilter.py`.

use jiff::Timestamp;

use super::variables::{Environment, number, text};

/// The destinations and the format of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    pub file: Option<String>,
    pub on_stdout: bool,
    /// Whether lines on standard output begin with the time. Lines of the file always do.
    pub timestamps: bool,
}

impl LogSettings {
    /// Parses `DIB_QUIET` and `DIB_NO_TIMESTAMP`. A log file alone disables standard output.
    pub fn new(file: Option<&str>, environment: &Environment) -> Self {
        let is_one = |name| number(environment, name) == Some(1);
        let quiet = match text(environment, "DIB_QUIET") {
            None => file.is_some(),
            Some(_) => is_one("DIB_QUIET"),
        };
        Self {
            file: file.filter(|file| !file.is_empty()).map(str::to_owned),
            on_stdout: !quiet,
            timestamps: !is_one("DIB_NO_TIMESTAMP"),
        }
    }
}

/// Returns true if a line belongs in the log. Lines in which scripts change their own tracing do
/// not.
pub fn is_shown(line: &str) -> bool {
    !line.contains("xtrace") && !line.contains("set +o")
}

/// Returns a line with the time in front, in UTC with milliseconds.
pub fn stamped(time: Timestamp, line: &str) -> String {
    let milliseconds = time.subsec_millisecond();
    format!("{}.{milliseconds:03} | {line}", time.strftime("%Y-%m-%d %H:%M:%S"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::variables::fixture::{Pairs, environment};

    #[test]
    fn a_log_file_disables_standard_output_by_default() {
        let table: [(Option<&str>, Pairs<'_>, bool); 7] = [
            (None, &[], true),
            (None, &[("DIB_QUIET", "1")], false),
            (None, &[("DIB_QUIET", "0")], true),
            (Some("log"), &[], false),
            (Some("log"), &[("DIB_QUIET", "")], false),
            (Some("log"), &[("DIB_QUIET", "0")], true),
            (Some("log"), &[("DIB_QUIET", "1")], false),
        ];
        for (file, variables, on_stdout) in table {
            let settings = LogSettings::new(file, &environment(variables));
            assert_eq!(settings.on_stdout, on_stdout, "{file:?} {variables:?}");
        }
        assert!(LogSettings::new(None, &environment(&[])).timestamps);
        assert!(!LogSettings::new(None, &environment(&[("DIB_NO_TIMESTAMP", "1")])).timestamps);
    }

    #[test]
    fn a_line_has_its_time_in_front() {
        let time = Timestamp::from_millisecond(1_700_000_000_042).unwrap();
        assert_eq!(stamped(time, "+ true"), "2023-11-14 22:13:20.042 | + true");
    }

    #[test]
    fn lines_that_change_tracing_are_left_out() {
        let table = [
            ("+ set +o xtrace", false),
            ("++ grep xtrace", false),
            ("+ set +o pipefail", false),
            ("x", true),
        ];
        for (line, shown) in table {
            assert_eq!(is_shown(line), shown, "{line}");
        }
    }
}
