//! Families of distributions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A family of distributions, as maps of packages and services name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// deb packages.
    Debian,
    /// ebuilds.
    Gentoo,
    /// rpm packages by yum or dnf.
    Redhat,
    /// rpm packages by zypper.
    Suse,
}

impl Family {
    /// Returns the known family of a distribution, by the value of `DISTRO_NAME`.
    ///
    /// Source: diskimage-builder, `pkg-map`, which lacks Amazon, Oracle and SUSE Linux, and the names
    /// that openSUSE has in `os-release`.
    pub fn of(distro: &str) -> Option<Self> {
        match distro {
            "almalinux" | "amzn" | "centos" | "fedora" | "ol" | "openeuler" | "rhel" | "rocky" => {
                Some(Family::Redhat)
            }
            "debian" | "ubuntu" => Some(Family::Debian),
            "opensuse" | "opensuse-leap" | "opensuse-tumbleweed" | "sles" => Some(Family::Suse),
            "gentoo" => Some(Family::Gentoo),
            _ => None,
        }
    }

    /// Returns the family's name in maps.
    pub const fn as_str(self) -> &'static str {
        match self {
            Family::Debian => "debian",
            Family::Gentoo => "gentoo",
            Family::Redhat => "redhat",
            Family::Suse => "suse",
        }
    }
}
