//! Addresses of this machine's links, where clouds tell their machines who they are.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Client, Url};

use super::peer_client_connecting;
use crate::config::PeerAccess;

/// Reaches a peer of a cloud as its settings say, and what gives a machine or a pod its credentials, which no proxy reaches, without
/// them.
#[derive(Debug, Clone)]
pub struct CloudClients {
    peer: Client,
    link: Client,
}

impl CloudClients {
    /// As [`peer_client_connecting`].
    ///
    /// # Errors
    /// When the clients cannot be built.
    pub fn connecting(connecting: Duration, timeout: Duration, access: &PeerAccess) -> anyhow::Result<Self> {
        let client = |access: &PeerAccess| peer_client_connecting(connecting, timeout, access);
        Ok(Self { peer: client(access)?, link: client(&PeerAccess::default())? })
    }

    /// The one that reaches this URL.
    #[must_use]
    pub fn to(&self, url: &Url) -> &Client {
        if is_link_local(url) { &self.link } else { &self.peer }
    }
}

/// Whether a URL's address is of this machine's links, or AWS's own of that kind.
fn is_link_local(url: &Url) -> bool {
    let address = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    match address {
        Some(IpAddr::V4(ip)) => ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_unicast_link_local() || ip.segments()[..2] == [0xfd00, 0xec2],
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_a_machine_who_it_is_is_a_link_away() {
        let link = |url: &str| is_link_local(&Url::parse(url).expect("a URL"));
        for metadata in ["http://169.254.169.254/latest", "http://169.254.170.23/v1", "http://[fd00:ec2::254]/latest"] {
            assert!(link(metadata), "{metadata}");
        }
        for peer in ["https://sts.amazonaws.com/", "http://10.0.0.7/", "http://127.0.0.1/", "http://[fd00::1]/"] {
            assert!(!link(peer), "{peer}");
        }
    }
}
