//! Secrets in keys.
//!
//! A secret must be in the key of each layer that it influences, or a change of the secret would be
//! missed. But nobody who reads the key, or the record it was computed from, may be able to guess
//! the secret. The key therefore contains a hash of it, keyed with random bytes that never leave
//! the store.

use crate::oci::Hasher;

/// Converts variables to key fields.
#[derive(Clone)]
pub struct Seal([u8; 32]);

/// Endings and parts of names that mark a secret. Source: the names that CI systems mask.
const SECRET_PARTS: [&str; 5] = ["PASSWORD", "PASSWD", "PASSPHRASE", "TOKEN", "SECRET"];
const SECRET_END: &str = "_KEY";
/// The replacement of a secret in texts for users.
pub(super) const HIDDEN: &str = "***";
/// The prefix of a sealed value.
const SEALED: &str = "sealed ";

impl Seal {
    /// Returns a seal of 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the key field of the variable `name`: its value, or for a secret, a keyed hash. An
    /// empty value is not a secret.
    pub fn field_value(&self, name: &str, value: &str) -> String {
        if value.is_empty() || !is_secret(name, value) {
            return value.to_owned();
        }
        // Hashed twice, with the seal in front, like HMAC: this prevents length extension, and the
        // digest reveals nothing about its input.
        let inner = self.hash(&[name.as_bytes(), b"=", value.as_bytes()]);
        format!("{SEALED}{}", self.hash(&[inner.as_bytes()]))
    }

    fn hash(&self, parts: &[&[u8]]) -> String {
        let mut hasher = Hasher::default();
        hasher.update(&self.0);
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish().hex()
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

/// Returns true if the value of the variable `name` may not be shown, logged or stored.
///
/// The name decides, and credentials in a URL. A `…_KEY` whose value is a path, or a URL without
/// credentials, names a public file (`DIB_CONTRAIL_REPO_KEY`) and is not secret.
pub fn is_secret(name: &str, value: &str) -> bool {
    is_secret_by_name(name, value) || credentials(value).next().is_some()
}

fn is_secret_by_name(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_PARTS.iter().any(|part| name.contains(part)) || (name.ends_with(SECRET_END) && !is_location(value))
}

/// Returns the parts of the value of the variable `name` that have to be redacted in other texts:
/// each of its lines, or only the credentials of its URLs, because the rest of a URL helps to
/// understand a failure.
pub fn secret_texts<'a>(name: &str, value: &'a str) -> Vec<&'a str> {
    let all = is_secret_by_name(name, value).then(|| value.lines().map(str::trim));
    all.into_iter().flatten().chain(credentials(value)).collect()
}

/// Returns the passwords in the URLs of a text, and user names without a password in URLs of web
/// servers, which are tokens.
///
/// Source: RFC 3986, 3.2.1.
fn credentials(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("://").filter_map(|(at, mark)| {
        let authority =
            text[at + mark.len()..].split(|c: char| "/?#\"'".contains(c) || c.is_whitespace()).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        let secret = match user.split_once(':') {
            Some((_, password)) => password,
            None if text[..at].ends_with("http") || text[..at].ends_with("https") => user,
            None => "",
        };
        Some(secret).filter(|secret| !secret.is_empty())
    })
}

/// Returns a text with the passwords and tokens in its URLs redacted.
pub fn without_credentials(text: &str) -> String {
    credentials(text)
        .fold(text.to_owned(), |shown, secret| shown.replace(&format!("{secret}@"), &format!("{HIDDEN}@")))
}

/// Returns true if a key field's value replaces a secret.
pub(super) fn is_sealed(field_value: &str) -> bool {
    field_value.starts_with(SEALED)
}

fn is_location(value: &str) -> bool {
    let one_line = !value.contains(char::is_whitespace);
    one_line && !value.contains('@') && (value.contains('/') || value.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mark_secrets_unless_values_are_paths() {
        let table = [
            ("DIB_DEV_USER_PASSWORD", "x", true),
            ("RHEL_ACTIVATION_KEY", "abc", true),
            ("GITHUB_TOKEN_FILE", "x", true),
            ("client_secret", "x", true),
            ("DIB_CONTRAIL_REPO_KEY", "contrail.asc", false),
            ("DIB_CONTRAIL_REPO_KEY", "http://repo/key.asc", false),
            ("DIB_CONTRAIL_REPO_KEY", "http://user:pw@repo/key.asc", true),
            ("DIB_DEV_USER_AUTHORIZED_KEYS", "ssh-ed25519 AAAA", false),
            ("DIB_RELEASE", "bookworm", false),
            ("DIB_REPOLOCATION_x", "https://me:pw@git.example/x.git", true),
            ("DIB_REPOLOCATION_x", "https://ghp_0@git.example/x.git", true),
            ("DIB_REPOLOCATION_x", "ssh://git@git.example:22/x.git", false),
            ("DIB_REPOLOCATION_x", "https://git.example/@scope/x:y@1", false),
        ];
        for (name, value, secret) in table {
            assert_eq!(is_secret(name, value), secret, "{name}={value}");
        }
    }

    #[test]
    fn credentials_are_found_in_every_url_of_a_text() {
        let text = "deb http://a:p@w@mirror/debian x\nhttps://token@b ssh://git@c ftp://d:@e 'http://f:'";
        assert_eq!(credentials(text).collect::<Vec<_>>(), ["p@w", "token"]);
        assert_eq!(without_credentials("https://a:pw@h/pw"), "https://a:***@h/pw");
    }

    #[test]
    fn a_sealed_value_depends_on_seal_and_value_and_reveals_neither() {
        let (a, b) = (Seal::new([1; 32]), Seal::new([2; 32]));
        let sealed = a.field_value("X_PASSWORD", "hunter2");
        assert!(sealed.starts_with("sealed ") && !sealed.contains("hunter2"));
        assert_eq!(sealed, a.field_value("X_PASSWORD", "hunter2"));
        assert_ne!(sealed, b.field_value("X_PASSWORD", "hunter2"));
        assert_ne!(sealed, a.field_value("X_PASSWORD", "hunter3"));
        assert_eq!(a.field_value("DIB_RELEASE", "bookworm"), "bookworm");
        assert_eq!(a.field_value("X_PASSWORD", ""), "");
    }
}
