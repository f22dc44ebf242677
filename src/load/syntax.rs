//! Checks the syntax of the scripts of elements with bash.

use std::path::Path;

use crate::element::{Catalog, Element, Finding, Severity};
use crate::exec::{ExecError, Program, Run};

const BASH: Program = Program { name: "bash", package: "bash" };

/// Checks the syntax of every shell script of `catalog`, in order of elements and files.
///
/// # Errors
/// If bash cannot be run. A syntax error is a [`Finding`].
pub fn check_syntax(catalog: &Catalog) -> Result<Vec<Finding>, ExecError> {
    let mut findings = Vec::new();
    for element in catalog.iter() {
        for path in scripts(element) {
            findings.extend(check_script(element, path)?);
        }
    }
    Ok(findings)
}

fn scripts(element: &Element) -> impl Iterator<Item = &str> {
    let texts = element.files.iter().filter_map(|(path, file)| Some((path.as_str(), file.text.as_deref()?)));
    texts.filter(|(path, text)| path.starts_with("environment.d/") || is_shell(text)).map(|(path, _)| path)
}

fn is_shell(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let words = line.strip_prefix(b"#!").map(String::from_utf8_lossy);
    words.is_some_and(|line| line.split(['/', ' ']).any(|word| matches!(word.trim(), "sh" | "bash" | "dash")))
}

fn check_script(element: &Element, path: &str) -> Result<Option<Finding>, ExecError> {
    let file = element.root.join(path);
    match Run::new(BASH).arg("-n").arg("--").arg(&file).run() {
        Ok(()) => Ok(None),
        Err(ExecError::Failed { stderr, .. }) => Ok(Some(Finding {
            element: element.name.clone(),
            file: Some(path.to_owned()),
            severity: Severity::Error,
            message: first_complaint(&stderr, &file),
        })),
        Err(error) => Err(error),
    }
}

/// Returns the first message of bash without the path, which the finding has already:
/// `line 3: syntax error …`.
fn first_complaint(stderr: &str, file: &Path) -> String {
    let line = stderr.lines().next().unwrap_or("bash cannot read it");
    let prefix = format!("{}: ", file.display());
    line.strip_prefix(&prefix).unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::load::{data_dir, load_catalog};

    #[test]
    fn a_syntax_error_is_reported_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("install.d/50-bad", "#!/bin/bash\nif true; then\n"),
            ("install.d/60-good", "#!/usr/bin/env bash\ntrue\n"),
            ("install.d/70-python", "#!/usr/bin/env python3\nif True: (\n"),
            ("environment.d/10-bad", "export A=(\n"),
            ("data", "if (\n"),
        ];
        for (path, text) in files {
            let path = dir.path().join("web").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let findings = check_syntax(&load_catalog(&[dir.path().to_owned()]).unwrap()).unwrap();
        let files: Vec<_> = findings.iter().map(|finding| finding.file.as_deref().unwrap()).collect();
        assert_eq!(files, ["environment.d/10-bad", "install.d/50-bad"]);
        assert!(findings[1].message.starts_with("line 3: syntax error"), "{}", findings[1].message);
    }

    #[test]
    fn plywoods_own_scripts_have_valid_syntax() {
        let catalog = load_catalog(&[data_dir().join("elements")]).unwrap();
        assert_eq!(check_syntax(&catalog).unwrap(), []);
    }
}
