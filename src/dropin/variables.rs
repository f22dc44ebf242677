//! Selects the variables of the caller's environment that hooks may see.

use crate::distro::{base_environment, network_environment};
pub use crate::element::Environment;

/// Variables of the caller's session, which do not concern the image. They include names that a
/// job's own environment sets: `PATH`, `HOME`, `LC_ALL`.
const SESSION: [&str; 29] = [
    "_",
    "COLUMNS",
    "DISPLAY",
    "EDITOR",
    "HOSTNAME",
    "LANG",
    "LANGUAGE",
    "LINES",
    "LS_COLORS",
    "MAIL",
    "OLDPWD",
    "PAGER",
    "PWD",
    "SHLVL",
    // Whole names, because elements have options such as `SSH_DIR` and `SSH_USER`, which hooks must
    // see.
    "SSH_AGENT_PID",
    "SSH_ASKPASS",
    "SSH_AUTH_SOCK",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_ORIGINAL_COMMAND",
    "SSH_TTY",
    "SUDO_ASKPASS",
    "SUDO_COMMAND",
    "SUDO_GID",
    "SUDO_PROMPT",
    "SUDO_UID",
    "SUDO_USER",
    "TMPDIR",
    "VIRTUAL_ENV",
];

/// Prefixes of session variables. Only prefixes that elements do not use for their options.
const SESSION_PREFIXES: [&str; 5] = ["BASH_", "DBUS_", "LC_", "PLYWOOD_", "XDG_"];

/// Variables for the command itself, and for directories that hooks find under other names.
const OWN: [&str; 23] = [
    "_LIB",
    "break",
    "break_cmd",
    "break_outside_target",
    "CLEAR_ENV",
    "DIB_BLOCK_DEVICE_PARAMS_YAML",
    "DIB_IMAGE_CACHE",
    "DIB_LOCKFILES",
    "DIB_NO_TIMESTAMP",
    "DIB_PYTHON_EXEC",
    "DIB_QUIET",
    "DIB_SHOW_IMAGE_USAGE",
    "DIB_SHOW_IMAGE_USAGE_FULL",
    "ELEMENTS_PATH",
    "IMAGE_BLOCK_DEVICE",
    "IMAGE_BLOCK_DEVICES",
    "OVERWRITE_OLD_IMAGE",
    "TARGET_ROOT",
    "TMP_BUILD_DIR",
    "TMP_DIR",
    "TMP_HOOKS_PATH",
    "TMP_IMAGE_DIR",
    "TMP_MOUNT_PATH",
];

/// Returns the variables for hooks: all except those of the caller's session, of the command
/// itself, and of the network.
pub(super) fn for_hooks(caller: &Environment) -> Environment {
    let (fixed, network) = (base_environment(0), network_environment(caller));
    let is_session = |name: &str| {
        SESSION.contains(&name) || SESSION_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let given = caller.iter().filter(|(name, _)| {
        let name = name.as_str();
        let is_own = fixed.contains_key(name) || network.contains_key(name) || OWN.contains(&name);
        is_name(name) && !is_own && !is_session(name)
    });
    given.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns true if a shell accepts it as a name. Functions are exported under other names.
fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns the value of a variable that is set and not empty.
pub(super) fn text<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// Returns the value of a variable that is a whole number.
pub(super) fn number(environment: &Environment, name: &str) -> Option<i64> {
    text(environment, name)?.trim().parse().ok()
}

/// Returns true if a variable is set and not empty.
pub(super) fn flag(environment: &Environment, name: &str) -> bool {
    text(environment, name).is_some()
}

#[cfg(test)]
pub(super) mod fixture {
    use super::Environment;

    /// Variables and values, as tables of tests have them.
    pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

    pub(crate) fn environment(pairs: Pairs<'_>) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::environment;
    use super::*;

    #[test]
    fn hooks_see_the_variables_for_the_image() {
        let caller = environment(&[
            ("DIB_RELEASE", "bookworm"),
            ("ANYTHING", "x"),
            ("DIB_DEV_USER_PASSWORD", "hunter2"),
            ("PATH", "/home/me/bin"),
            ("HOME", "/home/me"),
            ("PWD", "/home/me"),
            ("LC_CTYPE", "C.UTF-8"),
            ("SSH_AUTH_SOCK", "/tmp/x"),
            ("SSH_DIR", "/keys"),
            ("SUDO_USER", "me"),
            ("SUDO_GROUP", "wheel"),
            ("BASH_FUNC_f%%", "() { :; }"),
            ("a-b", "x"),
            ("https_proxy", "http://proxy"),
            ("ELEMENTS_PATH", "/elements"),
            ("DIB_PYTHON_EXEC", "/venv/bin/python"),
            ("DIB_IMAGE_CACHE", "/downloads"),
            ("break_cmd", "sh"),
        ]);
        let names: Vec<_> = for_hooks(&caller).into_keys().collect();
        assert_eq!(names, ["ANYTHING", "DIB_DEV_USER_PASSWORD", "DIB_RELEASE", "SSH_DIR", "SUDO_GROUP"]);
    }
}
