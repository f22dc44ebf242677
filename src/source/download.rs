//! Files and archives, stored by digest.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Reach, SourceError, Sources, local_path};
use crate::exec::Program;
use crate::oci::Digest;

const CURL: Program = Program { name: "curl", package: "curl" };

/// Number of retries, and time limit for a connection in seconds.
const PATIENCE: [&str; 4] = ["--retry", "3", "--connect-timeout", "10"];

/// The name of the file that was fetched last. Its modification time is that of the server's copy,
/// for conditional requests.
const LATEST: &str = "latest";

/// Fetches the file at `location` into the directory `place`, under its digest, unless the copy
/// there is current.
pub(super) fn fetch(sources: &Sources, place: &Path, location: &str) -> Result<Digest, SourceError> {
    let latest = place.join(LATEST);
    let arrived = place.join("arriving");
    let known = verified(place, &latest)?;
    match (sources.reach, local_path(location)) {
        (Reach::Offline, _) if let Some(digest) = known => return Ok(digest),
        (_, Some(path)) => fs::copy(path, &arrived).map(drop).map_err(SourceError::io("read", path))?,
        (Reach::Offline, None) => return Err(SourceError::NotCached { location: location.to_owned() }),
        (Reach::Online, None) => download(sources, location, &latest, &arrived)?,
    }
    match known {
        Some(digest) if !arrived.exists() => Ok(digest),
        _ => keep(place, &arrived, &latest),
    }
}

/// Returns the digest of the file that was fetched last, if there is one. Removes a file that has
/// changed since, so that it is fetched again.
fn verified(place: &Path, latest: &Path) -> Result<Option<Digest>, SourceError> {
    if !latest.exists() {
        return Ok(None);
    }
    let digest = digest_of(latest)?;
    // `latest` and the digest are two names of one inode. If its content has changed, it has
    // another digest, and there is no file of that name.
    if place.join(digest.hex()).exists() {
        return Ok(Some(digest));
    }
    remove_if_there(latest)?;
    Ok(None)
}

/// Downloads to `arrived`, unless the server's copy is no newer than `latest`.
fn download(sources: &Sources, location: &str, latest: &Path, arrived: &Path) -> Result<(), SourceError> {
    remove_if_there(arrived)?;
    let mut curl = sources.call(CURL);
    curl = curl.args(["--fail", "--silent", "--show-error", "--location", "--remote-time"]).args(PATIENCE);
    if latest.exists() {
        curl = curl.arg("--time-cond").arg(latest);
    }
    let curl = curl.arg("--output").arg(arrived).arg("--").arg(location);
    curl.run().map_err(|source| SourceError::Fetch { location: location.to_owned(), source })?;
    // If a server ignores the condition, curl compares the time itself, stops the transfer, and
    // leaves an empty file.
    let empty = fs::metadata(arrived).is_ok_and(|metadata| metadata.len() == 0);
    if empty && latest.exists() { remove_if_there(arrived) } else { Ok(()) }
}

/// Names the file that arrived by its digest, and makes it `latest`.
fn keep(place: &Path, arrived: &Path, latest: &Path) -> Result<Digest, SourceError> {
    let digest = digest_of(arrived)?;
    let named = place.join(digest.hex());
    // An older file of this name may be damaged. A running build that has resolved it finds the
    // same bytes under the name again.
    remove_if_there(&named)?;
    fs::hard_link(arrived, &named).map_err(SourceError::io("link", &named))?;
    fs::rename(arrived, latest).map_err(SourceError::io("rename", arrived))?;
    Ok(digest)
}

fn digest_of(path: &Path) -> Result<Digest, SourceError> {
    File::open(path).and_then(Digest::of_reader).map_err(SourceError::io("read", path))
}

fn remove_if_there(path: &Path) -> Result<(), SourceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(SourceError::io("remove", path)),
    }
}
