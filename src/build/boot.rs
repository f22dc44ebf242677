//! Makes a disk bootable with the image's own GRUB, without probing.
//!
//! Stands in for diskimage-builder's element `bootloader`, whose variables it takes.

use std::collections::BTreeSet;

use super::BuildError;
use super::step::StepRun;
use crate::disk::{
    Boot, DiskRequest, Firmware, GrubTarget, Kernel, Layout, Signed, SignedFile, early_config, fstab,
    signed_config,
};
use crate::element::{Environment, Phase};
use crate::plan::Action;
use crate::port::{BootImages, Event, Root, View};

/// Variables of the boot stage, and what they are where neither the image nor an element sets them.
///
/// Source: diskimage-builder, `elements/bootloader/README.rst`.
const DEFAULTS: [(&str, &str); 4] = [
    ("DIB_BOOTLOADER_DEFAULT_CMDLINE", "nofb nomodeset gfxpayload=text"),
    ("DIB_BOOTLOADER_VIRTUAL_TERMINAL", "tty0"),
    ("DIB_BOOTLOADER_SERIAL_CONSOLE", "ttyS0,115200"),
    ("DIB_GRUB_TIMEOUT", "5"),
];

/// Where the boot stage puts GRUB's image for the BIOS until it is read back.
const CORE_IMAGE: &str = "/tmp/plywood-core.img";
/// Where it puts the commands that go into both images.
const EARLY_CONFIG: &str = "/tmp/plywood-early.cfg";

/// Where the EFI system partition is mounted.
const ESP: &str = "/boot/efi";

/// The boot stage on a mounted disk.
pub(super) struct BootStage<'a> {
    pub(super) run: &'a StepRun<'a>,
    pub(super) root: &'a dyn Root,
    pub(super) layout: &'a Layout,
}

