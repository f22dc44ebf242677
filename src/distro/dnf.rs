//! dnf: argument lists and configuration texts.
//!
//! An image holds the distribution's own repository files, but a build may use a mirror of the
//! caller, and keeps downloads outside of the layers. For a bootstrap, [`configuration`] is the whole
//! configuration. For later runs in the image, [`options`] come before the arguments of the image's
//! own dnf.
//!
//! Source: dnf.conf(5), dnf(8).

use std::collections::BTreeMap;

use super::source::{KEY_MARK, is_address};
use super::{BaseDefinition, BaseSource, Dnf, Mmdebstrap, PRIVATE, Repository, TOOLS, Variant};
use crate::element::Family;

/// The directory of dnf's indices and downloads in an image.
pub const CACHE: &str = "/var/cache/dnf";

/// The directory inside a job with dnf's configuration, keys and options.
pub fn dnf_directory() -> String {
    format!("{PRIVATE}/dnf")
}

/// The path inside a job of the cache for a bootstrap.
pub fn bootstrap_cache() -> String {
    format!("{PRIVATE}/dnf-cache")
}

/// Returns the base of the root in which plywood runs dnf: Debian with dnf and what normalizes
/// databases of rpm.
pub fn tools() -> BaseDefinition {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    BaseDefinition {
        distro: "debian".to_owned(),
        release: "bookworm".to_owned(),
        family: Family::Debian,
        architectures: super::Architecture::ALL.into(),
        provides: Default::default(),
        env: BTreeMap::new(),
        source: BaseSource::Mmdebstrap(Mmdebstrap {
            variant: Variant::Apt,
            suites: words(&["bookworm", "bookworm-updates", "bookworm-security"]),
            components: words(&["main"]),
            // dnf verifies signatures with the `rpmkeys` of rpm, and does not depend on it.
            include: words(&["ca-certificates", "dnf", "mount", "rpm"]),
            mirror: Some("http://deb.debian.org/debian".to_owned()),
            security_mirror: Some("http://security.debian.org/debian-security".to_owned()),
            keyring: Some("/usr/share/keyrings/debian-archive-keyring.gpg".into()),
            ..Mmdebstrap::default()
        }),
    }
}

/// What plywood chooses in every run.
///
/// | setting | without it |
/// |---|---|
/// | `keepcache` | downloads are lost |
/// | `retries` | one lost connection ends a build |
/// | `skip_if_unavailable` | a repository that cannot be reached is left out, and packages are old |
const FIXED: [(&str, &str); 3] = [("keepcache", "1"), ("retries", "3"), ("skip_if_unavailable", "0")];

/// Returns dnf's configuration for the bootstrap of a base: the main section, and a section for each
/// repository. Its keys are the files of [`keys`] in [`dnf_directory`].
///
/// | setting | without it |
/// |---|---|
/// | `reposdir`, `varsdir`, `pluginconfpath`, `plugins` | settings of the tools would count |
/// | `gpgcheck`, `localpkg_gpgcheck` | packages without a signature are installed |
/// | `install_weak_deps` | roots hold packages that nobody asked for |
/// | `cachedir`, `logdir` | indices and logs would lie in the root |
pub fn configuration(source: &Dnf, mirror: Option<&str>, authorities: Option<&str>) -> String {
    let nothing = format!("{}/none", dnf_directory());
    let mut main = vec![
        ("gpgcheck", "1"),
        ("localpkg_gpgcheck", "1"),
        ("install_weak_deps", "0"),
        ("best", "1"),
        ("plugins", "0"),
        ("reposdir", &nothing),
        ("varsdir", &nothing),
        ("pluginconfpath", &nothing),
        ("cachedir", "/tmp/plywood-dnf/cache"),
        ("logdir", "/tmp/plywood-dnf/log"),
    ];
    main.extend(FIXED);
    main.extend(source.module_platform_id.as_deref().map(|id| ("module_platform_id", id)));
    main.extend(authorities.map(|file| ("sslcacert", file)));
    let mut text = section("main", main);
    for repository in &source.repositories {
        let urls: Vec<_> = keys(repository).map(|(name, key)| key_url(&name, key)).collect();
        let (keys, base_url) = (urls.join(" "), base_url(mirror.unwrap_or(&source.mirror), repository));
        let address = match (&repository.metalink, mirror) {
            (Some(metalink), None) => ("metalink", metalink.as_str()),
            _ => ("baseurl", base_url.as_str()),
        };
        let index = if repository.signed_index { "1" } else { "0" };
        let settings =
            [("name", repository.id.as_str()), address, ("gpgkey", &keys), ("repo_gpgcheck", index)];
        text.push_str(&section(&repository.id, settings));
    }
    text
}

