//! Evaluates variables and lines of elements with a shell, before there is a plan.
//!
//! Two facts about an element depend on variables that `environment.d` sets: the sources that
//! plywood fetches, and the install type. diskimage-builder finds them out on the build host, in
//! its extra-data phase, and so does this module. It runs nothing else of an element.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use crate::element::{
    Element, ElementName, Environment, SourceLine, environment_argv, environment_order, last_fragment,
    split_environment, without_trace,
};
use crate::exec::{ExecError, Program, Run};
use crate::plan::is_secret;

const BASH: Program = Program { name: "bash", package: "bash" };

/// Expands its argument as diskimage-builder does. `-f` keeps wildcards, because `*` is a valid
/// reference of a source.
const EXPAND: &str = "set -euf; eval echo $1";

/// The name under which the expanding shell reports errors.
const EXPANDER: &str = "expand";

/// A fragment or line of an element that the shell cannot evaluate.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    #[error("`environment.d/{fragment}` of element `{element}` failed with {exit}: {printed}")]
    Fragment {
        element: ElementName,
        fragment: String,
        exit: ExitStatus,
        /// The end of its output.
        printed: String,
    },
    #[error("environment.d of the image's elements fails on this machine")]
    Environment(#[source] ExecError),
    #[error(
        "{} ends the shell that sources it: fragments of environment.d are sourced, and may `return`, but not `exit`",
        fragment_text(fragment.as_ref())
    )]
    Ended {
        /// The element and the name of the fragment, if the trace of the shell has them.
        fragment: Option<(ElementName, String)>,
    },
    #[error("`{file}` of element `{element}`, line {line}, cannot be expanded: {printed}")]
    Line {
        element: String,
        file: String,
        /// Counted from 1.
        line: usize,
        /// The message of the shell.
        printed: String,
    },
    #[error(transparent)]
    Shell(ExecError),
}

fn fragment_text(fragment: Option<&(ElementName, String)>) -> String {
    match fragment {
        Some((element, name)) => format!("`environment.d/{name}` of element `{element}`"),
        None => "environment.d of the image's elements".to_owned(),
    }
}

/// Sources the fragments of environment.d of `elements` on the build host, starting with
/// `variables`. Returns the resulting variables.
pub fn source_environment(
    elements: &[Arc<Element>],
    variables: &Environment,
) -> Result<Environment, ShellError> {
    let mut fragments: Vec<_> = elements
        .iter()
        .flat_map(|element| element.environment_fragments().into_iter().map(move |(name, _)| (name, element)))
        .collect();
    if fragments.is_empty() {
        return Ok(variables.clone());
    }
    fragments.sort_by(|a, b| environment_order(a.0, b.0));
    let paths = fragments.iter().map(|(name, element)| path_of(element, name).display().to_string());
    let argv = environment_argv(paths);
    let printed = bash(variables).args(&argv[1..]).capture_both();
    let (output, errors) = printed.map_err(|error| failed_fragment(&fragments, error))?;
    split_environment(&output).1.ok_or_else(|| {
        let last = last_fragment(&errors).and_then(|(path, _)| fragment_at(&fragments, path));
        ShellError::Ended { fragment: last }
    })
}

fn path_of(element: &Element, fragment: &str) -> PathBuf {
    element.root.join("environment.d").join(fragment)
}

/// Returns the element and the name of the fragment at `path`.
fn fragment_at(fragments: &[(&str, &Arc<Element>)], path: &str) -> Option<(ElementName, String)> {
    let at = fragments.iter().find(|(name, element)| path_of(element, name) == Path::new(path));
    at.map(|(name, element)| (element.name.clone(), (*name).to_owned()))
}

/// Returns the error of the fragment that made the shell fail, with its output. The error of the
/// command would not name the fragment, because one command sources all of them.
fn failed_fragment(fragments: &[(&str, &Arc<Element>)], error: ExecError) -> ShellError {
    let ExecError::Failed { exit, stderr, .. } = &error else { return ShellError::Environment(error) };
    let Some((path, printed)) = last_fragment(stderr) else { return ShellError::Environment(error) };
    match fragment_at(fragments, path) {
        None => ShellError::Environment(error),
        Some((element, fragment)) => {
            ShellError::Fragment { element, fragment, exit: *exit, printed: without_trace(printed) }
        }
    }
}

/// Expands a line of `element` with these variables.
pub fn expand_line(
    element: &Element,
    line: SourceLine<'_>,
    variables: &Environment,
) -> Result<String, ShellError> {
    if !line.needs_shell() {
        return Ok(line.text.to_owned());
    }
    let printed = bash(variables).args(["-c", EXPAND, EXPANDER, line.text]).capture();
    let printed = printed.map_err(|error| unexpanded(element, line, error))?;
    Ok(String::from_utf8_lossy(&printed).trim_end().to_owned())
}

