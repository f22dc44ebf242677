//! The commands that every job finds first in its `PATH`, besides those of its root.
//!
//! They need a POSIX shell, coreutils and awk.

/// A command: its name, and its text.
pub(super) type Tool = (&'static str, &'static str);

macro_rules! tools {
    ($($name:literal from $file:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("bin/", $file)))),*]
    };
}

macro_rules! library {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("lib/", $name)))),*]
    };
}

/// The commands of [`crate::distro::TOOLS`].
pub(super) const TOOLS: [Tool; 13] = tools![
    "apt" from "apt-get",
    "apt-cache" from "apt-get",
    "apt-get" from "apt-get",
    "apt-sources" from "apt-sources",
    "bootstrap-finish" from "bootstrap-finish",
    "bootstrap-setup" from "bootstrap-setup",
    "dib-init-system" from "dib-init-system",
    "install-packages" from "install-packages",
    "make-initramfs" from "make-initramfs",
    "pkg-map" from "pkg-map",
    "start-stop-daemon" from "start-stop-daemon",
    "svc-map" from "svc-map",
    "update-initramfs" from "update-initramfs",
];

/// The commands of [`crate::distro::IMAGE_TOOLS`].
pub(super) const IMAGE_TOOLS: [Tool; 2] = tools![
    "make-initramfs" from "make-initramfs",
    "update-initramfs" from "update-initramfs",
];

/// The commands of [`crate::distro::HOST_TOOLS`].
pub(super) const HOST_TOOLS: [Tool; 1] = tools!["sudo" from "sudo"];

/// The files of [`crate::distro::LIBRARY`].
pub(super) const LIBRARY: [Tool; 5] =
    library!["common-defaults", "common-functions", "die", "img-defaults", "img-functions"];

/// Forbids maintainer scripts to start services.
///
/// Source: Debian's policy-rc.d specification, `/usr/share/doc/init-system-helpers/README.policy-rc.d.gz`: 101 is
/// "action not allowed".
pub(super) const SERVICE_POLICY: &str = "#!/bin/sh\nexit 101\n";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MIRRORS: &str =
        "distro\tdebian\nrelease\tbookworm\narchive\thttp://m/debian\t/k.gpg\nsecurity\thttp://m/sec\t\n";

    /// Runs `apt-sources` on a text, as the machine's own awk does.
    fn rewrite(sources: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (_, program) = TOOLS.into_iter().find(|(name, _)| *name == "apt-sources").unwrap();
        let mut awk = Command::new("awk");
        awk.arg("-f")
            .arg(file("apt-sources", program))
            .arg(file("mirrors", MIRRORS))
            .arg(file("sources", sources));
        let done = awk.output().expect("this test needs the program `awk`");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn sources_of_the_distribution_are_reached_through_the_mirrors() {
        let cases = [
            (
                "deb http://deb.debian.test/debian bookworm main",
                "deb [signed-by=/k.gpg] http://m/debian bookworm main",
            ),
            (
                "deb-src [ arch=amd64 signed-by=/x ] https://ftp.de.debian.test/debian/ bookworm-updates main contrib",
                "deb-src [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm-updates main contrib",
            ),
            (
                "deb http://security.debian.test/debian-security bookworm-security main",
                "deb http://m/sec bookworm-security main",
            ),
            (
                "deb http://security.debian.test/ bookworm/updates main",
                "deb http://m/sec bookworm/updates main",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(rewrite(&format!("# kept\n{line}\n")), format!("# kept\n{expected}\n"));
        }
    }

    #[test]
    fn other_sources_are_passed_on() {
        let lines = [
            "deb http://deb.debian.test/debian trixie main",
            "deb http://deb.debian.test/debian bookwormer main",
            "deb http://snapshot.debian.test/archive/debian/20231115T000000Z bookworm main",
            "deb http://mirror.example/debian bookworm main",
            "deb [trusted=yes] file:/srv/repository ./",
            "deb http://notdebian.test/debian bookworm main",
            "#deb http://deb.debian.test/debian bookworm main",
        ];
        for line in lines {
            assert_eq!(rewrite(&format!("{line}\n")), format!("{line}\n"));
        }
    }

    #[test]
    fn stanzas_are_rewritten_as_a_whole_or_not_at_all() {
        let archive = "Types: deb\nURIs: http://deb.debian.test/debian\n https://ftp.debian.test/debian\nSuites: bookworm bookworm-updates\n\
                       Components: main\nSigned-By:\n -----BEGIN\n .\n abc\n";
        let other = "Types: deb\nURIs: http://deb.debian.test/debian\nSuites: bookworm trixie\nComponents: main\nSigned-By: /x\n";
        let expected = "Types: deb\nURIs: http://m/debian\nSigned-By: /k.gpg\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(rewrite(&format!("{archive}\n{other}")), format!("{expected}\n{other}"));
    }
}
