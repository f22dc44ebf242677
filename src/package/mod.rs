//! Debian's package repositories, as a build reaches them: through the machine's mirrors, with downloads and indices that
//! builds share.
//!
//! ```text
//! machine's /etc/apt ──► apt.conf, mirrors.tsv, keyrings ──► /run/plywood/apt        of every job
//! cache/apt/packages ──► what the indices name ──► below /var/cache/apt/archives ──► new downloads, by their digests
//! cache/apt/lists/…  ──► links                 ──► below /var/lib/apt/lists
//!        └─────────────► copies ──► plywood's own refresh ──► back into the cache, with what apt has digested of them
//! ```
//!
//! Hooks write to a layer of their own above the shared files: nothing that they leave there reaches another step, and two
//! builds at once never wait for each other's locks. A step that is killed leaves nothing half-written in the cache. Nothing of
//! it gets into a layer.

mod cache;
mod downloads;
mod identity;
mod index;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::distro::{AptMachine, BaseDefinition, Mirror, Mirrors};
use crate::oci::Digest;
use crate::port::{PackageError, PackageSession, Packages};

use downloads::Downloads;
use session::AptSession;

/// Variables by which a caller names mirrors, as for diskimage-builder. Never in a key: mirrors have the same content.
const MIRROR: &str = "DIB_DISTRIBUTION_MIRROR";
const SECURITY_MIRROR: &str = "DIB_DEBIAN_SECURITY_MIRROR";

/// Package repositories of Debian and its like.
pub struct AptPackages {
    caller: BTreeMap<String, String>,
    machine: AptMachine,
    etc_apt: PathBuf,
    cache: PathBuf,
    downloads: Downloads,
    /// Package sources whose indices this process has refreshed.
    fresh: Mutex<BTreeSet<Digest>>,
}

impl AptPackages {
    /// Reaches repositories as `machine` (read from the directory `etc_apt`) and the `caller`'s environment say, and keeps
    /// downloads below the directory `cache`.
    pub fn new(
        caller: BTreeMap<String, String>,
        machine: AptMachine,
        etc_apt: PathBuf,
        cache: PathBuf,
    ) -> Self {
        let downloads = Downloads::new(&cache);
        Self { caller, machine, etc_apt, cache, downloads, fresh: Mutex::default() }
    }

    fn mirrors(&self, base: &BaseDefinition) -> Mirrors {
        let own = self.machine.mirrors(&base.distro, &base.release);
        let named = |name| self.caller.get(name).filter(|uri| !uri.is_empty()).map(Mirror::at);
        Mirrors { archive: named(MIRROR).or(own.archive), security: named(SECURITY_MIRROR).or(own.security) }
    }
}

impl Packages for AptPackages {
    fn session<'a>(
        &'a self,
        base: Option<&'a BaseDefinition>,
        scratch: &Path,
    ) -> Result<Box<dyn PackageSession + 'a>, PackageError> {
        Ok(Box::new(AptSession::open(self, base, scratch)?))
    }
}