/// Returns the error of a line that the shell rejected. The shell's own name and line number are
/// removed from its message: they mean nothing to the user.
fn unexpanded(element: &Element, line: SourceLine<'_>, error: ExecError) -> ShellError {
    let ExecError::Failed { stderr, .. } = error else { return ShellError::Shell(error) };
    let own = |text: &'_ str| {
        let text = text.strip_prefix(EXPANDER)?.strip_prefix(": ")?;
        Some(text.strip_prefix("eval: ").unwrap_or(text).strip_prefix("line 1: ")?.to_owned())
    };
    let said = stderr.trim_end().lines().map(|text| own(text).unwrap_or_else(|| text.to_owned()));
    ShellError::Line {
        element: element.name.to_string(),
        file: line.file.to_owned(),
        line: line.number,
        printed: said.collect::<Vec<_>>().join("\n"),
    }
}

fn bash(variables: &Environment) -> Run {
    variables.iter().fold(Run::new(BASH), |run, (name, value)| {
        let run = run.env(name, value);
        if is_secret(name, value) { run.secret(value) } else { run }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::load::load_catalog;

    fn elements(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Arc<Element>>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let catalog = load_catalog(&[dir.path().to_owned()]).unwrap();
        let elements = catalog.iter().cloned().collect();
        (dir, elements)
    }

    fn variables(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn fragments_of_all_elements_are_sourced_in_one_order() {
        let (_dir, elements) = elements(&[
            ("a/environment.d/20-a", "export DIB_A=$DIB_B-a\n"),
            ("b/environment.d/10-b", "export DIB_B=${DIB_B:-b}\nlocal_to_shell=1\n"),
        ]);
        for (given, expected) in [(&[][..], "b-a"), (&[("DIB_B", "x y")][..], "x y-a")] {
            let found = source_environment(&elements, &variables(given)).unwrap();
            assert_eq!(found["DIB_A"], expected);
            assert!(!found.contains_key("local_to_shell"));
        }
    }

    #[test]
    fn the_error_of_a_fragment_shows_its_output_without_secrets() {
        let given = variables(&[("DIB_PASSWORD", "hunter2")]);
        for (text, printed) in [
            ("export X=$DIB_PASSWORD\necho bad >&2\nfalse\n", "exit status: 1: bad"),
            // Many programs report errors on standard output.
            ("export X=$DIB_PASSWORD\necho bad\nexit 3\n", "exit status: 3: bad"),
            ("[ \"$DIB_PASSWORD\" = x ]\n", "exit status: 1: + source "),
            ("export X=${DIB_X:?name it}\n", "line 1: DIB_X: name it"),
        ] {
            let (_dir, elements) =
                elements(&[("a/environment.d/20-a", text), ("b/environment.d/10-b", "echo fine >&2\n")]);
            let error = source_environment(&elements, &given).unwrap_err().to_string();
            assert!(
                error.starts_with("`environment.d/20-a` of element `a` failed with exit status: "),
                "{error}"
            );
            assert!(
                error.contains(printed) && !error.contains("hunter2") && !error.contains("fine"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_fragment_that_ends_the_shell_is_named() {
        let (_dir, elements) = elements(&[
            ("a/environment.d/10-a", "export DIB_A=a\n"),
            ("b/environment.d/20-b", "[ -n \"${DIB_B:-}\" ] || exit 0\n"),
            ("c/environment.d/30-c", "export DIB_C=c\n"),
        ]);
        let error = source_environment(&elements, &variables(&[])).unwrap_err().to_string();
        assert!(error.starts_with("`environment.d/20-b` of element `b` ends the shell"), "{error}");
    }

    #[test]
    fn lines_are_expanded_as_by_eval_echo() {
        let element = crate::element::fixture::element("web").build();
        let given = variables(&[("DIB_URL", "https://h/web"), ("DIB_NAME", "a b")]);
        let table = [
            ("web tar /opt $DIB_URL *", Some("web tar /opt https://h/web *")),
            (
                "web git \"/opt\"  ${DIB_URL}/${DIB_NAME// /-} ${DIB_REF:-v1}",
                Some("web git /opt https://h/web/a-b v1"),
            ),
            ("web file /opt $(echo $DIB_URL) 'x'", Some("web file /opt https://h/web x")),
            ("web git /opt $DIB_MISSING", None),
        ];
        for (text, expected) in table {
            let line = SourceLine { file: "source-repository-web", number: 7, text };
            let expanded = expand_line(&element, line, &given);
            assert_eq!(expanded.as_deref().ok(), expected, "{text}");
            if let Err(error) = expanded {
                let place = "`source-repository-web` of element `web`, line 7, cannot be expanded: ";
                assert_eq!(error.to_string(), format!("{place}DIB_MISSING: unbound variable"));
            }
        }
    }
}
