//! `plywood doctor`: what the host has and lacks.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use super::answer::{self, say};
use super::args::{Doctor, Global};
use super::report::{self, Failure};
use crate::distro::AptMachine;
use crate::element::Environment;
use crate::engine::ETC_APT;
use crate::engine::Session;
use crate::engine::open_store;
use crate::engine::{Host, mirror, tool};
use crate::host::{self, DoctorDocument, Finding, Standing, TOOLS, without_credentials};
use crate::load::load_apt_sources;
use crate::probe;

/// Shows every finding; exits with 1 if nothing can be built on this host.
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
    let width = checks.iter().map(|finding| finding.check.len()).filter(|len| *len < 30).max().unwrap_or(0);
    for Finding { check, standing, found, cure } in checks {
        say!("{:<8} {check:<width$}  {found}", standing.word())?;
        if let Some(cure) = cure {
            say!("{:<8} {:<width$}  -> {cure}", "", "")?;
        }
    }
    let limited = checks.iter().filter(|finding| finding.standing == Standing::Limited).count();
    match (ok, limited) {
        (false, _) => say!("\nnothing can be built on this host before what is `lacking` is cured"),
        (true, 0) => say!("\neverything can be built on this host"),
        (true, _) => say!("\nimages can be built on this host, within the limits above"),
    }
}

fn findings(global: &Global, session: &Session<'_>) -> Vec<Finding> {
    let host = Host::of(session.process);
    let mut findings = vec![host.kernel(), host.privileges()];
    findings.push(if host.may_try() || host.privileges().standing == Standing::Ok {
        host.namespaces()
    } else {
        Finding::untried("namespaces")
    });
    findings.extend(of_store(global, session, &host));
    findings.push(host.device_mapper());
    findings.push(host::kvm(&probe::kvm(), probe::installer()));
    findings.extend(TOOLS.iter().map(tool));
    findings.extend(of_mirrors(&session.environment));
    findings
}

/// Checks the store, and what is tried in it.
fn of_store(global: &Global, session: &Session<'_>, host: &Host<'_>) -> Vec<Finding> {
    // A store that cannot be opened is a finding: the other checks go on.
    let checked = || -> Result<Vec<Finding>, Failure> {
        let store = open_store(session)?;
        let facts = host.store_facts(&store)?;
        let mut findings = vec![host.store(&facts), host::space(&facts), host.overlay(&store, &facts)?];
        findings.push(match host.may_try() {
            true => host.loop_devices(&store)?,
            false => Finding::untried("loop devices"),
        });
        Ok(findings)
    };
    checked().unwrap_or_else(|failure| {
        let cure = report::hint_of(failure.as_ref(), &global.invocation());
        vec![Finding::lacking(
            "store",
            report::line(&failure),
            cure.unwrap_or_else(|| "choose a store that can be written with `--store DIR`".to_owned()),
        )]
    })
}

/// Checks the mirrors that the host's apt configuration and the caller's variables name, all at once.
fn of_mirrors(environment: &Environment) -> Vec<Finding> {
    let machine = load_apt_sources(Path::new(ETC_APT)).unwrap_or_default();
    let named = ["DIB_DISTRIBUTION_MIRROR", "DIB_DEBIAN_SECURITY_MIRROR"].map(|name| environment.get(name));
    let named = named.into_iter().flatten().filter(|uri| !uri.is_empty());
    // Of each source the first address: the others are its mirrors.
    let configured = machine.sources.iter().flat_map(|source| source.uris.iter().take(1));
    let uris: BTreeSet<_> = named.chain(configured).cloned().collect();
    if uris.is_empty() {
        return vec![host::no_mirrors()];
    }
    // Each may take its whole time limit.
    std::thread::scope(|scope| {
        let asked: Vec<_> = uris
            .iter()
            .map(|uri| {
                let proxy = proxy_of(uri, &machine, environment).map(|proxy| without_credentials(&proxy));
                scope.spawn(move || mirror(&without_credentials(uri), proxy.as_deref()))
            })
            .collect();
        asked.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

/// Returns the proxy through which apt reaches a mirror, as far as one setting names it for all hosts.
fn proxy_of(uri: &str, machine: &AptMachine, environment: &Environment) -> Option<String> {
    let scheme = uri.split_once("://").map_or("http", |(scheme, _)| scheme).to_ascii_lowercase();
    let setting = format!("acquire::{scheme}::proxy");
    let of_apt = machine.acquire.iter().rev().find(|(name, _)| name.to_ascii_lowercase() == setting);
    let variable = format!("{scheme}_proxy");
    let named = of_apt.map(|(_, value)| value).or_else(|| environment.get(&variable))?;
    (!named.is_empty() && named != "DIRECT").then(|| named.clone())
}
