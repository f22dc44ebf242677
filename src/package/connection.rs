//! Finds out whether the build host has a network.
//!
//! Source: the kernel's `/proc/net/route`, `/proc/net/ipv6_route` and `/proc/net/fib_trie`.

use std::fs;

/// The archives that the build host can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// A route leads to other machines.
    Routed,
    /// Only archives on the build host itself can be reached.
    Loopback,
    /// Not even the build host can be reached.
    Nothing,
}

impl Connection {
    /// Reads the routes of the network namespace of this process.
    pub(super) fn of_this_machine() -> Self {
        let [routes, routes_6, local] = ["route", "ipv6_route", "fib_trie"]
            .map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
        Self::of(&routes, &routes_6, &local)
    }

    fn of(routes: &str, routes_6: &str, local: &str) -> Self {
        // The device is the first column for IPv4, and the last one for IPv6.
        let leads_out = |line: &str| line.split_whitespace().next().is_some_and(|device| device != "lo");
        let leads_out_6 =
            |line: &str| line.split_whitespace().next_back().is_some_and(|device| device != "lo");
        if routes.lines().skip(1).any(leads_out) || routes_6.lines().any(leads_out_6) {
            return Self::Routed;
        }
        // The kernel has local addresses as soon as the loopback device is up.
        if local.contains("LOCAL") { Self::Loopback } else { Self::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_determine_which_archives_are_reachable() {
        let head = "Iface\tDestination\tGateway\n";
        let route = format!("{head}eth0\t00000000\t0100A8C0\n");
        let of_loopback = "00000000000000000000000000000001 80 0 0 0 0 0 0 0 lo\n";
        let route_6 = "fd000000000000000000000000000000 40 0 0 0 0 0 0 0 eth0\n";
        let local = "|-- 127.0.0.1\n   /32 host LOCAL\n";
        for (routes, routes_6, local, expected) in [
            (route.as_str(), "", local, Connection::Routed),
            (head, route_6, local, Connection::Routed),
            (head, of_loopback, local, Connection::Loopback),
            (head, of_loopback, "", Connection::Nothing),
            ("", "", "", Connection::Nothing),
        ] {
            assert_eq!(Connection::of(routes, routes_6, local), expected, "{routes}{routes_6}");
        }
    }
}
