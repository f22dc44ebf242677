//! The environment of every job, and the paths of plywood's own files in it.

use std::collections::BTreeMap;
use std::path::Path;

/// The sandbox's own directory inside a job. It is in no layer and disappears after the job.
pub const PRIVATE: &str = "/run/plywood";

/// The commands that precede those of the root in `PATH`: `install-packages`, `pkg-map`, `svc-map`,
/// `dib-init-system`, and replacements for commands that run later (`update-initramfs`) or do
/// nothing (`start-stop-daemon`).
pub const TOOLS: &str = "/run/plywood/bin";

/// The commands that come first in `PATH` in an image whose own elements install its package
/// manager. The initramfs is still built only at the end of a step.
pub const IMAGE_TOOLS: &str = "/run/plywood/image-bin";

/// The commands that come first in `PATH` for jobs on the host: `sudo`, which hooks use for every
/// command, and `place-source`, which copies fetched sources into the target.
pub const HOST_TOOLS: &str = "/run/plywood/host-bin";

/// The shell functions that hooks source: diskimage-builder's `_LIB`.
pub const LIBRARY: &str = "/run/plywood/lib";

/// The path at which a job sees the caller's certificate authorities.
pub const CA_BUNDLE: &str = "/run/plywood/ca.crt";

/// Variables that name a file of certificate authorities. The first one that the caller sets wins.
const CA_VARIABLES: [&str; 5] =
    ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO"];

/// Variables that name a proxy, lower case; programs read either case.
const PROXY_VARIABLES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/// Returns a `PATH` that begins with the directory `first`.
pub fn search_path(first: &str) -> String {
    format!("{first}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// Returns the environment that every job has, identical on every build host.
///
/// Clocks, hash seeds, languages and time zones influence files, so they are fixed.
pub fn base_environment(source_date_epoch: i64) -> BTreeMap<String, String> {
    let path = search_path(TOOLS);
    let epoch = source_date_epoch.to_string();
    [
        ("PATH", path.as_str()),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/sh"),
        ("TERM", "dumb"),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
        ("SOURCE_DATE_EPOCH", epoch.as_str()),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("NEEDRESTART_SUSPEND", "1"),
        ("PYTHONHASHSEED", "0"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PERL_HASH_SEED", "0"),
        ("PIP_NO_CACHE_DIR", "1"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_ROOT_USER_ACTION", "ignore"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// A file of certificate authorities from the caller's environment. Jobs see it as [`CA_BUNDLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaBundle<'a> {
    pub variable: &'static str,
    pub path: &'a Path,
}

/// Returns the file of certificate authorities from the caller's environment, if any.
pub fn ca_bundle(caller: &BTreeMap<String, String>) -> Option<CaBundle<'_>> {
    CA_VARIABLES.iter().find_map(|variable| {
        non_empty(caller, variable).map(|path| CaBundle { variable, path: Path::new(path) })
    })
}

/// Returns the caller's network settings: proxies, and the file of certificate authorities under
/// all variable names that programs use. They do not change which bytes arrive, so they are in no
/// key.
pub fn network_environment(caller: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for lower in PROXY_VARIABLES {
        let upper = lower.to_ascii_uppercase();
        if let Some(value) = non_empty(caller, lower).or_else(|| non_empty(caller, &upper)) {
            found.extend([lower.to_owned(), upper].map(|name| (name, value.to_owned())));
        }
    }
    if ca_bundle(caller).is_some() {
        found.extend(CA_VARIABLES.map(|name| (name.to_owned(), CA_BUNDLE.to_owned())));
    }
    found
}

fn non_empty<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_environment_is_fixed_but_for_the_epoch() {
        let env = base_environment(1_700_000_000);
        assert_eq!(env["SOURCE_DATE_EPOCH"], "1700000000");
        assert!(env["PATH"].starts_with("/run/plywood/bin:"));
        for (name, value) in base_environment(0) {
            assert!(name == "SOURCE_DATE_EPOCH" || env[&name] == value, "{name}");
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn proxy_variables_are_read_in_either_case() {
        let caller = environment(&[
            ("HTTPS_PROXY", "http://p:3128"),
            ("no_proxy", "a"),
            ("NO_PROXY", "b"),
            ("HOME", "/x"),
        ]);
        let expected = environment(&[
            ("HTTPS_PROXY", "http://p:3128"),
            ("https_proxy", "http://p:3128"),
            ("NO_PROXY", "a"),
            ("no_proxy", "a"),
        ]);
        assert_eq!(network_environment(&caller), expected);
        assert_eq!(ca_bundle(&caller), None);
    }

    #[test]
    fn one_named_authority_file_serves_every_program() {
        let caller = environment(&[("SSL_CERT_FILE", ""), ("PIP_CERT", "/etc/ssl/own.pem")]);
        let bundle = CaBundle { variable: "PIP_CERT", path: Path::new("/etc/ssl/own.pem") };
        assert_eq!(ca_bundle(&caller), Some(bundle));
        let found = network_environment(&caller);
        for name in CA_VARIABLES {
            assert_eq!(found[name], CA_BUNDLE, "{name}");
        }
    }
}
