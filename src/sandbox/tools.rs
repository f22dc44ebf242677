//! The commands that plywood puts first in the `PATH` of every job.
//!
//! They need a POSIX shell, coreutils and awk. The commands for the tool root need Python, which is
//! there.

/// Name and text of a command.
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
pub(super) const TOOLS: [Tool; 16] = tools![
    "apt" from "apt-get",
    "apt-cache" from "apt-get",
    "apt-get" from "apt-get",
    "apt-sources" from "apt-sources",
    "bootstrap-dnf" from "bootstrap-dnf",
    "bootstrap-finish" from "bootstrap-finish",
    "bootstrap-setup" from "bootstrap-setup",
    "dib-init-system" from "dib-init-system",
    "fetch-keys" from "fetch-keys",
    "install-packages" from "install-packages",
    "make-initramfs" from "make-initramfs",
    "pkg-map" from "pkg-map",
    "rpm-normalize" from "rpm-normalize",
    "start-stop-daemon" from "start-stop-daemon",
    "svc-map" from "svc-map",
    "update-initramfs" from "update-initramfs",
];

/// Those of them that stand before programs of a root with dpkg. Other roots have no such command.
pub(super) const OF_DPKG: [&str; 3] = ["apt", "apt-cache", "apt-get"];

/// The commands of [`crate::distro::IMAGE_TOOLS`].
pub(super) const IMAGE_TOOLS: [Tool; 2] = tools![
    "make-initramfs" from "make-initramfs",
    "update-initramfs" from "update-initramfs",
];

/// The commands of [`crate::distro::HOST_TOOLS`].
pub(super) const HOST_TOOLS: [Tool; 2] = tools!["place-source" from "place-source", "sudo" from "sudo"];

/// The files of [`crate::distro::LIBRARY`].
pub(super) const LIBRARY: [Tool; 13] = library![
    "common-defaults",
    "common-functions",
    "dib-block-device.py",
    "die",
    "diskimage_builder/__init__.py",
    "diskimage_builder/element_dependencies.py",
    "diskimage_builder/logging_config.py",
    "element-info.py",
    "img-defaults",
    "img-functions",
    "outfilter.py",
    "ramdisk-defaults",
    "ramdisk-functions",
];

/// The program that runs the hooks in a directory. Jobs find it in the hooks directory and in the
/// library.
pub(super) const RUN_PARTS: &str = include_str!("../staging/dib-run-parts");

