//! Connections to registries: settings of the project, accounts of the user.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::{Failure, Message};
use super::project::load_file;
use super::session::Session;
use crate::element::Environment;
use crate::image::RegistrySettings;
use crate::oci::Repository;
use crate::registry::{CERTIFICATE_DIRECTORIES, Client, Credentials, HostSettings, Protocol, Settings};

/// The time that a registry may stay silent during the lookup or fetch of a step that could be
/// built instead.
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(15);

/// The tables `[registry."HOST"]` of a project.
pub(crate) type RegistryTables = BTreeMap<String, RegistrySettings>;

/// Reads the tables of the session's project, if there is one.
pub(crate) fn tables(session: &Session<'_>) -> Result<RegistryTables, Failure> {
    Ok(load_file(session)?.map(|file| file.registry).unwrap_or_default())
}

/// Returns a client with the settings in `tables`. Paths in them are relative to the project of the
/// session. Connects to nothing.
pub(crate) fn client(session: &Session<'_>, tables: &RegistryTables) -> Result<Client, Failure> {
    patient_client(session, tables, Settings::default().patience)
}

/// Returns a client for lookups, which gives up early.
pub(crate) fn look_up_client(session: &Session<'_>, tables: &RegistryTables) -> Result<Client, Failure> {
    patient_client(session, tables, LOOK_UP_PATIENCE)
}

fn patient_client(
    session: &Session<'_>,
    tables: &RegistryTables,
    patience: Duration,
) -> Result<Client, Failure> {
    // A key such as `https://HOST` would match no reference, and its settings would be ignored.
    if let Some(host) = tables.keys().find(|host| !is_host(host)) {
        let bare = host.split_once("://").map_or(host.as_str(), |(_, rest)| rest);
        let bare = bare.split('/').next().unwrap_or_default();
        // References have IPv6 addresses in brackets; the hint shows the correct key.
        let is_bare_v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
        let bare = if is_bare_v6 { format!("[{bare}]") } else { bare.to_owned() };
        return Err(Message::with_hint(
            format!(
                "`[registry.\"{}\"]` is not a valid table: expected the name `HOST` or `HOST:PORT`",
                host.escape_debug()
            ),
            format!("[registry.\"{}\"]", bare.escape_debug()),
        ));
    }
    let hosts =
        tables.iter().map(|(host, table)| Ok((host.clone(), host_settings(&session.project, host, table)?)));
    let environment = session.environment.clone();
    let credentials = Credentials::of_environment(&environment);
    let hosts = hosts.collect::<Result<_, Failure>>()?;
    let certificates = certificate_directories(&environment);
    let settings = Settings { hosts, certificates, environment, patience, ..Settings::default() };
    Ok(Client::new(settings, credentials, session.process.interrupted.clone()))
}

/// Returns true for a host, optionally with a port, in the form of references.
fn is_host(text: &str) -> bool {
    format!("{text}/name").parse::<Repository>().is_ok_and(|repository| repository.host() == text)
}

/// Returns the directories of certificates for single registries: the user's before the system's.
fn certificate_directories(environment: &Environment) -> Vec<PathBuf> {
    // The order counts: for each kind of file, the first directory that has it for a host wins.
    let own = environment.get("HOME").map(|home| Path::new(home).join(".config/containers/certs.d"));
    own.into_iter().chain(CERTIFICATE_DIRECTORIES.map(PathBuf::from)).collect()
}

fn host_settings(project: &Path, host: &str, table: &RegistrySettings) -> Result<HostSettings, Failure> {
    let RegistrySettings { insecure, ca, client_cert, client_key, chunk_mib } = table;
    if *chunk_mib == Some(0) {
        return Err(Message::with_hint(
            format!("`[registry.\"{host}\"]` has `chunk-mib = 0`: expected at least 1"),
            "remove `chunk-mib` to upload whole blobs",
        ));
    }
    let path = |path: &PathBuf| project.join(path);
    let client = match (client_cert, client_key) {
        (Some(cert), Some(key)) => Some((path(cert), path(key))),
        (None, None) => None,
        _ => {
            return Err(Message::plain(format!(
                "`[registry.\"{host}\"]` has only one of `client-cert` and `client-key`: set both"
            )));
        }
    };
    Ok(HostSettings {
        protocol: if *insecure { Protocol::Plain } else { Protocol::Secure },
        ca: ca.as_ref().map(path),
        client,
        chunk_bytes: chunk_mib.map(|mebibytes| u64::from(mebibytes) << 20),
    })
}
