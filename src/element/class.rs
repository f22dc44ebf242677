//! The steps of hooks in element order that do not run in their element's own step.
//!
//! In phase order, a repository is added before any package is installed, and all files exist
//! before an index of them is built. With one step for each element, such hooks need a slot in the
//! file [`SLOT_FILE`](super::SLOT_FILE) of their element. Elements of diskimage-builder have no
//! such file; the table here replaces it. Most hooks are in the step of their element, which is
//! right for every element whose hooks do not depend on those of others.

use super::{Element, ElementName, Phase, Slot, SlotRule};

/// A line of [`SLOT_FILE`](super::SLOT_FILE) that contradicts the hooks of the element, another
/// line or plywood's table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotConflict {
    #[error("line {line}: no hook of `{phase}` has a name that starts with `{prefix}`")]
    NoHook {
        /// Counted from 1.
        line: usize,
        phase: Phase,
        prefix: String,
    },
    #[error("line {line} has no effect: lines above it are for the same hooks")]
    Covered {
        /// Counted from 1.
        line: usize,
    },
    /// plywood's table has another slot for an element of this name.
    #[error(
        "line {line} puts `{phase}/{hook}` into `{slot}`; plywood's table puts it into `{table}` ({reason})"
    )]
    Table {
        /// Counted from 1.
        line: usize,
        phase: Phase,
        hook: String,
        /// The slot in the line.
        slot: Slot,
        /// The slot in the table.
        table: Slot,
        reason: &'static str,
    },
    #[error("slots have no effect: this element works only in phase order, because {0}")]
    PhaseOrder(&'static str),
}

impl Element {
    /// Returns the slot of its hook `name` of `phase`: that of the first line in its file that
    /// matches, else that of plywood's table, else [`Slot::Own`].
    pub fn slot(&self, phase: Phase, name: &str) -> Slot {
        let rule = self.slots.iter().find(|rule| rule.covers(phase, name));
        rule.map(|rule| rule.slot)
            .or_else(|| table_row(&self.name, phase, name).map(|row| row.3))
            .unwrap_or(Slot::Own)
    }

    /// Returns its hooks in other slots than [`Slot::Own`], with their slots, by phase.
    pub fn hooks_elsewhere(&self) -> impl Iterator<Item = (Slot, String)> {
        let hooks = Slot::Own.phases().iter().flat_map(|&phase| self.possible_hooks(phase));
        let slots = hooks.map(|hook| (self.slot(hook.phase, hook.name), hook.path()));
        slots.filter(|(slot, _)| *slot != Slot::Own)
    }

    /// Returns the conflicts of its slot rules.
    pub fn slot_conflicts(&self) -> Vec<SlotConflict> {
        let useless =
            needs_phase_order(&self.name).filter(|_| !self.slots.is_empty()).map(SlotConflict::PhaseOrder);
        useless
            .into_iter()
            .chain(self.slots.iter().enumerate().filter_map(|(at, rule)| self.conflict(at, rule)))
            .collect()
    }

    fn conflict(&self, at: usize, rule: &SlotRule) -> Option<SlotConflict> {
        let SlotRule { line, phase, slot, .. } = *rule;
        let hooks: Vec<_> =
            self.possible_hooks(phase).into_iter().filter(|hook| rule.covers(phase, hook.name)).collect();
        let decided = |name: &str| self.slots[..at].iter().any(|above| above.covers(phase, name));
        if hooks.is_empty() {
            return Some(SlotConflict::NoHook { line, phase, prefix: rule.prefix.clone() });
        }
        let mut own = hooks.iter().filter(|hook| !decided(hook.name)).peekable();
        if own.peek().is_none() {
            return Some(SlotConflict::Covered { line });
        }
        own.find_map(|hook| {
            let row = table_row(&self.name, phase, hook.name).filter(|row| row.3 != slot)?;
            let hook = hook.name.to_owned();
            Some(SlotConflict::Table { line, phase, hook, slot, table: row.3, reason: row.4 })
        })
    }
}

/// Hooks of an element, by phase and prefix of their names, with their slot and the reason.
type Row = (&'static str, Phase, &'static str, Slot, &'static str);

static PLACES: [Row; 25] = {
    use Phase::{ExtraData, Install, PostInstall, PreInstall};
    use Slot::{Final, Late, Prepare};
    [
        ("apt-conf", ExtraData, "", Prepare, "its configuration applies to every installation"),
        ("apt-preferences", ExtraData, "", Prepare, "its pins apply to every installation"),
        ("apt-sources", ExtraData, "", Prepare, "every installation uses its sources"),
        ("elrepo", PreInstall, "", Prepare, "others install from the repository it adds"),
        ("epel", PreInstall, "", Prepare, "others install from the repository it adds"),
        ("fips", PreInstall, "", Prepare, "kernels are installed for the mode it sets"),
        ("local-config", PreInstall, "02-", Prepare, "its proxy serves every installation"),
        ("openstack-ci-mirrors", ExtraData, "", Prepare, "every installation uses its mirrors"),
        ("selinux-permissive", PreInstall, "", Prepare, "packages are installed under the policy it sets"),
        ("dkms", PostInstall, "97-", Late, "builds every module for every kernel of the image"),
        ("gentoo", PostInstall, "99-", Late, "updates all installed packages"),
        ("hpdsa", PostInstall, "95-", Late, "needs every kernel of the image"),
        ("hpdsa", PostInstall, "98-", Late, "follows the modules that dkms builds"),
        ("iscsi-boot", PostInstall, "", Late, "rebuilds the initramfs"),
        ("keylime-agent", Install, "80-", Late, "lists the hashes of all files"),
        ("pip-and-virtualenv", PostInstall, "89-", Late, "clears a cache that every element fills"),
        ("ubuntu-common", PostInstall, "99-", Late, "removes packages that are no longer needed"),
        ("yum", PostInstall, "99-", Late, "turns off the cache that every installation uses"),
        ("zypper", PostInstall, "10-", Late, "rebuilds the initramfs"),
        ("zypper", PostInstall, "98-", Late, "turns off the cache that every installation uses"),
        ("zypper", PostInstall, "99-", Late, "clears the cache that every installation uses"),
        ("zypper-minimal", PostInstall, "01-", Late, "removes locales of all packages"),
        ("element-manifest", ExtraData, "", Final, "lists all elements of the image"),
        ("iscsi-boot", ExtraData, "", Final, "searches all elements of the image"),
        (
            "select-boot-kernel-initrd",
            ExtraData,
            "",
            Final,
            "provides functions for hooks of the final stage",
        ),
    ]
};

/// Elements that cannot be built in element order, with the reason.
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

const RAMDISK: &str = "a ramdisk is packed from files that all elements add in the same phase";

/// Returns the row of the table for the hook `name` of `element`.
fn table_row(element: &ElementName, phase: Phase, name: &str) -> Option<&'static Row> {
    PLACES.iter().find(|row| row.0 == element.as_str() && row.1 == phase && name.starts_with(row.2))
}

