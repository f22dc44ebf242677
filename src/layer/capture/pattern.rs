//! Paths with wildcards.

/// A path relative to the root. `*` matches any bytes within a component; a component `**` matches
/// one or more components.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern(pub(super) &'static str);

impl Pattern {
    pub(super) fn matches(self, path: &[u8]) -> bool {
        matches_path(self.0.as_bytes(), path)
    }
}

fn matches_path(pattern: &[u8], path: &[u8]) -> bool {
    let (part, rest) = split(pattern);
    let (name, beneath) = split(path);
    match (part == b"**", rest, beneath) {
        (true, None, _) => !path.is_empty(),
        (true, Some(rest), Some(beneath)) => matches_path(rest, beneath) || matches_path(pattern, beneath),
        (true, Some(_), None) => false,
        (false, None, None) => matches_name(part, name),
        (false, Some(rest), Some(beneath)) => matches_name(part, name) && matches_path(rest, beneath),
        (false, _, _) => false,
    }
}

fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        None => (path, None),
    }
}

fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| matches_name(rest, &name[skip..])),
        (Some((byte, pattern)), Some((other, name))) => byte == other && matches_name(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stay_within_their_bounds() {
        for (pattern, path, expected) in [
            ("etc/passwd-", "etc/passwd-", true),
            ("etc/passwd-", "etc/passwd", false),
            ("etc/passwd-", "mnt/etc/passwd-", false),
            ("etc/ssh/ssh_host_*", "etc/ssh/ssh_host_rsa_key.pub", true),
            ("etc/ssh/ssh_host_*", "etc/ssh/sshd_config", false),
            ("etc/*", "etc/a/b", false),
            ("run/**", "run/a/b", true),
            ("run/**", "run", false),
            ("run/**", "runner/a", false),
            ("var/cache/man/**/index.db", "var/cache/man/de/index.db", true),
            ("**/*.pyc", "usr/lib/a.pyc", true),
            ("**/*.pyc", "usr/lib/a.py", false),
            ("*-old", "a-old", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(Pattern(pattern).matches(path.as_bytes()), expected, "{pattern} {path}");
        }
    }
}
