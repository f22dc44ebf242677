//! Finds mirrors in the apt configuration of a build host.
//!
//! Source: sources.list(5), both styles.

use std::path::PathBuf;

use deb822_fast::Deb822;

use super::transport::Setting;
use super::{Architecture, BaseDefinition};

/// One entry of a build host's package sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSource {
    /// URIs of the archive, in order of preference.
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// The keyring that verifies its signatures; `None` for every key that apt trusts.
    pub keyring: Option<Keyring>,
}

/// Keys that sign an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyring {
    /// A file on the build host.
    File(PathBuf),
    /// The key itself, in ASCII armour.
    Armoured(String),
}

/// The part of a build host's apt configuration that builds use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AptMachine {
    /// The distribution of the host, by the `ID` of its `os-release`.
    pub distro: String,
    pub sources: Vec<PackageSource>,
    /// The settings below `Acquire`.
    pub acquire: Vec<Setting>,
    /// Accounts at archives, in the form of apt_auth.conf(5).
    pub accounts: String,
}

/// The archives of one release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// The release and its updates.
    pub archive: Option<Mirror>,
    /// Its security updates.
    pub security: Option<Mirror>,
}

/// An archive's address and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub uri: String,
    /// The keyring that verifies its signatures; `None` for every key that apt trusts.
    pub keyring: Option<Keyring>,
}

/// The mirrors and the keyring that a caller names for one base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedMirrors {
    pub archive: Option<String>,
    /// Ignored for a distribution that has its security updates in its archive.
    pub security: Option<String>,
    pub keyring: Option<PathBuf>,
}

/// Parses a file in one-line style (`*.list`). Skips lines that are not package sources.
pub fn parse_source_lines(text: &str) -> Vec<PackageSource> {
    text.lines().filter_map(parse_source_line).collect()
}

fn parse_source_line(line: &str) -> Option<PackageSource> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t']))?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let keyring = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .map(|file| Keyring::File(file.trim_matches('"').into()));
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(PackageSource { uris: vec![uri], suites: vec![suite], components: words.collect(), keyring })
}

/// Parses a file in deb822 style (`*.sources`). Skips stanzas that are disabled or not package
/// sources, and texts in another style.
pub fn parse_source_stanzas(text: &str) -> Vec<PackageSource> {
    let Ok(stanzas) = text.parse::<Deb822>() else { return Vec::new() };
    stanzas.iter().filter_map(|stanza| parse_source_stanza(|field| stanza.get(field))).collect()
}

