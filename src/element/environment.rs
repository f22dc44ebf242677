//! Sourcing environment.d files: they are code, so a shell runs them, where the phase runs.

use std::collections::BTreeMap;

/// Variables and their values.
pub type Environment = BTreeMap<String, String>;

/// Separates what the fragments print from the environment they leave. Holds NUL, which no text file has.
const MARKER: &str = "plywood-environment";

const SCRIPT: &str = include_str!("environment.sh");

/// Returns the command that sources `fragments` (paths in the job's view), in order, and prints what they export.
pub fn environment_argv(fragments: impl Iterator<Item = String>) -> Vec<String> {
    let head = ["bash", "-c", SCRIPT, "environment.d", MARKER].map(str::to_owned);
    head.into_iter().chain(fragments).collect()
}

/// Splits what the command printed into the fragments' own output, which may be logged, and the environment, which may
/// not: it holds secrets. `None` for an environment that was not printed to its end.
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
    fn an_environment_that_was_cut_off_is_none() {
        for printed in [&b""[..], b"+ false\n", b"\0plywood-environment\0", b"\0plywood-environment\0A=1\0B="]
        {
            assert_eq!(split_environment(printed).1, None, "{printed:?}");
        }
    }
}
