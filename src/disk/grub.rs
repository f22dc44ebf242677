//! The configuration and the images of GRUB, which plywood makes without probing the machine.
//!
//! There are three texts:
//!
//! | text | where | read by |
//! |---|---|---|
//! | [`early_config`] | in the core images | GRUB at its start: finds `/boot/grub` |
//! | [`Boot::config`] | `/boot/grub/grub.cfg` | GRUB: the menu |
//! | [`Boot::defaults`] | `/etc/default/grub.d/` | `update-grub` in the running system, after kernel upgrades |
//!
//! With the third text, `update-grub` writes a menu that starts the kernel in the same way as
//! plywood's menu. plywood's core images have all modules for such a menu, so GRUB need not be
//! installed again.
//!
//! Source: GRUB manual, "Embedding a configuration file into GRUB", "Writing full configuration
//! files".

use std::fmt::Write as _;

use super::kernel::Kernel;
use super::{FileSystem, Firmware, Layout};

/// The directory of GRUB on Debian and similar distributions. Others use `grub2`.
const DIRECTORY: &str = "/boot/grub";

/// The modules in both core images. With them, GRUB can read plywood's disks and run plywood's menu
/// or a menu of `update-grub`, without loading modules from the disk.
const MODULES: &str = "part_gpt part_msdos lvm ext2 xfs btrfs fat normal configfile linux search search_fs_uuid search_label \
                       search_fs_file serial terminal terminfo echo test true regexp sleep keystatus loadenv gzio \
                       xzio minicmd ls cat boot halt reboot font gfxterm all_video gettext";

/// The settings with which a system boots from a disk.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    pub layout: &'a Layout,
    /// The name in the menu: `Debian GNU/Linux`.
    pub title: &'a str,
    /// Kernel arguments besides `root=`. GRUB also uses a serial console that they name, such as
    /// `console=ttyS0,115200`.
    pub cmdline: &'a str,
    /// The time that the menu waits, in seconds; -1 waits for a key.
    pub timeout: i32,
}

impl Boot<'_> {
    /// Returns `/boot/grub/grub.cfg` with an entry for each of `kernels`. The first one is the
    /// default.
    pub fn config(&self, kernels: &[Kernel]) -> String {
        let timeout = self.timeout;
        let mut text =
            format!("# Written by plywood. update-grub replaces it.\nset default=0\nset timeout={timeout}\n");
        if let Some((unit, speed)) = self.serial() {
            let _ = writeln!(text, "serial --unit={unit} --speed={speed}");
            text.push_str("terminal_input serial console\nterminal_output serial console\n");
        }
        if let Some((boot, directory)) = self.layout.locate("/boot") {
            let _ = writeln!(text, "search --no-floppy --fs-uuid --set=root {}", boot.kind.uuid());
            text.extend(kernels.iter().map(|kernel| self.entry(kernel, directory)));
        }
        text
    }

    /// Returns a file for `/etc/default/grub.d`.
    pub fn defaults(&self) -> String {
        let mut text = String::from(
            "# Written by plywood: what update-grub needs to start the system as the image did.\n",
        );
        let _ = writeln!(text, "GRUB_TIMEOUT={}", self.timeout);
        let _ = writeln!(
            text,
            "GRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_CMDLINE_LINUX=\"{}\"",
            shell_text(self.cmdline)
        );
        // If disks of other systems are attached, these systems must not appear in the menu.
        text.push_str("GRUB_DISABLE_OS_PROBER=true\n");
        if let Some((unit, speed)) = self.serial() {
            let _ = writeln!(text, "GRUB_TERMINAL=\"serial console\"");
            let _ = writeln!(text, "GRUB_SERIAL_COMMAND=\"serial --unit={unit} --speed={speed}\"");
        }
        text
    }

    fn entry(&self, kernel: &Kernel, directory: &str) -> String {
        let Kernel { version, image, initrd } = kernel;
        let title = quote(&format!("{}, Linux {version}", self.title));
        let root = self.layout.locate("/").map(|(root, _)| self.root_argument(root, kernel));
        let words = root.iter().map(String::as_str).chain(["ro"]).chain(self.cmdline.split_whitespace());
        let arguments: Vec<_> = words.map(quote).collect();
        let mut text =
            format!("menuentry {title} {{\n\tlinux {directory}/{} {}\n", quote(image), arguments.join(" "));
        if let Some(initrd) = initrd {
            let _ = writeln!(text, "\tinitrd {directory}/{}", quote(initrd));
        }
        text + "}\n"
    }

    /// Returns the argument `root=`. A kernel without initramfs can find partitions by their UUIDs,
    /// but no file systems by UUIDs and labels.
    fn root_argument(&self, root: &FileSystem, kernel: &Kernel) -> String {
        match (&kernel.initrd, self.layout.partition_of(root)) {
            (None, Some(partition)) => format!("root=PARTUUID={}", self.layout.partition_uuid(partition)),
            _ => format!("root={}", root.name()),
        }
    }

    /// Returns unit and speed of the serial console in the kernel arguments.
    fn serial(&self) -> Option<(u32, u32)> {
        let console = self.cmdline.split_whitespace().find_map(|word| word.strip_prefix("console=ttyS"))?;
        let (unit, mode) = console.split_once(',').unwrap_or((console, "9600"));
        let speed: String = mode.chars().take_while(char::is_ascii_digit).collect();
        Some((unit.parse().ok()?, speed.parse().ok()?))
    }
}

