//! Package repositories.

use super::{Finding, Trial};

/// A host and a port to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Returns the host and port of an `http` or `https` URI, `None` for any other URI.
pub fn endpoint(uri: &str) -> Option<Endpoint> {
    let (scheme, rest) = uri.split_once("://")?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    // The last `@`: passwords often contain an unescaped one.
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.strip_prefix('[') {
        Some(inner) => inner.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':')))?,
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(default), |port| port.parse().ok())?;
    (!host.is_empty()).then(|| Endpoint { host: host.to_owned(), port })
}

/// Checks the mirror at `uri`, reached through `proxy` if there is one. Both must be without
/// credentials.
pub fn mirror(uri: &str, proxy: Option<&str>, trial: &Trial) -> Finding {
    let check = format!("mirror {uri}");
    let way = proxy.map_or_else(String::new, |proxy| format!(" (through the proxy {proxy})"));
    match trial {
        Trial::Works => Finding::ok(check, format!("answers{way}")),
        Trial::Fails { reason, .. } => Finding::limited(
            check,
            format!("the package mirror `{uri}` cannot be reached{way}: {reason}"),
            "check the network and the proxy (`http_proxy`, or `Acquire::http::Proxy` in /etc/apt), or name another mirror \
             with DIB_DISTRIBUTION_MIRROR",
        ),
    }
}

/// Returns the finding of a host without mirrors.
pub fn no_mirrors() -> Finding {
    Finding::ok("mirrors", "none configured: packages come from the archives that bases name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_from_uris() {
        let at = |host: &str, port| Some(Endpoint { host: host.to_owned(), port });
        for (uri, expected) in [
            ("http://deb.example.org/debian", at("deb.example.org", 80)),
            ("HTTPS://deb.example.org", at("deb.example.org", 443)),
            ("http://user:word@proxy:3128/", at("proxy", 3128)),
            ("http://[2001:db8::1]:8080/x", at("2001:db8::1", 8080)),
            ("https://[2001:db8::1]/x", at("2001:db8::1", 443)),
            ("file:///srv/mirror", None),
            ("cdrom:[Debian]", None),
            ("http://host:port/", None),
            ("http:///x", None),
        ] {
            assert_eq!(endpoint(uri), expected, "{uri}");
        }
    }
}
