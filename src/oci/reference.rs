//! References to images in registries: `host:port/path:tag@digest`.
//!
//! ```text
//! debian                        docker.io/library/debian, tag `latest`
//! registry.example:5000/a/b:1   host with port, two components, tag `1`
//! [::1]:5000/a@sha256:…         IPv6 host, by digest
//! ```
//!
//! Source: OCI distribution-spec v1.1, "Pulling manifests"; the defaults are those of all container
//! tools.

use std::fmt;
// From `core`, which has no sockets: this module does no I/O.
use core::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Digest;

const DEFAULT_HOST: &str = "docker.io";
/// The host that serves the API of `docker.io`.
const DEFAULT_API_HOST: &str = "registry-1.docker.io";
/// The namespace on Docker Hub for names without one.
const DEFAULT_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";
const MAX_TAG: usize = 128;
/// Registries refuse longer names.
const MAX_NAME: usize = 255;

/// A text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a reference: {reason}", escaped(text))]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

/// A repository: its registry, and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// Returns the registry as in references: `docker.io`, `registry.example:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host and port that serve the registry's API.
    pub fn api_host(&self) -> &str {
        if self.host == DEFAULT_HOST { DEFAULT_API_HOST } else { &self.host }
    }

    /// Returns the name in the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns true if `other` is in the same registry.
    pub fn shares_registry(&self, other: &Self) -> bool {
        self.host == other.host
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, path) = match text.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            Some(_) => (DEFAULT_HOST, text.to_owned()),
            None => (DEFAULT_HOST, format!("{DEFAULT_NAMESPACE}/{text}")),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        check_host(host)?;
        if !path.split('/').all(is_component) {
            return Err(
                "the name of a repository consists of lower-case letters and digits, with single `.`, `_`, `-` \
            between them",
            );
        }
        if host.len() + path.len() >= MAX_NAME {
            return Err("the name is longer than 255 bytes");
        }
        let lower = host.to_ascii_lowercase();
        // `Registry/x` has a host only because of its capital letter. `registry/x` would be a
        // repository on Docker Hub.
        let host = if is_host(&lower) { lower } else { host.to_owned() };
        Ok(Self { host, path })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

crate::serde_by_text!(Repository);

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let reference: Reference = text.parse()?;
        match reference {
            Reference { repository, tag: None, digest: None } => Ok(repository),
            _ => Err(ReferenceError {
                text: text.to_owned(),
                reason: "expected a repository without tag or digest",
            }),
        }
    }
}

/// A valid tag. Only such texts get into URLs and onto terminals as tags, even if a registry sends
/// others.
///
/// Source: OCI distribution-spec v1.1, "Pulling manifests": `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, with = "String")]
pub struct Tag(String);

/// A text that is not a tag. It may come from a registry, so messages show it escaped and
/// shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a tag: expected up to 128 letters, digits, `_`, `.`, `-`, and no `.` or `-` at the start",
    escaped(text)
)]
pub struct TagError {
    text: String,
}

impl Tag {
    /// Returns the text of the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        if is_tag(text) { Ok(Self(text.to_owned())) } else { Err(TagError { text: text.to_owned() }) }
    }
}

crate::serde_by_text!(Tag);

/// Returns the start of a remote text for messages: in one line, with control characters escaped.
fn escaped(text: &str) -> String {
    const SHOWN: usize = 200;
    let rest = if text.chars().count() > SHOWN { "…" } else { "" };
    format!("{}{rest}", text.chars().take(SHOWN).collect::<String>().escape_debug())
}

/// The name of a manifest in its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagOrDigest {
    /// A name that can be moved to another manifest.
    Tag(Tag),
    /// The identity of the manifest.
    Digest(Digest),
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for TagOrDigest {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for TagOrDigest {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A reference to a manifest, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub repository: Repository,
    /// The tag, if the text has one.
    pub tag: Option<Tag>,
    /// The digest, if the text has one. It wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Returns the name for requests: the digest, or the tag, or `latest`.
    pub fn target(&self) -> TagOrDigest {
        match self.digest {
            Some(digest) => TagOrDigest::Digest(digest),
            None => TagOrDigest::Tag(self.tag.clone().unwrap_or_else(|| Tag(DEFAULT_TAG.to_owned()))),
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains("://") {
            return Err("expected the registry or the name at the start, without a protocol");
        }
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) => (text, Some(digest)),
            None => (text, None),
        };
        let digest = digest.map(|digest| digest.parse().map_err(|_| "expected a SHA-256 digest after `@`"));
        let name = text.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match text[name..].find(':') {
            Some(colon) => (&text[..name + colon], Some(&text[name + colon + 1..])),
            None => (text, None),
        };
        let tag = tag.map(str::parse).transpose();
        let tag = tag.map_err(
            |_| "expected a tag of up to 128 letters, digits, `_`, `.`, `-`, and no `.` or `-` at the start",
        )?;
        let repository = Repository::parse(repository)?;
        Ok(Self { repository, tag, digest: digest.transpose()? })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text).map_err(|reason| ReferenceError { text: text.to_owned(), reason })
    }
}

