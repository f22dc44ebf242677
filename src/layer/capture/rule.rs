//! The table of rules.

use super::pattern::Pattern;
use super::rewrite::Rewrite;
use crate::layer::Kind;

/// What capture does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is captured as it is.
    Keep,
    /// It is dropped, with everything beneath it.
    Drop,
    /// It is captured without content.
    Empty,
    /// A part of its content is replaced.
    Rewrite(Rewrite),
}

/// The rules of one capture. The default is [`CaptureRules::standard`].
#[derive(Debug, Clone)]
pub struct CaptureRules {
    rules: &'static [Rule],
}

/// One row of the table. The first row whose pattern and kinds match decides.
#[derive(Debug)]
struct Rule {
    pattern: Pattern,
    kinds: Kinds,
    action: Action,
}

/// The kinds of entries that a rule applies to.
#[derive(Debug, Clone, Copy)]
enum Kinds {
    /// Regular files.
    Files,
    /// All kinds except directories.
    Leaves,
    /// Everything.
    All,
}

impl Kinds {
    fn include(self, kind: &Kind) -> bool {
        match self {
            Kinds::Files => matches!(kind, Kind::File(_)),
            Kinds::Leaves => *kind != Kind::Directory,
            Kinds::All => true,
        }
    }
}

impl CaptureRules {
    /// Returns the rules for every layer of a root file system.
    pub const fn standard() -> Self {
        Self { rules: STANDARD }
    }

    /// Returns an empty set of rules, which captures everything unchanged.
    pub const fn none() -> Self {
        Self { rules: &[] }
    }

    /// Returns the path patterns of all rules, in their order.
    pub fn patterns(&self) -> impl Iterator<Item = &'static str> {
        self.rules.iter().map(|rule| rule.pattern.0)
    }

    /// Returns the action for the entry of kind `kind` at `path` (relative to the root). Whiteouts
    /// are always kept: a step that removes a file wants it removed.
    pub fn action(&self, path: &[u8], kind: &Kind) -> Action {
        if *kind == Kind::Whiteout {
            return Action::Keep;
        }
        let rule = self.rules.iter().find(|rule| rule.kinds.include(kind) && rule.pattern.matches(path));
        rule.map_or(Action::Keep, |rule| rule.action)
    }
}

impl Default for CaptureRules {
    fn default() -> Self {
        Self::standard()
    }
}

const fn rule(pattern: &'static str, kinds: Kinds, action: Action) -> Rule {
    Rule { pattern: Pattern(pattern), kinds, action }
}

const fn file(pattern: &'static str) -> Rule {
    rule(pattern, Kinds::Files, Action::Drop)
}

const fn leaves(pattern: &'static str) -> Rule {
    rule(pattern, Kinds::Leaves, Action::Drop)
}

