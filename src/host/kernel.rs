//! The version of the kernel.

use super::Finding;

/// The oldest kernel that plywood is tested with, from Debian 11.
pub const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Checks the kernel with this release: `6.1.0-18-cloud-amd64`.
pub fn kernel(release: &str) -> Finding {
    const CHECK: &str = "kernel";
    let (major, minor) = OLDEST_KERNEL;
    match version(release) {
        Some(found) if found < OLDEST_KERNEL => Finding::lacking(
            CHECK,
            format!("the kernel is Linux {release}, and plywood needs Linux {major}.{minor} or newer"),
            format!("build on a host with Linux {major}.{minor} or newer (Debian 11, EL 9, Ubuntu 22.04)"),
        ),
        // A release that cannot be parsed counts as new, because the following trials decide.
        _ => Finding::ok(CHECK, format!("Linux {release} ({major}.{minor} or newer is needed)")),
    }
}

/// Returns the first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::Standing;
    use super::*;

    #[test]
    fn kernels_older_than_5_10_are_refused() {
        for (release, standing) in [
            ("5.10.0-28-amd64", Standing::Ok),
            ("6.1.0", Standing::Ok),
            ("6.18.2+", Standing::Ok),
            ("10.0", Standing::Ok),
            ("5.4.0-150-generic", Standing::Lacking),
            ("4.18.0-553.el8.x86_64", Standing::Lacking),
            ("3.10.0", Standing::Lacking),
            ("strange", Standing::Ok),
        ] {
            assert_eq!(kernel(release).standing, standing, "{release}");
        }
    }
}
