//! Makes a disk bootable with the image's own GRUB, without probing.
//!
//! Replaces diskimage-builder's element `bootloader`, and reads the same variables.

use std::collections::BTreeSet;
use std::io;

use super::BuildError;
use super::boot_files::BootFiles;
use super::step::StepRun;
use crate::disk::{
    Boot, DiskRequest, Firmware, GrubTarget, Kernel, Layout, Signed, SignedFile, early_config, fstab,
    signed_config,
};
use crate::element::{Environment, Phase};
use crate::plan::Action;
use crate::port::{BootImages, Event, Root, SandboxError, View};

/// Variables of the boot stage, with the values that they have if neither the image nor an element
/// sets them.
///
/// Source: diskimage-builder, `elements/bootloader/README.rst`.
const DEFAULTS: [(&str, &str); 4] = [
    ("DIB_BOOTLOADER_DEFAULT_CMDLINE", "nofb nomodeset gfxpayload=text"),
    ("DIB_BOOTLOADER_VIRTUAL_TERMINAL", "tty0"),
    ("DIB_BOOTLOADER_SERIAL_CONSOLE", "ttyS0,115200"),
    ("DIB_GRUB_TIMEOUT", "5"),
];

/// The file in which GRUB writes an image of itself. It is removed when plywood has read it.
const GRUB_IMAGE: &str = "/tmp/plywood-core.img";
/// The file with the commands that GRUB puts into the image.
const EARLY_CONFIG: &str = "/tmp/plywood-early.cfg";

/// Limit of the size of a boot loader. Signed ones, which contain all modules, have 4 MiB.
const LOADER_BYTES: u64 = 64 << 20;

/// The mount point of the EFI system partition.
const ESP: &str = "/boot/efi";

/// The boot stage on a mounted disk.
pub(super) struct BootStage<'a> {
    pub(super) run: &'a StepRun<'a>,
    pub(super) root: &'a dyn Root,
    pub(super) layout: &'a Layout,
}

