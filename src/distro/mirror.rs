//! Finds mirrors in the apt configuration of a build host.
//!
//! Source: sources.list(5), both styles.

use std::path::PathBuf;

use deb822_fast::Deb822;

use super::transport::Setting;

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

impl Mirror {
    /// Returns a mirror verified with the keys that apt trusts.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), keyring: None }
    }
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
    /// Returns the archives of a distribution's release.
    ///
    /// One URI serves all suites of an archive, so a host with another release has a mirror for
    /// this release too. Archives of third parties may use the same suite or directory names. Only
    /// the distribution's own archive has both a release and its updates.
    pub fn mirrors(&self, distro: &str, release: &str) -> Mirrors {
        let security_suites = [format!("{release}-security"), format!("{release}/updates")];
        Mirrors {
            archive: self.best(|suite| suite == release, distro),
            security: self
                .best(|suite| security_suites.iter().any(|s| s == suite), &format!("{distro}-security")),
        }
    }

    fn best(&self, is_wanted: impl Fn(&str) -> bool, directory: &str) -> Option<Mirror> {
        let rank = |source: &&PackageSource| {
            let names_suite = source.suites.iter().any(|suite| is_wanted(suite));
            let is_alike = last_segment(&source.uris[0]) == directory;
            (names_suite || is_alike, self.has_updates(source), names_suite, is_alike)
        };
        let main = self.sources.iter().filter(|source| source.components.iter().any(|name| name == "main"));
        // `max_by_key` returns the last of equal elements; the first entry shall win.
        let best = main.rev().max_by_key(rank).filter(|best| rank(best).0)?;
        Some(Mirror { uri: best.uris[0].clone(), keyring: best.keyring.clone() })
    }

    fn has_updates(&self, source: &PackageSource) -> bool {
        let here = self.sources.iter().filter(|other| other.uris[0] == source.uris[0]);
        here.flat_map(|other| &other.suites).any(|suite| suite.ends_with("-updates"))
    }
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
}
