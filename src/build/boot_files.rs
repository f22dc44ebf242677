//! Finds the kernels and boot loaders of a root file system.
//!
//! This runs no program. It therefore also works on read-only layers, before the disk exists.

use std::collections::BTreeSet;

use super::BuildError;
use crate::disk::{Firmware, GrubTarget, Kernel, Signed};
use crate::distro::{OsRelease, base_environment};
use crate::element::Environment;
use crate::port::{EntryKind, Root, SandboxError};

/// GRUB's program that makes its images.
const MAKER: &str = "grub-mkimage";

/// The root file system of an image.
pub(super) struct BootFiles<'a> {
    pub(super) image: &'a str,
    pub(super) root: &'a dyn Root,
    /// The variables that the image sets for its programs.
    pub(super) variables: &'a Environment,
}

impl BootFiles<'_> {
    /// Returns the kernels. The first one is the default of the menu.
    pub(super) fn kernels(&self) -> Result<Vec<Kernel>, SandboxError> {
        let names = self.root.list("/boot")?;
        Ok(Kernel::find(names.iter().map(String::as_str)))
    }

    /// Returns the variables that describe the distribution; empty if the image has none.
    pub(super) fn os_release(&self) -> Result<OsRelease, SandboxError> {
        let text = self.root.read(OsRelease::PATH, OsRelease::MOST_BYTES)?.unwrap_or_default();
        Ok(OsRelease::parse(&String::from_utf8_lossy(&text)))
    }

    /// Returns the signed boot loaders of the distribution that the image has.
    pub(super) fn signed(&self) -> Result<Signed, SandboxError> {
        let told = self.os_release()?;
        let id = told.get("ID").unwrap_or_default();
        let mut there = Vec::new();
        for path in Signed::candidates(id) {
            if matches!(self.root.look(&path)?, Some(EntryKind::File { .. })) {
                there.push(path);
            }
        }
        Ok(Signed::find(id, &there.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Returns the members of `firmware` for which the image has a boot loader.
    pub(super) fn bootable_by(
        &self,
        firmware: &BTreeSet<Firmware>,
    ) -> Result<BTreeSet<Firmware>, SandboxError> {
        let mut found = BTreeSet::new();
        for firmware in firmware {
            if self.can_boot_by(*firmware)? {
                found.insert(*firmware);
            }
        }
        Ok(found)
    }

    /// Fails if the image lacks a boot loader for one of `firmware`.
    ///
    /// # Errors
    /// [`BuildError::NoBootLoader`].
    pub(super) fn require(&self, firmware: &BTreeSet<Firmware>) -> Result<(), BuildError> {
        let found = self.bootable_by(firmware)?;
        match firmware.difference(&found).next() {
            None => Ok(()),
            Some(lacking) => {
                let target = GrubTarget::from(*lacking);
                Err(BuildError::NoBootLoader {
                    image: self.image.to_owned(),
                    target: target.name(),
                    package: target.package(),
                })
            }
        }
    }

    fn can_boot_by(&self, firmware: Firmware) -> Result<bool, SandboxError> {
        Ok(self.has_grub(firmware.into())?
            || firmware == Firmware::Uefi && matches!(self.signed()?, Signed::Complete(_)))
    }

    fn has_grub(&self, target: GrubTarget) -> Result<bool, SandboxError> {
        if self.root.look(&target.modules_directory())? != Some(EntryKind::Directory) {
            return Ok(false);
        }
        // The same search path as that of the job that runs it later.
        let own = base_environment(0);
        let path = self.variables.get("PATH").or(own.get("PATH")).map_or("", String::as_str);
        for directory in path.split(':').filter(|directory| directory.starts_with('/')) {
            if self.root.look(&format!("{directory}/{MAKER}"))?
                == Some(EntryKind::File { is_executable: true })
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
