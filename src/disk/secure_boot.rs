//! The signed chain of a distribution for Secure Boot: firmware → shim → GRUB → kernel.
//!
//! Microsoft has signed shim, and the distribution has signed GRUB and the kernel. plywood cannot
//! make these files, so it copies them from packages to the EFI system partition. The signed GRUB
//! reads its configuration from a directory whose name is built in.
//!
//! Source: UEFI 2.10, 3.5.1.1, "Removable Media Boot Behavior"; shim, `README.md`; Debian,
//! `debian/build-efi-images` of GRUB.

use super::grub::early_config;
use super::{GrubTarget, Layout};

/// A file of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFile {
    /// The path in the image, where a package installs it.
    pub from: String,
    /// The path on the EFI system partition, where the file before it in the chain looks for it.
    pub to: &'static str,
}

/// The complete signed loaders of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedChain {
    pub files: Vec<SignedFile>,
    /// The path of GRUB's configuration on the EFI system partition.
    pub config: String,
}

/// The parts of a signed chain that an image has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signed {
    Complete(SignedChain),
    /// Some parts. These packages have all of them.
    Partial(&'static str),
    /// No parts, or plywood does not know the signed loaders of the distribution.
    Nothing,
}

/// The names of the files in a distribution. `{vendor}` stands for the distribution's directory on
/// the EFI system partition.
struct Naming {
    /// `ID` in `/etc/os-release`, and the directory of its GRUB.
    vendors: &'static [(&'static str, &'static str)],
    /// Paths of shim. Here and below, the first existing path counts.
    shim: &'static [&'static str],
    /// Paths of GRUB.
    grub: &'static [&'static str],
    /// Paths of the manager for machine owner keys, which shim starts on request. Optional.
    keys: &'static [&'static str],
    packages: &'static str,
}

const NAMINGS: [Naming; 2] = [
    Naming {
        vendors: &[("debian", "debian"), ("ubuntu", "ubuntu")],
        shim: &["/usr/lib/shim/shimx64.efi.signed", "/usr/lib/shim/shimx64.efi.signed.latest"],
        grub: &["/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"],
        keys: &["/usr/lib/shim/mmx64.efi.signed", "/usr/lib/shim/mmx64.efi"],
        packages: "shim-signed and grub-efi-amd64-signed",
    },
    Naming {
        vendors: &[
            ("fedora", "fedora"),
            ("rhel", "redhat"),
            ("centos", "centos"),
            ("rocky", "rocky"),
            ("almalinux", "almalinux"),
        ],
        shim: &["/boot/efi/EFI/{vendor}/shimx64.efi"],
        grub: &["/boot/efi/EFI/{vendor}/grubx64.efi"],
        keys: &["/boot/efi/EFI/{vendor}/mmx64.efi"],
        packages: "shim-x64 and grub2-efi-x64",
    },
];

impl Signed {
    /// Returns all paths that [`Signed::find`] needs for an image of the distribution `id` (`ID` in
    /// `/etc/os-release`).
    pub fn candidates(id: &str) -> Vec<String> {
        let Some((naming, vendor)) = naming(id) else { return Vec::new() };
        let paths = [naming.shim, naming.grub, naming.keys].concat();
        paths.iter().map(|path| path.replace("{vendor}", vendor)).collect()
    }

    /// Returns the parts of the chain in an image of the distribution `id` with the files `there`.
    pub fn find(id: &str, there: &[&str]) -> Self {
        let Some((naming, vendor)) = naming(id) else { return Signed::Nothing };
        let first = |paths: &[&str]| {
            let paths = paths.iter().map(|path| path.replace("{vendor}", vendor));
            paths.into_iter().find(|path| there.contains(&path.as_str()))
        };
        let file = |paths, to| first(paths).map(|from| SignedFile { from, to });
        let shim = file(naming.shim, GrubTarget::EFI_FALLBACK);
        // shim loads GRUB from its own directory.
        let grub = file(naming.grub, "EFI/BOOT/grubx64.efi");
        let keys = file(naming.keys, "EFI/BOOT/mmx64.efi");
        match (shim, grub) {
            (Some(shim), Some(grub)) => Signed::Complete(SignedChain {
                files: [shim, grub].into_iter().chain(keys).collect(),
                config: format!("EFI/{vendor}/grub.cfg"),
            }),
            (None, None) => Signed::Nothing,
            _ => Signed::Partial(naming.packages),
        }
    }
}

fn naming(id: &str) -> Option<(&'static Naming, &'static str)> {
    NAMINGS.iter().find_map(|naming| {
        let (_, vendor) = naming.vendors.iter().find(|(of, _)| *of == id)?;
        Some((naming, *vendor))
    })
}

/// Returns the configuration for a signed GRUB. It finds the menu by the UUID of its file system.
pub fn signed_config(layout: &Layout) -> String {
    format!("{}configfile $prefix/grub.cfg\n", early_config(layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIM: &str = "/usr/lib/shim/shimx64.efi.signed";
    const GRUB: &str = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
    const KEYS: &str = "/usr/lib/shim/mmx64.efi.signed";

    #[test]
    fn a_chain_is_complete_with_shim_and_grub() {
        let packages = "shim-signed and grub-efi-amd64-signed";
        for (id, there, expected) in [
            ("debian", &[][..], Signed::Nothing),
            ("debian", &[SHIM], Signed::Partial(packages)),
            ("debian", &[GRUB, KEYS], Signed::Partial(packages)),
            ("alpine", &[SHIM, GRUB], Signed::Nothing),
        ] {
            assert_eq!(Signed::find(id, there), expected, "{id} {there:?}");
        }
        let Signed::Complete(chain) = Signed::find("debian", &[GRUB, KEYS, SHIM]) else { panic!() };
        let files: Vec<_> = chain.files.iter().map(|file| (file.from.as_str(), file.to)).collect();
        let expected =
            [(SHIM, "EFI/BOOT/BOOTX64.EFI"), (GRUB, "EFI/BOOT/grubx64.efi"), (KEYS, "EFI/BOOT/mmx64.efi")];
        assert_eq!((&files[..], chain.config.as_str()), (&expected[..], "EFI/debian/grub.cfg"));
    }

    #[test]
    fn each_distribution_has_its_own_names() {
        for (id, shim, grub, config) in [
            ("ubuntu", "/usr/lib/shim/shimx64.efi.signed.latest", GRUB, "EFI/ubuntu/grub.cfg"),
            (
                "rhel",
                "/boot/efi/EFI/redhat/shimx64.efi",
                "/boot/efi/EFI/redhat/grubx64.efi",
                "EFI/redhat/grub.cfg",
            ),
            (
                "rocky",
                "/boot/efi/EFI/rocky/shimx64.efi",
                "/boot/efi/EFI/rocky/grubx64.efi",
                "EFI/rocky/grub.cfg",
            ),
        ] {
            let candidates = Signed::candidates(id);
            assert!(
                [shim, grub].iter().all(|path| candidates.iter().any(|known| known == path)),
                "{candidates:?}"
            );
            let Signed::Complete(chain) = Signed::find(id, &[shim, grub]) else { panic!("{id}") };
            assert_eq!((chain.files.len(), chain.config.as_str()), (2, config));
        }
    }
}
