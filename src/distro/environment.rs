//! What every job finds in its environment, and where it finds what is plywood's.

use std::collections::BTreeMap;

/// The directory inside a job that is the sandbox's own: on no layer, gone after the job.
pub const PRIVATE: &str = "/run/plywood";

/// The commands a hook may call beside those of its root, first in `PATH`: `install-packages`, `pkg-map`, `svc-map`,
/// `dib-init-system`, and stand-ins for commands that must wait (`update-initramfs`) or do nothing (`start-stop-daemon`).
pub const TOOLS: &str = "/run/plywood/bin";

/// Returns the part of a job's environment that is the same for every job and on every machine.
///
/// Clocks, hash seeds, languages and time zones end in files; here they are fixed.
pub fn base_environment(source_date_epoch: i64) -> BTreeMap<String, String> {
    let path = format!("{TOOLS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
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
}
