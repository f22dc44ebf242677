//! The package managers of all families, behind one port.

use std::collections::BTreeMap;
use std::path::Path;

use super::AptPackages;
use super::dnf::{DnfPackages, DnfSession, has_dnf};
use super::session::AptSession;
use crate::distro::{BaseDefinition, Dnf, Mmdebstrap, apt, dnf};
use crate::element::{Environment, Place};
use crate::port::{
    Bind, DnfStage, EarlierDownloads, IndexState, Job, PackageError, PackageSession, Packages, Refresh,
};

/// Package repositories of every family. The package manager that a root has decides.
pub struct HostPackages {
    pub apt: AptPackages,
    pub dnf: DnfPackages,
}

impl Packages for HostPackages {
    fn session<'a>(
        &'a self,
        base: Option<&'a BaseDefinition>,
        scratch: &Path,
        hooks: Option<&Path>,
    ) -> Result<Box<dyn PackageSession + 'a>, PackageError> {
        let apt = AptSession::open(&self.apt, base, scratch, hooks)?;
        let dnf = DnfSession::open(&self.dnf, base, scratch)?;
        Ok(Box::new(Session { apt, dnf }))
    }

    fn secrets(&self) -> Environment {
        self.apt.secrets()
    }
}

/// A root may get its package manager in the middle of a step, so each call looks at the root.
struct Session<'a> {
    apt: AptSession<'a>,
    dnf: DnfSession<'a>,
}

impl PackageSession for Session<'_> {
    fn bootstrap(
        &self,
        source: &Mmdebstrap,
        source_date_epoch: i64,
        earlier: EarlierDownloads,
    ) -> Result<Job, PackageError> {
        self.apt.bootstrap(source, source_date_epoch, earlier)
    }

    fn bootstrap_dnf(
        &self,
        source: &Dnf,
        source_date_epoch: i64,
        stage: DnfStage,
    ) -> Result<Job, PackageError> {
        let mut job = self.dnf.bootstrap(source, source_date_epoch, stage)?;
        job.binds.extend(self.apt.network_binds());
        Ok(job)
    }

    fn downloads_fitted(&self) -> Result<bool, PackageError> {
        self.apt.downloads_fitted()
    }

    fn binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError> {
        let mut binds = self.apt.binds(root)?;
        binds.extend(self.dnf.binds(root)?);
        Ok(binds)
    }

    fn refresh(&self, root: &Path) -> Result<Refresh, PackageError> {
        if has_dnf(root) {
            let mut binds = self.apt.network_binds();
            binds.extend(self.dnf.refresh_binds(root)?);
            return Ok(Refresh { argv: dnf::update(), binds });
        }
        Ok(Refresh { argv: apt::update(), binds: self.apt.refresh_binds(root)? })
    }

    fn serves(&self, target: &str) -> bool {
        self.apt.serves(target) || target == dnf::CACHE
    }

    fn network_binds(&self) -> Vec<Bind> {
        self.apt.network_binds()
    }

    fn environment(&self, place: Place) -> BTreeMap<String, String> {
        self.apt.environment(place)
    }

    fn prepare_index(&self, root: &Path) -> Result<IndexState, PackageError> {
        if has_dnf(root) { self.dnf.prepare_index(root) } else { self.apt.prepare_index(root) }
    }

    fn use_kept_indices(&self, root: &Path) -> Result<bool, PackageError> {
        if has_dnf(root) { self.dnf.use_kept_indices(root) } else { self.apt.use_kept_indices(root) }
    }

    fn is_offline(&self) -> bool {
        self.apt.is_offline()
    }

    fn index_refreshed(&self, root: &Path) -> Result<(), PackageError> {
        if has_dnf(root) { self.dnf.index_refreshed() } else { self.apt.index_refreshed(root) }
    }

    fn take_initramfs_request(&self) -> bool {
        self.apt.take_initramfs_request()
    }

    fn close(self: Box<Self>) -> Result<(), PackageError> {
        self.dnf.close()?;
        self.apt.close()
    }
}
