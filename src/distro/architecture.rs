//! Processor architectures.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A processor architecture, by Debian's name: what hooks see in `ARCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM with floating point.
    Armhf,
    /// 64-bit POWER, little endian.
    Ppc64el,
    /// 64-bit RISC-V.
    Riscv64,
    /// IBM Z.
    S390x,
}

/// An architecture that plywood does not support.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown architecture `{0}`")]
pub struct ArchitectureError(String);

impl Architecture {
    /// All architectures.
    pub const ALL: [Self; 6] =
        [Self::Amd64, Self::Arm64, Self::Armhf, Self::Ppc64el, Self::Riscv64, Self::S390x];

    /// Returns Debian's name.
    pub const fn debian(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
            Architecture::Armhf => "armhf",
            Architecture::Ppc64el => "ppc64el",
            Architecture::Riscv64 => "riscv64",
            Architecture::S390x => "s390x",
        }
    }

    /// Returns the name and variant of an OCI platform.
    ///
    /// Source: OCI image-spec, `config.md`, which adopts Go's `GOARCH` and `GOARM`.
    pub const fn oci(self) -> (&'static str, Option<&'static str>) {
        match self {
            Architecture::Armhf => ("arm", Some("v7")),
            Architecture::Ppc64el => ("ppc64le", None),
            other => (other.debian(), None),
        }
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    /// Parses Debian's name, or the kernel's (`uname -m`).
    fn from_str(name: &str) -> Result<Self, ArchitectureError> {
        let kernel = match name {
            "x86_64" => Some(Architecture::Amd64),
            "aarch64" => Some(Architecture::Arm64),
            "armv7l" | "armv8l" => Some(Architecture::Armhf),
            "ppc64le" => Some(Architecture::Ppc64el),
            _ => None,
        };
        let debian = || Self::ALL.into_iter().find(|known| known.debian() == name);
        kernel.or_else(debian).ok_or_else(|| ArchitectureError(name.to_owned()))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.debian())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_architecture_has_kernel_debian_and_oci_names() {
        let table = [
            ("x86_64", "amd64", ("amd64", None)),
            ("aarch64", "arm64", ("arm64", None)),
            ("armv7l", "armhf", ("arm", Some("v7"))),
            ("ppc64le", "ppc64el", ("ppc64le", None)),
        ];
        for (machine, debian, oci) in table {
            let architecture: Architecture = machine.parse().unwrap();
            assert_eq!((architecture.debian(), architecture.oci()), (debian, oci));
        }
        assert!("pdp11".parse::<Architecture>().is_err());
        for known in Architecture::ALL {
            assert_eq!(known.to_string().parse(), Ok(known));
        }
    }
}
