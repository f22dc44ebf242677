//! Access to package repositories. Those of Debian are described here, those of the rpm family in
//! `dnf`; `families` joins both. Debian's are reached through the mirrors of the build host, with
//! downloads and indices that builds share.
//!
//! ```text
//! machine's /etc/apt ──► apt.conf, mirrors.tsv, keyrings ──► /run/plywood/apt        of every job
//! cache/apt/packages ──► what the indices name ──► below /var/cache/apt/archives ──► new downloads, by their digests
//! cache/apt/lists/…  ──► links                 ──► below /var/lib/apt/lists
//!        └─────────────► copies ──► plywood's own refresh ──► back into the cache, with what apt has digested of them
//! ```
//!
//! Hooks write to a layer of their own above the shared files. Files that they leave there do not
//! reach other steps, and parallel builds do not wait for each other's locks. A killed step leaves
//! no incomplete file in the cache. None of these files gets into a layer of the image.

mod cache;
mod connection;
mod dnf;
mod downloads;
mod families;
mod identity;
mod index;
mod rpm_index;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use crate::distro::{
    AptMachine, Architecture, BaseDefinition, Mirrors, NamedMirrors, Setting, dnf::tools, passwords,
    proxy_detector,
};
use crate::element::Environment;
use crate::exec::Run;
use crate::oci::{Digest, split_port};
use crate::port::PackageError;

pub use dnf::DnfPackages;
pub use families::HostPackages;

use downloads::Downloads;

/// Variables in which a caller names mirrors, as for diskimage-builder. They are in no key, because
/// all mirrors have the same content.
const MIRROR: &str = "DIB_DISTRIBUTION_MIRROR";
const SECURITY_MIRROR: &str = "DIB_DEBIAN_SECURITY_MIRROR";

/// The variable by which a caller names the file of keys that sign the mirrors.
const KEYRING: &str = "DIB_APT_KEYRING";

/// How the network is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Indices are fetched once in each process.
    Online,
    /// Indices of an earlier build are used, if there are any.
    KeptFirst,
    /// Nothing is fetched.
    Offline,
}

/// Package repositories of Debian and similar distributions.
pub struct AptPackages {
    caller: BTreeMap<String, String>,
    machine: AptMachine,
    architecture: Architecture,
    etc_apt: PathBuf,
    cache: PathBuf,
    reach: Reach,
    downloads: Downloads,
    /// The answers of proxy detection programs of the build host, by URI.
    detected: Mutex<BTreeMap<String, Option<String>>>,
    /// The identities of package sources whose indices this process has refreshed.
    fresh: Mutex<BTreeSet<Digest>>,
}

impl AptPackages {
    /// Returns access to repositories for images of `architecture`, with the apt configuration
    /// `machine` (from the directory `etc_apt`) and the environment of the `caller`. Downloads are
    /// kept below the directory `cache`.
    pub fn new(
        caller: BTreeMap<String, String>,
        machine: AptMachine,
        architecture: Architecture,
        etc_apt: PathBuf,
        cache: PathBuf,
        reach: Reach,
    ) -> Self {
        let downloads = Downloads::new(&cache);
        Self {
            caller,
            machine,
            architecture,
            etc_apt,
            cache,
            reach,
            downloads,
            detected: Mutex::default(),
            fresh: Mutex::default(),
        }
    }

    /// Returns the proxies for the archives of an image, from proxy detection programs of the build
    /// host. apt cannot run these programs itself, because the image does not have them.
    fn detected_proxies(&self, base: Option<&BaseDefinition>) -> Result<Vec<Setting>, PackageError> {
        let mirrors = base.map(|base| self.mirrors(base)).unwrap_or_default();
        let mut settings = Vec::new();
        for uri in [mirrors.archive, mirrors.security].into_iter().flatten().map(|mirror| mirror.uri) {
            let Some((scheme, rest)) = uri.split_once("://") else { continue };
            let Some(program) = proxy_detector(&self.machine.acquire, scheme) else { continue };
            let authority = rest.split('/').next().unwrap_or(rest);
            let host = split_port(authority.rsplit('@').next().unwrap_or(authority)).0;
            let name = format!("Acquire::{scheme}::Proxy::{host}");
            // apt does not run the program for a host with a configured proxy.
            let is_set = |(known, value): &Setting| known.eq_ignore_ascii_case(&name) && !value.is_empty();
            if self.machine.acquire.iter().any(is_set) {
                continue;
            }
            let answer = self.ask_detector(program, &uri)?;
            settings.extend(answer.map(|proxy| (name, proxy)));
        }
        Ok(settings)
    }

    /// Returns the answer of a program for a URI. Runs the program once for each URI.
    fn ask_detector(&self, program: &str, uri: &str) -> Result<Option<String>, PackageError> {
        // Locked while the program runs, so that parallel builds wait for one answer.
        let mut answers = self.detected.lock().unwrap_or_else(|held| held.into_inner());
        if let Some(answer) = answers.get(uri) {
            return Ok(answer.clone());
        }
        // The error of a failed run shows the URI, which may have a password.
        let run = Run::named(program).inherit_environment().arg(uri);
        let run = passwords("", [uri]).into_iter().fold(run, Run::secret);
        let printed = run.capture();
        let printed = printed.map_err(|source| PackageError::ProxyDetector {
            program: program.to_owned(),
            source: Box::new(source),
        })?;
        let text = String::from_utf8_lossy(&printed);
        let answer = text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        answers.insert(uri.to_owned(), answer.clone());
        Ok(answer)
    }

    fn mirrors(&self, base: &BaseDefinition) -> Mirrors {
        let named = |name: &str| self.caller.get(name).filter(|value| !value.is_empty()).cloned();
        // A mirror without a name has the image's distribution, and the tools may be of another.
        let unnamed = if *base == tools() { None } else { named(MIRROR) };
        let named = NamedMirrors {
            archive: named(&mirror_variable(&base.distro)).or(unnamed),
            security: named(SECURITY_MIRROR),
            keyring: named(KEYRING).map(PathBuf::from),
        };
        self.machine.mirrors_of(base, self.architecture, &named)
    }

    /// Returns the passwords of the build host that jobs can read, by secret name.
    fn secrets(&self) -> Environment {
        let settings = self.machine.acquire.iter().map(|(_, value)| value.as_str());
        let sources = self.machine.sources.iter().flat_map(|source| &source.uris).map(String::as_str);
        let named = self.caller.iter().filter(|(name, _)| names_mirror(name)).map(|(_, uri)| uri);
        let detected = self.detected.lock().unwrap_or_else(|held| held.into_inner());
        let detected = detected.values().flatten().map(String::as_str);
        let urls = settings.chain(sources).chain(named.map(String::as_str)).chain(detected);
        let passwords = passwords(&self.machine.accounts, urls).into_iter().enumerate();
        passwords.map(|(number, text)| (format!("ARCHIVE_PASSWORD_{number}"), text)).collect()
    }
}

/// Returns the variable that names a mirror for one distribution: a caller who builds several
/// cannot name one mirror for all.
fn mirror_variable(distro: &str) -> String {
    format!("{MIRROR}_{}", distro.to_ascii_uppercase())
}

/// Returns true if the value of a variable is the URI of a mirror.
pub fn names_mirror(variable: &str) -> bool {
    variable == MIRROR || variable == SECURITY_MIRROR || variable.starts_with(&mirror_variable(""))
}
