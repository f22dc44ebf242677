//! apt and mmdebstrap: argument lists and configuration texts.
//!
//! An image holds the distribution's own package sources, but a build uses the mirrors of the build
//! host. Two texts outside the layers connect them: [`configuration`], which apt finds by
//! `APT_CONFIG`, and [`mirror_table`], by which package sources are rewritten when apt reads them.
//!
//! Source: apt.conf(5), mmdebstrap(1).

use std::collections::BTreeSet;

use super::{Architecture, Mmdebstrap, PRIVATE, Setting, TOOLS};

/// Whether plywood or the image configures apt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choices {
    /// Plywood's choices, for an image on a base.
    Plywood,
    /// The choices of the image's own elements.
    Image,
}

/// Settings of every call of apt during a build.
///
/// | setting | without it |
/// |---|---|
/// | `Retries` | one lost connection ends a build |
/// | `Languages` | translations are fetched that no image needs |
/// | `Keep-Downloaded-Packages`, `pkgcache` | downloads are lost, and caches get into layers |
/// | `srcpkgcache` | every run of apt reads all indices again |
/// | `DPkg::Path` | maintainer scripts would not find the sandbox's own commands |
const FIXED: &str = r#"Acquire::Retries "3";
Acquire::Languages "none";
APT::Keep-Downloaded-Packages "true";
Binary::apt::APT::Keep-Downloaded-Packages "true";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "/run/plywood/state/srcpkgcache.bin";
DPkg::Path "";
DPkg::Use-Pty "false";
"#;

/// Plywood's choices.
///
/// | setting | without it |
/// |---|---|
/// | `Error-Mode` | an index that could not be fetched is a warning, and the packages are old |
/// | `Install-Recommends` | images contain all recommended packages; Debian images of diskimage-builder omit them too |
/// | `DPkg::Options` | dpkg asks about configuration files, and waits for the disk with every file |
const CHOICES: &str = r#"APT::Update::Error-Mode "any";
APT::Install-Recommends "false";
DPkg::Options { "--force-unsafe-io"; "--force-confold"; "--force-confdef"; };
"#;

/// The file in a job's state in which apt caches the package indices that it has read.
pub const INDEX_DIGEST: &str = "srcpkgcache.bin";

/// The directory with the hooks of mmdebstrap.
const HOOK_DIRECTORIES: &str = "/usr/share/mmdebstrap/hooks";

/// The file of accounts at archives, beside apt's configuration.
pub const ACCOUNTS: &str = "auth.conf";

/// Returns the command that fetches the package indices. apt stores them as text, even if the image
/// configures compression, because plywood reads them.
pub fn update() -> Vec<String> {
    apt_get("update", ["--option=Acquire::GzipIndexes=false"])
}

/// Returns true if a refresh printed that it left old indices in place. apt before 2.2 does not
/// know the setting `Error-Mode` and ends with success.
pub fn left_old_indices(printed: &[String]) -> bool {
    printed.iter().any(|line| line.contains("Some index files failed to download"))
}

/// Returns the command that installs packages and their dependencies.
pub fn install<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Vec<String> {
    apt_get("install", names)
}

/// Returns the command that removes packages. Their configuration files stay.
pub fn remove<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Vec<String> {
    apt_get("remove", names)
}

/// Returns the names of the files that apt would download, from its output for `--print-uris`.
pub fn files_to_download(printed: &str) -> Vec<String> {
    let lines = printed.lines().filter(|line| line.starts_with('\''));
    lines.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect()
}

fn apt_get<N: AsRef<str>>(action: &str, names: impl IntoIterator<Item = N>) -> Vec<String> {
    let head = ["apt-get", "--assume-yes", "--quiet", action].map(str::to_owned);
    head.into_iter().chain(names.into_iter().map(|name| name.as_ref().to_owned())).collect()
}

/// Returns the command that builds the initramfs of every kernel. It runs once, at the end of a
/// step.
pub fn make_initramfs() -> Vec<String> {
    vec![format!("{TOOLS}/make-initramfs")]
}