/// Returns true if `host`, a name or address without port, is a loopback address or `localhost`.
pub fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Splits a host and its port: `[::1]:5000` into `[::1]` and `5000`.
pub fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Returns true if the first component of a reference is a host. Otherwise it is part of a name on
/// Docker Hub.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = split_port(host);
    if !port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("expected a port from 1 to 65535");
    }
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        !label.is_empty()
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && bytes[0] != b'-'
            && bytes[bytes.len() - 1] != b'-'
    };
    let is_right = match name.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()),
        None => name.split('.').all(is_label),
    };
    if is_right {
        Ok(())
    } else {
        Err("expected a host before the first `/`, such as `registry.example:5000`")
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_are_plain =
        bytes.first().is_some_and(|b| is_plain(*b)) && bytes.last().is_some_and(|b| is_plain(*b));
    let separators = bytes.split(|byte| is_plain(*byte));
    ends_are_plain
        && separators.filter(|separator| !separator.is_empty()).all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|first| is_word(*first))
        && bytes.iter().all(|byte| is_word(*byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_stand_for_docker_hub() {
        let digest = Digest::of("x");
        let by_digest = format!("a.example/b:1@{digest}");
        let cases = [
            ("debian", "docker.io/library/debian", "latest"),
            ("debian:12", "docker.io/library/debian:12", "12"),
            ("user/image", "docker.io/user/image", "latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian", "latest"),
            ("localhost/a", "localhost/a", "latest"),
            ("localhost:5000/a/b__c.d--e:v1.0", "localhost:5000/a/b__c.d--e:v1.0", "v1.0"),
            ("[::1]:5000/a", "[::1]:5000/a", "latest"),
            ("[fe80::1]/a:t", "[fe80::1]/a:t", "t"),
            ("Registry.Example/a", "registry.example/a", "latest"),
            (&by_digest, &by_digest, &digest.to_string()),
        ];
        for (text, full, target) in cases {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.target().to_string(), target, "{text}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{text}");
        }
        let hub: Reference = "debian".parse().unwrap();
        assert_eq!((hub.repository.host(), hub.repository.api_host()), ("docker.io", "registry-1.docker.io"));
    }

    #[test]
    fn malformed_references_are_refused() {
        let long = format!("a.example/{}", "a".repeat(260));
        let tag = format!("a:{}", "t".repeat(129));
        let texts = [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a.example/B",
            "a:",
            "a:-x",
            "a@",
            "a@sha256:00",
            "a_/b",
            "a.example:0/x",
            "a.example:99999/x",
            "a.example:p/x",
            "[::1/x",
            "[x]/a",
            "-a.example/x",
            "a b",
            "https://a.example/b",
            "a..b/c",
            &long,
            &tag,
        ];
        for text in texts {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        let error = "https://a.example/b".parse::<Reference>().unwrap_err().to_string();
        assert!(error.ends_with("without a protocol"), "{error}");
        assert!("a.example/b:1".parse::<Repository>().is_err());
        assert_eq!("a.example/b".parse::<Repository>().unwrap().path(), "b");
    }

    #[test]
    fn invalid_tags_are_shown_with_escapes() {
        let long = "x".repeat(5000);
        for text in ["", "a\nb", "a\u{1b}]0;owned\u{7}", "../a", "a?b", "ä", "a b", "-a", &long] {
            let error = text.parse::<Tag>().unwrap_err().to_string();
            assert!(!error.contains(char::is_control) && error.len() < 400, "{error}");
        }
        let error = "a\nb".parse::<Tag>().unwrap_err().to_string();
        assert!(error.starts_with(r"`a\nb` is not a tag"), "{error}");
        assert_eq!("k-0.1_A".parse::<Tag>().unwrap().as_str(), "k-0.1_A");
    }

    #[test]
    fn loopback_addresses_are_recognized() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "[::2]", "127.0.0.1.example"] {
            assert!(!is_loopback(host), "{host}");
        }
        assert_eq!(split_port("[::1]:80"), ("[::1]", Some("80")));
        assert_eq!(split_port("[::1]"), ("[::1]", None));
        assert_eq!(split_port("a:80"), ("a", Some("80")));
    }
}
