//! Debian's package repositories, as a build reaches them: through the machine's mirrors, with downloads and indices that
//! builds share.
//!
//! ```text
//! machine's /etc/apt ──► apt.conf, mirrors.tsv, keyrings ──► /run/plywood/apt        of every job
//! cache/apt/archives ──► hard links ──► /var/cache/apt/archives   ──► new downloads back into the cache
//! cache/apt/lists/…  ──► hard links ──► /var/lib/apt/lists        ──► after a refresh back into the cache,
//!                                                                     with what apt has digested of them
//! ```
//!
//! Each step works on links of its own, so that two builds at once never wait for each other's locks, and a step that is killed
//! leaves nothing half-written in the cache. Nothing of it gets into a layer.

mod cache;
mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::distro::{AptMachine, BaseDefinition, Mirror, Mirrors};
use crate::oci::Digest;
use crate::port::{PackageError, PackageSession, Packages};

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
        Self { caller, machine, etc_apt, cache, fresh: Mutex::default() }
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