/// Forbids maintainer scripts to start services.
///
/// Source: Debian's policy-rc.d specification,
/// `/usr/share/doc/init-system-helpers/README.policy-rc.d.gz`: 101 is "action not allowed".
pub(super) const SERVICE_POLICY: &str = "#!/bin/sh\nexit 101\n";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    const MIRRORS: &str =
        "distro\tdebian\nrelease\tbookworm\narchive\thttp://m/debian\t/k.gpg\nsecurity\thttp://m/sec\t\n";

    /// Writes the command `name` and a file with `text`. Returns a call of the command by `sh`, and
    /// the path of the file.
    fn call(name: &str, text: &str) -> (tempfile::TempDir, Command, String) {
        let directory = tempfile::tempdir().unwrap();
        let (_, program) = TOOLS.into_iter().find(|(known, _)| *known == name).unwrap();
        let [script, file] = [(name, program), ("file", text)].map(|(name, text)| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        });
        let mut sh = Command::new("sh");
        sh.arg(script).env_clear().env("PATH", "/usr/bin:/bin");
        (directory, sh, file)
    }

    /// Runs a command. Returns its exit status and its output, with lines joined by commas.
    fn outcome(command: &mut Command) -> (i32, String) {
        let done = command.output().expect("this test needs the programs `sh` and `awk`");
        let printed = String::from_utf8(done.stdout).unwrap();
        (done.status.code().unwrap(), printed.lines().collect::<Vec<_>>().join(","))
    }

    const MAP: &str = r#"
        {"default": {"a": "a-default", "b": "b1 b2", "c": "c", "d": "d", "q\/": "say \"q\""},
         "family": {"debian": {"a": "a-family", "c": ""}, "redhat": {"d": "d-redhat"}, "suse": {}},
         "distro": {"ubuntu": {"a": "a-ubuntu"}, "centos": {"d": null}},
         "release": {"ubuntu": {"noble": {"a": "a-noble"}}, "centos": {"8": {"a": "a-8"}}}}"#;

    /// Source: diskimage-builder, `elements/pkg-map/bin/pkg-map`.
    #[test]
    fn names_of_packages_are_looked_up_as_diskimage_builder_does() {
        let table: [(&str, i32, &str); 19] = [
            ("--distro fedora a", 0, "a-default"),
            ("--distro debian a b", 0, "a-family,b1 b2"),
            ("--distro=ubuntu --release=jammy a", 0, "a-ubuntu"),
            ("--distro ubuntu --release noble a", 0, "a-noble"),
            ("--distro centos --release 8-stream a", 0, "a-8"),
            ("--distro debian c d", 0, "d"),
            ("--distro centos d", 0, ""),
            ("--distro opensuse d q/", 0, "d,say \"q\""),
            ("a --distro debian --debug d --prefix -", 0, "-a-family,-d"),
            ("--dist debian --rel x --missing a x y", 0, "a-family,x,y"),
            ("--distro debian --prefix + --missing-ok x", 0, "+x"),
            ("--distro debian a x d", 1, "a-family"),
            ("--distro debian -- a", 0, "a-family"),
            ("--distro debian", 0, ""),
            ("--d debian a", 2, ""),
            ("--distro", 2, ""),
            ("a", 1, ""),
            ("--distro debian --element e a", 1, ""),
            ("--help", 0, "*"),
        ];
        for (args, status, expected) in table {
            let (_directory, mut command, file) = call("pkg-map", MAP);
            let (found, printed) = outcome(command.args(["--pkg-map", &file]).args(args.split(' ')));
            let printed = if expected == "*" { "*".to_owned() } else { printed };
            assert_eq!((found, printed.as_str()), (status, expected), "{args}");
        }
    }

    #[test]
    fn absent_and_malformed_maps_have_their_own_exit_statuses() {
        for (map, args, status, expected) in [
            ("", "--element no-such-element a", 2, ""),
            ("", "--element no-such-element --missing-ok a b", 0, "a,b"),
            ("{\"default\": [", "--pkg-map FILE a", 1, ""),
            ("{} x", "--pkg-map FILE a", 1, ""),
            ("{}", "--pkg-map FILE --missing-ok a", 0, "a"),
        ] {
            let (_directory, mut command, file) = call("pkg-map", map);
            command.env("DISTRO_NAME", "debian").env("DIB_RELEASE", "bookworm");
            let args = args.split(' ').map(|word| if word == "FILE" { file.as_str() } else { word });
            assert_eq!(outcome(command.args(args)), (status, expected.to_owned()), "{map}");
        }
    }

    /// Calls `install-packages` with an `apt-get` and a `pkg-map` that print their arguments.
    #[test]
    fn packages_are_installed_removed_and_updated_by_every_option() {
        let table = [
            ("a b", 0, "apt-get --assume-yes install a b"),
            ("-e a", 0, "apt-get --assume-yes remove a"),
            ("a -e b", 0, "apt-get --assume-yes remove a b"),
            ("-m web a", 0, "apt-get --assume-yes install mapped --element web -- a"),
            ("-mweb -e a", 0, "apt-get --assume-yes remove mapped --element web -- a"),
            ("-em web a", 0, "apt-get --assume-yes remove mapped --element web -- a"),
            ("-u", 0, "apt-get --assume-yes dist-upgrade"),
            ("-d a", 1, ""),
            ("-x a", 1, ""),
            ("-m", 1, ""),
            ("-- -a", 0, "apt-get --assume-yes install -a"),
            ("-e", 0, "Not running install-packages remove with empty packages list"),
        ];
        for (args, status, expected) in table {
            let (directory, mut command, _) = call("install-packages", "");
            for (name, text) in [("apt-get", "echo \"apt-get $*\""), ("pkg-map", "echo \"mapped $*\"")] {
                let path = directory.path().join(name);
                std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            command.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
            assert_eq!(outcome(command.args(args.split(' '))), (status, expected.to_owned()), "{args}");
        }
        let (_directory, mut command, _) = call("install-packages", "");
        assert!(outcome(command.arg("-h")).1.contains("-e removes"));
    }

    #[test]
    fn an_unknown_service_keeps_its_name() {
        let (_directory, mut command, _) = call("svc-map", "");
        assert_eq!(
            outcome(command.args(["no-such-service", "other"])),
            (0, "no-such-service,other".to_owned())
        );
    }

    fn rewrite(sources: &str) -> String {
        rewrite_by(MIRRORS, sources)
    }

    /// Runs `apt-sources` on a text with the build host's awk.
    fn rewrite_by(mirrors: &str, sources: &str) -> String {
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
            .arg(file("mirrors", mirrors))
            .arg(file("sources", sources));
        let done = awk.output().expect("this test needs the program `awk`");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn sources_of_the_distribution_are_rewritten_to_the_mirrors() {
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
    fn other_sources_are_kept() {
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
    fn archives_that_a_base_names_are_rewritten_and_one_mirror_may_serve_all_suites() {
        let mirrors = "distro\tubuntu\nrelease\tnoble\norigin\thttp://copy.example/u/\norigin\tfile:/srv/u\n\
                       archive\thttp://m/ubuntu\t/k.gpg\nsecurity\thttp://m/ubuntu\t/k.gpg\n";
        for (line, expected) in [
            ("http://copy.example/u noble main", "[signed-by=/k.gpg] http://m/ubuntu noble main"),
            (
                "http://copy.example/u/ noble-security main",
                "[signed-by=/k.gpg] http://m/ubuntu noble-security main",
            ),
            ("file:/srv/u noble-updates main", "[signed-by=/k.gpg] http://m/ubuntu noble-updates main"),
            ("http://copy.example/u jammy main", "http://copy.example/u jammy main"),
            ("http://copy.example/ubuntu noble main", "http://copy.example/ubuntu noble main"),
            ("http://ppa.ubuntu.test/x/ubuntu noble main", "http://ppa.ubuntu.test/x/ubuntu noble main"),
        ] {
            assert_eq!(rewrite_by(mirrors, &format!("deb {line}\n")), format!("deb {expected}\n"));
        }
        let stanza = "Types: deb\nURIs: http://archive.ubuntu.test/ubuntu\nSuites: noble noble-security\nComponents: main\n";
        let expected = "Types: deb\nURIs: http://m/ubuntu\nSigned-By: /k.gpg\nSuites: noble noble-security\nComponents: main\n";
        assert_eq!(rewrite_by(mirrors, stanza), expected);
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
