//! Which hosts are near: where the platform allows plaintext.

use std::net::IpAddr;

/// Whether a host is this machine, or one of the cluster by its name: a short one is of the same namespace.
pub(super) fn is_near(host: &str) -> bool {
    match address(host) {
        Some(ip) => ip.is_loopback(),
        None => !host.contains('.') || host.ends_with(".svc") || host.ends_with(".svc.cluster.local"),
    }
}

/// The same, and addresses that no router passes on, as pods and nodes have: for what is no secret.
pub(super) fn is_near_or_private(host: &str) -> bool {
    let private = match address(host) {
        Some(IpAddr::V4(ip)) => ip.is_private() || ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
        None => false,
    };
    private || is_near(host)
}

/// The address that a URL's host is, if it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{is_near, is_near_or_private};

    #[test]
    fn near_is_this_machine_and_the_cluster() {
        for host in ["localhost", "registry", "a.b.svc", "a.b.svc.cluster.local", "127.0.0.1", "[::1]"] {
            assert!(is_near(host) && is_near_or_private(host), "{host}");
        }
        for host in ["10.0.0.7", "[fd00::1]", "169.254.0.1"] {
            assert!(!is_near(host) && is_near_or_private(host), "{host}");
        }
        for host in ["registry.example.org", "svc.example", "8.8.8.8", "2001:db8::1", "10.0.0.7.example.org"] {
            assert!(!is_near(host) && !is_near_or_private(host), "{host}");
        }
    }
}