/// The files that differ from build to build, or that machines must not share.
///
/// Each rule keeps the meaning of the file at first boot, in a container and on an upgrade.
/// `docs/normalization.md` has the details of each rule.
const STANDARD: &[Rule] = &[
    // State of a running system: pid files, sockets, device nodes of the sandbox. The kernel, udev
    // and systemd-tmpfiles fill these directories at boot. `run/lock` stays, because `/var/lock`
    // points to it, and without an init system nothing else makes it.
    rule("run/lock", Kinds::All, Action::Keep),
    rule("run/**", Kinds::All, Action::Drop),
    rule("dev/**", Kinds::All, Action::Drop),
    rule("proc/**", Kinds::All, Action::Drop),
    rule("sys/**", Kinds::All, Action::Drop),
    // Identities: random in each build, and the same on every machine made from the image. Machines
    // with one id get the same DHCP lease. systemd fills an empty machine-id at first boot, but the
    // file must exist; D-Bus links its own file to it.
    rule("etc/machine-id", Kinds::Files, Action::Rewrite(Rewrite::MachineId)),
    file("var/lib/dbus/machine-id"),
    // Everybody who has the image could pose as each of its machines. Units of the final stage make
    // new keys at first boot.
    file("etc/ssh/ssh_host_*"),
    // Machines with one seed may draw the same random numbers. Written at the first shutdown.
    file("var/lib/systemd/random-seed"),
    file("var/lib/urandom/random-seed"),
    // The seeds of systemd-boot, on the EFI system partition.
    file("boot/efi/loader/random-seed"),
    file("boot/loader/random-seed"),
    file("efi/loader/random-seed"),
    // Decrypts the credentials of every machine. systemd makes it when it first needs one.
    file("var/lib/systemd/credential.secret"),
    // The private key would be public. A unit of the final stage makes a new pair at first boot.
    file("etc/ssl/certs/ssl-cert-snakeoil.pem"),
    file("etc/ssl/private/ssl-cert-snakeoil.key"),
    // Arrays and clock of the build host, which other build hosts do not have.
    rule("etc/mdadm/mdadm.conf", Kinds::Files, Action::Rewrite(Rewrite::Arrays)),
    rule("etc/adjtime", Kinds::Files, Action::Rewrite(Rewrite::ClockDrift)),
    // Logs have dates and durations. Package tools create their logs again, so those are dropped.
    // The others become empty files: programs that write to `lastlog`, `wtmp` or `btmp` do not
    // create them, and the files keep their owners and modes.
    leaves("var/log/journal/**"),
    file("var/log/apt/**"),
    file("var/log/dpkg.log"),
    file("var/log/alternatives.log"),
    file("var/log/bootstrap.log"),
    file("var/log/fontconfig.log"),
    rule("var/log/**", Kinds::Files, Action::Empty),
    // Caches with inode numbers, times or the order of a directory, which differ between two file
    // systems. Programs or timers make them again.
    file("var/cache/ldconfig/aux-cache"),
    file("var/cache/man/**"),
    file("var/cache/fontconfig/**"),
    file("var/lib/systemd/catalog/database"),
    // Package indexes and downloads differ with the minute of the build, and are outdated when the
    // image boots.
    file("var/lib/apt/lists/**"),
    file("var/cache/apt/pkgcache.bin"),
    file("var/cache/apt/srcpkgcache.bin"),
    file("var/cache/apt/archives/**"),
    file("var/cache/dnf/**"),
    file("var/cache/libdnf5/**"),
    file("var/cache/yum/**"),
    // Names the kernel that ran apt, which is the build host's. apt writes it when a kernel is
    // installed or removed.
    file("etc/apt/apt.conf.d/01autoremove-kernels"),
    // Backups have the state before the last change, so they depend on the number of changes.
    // Upgrades use the current files.
    file("var/lib/dpkg/*-old"),
    file("var/cache/debconf/*-old"),
    file("var/lib/ucf/hashfile.*"),
    file("var/lib/ucf/registry.*"),
    file("etc/passwd-"),
    file("etc/group-"),
    file("etc/shadow-"),
    file("etc/gshadow-"),
    file("etc/subuid-"),
    file("etc/subgid-"),
    // The day of the build, for every account that a package made.
    rule("etc/shadow", Kinds::Files, Action::Rewrite(Rewrite::ShadowDays)),
    rule("var/lib/extrausers/shadow", Kinds::Files, Action::Rewrite(Rewrite::ShadowDays)),
    // Random in each build, and the same on every machine made from the image. Storage servers
    // would treat these machines as one host.
    rule("etc/iscsi/initiatorname.iscsi", Kinds::Files, Action::Rewrite(Rewrite::InitiatorName)),
    rule("etc/nvme/hostid", Kinds::Files, Action::Rewrite(Rewrite::NvmeHost)),
    rule("etc/nvme/hostnqn", Kinds::Files, Action::Rewrite(Rewrite::NvmeHost)),
    // The time of the build, for each certificate. Nothing reads it.
    rule("etc/ssl/certs/java/cacerts", Kinds::Files, Action::Rewrite(Rewrite::KeystoreTimes)),
    // The time of the source. It must equal the source's own modification time, which is clamped;
    // otherwise Python compiles again at every start.
    rule("**/*.pyc", Kinds::Files, Action::Rewrite(Rewrite::PycHeader)),
];

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Kind = Kind::File(1);

    #[test]
    fn every_row_covers_what_differs_between_builds() {
        use Action::{Drop, Empty, Keep};
        let shadow = Action::Rewrite(Rewrite::ShadowDays);
        let machine_id = Action::Rewrite(Rewrite::MachineId);
        let pyc = Action::Rewrite(Rewrite::PycHeader);
        for (path, expected) in [
            ("run/sshd.pid", Drop),
            ("run/systemd/x", Drop),
            ("dev/null", Drop),
            ("proc/1", Drop),
            ("sys/kernel", Drop),
            ("etc/machine-id", machine_id),
            ("var/lib/dbus/machine-id", Drop),
            ("etc/ssh/ssh_host_rsa_key", Drop),
            ("etc/ssh/ssh_host_ed25519_key.pub", Drop),
            ("etc/ssh/sshd_config", Keep),
            ("var/lib/systemd/random-seed", Drop),
            ("var/lib/urandom/random-seed", Drop),
            ("boot/efi/loader/random-seed", Drop),
            ("boot/loader/random-seed", Drop),
            ("efi/loader/random-seed", Drop),
            ("boot/efi/loader/loader.conf", Keep),
            ("var/lib/systemd/credential.secret", Drop),
            ("etc/ssl/certs/ssl-cert-snakeoil.pem", Drop),
            ("etc/ssl/private/ssl-cert-snakeoil.key", Drop),
            ("etc/ssl/certs/ca-certificates.crt", Keep),
            ("etc/ssl/certs/java/cacerts", Action::Rewrite(Rewrite::KeystoreTimes)),
            ("etc/mdadm/mdadm.conf", Action::Rewrite(Rewrite::Arrays)),
            ("etc/adjtime", Action::Rewrite(Rewrite::ClockDrift)),
            ("var/log/journal/0/system.journal", Drop),
            ("var/log/apt/history.log", Drop),
            ("var/log/apt/eipp.log.xz", Drop),
            ("var/log/dpkg.log", Drop),
            ("var/log/alternatives.log", Drop),
            ("var/log/bootstrap.log", Drop),
            ("var/log/fontconfig.log", Drop),
            ("var/log/wtmp", Empty),
            ("var/log/postgresql/x.log", Empty),
            ("var/cache/ldconfig/aux-cache", Drop),
            ("var/cache/man/de/index.db", Drop),
            ("var/cache/fontconfig/x.cache-8", Drop),
            ("var/lib/systemd/catalog/database", Drop),
            ("var/lib/apt/lists/mirror_InRelease", Drop),
            ("var/lib/apt/lists/partial/x", Drop),
            ("var/lib/apt/extended_states", Keep),
            ("var/cache/apt/pkgcache.bin", Drop),
            ("var/cache/apt/srcpkgcache.bin", Drop),
            ("var/cache/apt/archives/a.deb", Drop),
            ("var/cache/dnf/x.solv", Drop),
            ("var/cache/libdnf5/x.solv", Drop),
            ("var/cache/yum/x", Drop),
            ("etc/apt/apt.conf.d/01autoremove-kernels", Drop),
            ("etc/apt/apt.conf.d/01autoremove", Keep),
            ("var/lib/dpkg/status-old", Drop),
            ("var/lib/dpkg/status", Keep),
            ("var/cache/debconf/config.dat-old", Drop),
            ("var/lib/ucf/hashfile.0", Drop),
            ("var/lib/ucf/registry.3", Drop),
            ("var/lib/ucf/registry", Keep),
            ("etc/passwd-", Drop),
            ("etc/group-", Drop),
            ("etc/shadow-", Drop),
            ("etc/gshadow-", Drop),
            ("etc/subuid-", Drop),
            ("etc/subgid-", Drop),
            ("etc/passwd", Keep),
            ("etc/shadow", shadow),
            ("var/lib/extrausers/shadow", shadow),
            ("etc/iscsi/initiatorname.iscsi", Action::Rewrite(Rewrite::InitiatorName)),
            ("etc/nvme/hostid", Action::Rewrite(Rewrite::NvmeHost)),
            ("etc/nvme/hostnqn", Action::Rewrite(Rewrite::NvmeHost)),
            ("usr/lib/python3/dist-packages/__pycache__/apt.cpython-311.pyc", pyc),
            ("usr/lib/python3/dist-packages/apt.py", Keep),
        ] {
            assert_eq!(CaptureRules::standard().action(path.as_bytes(), &FILE), expected, "{path}");
        }
    }

    #[test]
    fn rules_for_files_keep_directories_links_and_removals() {
        let rules = CaptureRules::standard();
        for (path, kind, expected) in [
            ("var/lib/apt/lists/partial", Kind::Directory, Action::Keep),
            ("var/log/apt", Kind::Directory, Action::Keep),
            ("run", Kind::Directory, Action::Keep),
            ("run/lock", Kind::Directory, Action::Keep),
            ("run/sshd", Kind::Directory, Action::Drop),
            ("var/lib/dbus/machine-id", Kind::Symlink(b"/etc/machine-id".to_vec()), Action::Keep),
            ("var/lib/dbus/machine-id", Kind::Whiteout, Action::Keep),
            ("dev/null", Kind::CharDevice(1, 3), Action::Drop),
            ("dev/null", Kind::Whiteout, Action::Keep),
        ] {
            assert_eq!(rules.action(path.as_bytes(), &kind), expected, "{path} {kind:?}");
        }
        assert_eq!(CaptureRules::none().action(b"etc/machine-id", &FILE), Action::Keep);
    }
}
