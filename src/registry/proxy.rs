//! Chooses the proxy for a host by the usual environment variables.
//!
//! `https_proxy` is for HTTPS, `http_proxy` for plain HTTP, and `all_proxy` for both, in lower or
//! upper case. Hosts in `no_proxy` and loopback addresses are reached directly.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::oci::{is_loopback, split_port};

/// Returns the variable that names the proxy for a host and port, and its value.
pub(super) fn proxy_for<'e>(
    scheme: &str,
    host: &str,
    environment: &'e BTreeMap<String, String>,
) -> Option<(&'static str, &'e str)> {
    let find = |names: &[&'static str]| {
        let values = names.iter().filter_map(|name| Some((*name, environment.get(*name)?.as_str())));
        values.into_iter().find(|(_, value)| !value.is_empty())
    };
    let excluded = find(&["no_proxy", "NO_PROXY"]).is_some_and(|(_, list)| is_excluded(host, list));
    if excluded || is_loopback(split_port(host).0) {
        return None;
    }
    match scheme {
        "https" => find(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        _ => find(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
    }
}

fn is_excluded(host: &str, list: &str) -> bool {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| matches(host, entry))
}

/// Returns true if `entry` covers `host`. An entry is `*`, a name (which also covers its
/// subdomains), an address or a network. Names and addresses may have a port.
fn matches(host: &str, entry: &str) -> bool {
    let (name, port) = split_port(host);
    let (wanted, wanted_port) = if entry.contains('/') { (entry, None) } else { split_port(entry) };
    if wanted_port.is_some() && wanted_port != port {
        return false;
    }
    let (name, wanted) = (name.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    let wanted = wanted.trim_start_matches('*');
    if wanted.is_empty() {
        return true;
    }
    let domain = wanted.trim_start_matches('.');
    name == wanted
        || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        || address(&name)
            .zip(wanted.split_once('/'))
            .is_some_and(|(ip, (net, bits))| is_within(ip, net, bits))
}

fn address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_within(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Some(network), Ok(bits)) = (address(network), bits.parse::<u32>()) else { return false };
    // In the upper bits, so that the length of a prefix counts from the same end for both versions.
    let number = |ip| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let ((ip, width), (network, network_width)) = (number(ip), number(network));
    let shift = 128u32.checked_sub(bits);
    // A prefix of 0 bits shifts by 128, which gives `None` on both sides: it matches all addresses.
    let same = shift.is_some_and(|shift| ip.checked_shr(shift) == network.checked_shr(shift));
    width == network_width && bits <= width && same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_chosen_by_scheme_and_host() {
        let environment = [
            ("https_proxy", "http://secure:1"),
            ("HTTP_PROXY", "http://plain:2"),
            ("no_proxy", "a.example, .b.example,c.example:5000,10.0.0.0/8, fd00::/8,*.d.example"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let cases = [
            ("https", "x.example", Some("https_proxy")),
            ("http", "x.example:80", Some("HTTP_PROXY")),
            ("https", "a.example", None),
            ("https", "sub.a.example:443", None),
            ("https", "not-a.example", Some("https_proxy")),
            ("https", "x.b.example", None),
            ("https", "c.example:5000", None),
            ("https", "c.example:5001", Some("https_proxy")),
            ("https", "10.1.2.3:5000", None),
            ("https", "11.1.2.3", Some("https_proxy")),
            ("https", "[fd12::1]:5000", None),
            ("https", "[fe80::1]:5000", Some("https_proxy")),
            ("https", "x.d.example", None),
            ("http", "localhost:5000", None),
            ("http", "127.0.0.1:5000", None),
        ];
        for (scheme, host, expected) in cases {
            let found = proxy_for(scheme, host, &environment).map(|(name, _)| name);
            assert_eq!(found, expected, "{scheme} {host}");
        }
        let all = [("ALL_PROXY".to_owned(), "http://p".to_owned()), ("NO_PROXY".to_owned(), "*".to_owned())];
        assert_eq!(proxy_for("https", "x.example", &all.clone().into()), None);
        assert!(proxy_for("https", "x.example", &all[..1].iter().cloned().collect()).is_some());
    }
}