fn parse_source_stanza<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<PackageSource> {
    let words = |field| -> Vec<String> {
        get(field).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let enabled = !matches!(get("Enabled"), Some("no" | "false" | "off" | "0"));
    let (uris, suites) = (words("URIs"), words("Suites"));
    let usable = enabled && words("Types").iter().any(|kind| kind == "deb") && !uris.is_empty();
    usable.then(|| PackageSource {
        uris,
        suites,
        components: words("Components"),
        keyring: get("Signed-By").and_then(parse_keyring),
    })
}

fn parse_keyring(value: &str) -> Option<Keyring> {
    if value.contains("-----BEGIN") {
        // An empty line within a field is written as a dot.
        let lines = value.trim().lines().map(str::trim).map(|line| if line == "." { "" } else { line });
        return Some(Keyring::Armoured(lines.flat_map(|line| [line, "\n"]).collect()));
    }
    let file = value.split_whitespace().next()?;
    file.starts_with('/').then(|| Keyring::File(file.into()))
}

impl AptMachine {
    /// Returns the archives from which a base and the images on it get their packages: those that
    /// the caller names, else those of this host, else those of the base's definition.
    pub fn mirrors_of(
        &self,
        base: &BaseDefinition,
        architecture: Architecture,
        named: &NamedMirrors,
    ) -> Mirrors {
        let source = base.source.mmdebstrap();
        let given = named.keyring.clone().map(Keyring::File);
        let of_base = given.clone().or_else(|| base.keyring().cloned().map(Keyring::File));
        // The apt of the host trusts the keys of its own distribution, so a named mirror of this
        // distribution needs no keyring.
        let of_named = if self.distro == base.distro { given.clone() } else { of_base.clone() };
        let at = |uri: &String| Mirror { uri: uri.clone(), keyring: of_named.clone() };
        let own = self.mirrors(&base.distro, &base.release);
        let [own_archive, own_security] = [own.archive, own.security]
            .map(|own| own.map(|own| Mirror { keyring: given.clone().or(own.keyring), ..own }));
        let default = |suite: &str| {
            let uri = source?.archive_of(suite, architecture)?.to_owned();
            Some(Mirror { uri, keyring: of_base.clone() })
        };
        let named_archive = named.archive.as_ref().map(at);
        let security = match has_security_archive(&base.distro) {
            true => named.security.as_ref().map(at).or(own_security),
            false => named_archive.clone().or(own_security).or_else(|| own_archive.clone()),
        };
        Mirrors {
            archive: named_archive.or(own_archive).or_else(|| default(&base.release)),
            security: security.or_else(|| default(&format!("{}-security", base.release))),
        }
    }

    /// Returns the archives of a distribution's release.
    ///
    /// One URI serves all suites of an archive, so a host with another release has a mirror for
    /// this release too. Archives of third parties may use the same suite or directory names. Only
    /// the archive of the distribution has both a release and its updates. On a host with another
    /// distribution, an archive without updates is therefore ignored.
    pub fn mirrors(&self, distro: &str, release: &str) -> Mirrors {
        let security_suites = [format!("{release}-security"), format!("{release}/updates")];
        Mirrors {
            archive: self.best(distro, |suite| suite == release, distro),
            security: self.best(
                distro,
                |suite| security_suites.iter().any(|s| s == suite),
                &format!("{distro}-security"),
            ),
        }
    }

    fn best(&self, distro: &str, is_wanted: impl Fn(&str) -> bool, directory: &str) -> Option<Mirror> {
        let rank = |source: &&PackageSource| {
            let names_suite = source.suites.iter().any(|suite| is_wanted(suite));
            let is_alike = last_segment(&source.uris[0]) == directory;
            (names_suite || is_alike, self.has_suite_of(source, &["-updates"]), names_suite, is_alike)
        };
        let is_kin = self.distro == distro;
        let main = self.sources.iter().filter(|source| source.components.iter().any(|name| name == "main"));
        let main = main.filter(|source| is_kin || self.has_suite_of(source, &["-updates", "-security"]));
        // `max_by_key` returns the last of equal elements; the first entry shall win.
        let best = main.rev().max_by_key(rank).filter(|best| rank(best).0)?;
        Some(Mirror { uri: best.uris[0].clone(), keyring: best.keyring.clone() })
    }

    /// Returns true if the archive of `source` is the source of a suite with one of these endings.
    fn has_suite_of(&self, source: &PackageSource, endings: &[&str]) -> bool {
        let here = self.sources.iter().filter(|other| other.uris[0] == source.uris[0]);
        let mut suites = here.flat_map(|other| &other.suites);
        suites.any(|suite| endings.iter().any(|ending| suite.ends_with(ending)))
    }
}

/// Returns true if the security updates of a distribution are in a separate archive with separate
/// mirrors. Other distributions have them in all mirrors.
fn has_security_archive(distro: &str) -> bool {
    distro == "debian"
}

fn last_segment(uri: &str) -> &str {
    uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &[&str]) -> PackageSource {
        PackageSource {
            uris: vec![uri.to_owned()],
            suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
            components: vec!["main".to_owned()],
            keyring: None,
        }
    }

    #[test]
    fn lines_of_package_sources_are_read() {
        let text = "# deb http://no/ no main\n\
                    deb http://m/debian bookworm main contrib # main\n\
                    deb-src http://m/debian bookworm main\n\
                    deb [arch=amd64 signed-by=\"/k.gpg\"] https://m/security bookworm-security main\n\
                    deb [broken http://m x main\ndebris\n";
        let security = PackageSource {
            keyring: Some(Keyring::File("/k.gpg".into())),
            ..source("https://m/security", &["bookworm-security"])
        };
        let mut archive = source("http://m/debian", &["bookworm"]);
        archive.components.push("contrib".to_owned());
        assert_eq!(parse_source_lines(text), [archive, security]);
    }

    #[test]
    fn stanzas_of_package_sources_are_read() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://m/debian http://n/debian\nSuites: trixie trixie-updates\n\
                    Components: main\nSigned-By: /usr/share/keyrings/k.gpg\n\n\
                    Types: deb\nURIs: http://off/\nSuites: x\nEnabled: no\n\n\
                    Types: deb-src\nURIs: http://source/\nSuites: x\n\n\
                    Types: deb\nURIs: http://p/\nSuites: ./\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        let sources = parse_source_stanzas(text);
        assert_eq!(sources.len(), 2, "{sources:?}");
        assert_eq!(sources[0].uris, ["http://m/debian", "http://n/debian"]);
        assert_eq!(sources[0].suites, ["trixie", "trixie-updates"]);
        assert_eq!(sources[0].keyring, Some(Keyring::File("/usr/share/keyrings/k.gpg".into())));
        let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n";
        assert_eq!(sources[1].keyring, Some(Keyring::Armoured(key.to_owned())));
    }

    #[test]
    fn a_mirror_is_found_by_suite_and_serves_other_suites() {
        let machine = AptMachine {
            sources: vec![
                source("http://vendor/debian-like", &["bookworm-vendor"]),
                source("http://vendor/runner/debian", &["bookworm"]),
                source("http://m/debian/", &["bookworm"]),
                source("http://m/debian/", &["bookworm-updates"]),
                source("http://m/debian-security", &["bookworm-security"]),
                source("http://old/x", &["bullseye"]),
                source("http://old/x", &["bullseye-updates"]),
            ],
            distro: "debian".to_owned(),
            ..AptMachine::default()
        };
        let uris = |release| {
            let mirrors = machine.mirrors("debian", release);
            [mirrors.archive, mirrors.security].map(|mirror| mirror.map(|mirror| mirror.uri))
        };
        let both = ["http://m/debian/", "http://m/debian-security"].map(|uri| Some(uri.to_owned()));
        assert_eq!(uris("bookworm"), both);
        assert_eq!(uris("trixie"), both);
        assert_eq!(uris("bullseye")[0].as_deref(), Some("http://old/x"));
        assert_eq!(machine.mirrors("ubuntu", "noble"), Mirrors::default());
    }

    #[test]
    fn a_host_of_another_distribution_counts_only_with_the_whole_archive() {
        let mut machine =
            AptMachine { sources: vec![source("http://vendor/ubuntu", &["noble"])], ..AptMachine::default() };
        let archive =
            |machine: &AptMachine| machine.mirrors("ubuntu", "noble").archive.map(|found| found.uri);
        machine.distro = "debian".to_owned();
        assert_eq!(archive(&machine), None);
        machine.sources.push(source("http://m/ubuntu", &["noble", "noble-updates"]));
        assert_eq!(archive(&machine).as_deref(), Some("http://m/ubuntu"));
        machine =
            AptMachine { distro: "ubuntu".to_owned(), sources: machine.sources[..1].to_vec(), ..machine };
        assert_eq!(archive(&machine).as_deref(), Some("http://vendor/ubuntu"));
    }

    const UBUNTU: &str = "distro = 'ubuntu'\nrelease = 'noble'\nfamily = 'debian'\n\
                          [source.mmdebstrap]\nvariant = 'minbase'\nsuites = ['noble']\n\
                          mirror = 'a'\nsecurity-mirror = 's'\nports-mirror = 'p'\nkeyring = '/k'\n";

    fn shown(mirror: Option<Mirror>) -> String {
        mirror.map_or_else(String::new, |Mirror { uri, keyring }| match keyring {
            Some(Keyring::File(path)) => format!("{uri} {}", path.display()),
            _ => uri,
        })
    }

    #[test]
    fn callers_come_before_the_host_and_the_host_before_the_definition() {
        let ubuntu: BaseDefinition = toml::from_str(UBUNTU).unwrap();
        let debian: BaseDefinition =
            toml::from_str(&UBUNTU.replace("ubuntu", "debian").replace("noble", "bookworm")).unwrap();
        let host = |distro: &str, suites: [&str; 2]| AptMachine {
            distro: distro.to_owned(),
            sources: vec![source("h", &suites)],
            ..AptMachine::default()
        };
        let on_debian = host("debian", ["bookworm", "bookworm-updates"]);
        let on_ubuntu = host("ubuntu", ["noble", "noble-updates"]);
        let named = |archive: &str, security: &str, keyring: &str| {
            let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            NamedMirrors {
                archive: given(archive),
                security: given(security),
                keyring: given(keyring).map(PathBuf::from),
            }
        };
        for (host, base, named, archive, security) in [
            (&on_debian, &ubuntu, named("", "", ""), "a /k", "s /k"),
            (&on_debian, &ubuntu, named("", "", "/x"), "a /x", "s /x"),
            (&on_debian, &ubuntu, named("c", "", ""), "c /k", "c /k"),
            (&on_debian, &ubuntu, named("c", "of-debian", "/x"), "c /x", "c /x"),
            (&on_ubuntu, &ubuntu, named("", "", ""), "h", "h"),
            (&on_ubuntu, &ubuntu, named("c", "", ""), "c", "c"),
            (&on_ubuntu, &debian, named("", "", ""), "a /k", "s /k"),
            (&on_debian, &debian, named("", "", ""), "h", "s /k"),
            (&on_debian, &debian, named("c", "d", ""), "c", "d"),
            (&on_debian, &debian, named("c", "", "/x"), "c /x", "s /x"),
        ] {
            let found = host.mirrors_of(base, Architecture::Amd64, &named);
            let found = (shown(found.archive), shown(found.security));
            assert_eq!(found, (archive.to_owned(), security.to_owned()), "{named:?}");
        }
        let ports = AptMachine::default().mirrors_of(&ubuntu, Architecture::Arm64, &NamedMirrors::default());
        assert_eq!((shown(ports.archive), shown(ports.security)), ("p /k".to_owned(), "p /k".to_owned()));
    }
}
