//! Sourcing the files of `environment.d`. They are code, so a shell runs them, on the host or in
//! the target as the phase requires.

use std::collections::BTreeMap;

/// Variables and their values.
pub type Environment = BTreeMap<String, String>;

/// Separates the output of the fragments from the environment that they leave. Contains NUL, which
/// text files do not contain.
const MARKER: &str = "plywood-environment";

const SCRIPT: &str = include_str!("environment.sh");

/// Returns the command that sources `fragments` (paths in the job's view), in order, and prints
/// their exported variables.
pub fn environment_argv(fragments: impl Iterator<Item = String>) -> Vec<String> {
    let head = ["bash", "-c", SCRIPT, "environment.d", MARKER].map(str::to_owned);
    head.into_iter().chain(fragments).collect()
}

/// The command prints this, followed by the path, before it sources a fragment.
const SOURCING: &str = "dib-run-parts Sourcing environment file ";

/// Finds the last sourced fragment in the output of the command. Returns its path and the output
/// after it.
pub fn last_fragment(printed: &str) -> Option<(&str, &str)> {
    printed[printed.rfind(SOURCING)? + SOURCING.len()..].split_once('\n')
}

/// Returns the lines that a fragment itself printed. If it printed nothing, returns the trace of
/// its commands.
pub fn without_trace(printed: &str) -> String {
    let (trace, own): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.starts_with('+'));
    if own.is_empty() { trace } else { own }.join("\n")
}

/// Splits the output of the command into the fragments' own output, which may be logged, and the
/// environment, which may not, because it contains secrets. `None` if the environment was not
/// printed to its end.
pub fn split_environment(printed: &[u8]) -> (&[u8], Option<Environment>) {
    let marker = format!("\0{MARKER}\0").into_bytes();
    match printed.windows(marker.len()).position(|window| window == marker) {
        Some(at) => (&printed[..at], parse(&printed[at + marker.len()..])),
        None => (printed, None),
    }
}

fn parse(bytes: &[u8]) -> Option<Environment> {
    let variables = bytes.strip_suffix(b"\0")?;
    variables
        .split(|&byte| byte == 0)
        .map(|variable| {
            let text = String::from_utf8_lossy(variable);
            text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_split_from_the_output_at_the_marker() {
        let (output, environment) =
            split_environment(b"+ export A=1\n\0plywood-environment\0A=1\0B=x\ny=z\0");
        assert_eq!(output, b"+ export A=1\n");
        let expected = [("A", "1"), ("B", "x\ny=z")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(environment, Some(expected.into()));
    }

    #[test]
    fn the_last_sourced_fragment_is_found_with_its_output() {
        let printed = "dib-run-parts Sourcing environment file /e/a/environment.d/10-a\n+ source /e/a\n\
                       dib-run-parts Sourcing environment file /e/b/environment.d/10-b\n+ source /e/b\n++ echo no\nno\n";
        let (path, rest) = last_fragment(printed).unwrap();
        assert_eq!((path, without_trace(rest).as_str()), ("/e/b/environment.d/10-b", "no"));
        assert_eq!(without_trace("+ source /e/b\n++ false\n"), "+ source /e/b\n++ false");
        assert_eq!(last_fragment("bash: no such file\n"), None);
    }

    #[test]
    fn an_environment_that_was_cut_off_is_none() {
        for printed in [&b""[..], b"+ false\n", b"\0plywood-environment\0", b"\0plywood-environment\0A=1\0B="]
        {
            assert_eq!(split_environment(printed).1, None, "{printed:?}");
        }
    }
}
