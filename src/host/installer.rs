//! Advice for installing packages on the host.

/// The program that installs the host's packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installer {
    /// Debian, Ubuntu and derivatives.
    Apt,
    /// Fedora, Enterprise Linux and derivatives.
    Dnf,
    /// openSUSE and SUSE Linux Enterprise.
    Zypper,
    /// Alpine.
    Apk,
    /// Another distribution.
    Unknown,
}

/// Names of packages that differ from Debian's: Debian, dnf, zypper, apk. A name is empty if the
/// distribution has no such package, or installs its files where plywood does not look.
const NAMES: [(&str, [&str; 3]); 10] = [
    ("mmdebstrap", ["", "", ""]),
    ("debian-archive-keyring", ["debian-keyring", "", ""]),
    ("ubuntu-keyring", ["ubu-keyring", "", ""]),
    ("btrfs-progs", ["btrfs-progs", "btrfsprogs", "btrfs-progs"]),
    ("qemu-utils", ["qemu-img", "qemu-img", "qemu-img"]),
    ("squashfs-tools", ["squashfs-tools", "squashfs", "squashfs-tools"]),
    ("docker.io", ["", "docker", "docker"]),
    ("qemu-system-x86", ["qemu-system-x86", "qemu-x86", "qemu-system-x86_64"]),
    ("ovmf", ["", "", ""]),
    ("openssh-client", ["openssh-clients", "openssh-clients", "openssh-client"]),
];

impl Installer {
    /// Returns the installer of the host with this text in `os-release`. Source: os-release(5),
    /// `ID` and `ID_LIKE`.
    pub fn of(os_release: &str) -> Self {
        let value = |key| {
            let mut lines = os_release.lines().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| *name == key).map_or("", |(_, value)| value.trim_matches(['"', '\'']))
        };
        // `ID_LIKE` lists related distributions, the closest one first. Derivatives use the same
        // installer.
        let names = value("ID").split_whitespace().chain(value("ID_LIKE").split_whitespace());
        names.map(Self::of_name).find(|found| *found != Installer::Unknown).unwrap_or(Installer::Unknown)
    }

    fn of_name(name: &str) -> Self {
        match name {
            "debian" | "ubuntu" => Installer::Apt,
            "fedora" | "rhel" | "centos" => Installer::Dnf,
            "alpine" => Installer::Apk,
            "suse" | "sles" => Installer::Zypper,
            name if name.starts_with("opensuse") => Installer::Zypper,
            _ => Installer::Unknown,
        }
    }

    /// Returns the advice to install a program of the Debian package `package`: a command, if the
    /// package's name on this distribution is known.
    pub fn cure(self, program: &str, package: &str) -> String {
        let other = |column: usize| match NAMES.iter().find(|(debian, _)| *debian == package) {
            Some((_, names)) => Some(names[column]).filter(|name| !name.is_empty()),
            None => Some(package),
        };
        let (command, name) = match self {
            Installer::Apt => ("apt-get install", Some(package)),
            Installer::Dnf => ("dnf install", other(0)),
            Installer::Zypper => ("zypper install", other(1)),
            Installer::Apk => ("apk add", other(2)),
            Installer::Unknown => ("", None),
        };
        name.map_or_else(|| format!("install `{program}`"), |name| format!("{command} {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cure_names_the_package_of_the_hosts_own_distribution() {
        for (os_release, cures) in [
            ("ID=debian\n", ["apt-get install qemu-utils", "apt-get install mmdebstrap"]),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                ["apt-get install qemu-utils", "apt-get install mmdebstrap"],
            ),
            (
                "NAME=x\nID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                ["dnf install qemu-img", "install `mmdebstrap`"],
            ),
            ("ID=fedora\n", ["dnf install qemu-img", "install `mmdebstrap`"]),
            (
                "ID='opensuse-leap'\nID_LIKE=\"suse opensuse\"\n",
                ["zypper install qemu-img", "install `mmdebstrap`"],
            ),
            ("ID=alpine\n", ["apk add qemu-img", "install `mmdebstrap`"]),
            ("ID=arch\n", ["install `qemu-img`", "install `mmdebstrap`"]),
            ("", ["install `qemu-img`", "install `mmdebstrap`"]),
        ] {
            let installer = Installer::of(os_release);
            let programs = [("qemu-img", "qemu-utils"), ("mmdebstrap", "mmdebstrap")];
            let found = programs.map(|(program, package)| installer.cure(program, package));
            assert_eq!(found, cures, "{os_release}");
        }
        assert_eq!(Installer::Dnf.cure("lvm", "lvm2"), "dnf install lvm2");
    }
}