fn section<'a>(name: &str, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let lines = settings.into_iter().map(|(key, value)| format!("{key}={value}\n"));
    [format!("[{name}]\n")].into_iter().chain(lines).collect()
}

fn base_url(mirror: &str, repository: &Repository) -> String {
    format!("{}/{}", mirror.trim_end_matches('/'), repository.path.trim_start_matches('/'))
}

/// Returns the keys of a repository with the names of their files.
pub fn keys(repository: &Repository) -> impl Iterator<Item = (String, &str)> {
    let name = |number| format!("{}-{number}.asc", repository.id);
    repository.keys.iter().enumerate().map(move |(number, key)| (name(number), key.as_str()))
}

fn key_url(name: &str, key: &str) -> String {
    match is_address(key) {
        true => format!("file://{FETCHED_KEYS}/{name}"),
        false => format!("file://{}/{name}", dnf_directory()),
    }
}

/// The directory inside a bootstrap of keys that were fetched.
const FETCHED_KEYS: &str = "/tmp/keys";

/// Returns the table of keys that a bootstrap fetches: lines of file, address and fingerprints,
/// separated by spaces.
pub fn keys_to_fetch(source: &Dnf) -> String {
    let of_repository = |repository: &Repository| {
        let fingerprints: Vec<_> =
            repository.fingerprints.iter().map(|print| print.replace(' ', "")).collect();
        let fetched = keys(repository).filter(|(_, key)| is_address(key));
        let line = |(name, key)| format!("{FETCHED_KEYS}/{name} {key} {}\n", fingerprints.join(" "));
        fetched.map(line).collect::<String>()
    };
    source.repositories.iter().map(of_repository).collect()
}

/// Returns true if a text holds a key in ASCII armor.
pub fn is_key(text: &str) -> bool {
    text.contains(KEY_MARK)
}

/// Returns the options of every run of the image's own dnf. Those for the caller's mirror apply to
/// the repositories of the image that have the same names as those of its base.
pub fn options(
    base: Option<&BaseDefinition>,
    mirror: Option<&str>,
    authorities: Option<&str>,
) -> Vec<String> {
    let fixed = FIXED.into_iter().chain(authorities.map(|file| ("sslcacert", file)));
    let mut options: Vec<_> = fixed.map(|(name, value)| format!("--setopt={name}={value}")).collect();
    if let (Some(BaseSource::Dnf(source)), Some(mirror)) = (base.map(|base| &base.source), mirror) {
        options.extend(source.repositories.iter().flat_map(|repository| mirrored(repository, mirror)));
    }
    options
}

fn mirrored(repository: &Repository, mirror: &str) -> [String; 3] {
    let (id, url) = (&repository.id, base_url(mirror, repository));
    [format!("baseurl={url}"), "metalink=".to_owned(), "mirrorlist=".to_owned()]
        .map(|setting| format!("--setopt={id}.{setting}"))
}

/// Returns the command that fetches the indices for a bootstrap in `root`.
pub fn bootstrap_index(source: &Dnf, root: &str) -> Vec<String> {
    bootstrap(source, root, ["makecache".to_owned()])
}

/// Returns the command that builds a base's root file system in the empty directory `root`.
pub fn bootstrap_install(source: &Dnf, root: &str) -> Vec<String> {
    bootstrap(source, root, ["install".to_owned()].into_iter().chain(source.packages.iter().cloned()))
}

fn bootstrap(source: &Dnf, root: &str, words: impl IntoIterator<Item = String>) -> Vec<String> {
    let head = [
        format!("{TOOLS}/bootstrap-dnf"),
        root.to_owned(),
        source.rpm_database.clone(),
        source.releasever.clone(),
    ];
    head.into_iter().chain(words).collect()
}

/// Returns the command that fetches the indices of the image's repositories.
pub fn update() -> Vec<String> {
    dnf("makecache", &["--refresh".to_owned()])
}

