//! The verb `doctor`: checks what the host offers and lacks for builds.

use std::collections::BTreeSet;
use std::path::Path;

use super::edges::ETC_APT;
use super::failure::Failure;
use super::host::{Host, mirror, tool};
use super::session::{Session, open_store};
use crate::distro::AptMachine;
use crate::element::Environment;
use crate::host::{self, Finding, Standing, TOOLS, tool_named};
use crate::load::load_apt_sources;
use crate::package::names_mirror;
use crate::plan::without_credentials;
use crate::probe;

/// All findings, in the order in which front ends show them.
pub(crate) struct Diagnosis {
    pub(crate) host: Vec<Finding>,
    /// A store that cannot be opened is a finding too: the other checks continue.
    pub(crate) store: Result<Vec<Finding>, Failure>,
    pub(crate) programs: Vec<Finding>,
}

/// Checks everything that builds may need.
pub(crate) fn diagnose(session: &Session<'_>) -> Diagnosis {
    let host = Host::of(session.process);
    let namespaces = if host.may_try() || host.privileges().standing == Standing::Ok {
        host.namespaces()
    } else {
        Finding::untried("namespaces")
    };
    let of_host = vec![host.kernel(), host.privileges(), namespaces];
    let store = of_store(session, &host);
    let mut programs = vec![host.device_mapper(), host::kvm(&probe::kvm(), probe::installer())];
    programs.extend(TOOLS.iter().map(tool));
    // The engine is asked through its client. Without a client, the finding for the program is
    // enough.
    if probe::is_installed(&tool_named("docker")) {
        programs.push(host::docker_engine(&probe::docker_engine()));
    }
    programs.extend(of_mirrors(&session.environment));
    Diagnosis { host: of_host, store, programs }
}

/// Checks the store, and tries operations in it.
fn of_store(session: &Session<'_>, host: &Host<'_>) -> Result<Vec<Finding>, Failure> {
    let store = open_store(session)?;
    let facts = host.store_facts(&store)?;
    let mut findings = vec![host.store(&facts), host::space(&facts), host.overlay(&store, &facts)?];
    findings.push(match host.may_try() {
        true => host.loop_devices(&store)?,
        false => Finding::untried("loop devices"),
    });
    Ok(findings)
}

/// Checks the mirrors in the host's apt configuration and the caller's variables, in parallel.
fn of_mirrors(environment: &Environment) -> Vec<Finding> {
    let machine = load_apt_sources(Path::new(ETC_APT)).unwrap_or_default();
    let named = environment.iter().filter(|(name, _)| names_mirror(name)).map(|(_, uri)| uri);
    let named = named.filter(|uri| !uri.is_empty());
    // The first URI of each source: the others are its mirrors.
    let configured = machine.sources.iter().flat_map(|source| source.uris.iter().take(1));
    let uris: BTreeSet<_> = named.chain(configured).cloned().collect();
    if uris.is_empty() {
        return vec![host::no_mirrors()];
    }
    // In parallel, because each check may need its whole time limit.
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

/// Returns the proxy through which apt reaches a mirror, if one setting names it for all hosts.
fn proxy_of(uri: &str, machine: &AptMachine, environment: &Environment) -> Option<String> {
    let scheme = uri.split_once("://").map_or("http", |(scheme, _)| scheme).to_ascii_lowercase();
    let setting = format!("acquire::{scheme}::proxy");
    // As in apt, names are compared without case, and the last setting of a name wins.
    let of_apt = machine.acquire.iter().rev().find(|(name, _)| name.to_ascii_lowercase() == setting);
    let variable = format!("{scheme}_proxy");
    let named = of_apt.map(|(_, value)| value).or_else(|| environment.get(&variable))?;
    (!named.is_empty() && named != "DIRECT").then(|| named.clone())
}