/// Returns the commands in the core images of a disk. They find the file system with `/boot/grub`
/// by its UUID. Then GRUB enters normal mode, which reads `grub.cfg` there.
pub fn early_config(layout: &Layout) -> String {
    let Some((file_system, directory)) = layout.locate(DIRECTORY) else { return String::new() };
    let uuid = file_system.kind.uuid();
    format!("search.fs_uuid {uuid} root\nset prefix=($root){directory}\n")
}

/// A platform of GRUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrubTarget {
    /// The BIOS of a PC.
    I386Pc,
    /// 64-bit UEFI.
    X86_64Efi,
}

impl From<Firmware> for GrubTarget {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Bios => GrubTarget::I386Pc,
            Firmware::Uefi => GrubTarget::X86_64Efi,
        }
    }
}

impl GrubTarget {
    /// Returns GRUB's name of the platform.
    pub const fn name(self) -> &'static str {
        match self {
            GrubTarget::I386Pc => "i386-pc",
            GrubTarget::X86_64Efi => "x86_64-efi",
        }
    }

    /// Returns the directory of its modules in an image.
    pub fn modules_directory(self) -> String {
        format!("/usr/lib/grub/{}", self.name())
    }

    /// Returns the Debian package of its modules.
    pub const fn package(self) -> &'static str {
        match self {
            GrubTarget::I386Pc => "grub-pc-bin",
            GrubTarget::X86_64Efi => "grub-efi-amd64-bin",
        }
    }

    /// Returns the arguments for the `grub-mkimage` of the image. It writes a core image to
    /// `output`, with the commands in the file `config`: see [`early_config`].
    pub fn mkimage_arguments(self, config: &str, output: &str) -> Vec<String> {
        let directory = self.modules_directory();
        let options = ["-O", self.name(), "-d", &directory, "-c", config, "-o", output, "-p", DIRECTORY];
        let own: &[&str] = match self {
            GrubTarget::I386Pc => &["biosdisk"],
            GrubTarget::X86_64Efi => &["efi_gop", "efi_uga", "efifwsetup"],
        };
        let words = options.into_iter().chain(MODULES.split_whitespace()).chain(own.iter().copied());
        words.map(str::to_owned).collect()
    }
}

impl GrubTarget {
    /// The path of the boot loader that firmware starts from an unknown disk, relative to the EFI
    /// system partition.
    ///
    /// Source: UEFI 2.10, 3.5.1.1, "Removable Media Boot Behavior".
    pub const EFI_FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
}

/// Quotes a word for GRUB's language, if necessary.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=,:+%@~^".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Escapes text for double quotes in a shell.
fn shell_text(text: &str) -> String {
    text.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| "\"\\$`".contains(c)).chain([c])).collect()
}
