//! Files of a build host that belong to its distribution's programs.

/// Paths of programs and of the files that they need to run, with the reason why they are not
/// content that a hook takes from the host.
///
/// A hook that runs `tar` opens the host's `tar`, its libraries, and their data files. All of these
/// differ between hosts that build the same layers. On the same host a change counts: an upgrade of
/// the host's programs runs the hooks again. On another host it does not count, because otherwise
/// no two hosts could share a step.
///
/// An entry covers a path that equals it or lies below it.
const DISTRIBUTION: [(&str, &[&str]); 8] = [
    ("programs", &["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/games", "/usr/libexec"]),
    (
        "shared libraries, and modules of interpreters",
        &[
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
            "/usr/lib",
            "/usr/lib32",
            "/usr/lib64",
            "/usr/libx32",
            "/etc/ld.so.cache",
            "/etc/ld.so.conf",
            "/etc/ld.so.conf.d",
            "/etc/ld.so.preload",
            "/usr/share/perl",
            "/usr/share/perl5",
            "/usr/share/python3",
            "/usr/share/python-wheels",
            "/etc/perl",
            "/etc/python3",
        ],
    ),
    (
        "languages, time zones, terminals",
        &[
            "/etc/default/locale",
            "/etc/inputrc",
            "/etc/locale.alias",
            "/etc/locale.conf",
            "/etc/localtime",
            "/etc/terminfo",
            "/etc/timezone",
            "/usr/share/i18n",
            "/usr/share/locale",
            "/usr/share/locale-langpack",
            "/usr/share/terminfo",
            "/usr/share/zoneinfo",
        ],
    ),
    (
        "names of users, hosts and services",
        &[
            "/etc/gai.conf",
            "/etc/group",
            "/etc/gshadow",
            "/etc/host.conf",
            "/etc/hostname",
            "/etc/hosts",
            "/etc/machine-id",
            "/etc/networks",
            "/etc/nsswitch.conf",
            "/etc/passwd",
            "/etc/protocols",
            "/etc/resolv.conf",
            "/etc/services",
            "/etc/shadow",
            "/etc/subgid",
            "/etc/subuid",
        ],
    ),
    (
        "encryption and certificate authorities",
        &[
            "/etc/ca-certificates",
            "/etc/ca-certificates.conf",
            "/etc/crypto-policies",
            "/etc/gnutls",
            "/etc/pki",
            "/etc/ssl",
            "/usr/share/ca-certificates",
            "/usr/share/crypto-policies",
            "/usr/share/pki",
        ],
    ),
    (
        "settings of programs that hooks call",
        &[
            "/etc/alternatives",
            "/etc/bash.bashrc",
            "/etc/bashrc",
            "/etc/crypttab",
            "/etc/debian_version",
            "/etc/environment",
            "/etc/gitconfig",
            "/etc/login.defs",
            "/etc/lsb-release",
            "/etc/magic",
            "/etc/mime.types",
            "/etc/mke2fs.conf",
            "/etc/mtab",
            "/etc/os-release",
            "/etc/pam.d",
            "/etc/profile",
            "/etc/profile.d",
            "/etc/security",
            "/etc/selinux",
            "/etc/sudo.conf",
            "/etc/sudoers",
            "/etc/sudoers.d",
            "/etc/wgetrc",
        ],
    ),
    (
        "data that programs come with",
        &[
            "/usr/share/bash-completion",
            "/usr/share/debootstrap",
            "/usr/share/distro-info",
            "/usr/share/dpkg",
            "/usr/share/file",
            "/usr/share/gcc",
            "/usr/share/git-core",
            "/usr/share/misc",
            "/usr/share/mime",
            "/usr/share/keyrings",
            "/usr/share/libc-bin",
        ],
    ),
    (
        "what is installed",
        &[
            "/etc/dpkg",
            "/etc/rpm",
            "/var/lib/apt",
            "/var/lib/dpkg",
            "/var/lib/rpm",
            "/usr/lib/sysimage",
            "/var/cache/apt",
            "/var/cache/ldconfig",
        ],
    ),
];

/// Returns true if `path` of a build host is a program of its distribution, or a file that programs
/// need to run.
pub fn belongs_to_distribution(path: &str) -> bool {
    let is_below =
        |place: &&str| path.strip_prefix(*place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    DISTRIBUTION.iter().any(|(_, places)| places.iter().any(is_below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_belong_to_the_distribution_and_content_does_not() {
        for path in [
            "/usr/bin/tar",
            "/bin",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/etc/ld.so.cache",
            "/etc/passwd",
            "/usr/share/locale/de/LC_MESSAGES/tar.mo",
            "/etc/ssl/openssl.cnf",
        ] {
            assert!(belongs_to_distribution(path), "{path}");
        }
        for path in [
            "/etc/company/scripts/a",
            "/opt/x",
            "/srv",
            "/usr/local/bin/tool",
            "/var/lib/images",
            "/usr/share/company/logo",
            "/etc/apt/sources.list",
            "/etc/passwd.company",
            "/usr",
            "/",
            "/etc",
        ] {
            assert!(!belongs_to_distribution(path), "{path}");
        }
    }
}