/// Returns the reason why an element cannot be built in element order; `None` if it can.
pub fn needs_phase_order(element: &ElementName) -> Option<&'static str> {
    PHASE_ORDER_ONLY.iter().find(|(name, _)| *name == element.as_str()).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    #[test]
    fn hooks_that_stand_in_no_table_are_in_their_elements_own_step() {
        for (name, phase, hook, expected) in [
            ("apt-sources", Phase::ExtraData, "99-override-default-apt-sources", Slot::Prepare),
            ("apt-sources", Phase::Install, "99-override-default-apt-sources", Slot::Own),
            ("local-config", Phase::PreInstall, "02-proxy", Slot::Prepare),
            ("local-config", Phase::PreInstall, "20-other", Slot::Own),
            ("dkms", Phase::PostInstall, "97-dkms", Slot::Late),
            ("element-manifest", Phase::ExtraData, "75-inject-element-manifest", Slot::Final),
            ("somebody-elses", Phase::PostInstall, "97-dkms", Slot::Own),
        ] {
            assert_eq!(element(name).build().slot(phase, hook), expected, "{name} {hook}");
        }
        assert!(needs_phase_order(&"iso".parse().unwrap()).is_some());
        assert!(needs_phase_order(&"base".parse().unwrap()).is_none());
    }

    #[test]
    fn the_first_line_that_matches_a_hook_sets_its_slot() {
        let slots = "# ours\npost-install.d/97-dkms own # dkms comes later here\n\npost-install.d late\nextra-data.d/10- prepare\n";
        for (name, phase, hook, expected) in [
            ("somebody-elses", Phase::PostInstall, "50-x", Slot::Late),
            ("somebody-elses", Phase::PostInstall, "97-dkms", Slot::Own),
            ("somebody-elses", Phase::ExtraData, "10-repo", Slot::Prepare),
            ("somebody-elses", Phase::ExtraData, "100-repo", Slot::Own),
            ("dkms", Phase::PostInstall, "97-dkms", Slot::Own),
            ("element-manifest", Phase::ExtraData, "75-inject-element-manifest", Slot::Final),
        ] {
            assert_eq!(element(name).slots(slots).build().slot(phase, hook), expected, "{name} {hook}");
        }
    }

    #[test]
    fn lines_that_contradict_hooks_other_lines_or_the_table_are_found() {
        for (name, slots, expected) in [
            ("mine", "post-install.d/97- late", None),
            ("dkms", "post-install.d/97- late", None),
            (
                "mine",
                "post-install.d/98- late",
                Some("line 1: no hook of `post-install.d` has a name that starts with `98-`"),
            ),
            (
                "mine",
                "post-install.d late\npost-install.d/97- own",
                Some("line 2 has no effect: lines above it are for the same hooks"),
            ),
            (
                "dkms",
                "post-install.d/97- own",
                Some(
                    "line 1 puts `post-install.d/97-x` into `own`; plywood's table puts it into `late` (builds every module \
                     for every kernel of the image)",
                ),
            ),
        ] {
            let element = element(name).hook("post-install.d/97-x", "").slots(slots).build();
            let found: Vec<_> = element.slot_conflicts().iter().map(ToString::to_string).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{slots}");
        }
        let typed = element("web").hook("install.d/web-source-install/60-x", "").slots("install.d/60- late");
        let typed = typed.build();
        assert_eq!(typed.slot_conflicts(), []);
        assert_eq!(typed.hooks_elsewhere().collect::<Vec<_>>(), [(Slot::Late, "install.d/60-x".to_owned())]);
        let ramdisk = element("ramdisk").hook("install.d/50-x", "").slots("install.d late").build();
        assert!(matches!(ramdisk.slot_conflicts()[..], [SlotConflict::PhaseOrder(_)]));
    }

    /// A row below another that covers it would have no effect, and each row must be a rule that an
    /// element could have.
    #[test]
    fn every_row_has_an_effect() {
        for (place, row) in PLACES.iter().enumerate() {
            let covers =
                |before: &&Row| before.0 == row.0 && before.1 == row.1 && row.2.starts_with(before.2);
            assert!(!PLACES[..place].iter().any(|before| covers(&before)), "{} {}", row.0, row.2);
            assert!(row.3.phases().contains(&row.1), "{} {}", row.0, row.2);
        }
    }
}
