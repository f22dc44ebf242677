//! Which mirrors a machine's own apt configuration names.
//!
//! Source: sources.list(5), both styles.

use std::path::PathBuf;

use deb822_fast::Deb822;

/// What one entry of a machine's package sources says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSource {
    /// Addresses of the archive, in order of preference.
    pub uris: Vec<String>,
    /// Suites taken from it.
    pub suites: Vec<String>,
    /// Components of each.
    pub components: Vec<String>,
    /// What its signatures are checked with, if not with every key that apt trusts.
    pub keyring: Option<Keyring>,
}

/// Keys that sign an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyring {
    /// A file on the machine.
    File(PathBuf),
    /// The key itself, in ASCII armour.
    Armoured(String),
}

/// A machine's apt configuration, as far as it concerns others than the machine itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AptMachine {
    /// The package sources for binary packages.
    pub sources: Vec<PackageSource>,
    /// How archives are reached: settings such as `Acquire::http::Proxy` and their values.
    pub transport: Vec<(String, String)>,
}

/// Where the packages of one release are to be had.
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
    /// Its address.
    pub uri: String,
    /// What its signatures are checked with, if not with every key that apt trusts.
    pub keyring: Option<Keyring>,
}

impl Mirror {
    /// Makes a mirror whose signatures are checked with the keys that apt trusts.
    pub fn at(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), keyring: None }
    }
}

/// Returns the package sources of a file in one-line style (`*.list`). Lines that are none are passed over.
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

/// Returns the package sources of a file in deb822 style (`*.sources`). Stanzas that are none, or switched off, are passed
/// over, and so is a text that is not in that style.
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
    /// Returns where a release of a distribution is to be had.
    ///
    /// One address serves all suites of an archive, so a machine of another release knows it too. Archives of others
    /// may use the same suite or directory names; updates beside a release are what only the distribution's has.
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
        // The first of equals: `max_by_key` takes the last.
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

/// Returns those settings of an apt configuration file that say how archives are reached: proxies, and whether dates are
/// checked (a mirror that is a snapshot needs that).
pub fn parse_transport(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut scopes: Vec<String> = Vec::new();
    let mut statement = Vec::new();
    for token in tokens(text) {
        match token {
            Token::Word(word) => statement.push(word),
            Token::Open => scopes.push(std::mem::take(&mut statement).concat()),
            Token::Close => drop(scopes.pop()),
            Token::End => {
                if let [name, value] = std::mem::take(&mut statement).as_slice() {
                    let path = scopes.iter().chain([name]).map(String::as_str).collect::<Vec<_>>();
                    settings.push((path.join("::"), value.clone()));
                }
            }
        }
    }
    settings.retain(|(name, _)| concerns_transport(name));
    settings
}

fn concerns_transport(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts: Vec<_> = name.split("::").collect();
    matches!(
        parts.as_slice(),
        ["acquire", "http" | "https" | "ftp", "proxy", ..] | ["acquire", "check-valid-until" | "check-date"]
    )
}

/// A piece of an apt configuration file. Source: apt.conf(5), "SYNTAX".
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Vec<Token> {
    let text = without_comments(text);
    let mut rest = text.as_str();
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        let mark = match first {
            '{' => Some(Token::Open),
            '}' => Some(Token::Close),
            ';' => Some(Token::End),
            _ => None,
        };
        if mark.is_some() || first.is_whitespace() {
            found.extend(mark);
            rest = &rest[first.len_utf8()..];
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (word, after) = quoted.split_once('"').unwrap_or((quoted, ""));
            found.push(Token::Word(word.to_owned()));
            rest = after;
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || "{};\"".contains(c)).unwrap_or(rest.len());
            found.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    found
}

/// Drops comments: from `//` or `#` at the beginning of a line, or after white space, to the end of the line. Comments in
/// the style of C are not looked for; what they hold is no statement that concerns transport, or is harmless.
fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| {
        let starts = |(at, _): &(usize, &str)| {
            line[..*at].trim_end().is_empty() || line[..*at].ends_with([' ', '\t', ';'])
        };
        let comment = line.match_indices("//").chain(line.match_indices('#')).find(starts);
        comment.map_or(line, |(at, _)| &line[..at])
    });
    code.flat_map(|line| [line, "\n"]).collect()
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
            transport: Vec::new(),
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
    fn transport_is_taken_from_every_form_of_setting() {
        let text = "// Acquire::http::Proxy \"no\";\nAcquire::Check-Valid-Until \"false\"; # why\n\
                    Acquire { http { Proxy \"http://p:3128/\"; Pipeline-Depth 0; }; https::Proxy::host DIRECT; };\n\
                    DPkg::Post-Invoke { \"rm -f /var/cache; true\"; };\nAcquire::Languages \"none\"\n;";
        let expected = [
            ("Acquire::Check-Valid-Until", "false"),
            ("Acquire::http::Proxy", "http://p:3128/"),
            ("Acquire::https::Proxy::host", "DIRECT"),
        ];
        let settings = parse_transport(text);
        let found: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
    }
}
