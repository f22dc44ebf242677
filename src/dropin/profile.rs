//! The times of a phase's hooks, in dib-run-parts' format. Programs parse these tables in logs.

use std::time::Duration;

/// The prefix of dib-run-parts' own lines.
pub(super) const PREFIX: &str = "dib-run-parts ";

/// The hooks of one phase, and their times.
#[derive(Debug, Default)]
pub(super) struct Profile {
    scripts: Vec<(String, Duration)>,
}

impl Profile {
    /// Adds a finished hook.
    pub(super) fn add(&mut self, script: &str, took: Duration) {
        self.scripts.push((script.to_owned(), took));
    }

    /// Returns the lines of the table for the hooks directory `target` (`install.d`).
    pub(super) fn table(&self, target: &str) -> Vec<String> {
        let rows =
            self.scripts.iter().map(|(script, took)| format!("{script:<40} {:>10.3}", took.as_secs_f64()));
        let head = [
            "----------------------- PROFILING -----------------------".to_owned(),
            String::new(),
            format!("Target: {target}"),
            String::new(),
            format!("{:<40} {:>9}", "Script", "Seconds"),
            format!("{:<40} {:>9}", "-".repeat(39), "-".repeat(10)),
            String::new(),
        ];
        let foot = [String::new(), "--------------------- END PROFILING ---------------------".to_owned()];
        head.into_iter().chain(rows).chain(foot).map(|line| format!("{PREFIX}{line}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same columns as dib-run-parts prints.
    #[test]
    fn a_table_has_the_format_of_dib_run_parts() {
        let mut profile = Profile::default();
        profile.add("01-package-installs", Duration::from_millis(63_417));
        profile.add("50-web", Duration::from_micros(4_600));
        let expected = "\
dib-run-parts ----------------------- PROFILING -----------------------
dib-run-parts 
dib-run-parts Target: install.d
dib-run-parts 
dib-run-parts Script                                     Seconds
dib-run-parts ---------------------------------------  ----------
dib-run-parts 
dib-run-parts 01-package-installs                          63.417
dib-run-parts 50-web                                        0.005
dib-run-parts 
dib-run-parts --------------------- END PROFILING ---------------------";
        assert_eq!(profile.table("install.d").join("\n"), expected);
    }
}