impl BootStage<'_> {
    /// Writes `/etc/fstab`. Hooks of the final stage find it there.
    ///
    /// An image may be without any program: this is done from outside.
    pub(super) fn write_fstab(&self) -> Result<(), BuildError> {
        let script = r#"mkdir -p "$TMP_MOUNT_PATH/etc" && cd "$TMP_MOUNT_PATH/etc" && rm -f fstab &&
            printf %s "$1" >fstab && touch -d "@$SOURCE_DATE_EPOCH" fstab"#;
        self.run_shell(View::HostBare, script, &[&fstab(self.layout)]).map(drop)
    }

    /// Makes the disk bootable: as the elements say if they have a boot loader, else as `request` does. Writes GRUB's image for UEFI
    /// into the root; returns its images for the BIOS.
    ///
    /// # Errors
    /// [`BuildError::NoBootLoader`] if there is a kernel to start, but no GRUB for one of the firmwares.
    pub(super) fn install(&self, request: &DiskRequest<'_>) -> Result<BootImages, BuildError> {
        if self.run.tasks.list.iter().any(|task| task.action == Action::InstallBootLoader) {
            let firmware = self.firmware_of_elements()?;
            let found = self.with_grub(&firmware)?;
            return self.images(if found.is_empty() { &firmware } else { &found });
        }
        let firmware = request.firmware(self.layout);
        let kernels = self.kernels()?;
        match (request, kernels.is_empty()) {
            // Nothing boots from this disk: `firmware = []`, or no place for boot code.
            _ if firmware.is_empty() => Ok(BootImages::default()),
            (_, true) => {
                self.warn("has no kernel in `/boot`: its disk will not boot (element `kernel` installs one)");
                Ok(BootImages::default())
            }
            (DiskRequest::Described { .. }, false) => self.install_on_described(&firmware, &kernels),
            (DiskRequest::Standard(_), false) => {
                self.write_menu(&kernels)?;
                self.images(&firmware)
            }
        }
    }

    /// Makes a described disk bootable. Its author may want another boot loader, so GRUB is installed only if the image has the
    /// element `bootloader`.
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

    /// Returns those of `firmware` that the image has GRUB for. Where it has it for some alone, says what the others lack.
    fn with_grub(&self, firmware: &BTreeSet<Firmware>) -> Result<BTreeSet<Firmware>, BuildError> {
        let mut found = BTreeSet::new();
        for firmware in firmware {
            if self.can_boot_by(*firmware)? {
                found.insert(*firmware);
            }
        }
        for lacking in firmware.difference(&found).filter(|_| !found.is_empty()) {
            let package = GrubTarget::from(*lacking).package();
            self.warn(&format!(
                "has no GRUB for {}: its disk does not boot there (package {package})",
                lacking.name()
            ));
        }
        Ok(found)
    }

    /// Returns what the elements want to boot the disk by, as far as it can be.
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
        let (title, cmdline) = (self.title()?, command_line(&environment));
        let timeout = variable(&environment, "DIB_GRUB_TIMEOUT").parse().unwrap_or(5);
        let boot = Boot { layout: self.layout, title: &title, cmdline: &cmdline, timeout };
        self.write("/boot/grub/grub.cfg", &boot.config(kernels))?;
        self.write("/etc/default/grub.d/50-plywood.cfg", &boot.defaults())
    }

    fn warn(&self, what: &str) {
        let message = format!("image `{}` {what}", self.run.jobs.image);
        self.run.jobs.ports.events.emit(Event::Warning { message: &message });
    }

    fn kernels(&self) -> Result<Vec<Kernel>, BuildError> {
        let script = r#"ls -1 "$TMP_MOUNT_PATH/boot" 2>/dev/null || true"#;
        let names = self.run_shell(View::HostBare, script, &[])?;
        Ok(Kernel::find(String::from_utf8_lossy(&names).lines()))
    }

    fn title(&self) -> Result<String, BuildError> {
        let script = r#"[ ! -r /etc/os-release ] || . /etc/os-release; printf %s "${PRETTY_NAME:-Linux}""#;
        Ok(String::from_utf8_lossy(&self.shell(script, &[])?).into_owned())
    }

    fn images(&self, firmware: &BTreeSet<Firmware>) -> Result<BootImages, BuildError> {
        self.write(EARLY_CONFIG, &early_config(self.layout))?;
        let mut images = BootImages::default();
        for firmware in firmware {
            match firmware {
                Firmware::Bios => {
                    self.make_image(GrubTarget::I386Pc, CORE_IMAGE)?;
                    let boot_image = format!("{}/boot.img", GrubTarget::I386Pc.modules_directory());
                    images.bios = Some((self.read(&boot_image)?, self.read(CORE_IMAGE)?));
                }
                Firmware::Uefi => self.install_for_uefi()?,
            }
        }
        self.shell(r#"rm -f "$@""#, &[CORE_IMAGE, EARLY_CONFIG])?;
        Ok(images)
    }

    /// Copies the distribution's signed loaders if all of them are there; else makes one, which Secure Boot refuses.
    fn install_for_uefi(&self) -> Result<(), BuildError> {
        match self.signed()? {
            Signed::Complete(chain) => {
                for SignedFile { from, to } in &chain.files {
                    let script = r#"mkdir -p "$(dirname "$2")" && cp -f "$1" "$2" &&
                        touch -d "@$SOURCE_DATE_EPOCH" "$2""#;
                    self.shell(script, &[from, &format!("{ESP}/{to}")])?;
                }
                return self.write(&format!("{ESP}/{}", chain.config), &signed_config(self.layout));
            }
            Signed::Partial(packages) => self.warn(&format!(
                "has a part of the signed boot loaders: its own is unsigned, and Secure Boot refuses it (packages {packages})"
            )),
            Signed::Nothing => {}
        }
        self.make_image(GrubTarget::X86_64Efi, &format!("{ESP}/{}", GrubTarget::EFI_FALLBACK))
    }

    /// Returns what the image has of its distribution's signed loaders.
    fn signed(&self) -> Result<Signed, BuildError> {
        let script = r#"[ ! -r /etc/os-release ] || . /etc/os-release; printf %s "${ID:-}""#;
        let id = String::from_utf8_lossy(&self.shell(script, &[])?).into_owned();
        let candidates = Signed::candidates(&id);
        let candidates: Vec<_> = candidates.iter().map(String::as_str).collect();
        let script = r#"for path; do [ ! -f "$path" ] || printf '%s\n' "$path"; done"#;
        let there = String::from_utf8_lossy(&self.shell(script, &candidates)?).into_owned();
        Ok(Signed::find(&id, &there.lines().collect::<Vec<_>>()))
    }

    fn can_boot_by(&self, firmware: Firmware) -> Result<bool, BuildError> {
        if self.has_grub(firmware.into())? {
            return Ok(true);
        }
        Ok(firmware == Firmware::Uefi && matches!(self.signed()?, Signed::Complete(_)))
    }

    fn has_grub(&self, target: GrubTarget) -> Result<bool, BuildError> {
        let probe = r#"[ -d "$1" ] && command -v grub-mkimage >/dev/null && echo yes || echo no"#;
        Ok(self.shell(probe, &[&target.modules_directory()])? == b"yes\n")
    }

    fn make_image(&self, target: GrubTarget, output: &str) -> Result<(), BuildError> {
        if !self.has_grub(target)? {
            return Err(BuildError::NoBootLoader {
                image: self.run.jobs.image.to_owned(),
                target: target.name(),
                package: target.package(),
            });
        }
        let arguments = target.mkimage_arguments(EARLY_CONFIG, output);
        let script = r#"mkdir -p "$(dirname "$1")" && shift && grub-mkimage "$@""#;
        let arguments: Vec<_> = [output].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        self.shell(script, &arguments).map(drop)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, BuildError> {
        self.shell(r#"cat "$1""#, &[path])
    }

    fn write(&self, path: &str, text: &str) -> Result<(), BuildError> {
        let script =
            r#"mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1" && touch -d "@$SOURCE_DATE_EPOCH" "$1""#;
        self.shell(script, &[path, text]).map(drop)
    }

    /// Runs a shell script with arguments in the root, and returns what it prints.
    fn shell(&self, script: &str, arguments: &[&str]) -> Result<Vec<u8>, BuildError> {
        self.run_shell(View::Target, script, arguments)
    }

    fn run_shell(&self, view: View, script: &str, arguments: &[&str]) -> Result<Vec<u8>, BuildError> {
        let head = ["sh", "-euc", script, "boot"];
        let argv = head.iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        self.run.capture(self.root, view, "boot", argv)
    }
}

/// Returns the kernel arguments beside `root=`; the last console is the one that gets the login prompt.
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