/// Returns the command that installs packages and their dependencies.
pub fn install(names: &[String]) -> Vec<String> {
    dnf("install", names)
}

/// Returns the command that removes packages.
pub fn remove(names: &[String]) -> Vec<String> {
    dnf("remove", names)
}

fn dnf(action: &str, words: &[String]) -> Vec<String> {
    let head = ["dnf", "--assumeyes", action].map(str::to_owned);
    head.into_iter().chain(words.iter().cloned()).collect()
}

/// The database of rpm, in the places of older and of newer releases.
pub const RPM_DATABASES: [&str; 2] = ["/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite"];

/// Returns the command that writes the databases of rpm and dnf in `root` in their canonical form,
/// and prints the times of packaged files.
pub fn normalize(root: &str) -> Vec<String> {
    vec![format!("{TOOLS}/rpm-normalize"), root.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BaseDefinition {
        toml::from_str(
            "distro = 'centos'\nrelease = '9-stream'\nfamily = 'redhat'\n[source.dnf]\nreleasever = '9'\n\
             mirror = 'https://m/centos/'\npackages = ['bash', 'dnf']\nmodule-platform-id = 'platform:el9'\n\
             [[source.dnf.repositories]]\nid = 'baseos'\npath = '9/BaseOS'\nkeys = ['-----BEGIN PGP PUBLIC KEY BLOCK-----']\n\
             metalink = 'https://l/baseos'\n[[source.dnf.repositories]]\nid = 'crb'\npath = '/9/CRB'\nsigned-index = true\n\
             keys = ['https://m/key']\nfingerprints = ['01 23', '45']\n",
        )
        .unwrap()
    }

    fn source() -> Dnf {
        match base().source {
            BaseSource::Dnf(source) => source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn signatures_are_always_checked_and_repositories_are_reached_by_the_mirror_of_the_caller() {
        for (mirror, expected) in [
            (None, ["metalink=https://l/baseos", "baseurl=https://m/centos/9/CRB"]),
            (Some("http://mine"), ["baseurl=http://mine/9/BaseOS", "baseurl=http://mine/9/CRB"]),
        ] {
            let text = configuration(&source(), mirror, Some("/ca"));
            let sections: Vec<_> = text.split('[').skip(1).collect();
            assert!(
                sections[0].contains("\ngpgcheck=1\n") && sections[0].contains("\nsslcacert=/ca\n"),
                "{text}"
            );
            assert!(sections[0].contains("\nmodule_platform_id=platform:el9\n"), "{text}");
            for (section, address) in sections[1..].iter().zip(expected) {
                assert!(section.contains(&format!("\n{address}\n")), "{text}");
                assert!(
                    !section.contains("gpgcheck=0\nrepo") && section.contains("gpgkey=file:///"),
                    "{text}"
                );
            }
            assert!(sections[2].contains("\nrepo_gpgcheck=1\n"), "{text}");
            assert!(sections[2].contains("\ngpgkey=file:///tmp/keys/crb-0.asc\n"), "{text}");
        }
        assert_eq!(keys_to_fetch(&source()), "/tmp/keys/crb-0.asc https://m/key 0123 45\n");
    }

    #[test]
    fn later_runs_keep_downloads_and_know_the_mirror_of_the_caller() {
        let fixed =
            ["keepcache=1", "retries=3", "skip_if_unavailable=0"].map(|option| format!("--setopt={option}"));
        assert_eq!(options(Some(&base()), None, None), fixed);
        assert_eq!(options(None, Some("http://mine"), None), fixed, "an image of elements has its own names");
        let mirrored = options(Some(&base()), Some("http://mine/"), None);
        assert_eq!(
            mirrored[3..6],
            ["baseurl=http://mine/9/BaseOS", "metalink=", "mirrorlist="]
                .map(|option| format!("--setopt=baseos.{option}"))
        );
        assert_eq!(mirrored.len(), 9);
    }

    #[test]
    fn a_bootstrap_runs_in_the_tools() {
        let argv = bootstrap_install(&source(), "/root").join(" ");
        assert_eq!(argv, "/run/plywood/bin/bootstrap-dnf /root /var/lib/rpm 9 install bash dnf");
        assert!(bootstrap_index(&source(), "/root").ends_with(&["9".to_owned(), "makecache".to_owned()]));
    }
}
