//! Where hooks stand in element order, if not in their element's own step.
//!
//! In phase order, a repository is there before any package is installed, and all files are there before an index of them is built.
//! With one step for each element, such hooks have to be listed here. Most hooks are in neither table and run in the step of their
//! element, which is right for every element whose hooks do not depend on those of others.
//!
//! | slot | is |
//! |---|---|
//! | own | the element's own step |
//! | prepare | before anything is installed, together with the elements that make the operating system |
//! | late | after all elements, in the order of phases and numbers |
//! | final | the final stage, before its own phases |

use super::{ElementName, Phase};

/// A place for hooks in element order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The element's own step.
    Own,
    /// The step before anything is installed.
    Prepare,
    /// The step after all elements.
    Late,
    /// The final stage.
    Final,
}

/// Hooks of an element, by phase and the start of their names; where they stand; and why.
type Row = (&'static str, Phase, &'static str, Slot, &'static str);

const PLACES: [Row; 25] = {
    use Phase::{ExtraData, Install, PostInstall, PreInstall};
    use Slot::{Final, Late, Prepare};
    [
        ("apt-conf", ExtraData, "", Prepare, "its configuration rules every installation"),
        ("apt-preferences", ExtraData, "", Prepare, "its pins rule every installation"),
        ("apt-sources", ExtraData, "", Prepare, "every installation takes from its sources"),
        ("elrepo", PreInstall, "", Prepare, "others install from the repository it adds"),
        ("epel", PreInstall, "", Prepare, "others install from the repository it adds"),
        ("fips", PreInstall, "", Prepare, "kernels are installed for the mode it sets"),
        ("local-config", PreInstall, "02-", Prepare, "its proxy serves every installation"),
        ("openstack-ci-mirrors", ExtraData, "", Prepare, "every installation uses its mirrors"),
        ("selinux-permissive", PreInstall, "", Prepare, "packages are installed under the policy it sets"),
        ("dkms", PostInstall, "97-", Late, "builds every module for every kernel of the image"),
        ("gentoo", PostInstall, "99-", Late, "updates all that is installed"),
        ("hpdsa", PostInstall, "95-", Late, "needs every kernel of the image"),
        ("hpdsa", PostInstall, "98-", Late, "follows the modules that dkms builds"),
        ("iscsi-boot", PostInstall, "", Late, "makes the initramfs anew"),
        ("keylime-agent", Install, "80-", Late, "lists the hashes of all files"),
        ("pip-and-virtualenv", PostInstall, "89-", Late, "clears a cache that everybody fills"),
        ("ubuntu-common", PostInstall, "99-", Late, "removes what nobody needs any more"),
        ("yum", PostInstall, "99-", Late, "turns off the cache that every installation uses"),
        ("zypper", PostInstall, "10-", Late, "makes the initramfs anew"),
        ("zypper", PostInstall, "98-", Late, "turns off the cache that every installation uses"),
        ("zypper", PostInstall, "99-", Late, "clears the cache that every installation uses"),
        ("zypper-minimal", PostInstall, "01-", Late, "removes locales of all packages"),
        ("element-manifest", ExtraData, "", Final, "lists all elements of the image"),
        ("iscsi-boot", ExtraData, "", Final, "looks for an element among all of the image"),
        ("select-boot-kernel-initrd", ExtraData, "", Final, "lends functions to hooks of the final stage"),
    ]
};

/// Elements that are right in phase order alone, and why.
const PHASE_ORDER_ONLY: [(&str, &str); 12] = [
    ("deploy-baremetal", RAMDISK),
    ("deploy-targetcli", RAMDISK),
    ("deploy-tgtadm", RAMDISK),
    ("dracut-ramdisk", RAMDISK),
    ("hwburnin", RAMDISK),
    ("hwdiscovery", RAMDISK),
    ("ilo", RAMDISK),
    ("iso", "it saves boot files of all elements in one phase and packs them in another"),
    ("pypi", "it configures pip before all other elements and unconfigures it after them"),
    ("ramdisk", RAMDISK),
    ("ramdisk-base", RAMDISK),
    ("zipl", "it sets how kernels are installed before any element installs one"),
];

const RAMDISK: &str = "a ramdisk is made of pieces that all elements bring in the same phase";

/// Returns where the hook `name` of `element` stands in element order.
pub fn slot(element: &ElementName, phase: Phase, name: &str) -> Slot {
    let fits = |row: &&Row| row.0 == element.as_str() && row.1 == phase && name.starts_with(row.2);
    PLACES.iter().find(fits).map_or(Slot::Own, |row| row.3)
}

/// Returns why an element cannot be right in element order, if it cannot.
pub fn needs_phase_order(element: &ElementName) -> Option<&'static str> {
    PHASE_ORDER_ONLY.iter().find(|(name, _)| *name == element.as_str()).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_that_stand_in_no_table_are_in_their_elements_own_step() {
        for (element, phase, hook, expected) in [
            ("apt-sources", Phase::ExtraData, "99-override-default-apt-sources", Slot::Prepare),
            ("apt-sources", Phase::Install, "99-override-default-apt-sources", Slot::Own),
            ("local-config", Phase::PreInstall, "02-proxy", Slot::Prepare),
            ("local-config", Phase::PreInstall, "20-other", Slot::Own),
            ("dkms", Phase::PostInstall, "97-dkms", Slot::Late),
            ("element-manifest", Phase::ExtraData, "75-inject-element-manifest", Slot::Final),
            ("somebody-elses", Phase::PostInstall, "97-dkms", Slot::Own),
        ] {
            assert_eq!(slot(&element.parse().unwrap(), phase, hook), expected, "{element} {hook}");
        }
        assert!(needs_phase_order(&"iso".parse().unwrap()).is_some());
        assert!(needs_phase_order(&"base".parse().unwrap()).is_none());
    }

    /// A row below another that covers it would never be looked at.
    #[test]
    fn every_row_decides_something() {
        for (place, row) in PLACES.iter().enumerate() {
            let covers =
                |before: &&Row| before.0 == row.0 && before.1 == row.1 && row.2.starts_with(before.2);
            assert!(!PLACES[..place].iter().any(|before| covers(&before)), "{} {}", row.0, row.2);
        }
    }
}