/// Returns the command that builds a base's root file system in the empty directory `root`.
///
/// The image gets the package sources of the definition, or, if it names none, those that
/// mmdebstrap knows. During the bootstrap, hooks of mmdebstrap replace them by the mirrors that
/// this build uses. Downloads are kept in the build host's cache, which is mounted into the root.
pub fn bootstrap(base: &Mmdebstrap, architecture: Architecture, root: &str) -> Vec<String> {
    let suites: Vec<_> = base.suites.iter().map(|suite| quoted(suite)).collect();
    let mut argv = vec![
        "mmdebstrap".to_owned(),
        "--mode=root".to_owned(),
        "--format=directory".to_owned(),
        format!("--variant={}", base.variant.as_str()),
        format!("--components={}", base.components.join(",")),
        "--skip=essential/unlink,check/signed-by".to_owned(),
        format!("--setup-hook={TOOLS}/bootstrap-setup \"$1\" {}", suites.join(" ")),
        format!("--customize-hook={TOOLS}/bootstrap-finish \"$1\""),
    ];
    if !base.include.is_empty() {
        argv.push(format!("--include={}", base.include.join(",")));
    }
    argv.extend(base.hooks.iter().map(|name| format!("--hook-directory={HOOK_DIRECTORIES}/{name}")));
    argv.extend(base.suites.first().cloned());
    argv.push(root.to_owned());
    argv.extend(sources(base, architecture));
    argv
}

/// Returns the package sources of the definition as lines, if it names an archive.
fn sources(base: &Mmdebstrap, architecture: Architecture) -> Option<String> {
    let line = |suite: &String| {
        let archive = base.archive_of(suite, architecture)?;
        Some(format!("deb {archive} {suite} {}", base.components.join(" ")))
    };
    let lines: Option<Vec<_>> = base.suites.iter().map(line).collect();
    lines.map(|lines| lines.join("\n"))
}

/// Quotes a word for a POSIX shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Returns apt's configuration for a build: the fixed settings, the build host's `Acquire`
/// settings, and the path inside the job of the build host's certificate authorities.
pub fn configuration(choices: Choices, transport: &[Setting], ca_bundle: Option<&str>) -> String {
    let chosen = match choices {
        Choices::Plywood => CHOICES,
        Choices::Image => "",
    };
    let ca_setting = ca_bundle.map(|file| ("Acquire::https::CAInfo", file));
    let settings = transport.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(ca_setting);
    // apt.conf has no escape for quotes inside a value.
    let lines = settings.map(|(name, value)| format!("{name} \"{}\";\n", value.replace('"', "")));
    [FIXED, chosen].map(str::to_owned).into_iter().chain(lines).collect()
}

/// An archive as jobs reach it: its URI, and the name of its keyring in [`apt_directory`].
pub type ReachedArchive<'a> = (&'a str, Option<&'a str>);

/// Returns the table by which package sources of a release are rewritten: lines of `distro`,
/// `release`, the known archives `archive` and `security`, and the `origins`. Like the hosts of the
/// distribution, `origins` are replaced by the known archives.
pub fn mirror_table(
    distro: &str,
    release: &str,
    origins: &BTreeSet<&str>,
    archive: Option<ReachedArchive<'_>>,
    security: Option<ReachedArchive<'_>>,
) -> String {
    let mut table = format!("distro\t{distro}\nrelease\t{release}\n");
    origins.iter().for_each(|uri| table.push_str(&format!("origin\t{uri}\n")));
    for (kind, reached) in [("archive", archive), ("security", security)] {
        if let Some((uri, keyring)) = reached {
            let keyring = keyring.map(|name| format!("{}/{name}", apt_directory())).unwrap_or_default();
            table.push_str(&format!("{kind}\t{uri}\t{keyring}\n"));
        }
    }
    table
}

/// Returns the setting that points apt to the build host's accounts.
pub fn accounts_setting() -> Setting {
    ("Dir::Etc::netrc".to_owned(), format!("{}/{ACCOUNTS}", apt_directory()))
}

/// Returns the directory inside a job that holds `apt.conf`, `mirrors.tsv` and keyrings.
pub fn apt_directory() -> String {
    format!("{PRIVATE}/apt")
}

#[cfg(test)]
mod tests {
    use super::super::Variant;
    use super::*;

    #[test]
    fn packages_are_arguments() {
        assert_eq!(install(["a", "b"]), ["apt-get", "--assume-yes", "--quiet", "install", "a", "b"]);
        assert_eq!(remove(&["a".to_owned()]).last().unwrap(), "a");
        assert_eq!(update()[..4], ["apt-get", "--assume-yes", "--quiet", "update"]);
    }

