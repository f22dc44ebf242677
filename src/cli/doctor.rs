//! `plywood doctor`: shows what the host offers and lacks.

use std::process::ExitCode;

use super::answer::{self, say};
use super::args::{Doctor, Global};
use super::report::{self, Failure};
use crate::engine::{Diagnosis, Session, diagnose};
use crate::host::{DoctorDocument, Finding, Standing};

/// Shows every finding; exits with 1 if no image can be built on this host.
pub(super) fn run(global: &Global, args: &Doctor, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let document = DoctorDocument::new(findings(global, session));
    if args.json {
        answer::json(&document)?;
    } else {
        show(&document.checks, document.ok)?;
    }
    Ok(if document.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(checks: &[Finding], ok: bool) -> Result<(), Failure> {
    // Long mirror addresses would push the findings of all other checks to the right.
    let width = checks.iter().map(|finding| finding.check.len()).filter(|len| *len < 30).max().unwrap_or(0);
    for Finding { check, standing, found, cure } in checks {
        say!("{:<8} {check:<width$}  {found}", standing.word())?;
        if let Some(cure) = cure {
            say!("{:<8} {:<width$}  -> {cure}", "", "")?;
        }
    }
    let limited = checks.iter().filter(|finding| finding.standing == Standing::Limited).count();
    match (ok, limited) {
        (false, _) => say!("\nno image can be built on this host until each `lacking` item is fixed"),
        (true, 0) => say!("\neverything can be built on this host"),
        (true, _) => say!("\nimages can be built on this host, within the limits above"),
    }
}

fn findings(global: &Global, session: &Session<'_>) -> Vec<Finding> {
    let Diagnosis { host, store, programs } = diagnose(session);
    let store = store.unwrap_or_else(|failure| vec![of_failure(global, &failure)]);
    host.into_iter().chain(store).chain(programs).collect()
}

fn of_failure(global: &Global, failure: &Failure) -> Finding {
    let cure = report::hint_of(failure.as_ref(), &global.invocation());
    let cure = cure.unwrap_or_else(|| "choose a writable store with `--store DIR`".to_owned());
    Finding::lacking("store", report::line(failure), cure)
}