impl BootStage<'_> {
    /// Writes `/etc/fstab`. Hooks of the final stage find it there.
    pub(super) fn write_fstab(&self) -> Result<(), BuildError> {
        self.write("/etc/fstab", fstab(self.layout).as_bytes())
    }

    /// Makes the disk bootable. An element with a boot loader decides the firmware; otherwise
    /// `request` does. Writes GRUB's image for UEFI into the root; returns its images for the BIOS.
    ///
    /// # Errors
    /// [`BuildError::NoBootLoader`] if there is a kernel to start, but no GRUB for one of the
    /// firmwares.
    pub(super) fn install(&self, request: &DiskRequest<'_>) -> Result<BootImages, BuildError> {
        if self.run.tasks.list.iter().any(|task| task.action == Action::InstallBootLoader) {
            let firmware = self.firmware_of_elements()?;
            let found = self.with_grub(&firmware)?;
            let wanted = if found.is_empty() { &firmware } else { &found };
            self.files().require(wanted)?;
            return self.images(wanted);
        }
        let firmware = request.firmware(self.layout);
        let kernels = self.files().kernels()?;
        match (request, kernels.is_empty()) {
            // Nothing boots from this disk: `firmware = []`, or no place for boot code.
            _ if firmware.is_empty() => Ok(BootImages::default()),
            (_, true) => {
                self.warn("has no kernel in `/boot`: its disk will not boot (element `kernel` installs one)");
                Ok(BootImages::default())
            }
            (DiskRequest::Described { .. }, false) => self.install_on_described(&firmware, &kernels),
            (DiskRequest::Standard(_), false) => {
                self.files().require(&firmware)?;
                self.write_menu(&kernels)?;
                self.images(&firmware)
            }
        }
    }

    /// Makes a described disk bootable. Its author may want another boot loader, so GRUB is
    /// installed only if the image has the element `bootloader`.
    fn install_on_described(
        &self,
        firmware: &BTreeSet<Firmware>,
        kernels: &[Kernel],
    ) -> Result<BootImages, BuildError> {
        let firmware = self.with_grub(firmware)?;
        if firmware.is_empty() {
            self.warn(
                "has no GRUB: its disk boots by what else is on it (element `bootloader` installs GRUB)",
            );
            return Ok(BootImages::default());
        }
        self.write_menu(kernels)?;
        self.images(&firmware)
    }

    /// Returns the members of `firmware` for which the image has GRUB. If it has GRUB for some of
    /// them only, warns about each of the others.
    fn with_grub(&self, firmware: &BTreeSet<Firmware>) -> Result<BTreeSet<Firmware>, BuildError> {
        let found = self.files().bootable_by(firmware)?;
        for lacking in firmware.difference(&found).filter(|_| !found.is_empty()) {
            let package = GrubTarget::from(*lacking).package();
            self.warn(&format!(
                "has no GRUB for {}: its disk does not boot there (package {package})",
                lacking.name()
            ));
        }
        Ok(found)
    }

    /// Returns the firmware for which the elements make the disk bootable, without firmware that
    /// the layout has no place for.
    ///
    /// Source: diskimage-builder, `elements/bootloader/finalise.d/50-bootloader`.
    fn firmware_of_elements(&self) -> Result<BTreeSet<Firmware>, BuildError> {
        let environment = self.run.environment(self.root, Phase::Finalise)?;
        let wanted = match variable(&environment, "DIB_BLOCK_DEVICE") {
            "efi" => [Firmware::Bios, Firmware::Uefi].into(),
            "mbr" | "gpt" => [Firmware::Bios].into(),
            _ => {
                self.warn("has no element `block-device-…`: its disk will not boot");
                BTreeSet::new()
            }
        };
        Ok(&wanted & &self.layout.bootable_by())
    }

    fn write_menu(&self, kernels: &[Kernel]) -> Result<(), BuildError> {
        let environment = self.run.environment(self.root, Phase::Finalise)?;
        let (told, cmdline) = (self.files().os_release()?, command_line(&environment));
        let title = told.get("PRETTY_NAME").unwrap_or("Linux");
        let timeout = variable(&environment, "DIB_GRUB_TIMEOUT").parse().unwrap_or(5);
        let boot = Boot { layout: self.layout, title, cmdline: &cmdline, timeout };
        self.write("/boot/grub/grub.cfg", boot.config(kernels).as_bytes())?;
        self.write("/etc/default/grub.d/50-plywood.cfg", boot.defaults().as_bytes())
    }

    fn warn(&self, what: &str) {
        let message = format!("image `{}` {what}", self.run.jobs.image);
        self.run.jobs.ports.events.emit(Event::Warning { message: &message });
    }

    fn files(&self) -> BootFiles<'_> {
        BootFiles { image: self.run.jobs.image, root: self.root, variables: &self.run.tasks.environment }
    }

    fn images(&self, firmware: &BTreeSet<Firmware>) -> Result<BootImages, BuildError> {
        let mut images = BootImages::default();
        for firmware in firmware {
            match firmware {
                Firmware::Bios => {
                    let boot_image = format!("{}/boot.img", GrubTarget::I386Pc.modules_directory());
                    images.bios = Some((self.read(&boot_image)?, self.make_image(GrubTarget::I386Pc)?));
                }
                Firmware::Uefi => self.install_for_uefi()?,
            }
        }
        Ok(images)
    }

    /// Copies the distribution's signed loaders if the image has all of them. Otherwise makes an
    /// unsigned loader, which Secure Boot refuses.
    fn install_for_uefi(&self) -> Result<(), BuildError> {
        match self.files().signed()? {
            Signed::Complete(chain) => {
                for SignedFile { from, to } in &chain.files {
                    self.write(&format!("{ESP}/{to}"), &self.read(from)?)?;
                }
                let config = signed_config(self.layout);
                return self.write(&format!("{ESP}/{}", chain.config), config.as_bytes());
            }
            Signed::Partial(packages) => self.warn(&format!(
                "has a part of the signed boot loaders: its own is unsigned, and Secure Boot refuses it (packages {packages})"
            )),
            Signed::Nothing => {}
        }
        let image = self.make_image(GrubTarget::X86_64Efi)?;
        self.write(&format!("{ESP}/{}", GrubTarget::EFI_FALLBACK), &image)
    }

    /// Runs the image's own GRUB, which makes an image of itself, and returns that image.
    fn make_image(&self, target: GrubTarget) -> Result<Vec<u8>, BuildError> {
        self.write(EARLY_CONFIG, early_config(self.layout).as_bytes())?;
        let arguments = target.mkimage_arguments(EARLY_CONFIG, GRUB_IMAGE);
        let argv = ["grub-mkimage".to_owned()].into_iter().chain(arguments).collect();
        self.run.capture(self.root, View::Target, "boot", argv)?;
        let image = self.read(GRUB_IMAGE)?;
        for path in [EARLY_CONFIG, GRUB_IMAGE] {
            self.root.remove(path)?;
        }
        Ok(image)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, BuildError> {
        let missing = || SandboxError::File {
            action: "read",
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        };
        Ok(self.root.read(path, LOADER_BYTES)?.ok_or_else(missing)?)
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), BuildError> {
        Ok(self.root.write(path, content, self.run.source_date_epoch)?)
    }
}

/// Returns the kernel arguments other than `root=`. The last console gets the login prompt.
fn command_line(environment: &Environment) -> String {
    let consoles = ["DIB_BOOTLOADER_VIRTUAL_TERMINAL", "DIB_BOOTLOADER_SERIAL_CONSOLE"]
        .map(|name| variable(environment, name))
        .into_iter()
        .filter(|console| !console.is_empty())
        .map(|console| format!("console={console}"));
    let arguments = variable(environment, "DIB_BOOTLOADER_DEFAULT_CMDLINE").to_owned();
    [arguments].into_iter().chain(consoles).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn variable<'a>(environment: &'a Environment, name: &str) -> &'a str {
    let default = DEFAULTS.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
    environment.get(name).map_or(default, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_serial_console_comes_last_and_empty_settings_leave_no_trace() {
        let set = |pairs: &[(&str, &str)]| -> Environment {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let table = [
            (set(&[]), "nofb nomodeset gfxpayload=text console=tty0 console=ttyS0,115200"),
            (
                set(&[("DIB_BOOTLOADER_DEFAULT_CMDLINE", "quiet"), ("DIB_BOOTLOADER_VIRTUAL_TERMINAL", "")]),
                "quiet console=ttyS0,115200",
            ),
            (
                set(&[
                    ("DIB_BOOTLOADER_DEFAULT_CMDLINE", ""),
                    ("DIB_BOOTLOADER_VIRTUAL_TERMINAL", ""),
                    ("DIB_BOOTLOADER_SERIAL_CONSOLE", ""),
                ]),
                "",
            ),
        ];
        for (environment, expected) in table {
            assert_eq!(command_line(&environment), expected);
        }
    }
}