    #[test]
    fn files_to_download_are_read_from_print_uris() {
        let printed = "Reading...\n'http://m/pool/a_1_all.deb' a_1_all.deb 10 SHA256:00\n";
        assert_eq!(files_to_download(printed), ["a_1_all.deb"]);
    }

    #[test]
    fn a_bootstrap_names_suites_but_no_mirror() {
        let base = Mmdebstrap {
            variant: Variant::Minbase,
            suites: vec!["bookworm".to_owned(), "bookworm-security".to_owned(), "it's".to_owned()],
            components: vec!["main".to_owned(), "contrib".to_owned()],
            include: vec!["ca-certificates".to_owned()],
            ..Mmdebstrap::default()
        };
        let argv = bootstrap(&base, Architecture::Amd64, "/root");
        assert_eq!(&argv[argv.len() - 3..], ["--include=ca-certificates", "bookworm", "/root"]);
        assert!(argv.contains(&"--components=main,contrib".to_owned()));
        let setup =
            r#"--setup-hook=/run/plywood/bin/bootstrap-setup "$1" 'bookworm' 'bookworm-security' 'it'\''s'"#;
        assert!(argv.contains(&setup.to_owned()), "{argv:?}");
    }

    #[test]
    fn a_bootstrap_gives_the_image_the_archives_of_the_definition() {
        let base = Mmdebstrap {
            suites: ["noble", "noble-updates", "noble-security"].map(str::to_owned).to_vec(),
            components: vec!["main".to_owned(), "universe".to_owned()],
            mirror: Some("http://a/ubuntu".to_owned()),
            security_mirror: Some("http://s/ubuntu".to_owned()),
            ports_mirror: Some("http://p/ubuntu-ports".to_owned()),
            hooks: vec!["maybe-jessie-or-older".to_owned()],
            ..Mmdebstrap::default()
        };
        let lines = |archives: [&str; 3]| {
            let suites = ["noble", "noble-updates", "noble-security"];
            let line = |(archive, suite)| format!("deb http://{archive} {suite} main universe");
            archives.into_iter().zip(suites).map(line).collect::<Vec<_>>().join("\n")
        };
        for (architecture, archives) in [
            (Architecture::Amd64, ["a/ubuntu", "a/ubuntu", "s/ubuntu"]),
            (Architecture::Arm64, ["p/ubuntu-ports"; 3]),
        ] {
            let argv = bootstrap(&base, architecture, "/root");
            assert_eq!(argv.last(), Some(&lines(archives)));
            let hook = "--hook-directory=/usr/share/mmdebstrap/hooks/maybe-jessie-or-older";
            assert_eq!(argv[argv.len() - 4..argv.len() - 1], [hook, "noble", "/root"]);
        }
    }

    #[test]
    fn configuration_holds_the_hosts_acquire_settings() {
        let transport = [("Acquire::http::Proxy".to_owned(), "http://p:1\"".to_owned())];
        let text = configuration(Choices::Plywood, &transport, Some("/run/plywood/ca.crt"));
        assert!(text.starts_with(&format!("{FIXED}{CHOICES}")));
        let rest = "Acquire::http::Proxy \"http://p:1\";\nAcquire::https::CAInfo \"/run/plywood/ca.crt\";\n";
        assert!(text.ends_with(rest), "{text}");
        assert_eq!(configuration(Choices::Image, &[], None), FIXED);
        let digest = format!("Dir::Cache::srcpkgcache \"{PRIVATE}/state/{INDEX_DIGEST}\";\n");
        assert!(FIXED.contains(&digest));
    }

    #[test]
    fn the_table_lists_known_archives_only() {
        let archive = Some(("http://m/debian", Some("archive.gpg")));
        let table = mirror_table("debian", "bookworm", &["http://o/x"].into(), archive, None);
        let expected = "distro\tdebian\nrelease\tbookworm\norigin\thttp://o/x\n\
                        archive\thttp://m/debian\t/run/plywood/apt/archive.gpg\n";
        assert_eq!(table, expected);
        let table = mirror_table("debian", "sid", &BTreeSet::new(), None, Some(("http://m/s", None)));
        assert_eq!(table.lines().last(), Some("security\thttp://m/s\t"));
    }
}
