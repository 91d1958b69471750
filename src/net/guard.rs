//! Addresses that tickets name. Whoever writes a ticket must not reach what only this machine can: its loopback, its links, and
//! the services that tell a cloud's machines their credentials.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Url};

/// What no ticket reaches, and what it is.
const REFUSED: &[(&str, &str)] = &[
    ("0.0.0.0/8", "this machine"),
    ("127.0.0.0/8", "this machine"),
    ("::/128", "this machine"),
    ("::1/128", "this machine"),
    ("169.254.0.0/16", "link-local, where metadata services are"),
    ("fe80::/10", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("ff00::/8", "multicast"),
    // Metadata and credential services beyond link-local addresses: AWS, Oracle Cloud, Scaleway, Google Cloud, Azure, Alibaba
    // Cloud.
    ("fd00:ec2::/32", "a metadata service"),
    ("fd00:c1::a9fe:a9fe/128", "a metadata service"),
    ("fd00:42::42/128", "a metadata service"),
    ("fd20:ce::254/128", "a metadata service"),
    ("168.63.129.16/32", "a metadata service"),
    ("100.100.100.200/32", "a metadata service"),
    ("192.0.0.192/32", "a metadata service"),
];

/// Which addresses tickets may name, beyond those that nobody has to protect.
#[derive(Debug, Clone, Default)]
pub struct TicketAddresses(Arc<[IpNet]>);

/// A ticket names an address that it must not reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefused {
    /// It is one of those that are refused.
    #[error(
        "{host} is {address}, {what}, which no ticket may reach; name another address, or allow this one with TICKET_ADDRESSES_ALLOWED"
    )]
    Address {
        /// As the ticket wrote it.
        host: String,
        /// What it stands for.
        address: IpAddr,
        /// Whose it is.
        what: &'static str,
    },
    /// It is no address of an HTTP server.
    #[error("{0:?} is no http(s) URL without user info; correct the ticket")]
    NoUrl(String),
}

/// A client of addresses that tickets name. It follows no redirect, and goes through no proxy: a proxy looks names up by itself,
/// where nobody could see what they stand for.
#[derive(Debug, Clone)]
pub struct TicketClient {
    client: Client,
    addresses: TicketAddresses,
}

impl TicketAddresses {
    /// Those of `TICKET_ADDRESSES_ALLOWED` as well.
    #[must_use]
    pub fn new(allowed: &[IpNet]) -> Self {
        Self(allowed.into())
    }

    /// A client whose calls end after `timeout`.
    ///
    /// # Errors
    /// When the TLS set-up fails.
    pub fn client(&self, timeout: Duration) -> anyhow::Result<TicketClient> {
        let client = super::builder(timeout).redirect(Policy::none()).dns_resolver(Arc::new(self.clone())).build()?;
        Ok(TicketClient { client, addresses: self.clone() })
    }

    fn check(&self, host: &str, address: IpAddr) -> Result<(), AddressRefused> {
        for address in [Some(address), embedded(address)].into_iter().flatten() {
            let address = address.to_canonical();
            if self.0.iter().any(|network| network.contains(&address)) {
                continue;
            }
            let refused = REFUSED
                .iter()
                .find(|(network, _)| network.parse::<IpNet>().is_ok_and(|network| network.contains(&address)));
            if let Some((_, what)) = refused {
                return Err(AddressRefused::Address { host: host.to_owned(), address, what });
            }
        }
        Ok(())
    }
}

/// The IPv4 address that an IPv6 address leads to by a translation: NAT64, 6to4, and the old compatible form.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0, 0, 0, 0, 0, 0, high @ 1..=u16::MAX, low] => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

impl TicketClient {
    /// A request of what the ticket names. Addresses are looked at here, names when they are resolved.
    ///
    /// # Errors
    /// See [`AddressRefused`]. A name that stands for a refused address is an error of sending, which says the same.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, AddressRefused> {
        let parsed = Url::parse(url).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
        });
        let no_url = || AddressRefused::NoUrl(crate::dead_letters::shown(url, super::SAID_CHARS));
        let parsed = parsed.ok_or_else(no_url)?;
        let host = parsed.host_str().ok_or_else(no_url)?;
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            self.addresses.check(host, address)?;
        }
        Ok(self.client.request(method, parsed))
    }
}

/// Resolves as the system does, and refuses a name that stands for a refused address: the connection is made to what was looked
/// at, so a name that changes in between changes nothing.
impl Resolve for TicketAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let this = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &found {
                this.check(name.as_str(), address.ip())?;
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn allowed(networks: &[&str]) -> TicketAddresses {
        TicketAddresses::new(&networks.iter().map(|network| network.parse().expect(network)).collect::<Vec<_>>())
    }

    #[test]
    fn what_only_this_machine_reaches_is_refused_in_every_spelling() {
        let client = TicketAddresses::default().client(TIMEOUT).expect("client");
        for host in [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "0",
            "169.254.169.254",
            "169.254.1.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::a9fe:a9fe]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[fd00:c1::a9fe:a9fe]",
            "[fd00:42::42]",
            "[fd20:ce::254]",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "[ff02::1]",
        ] {
            let refused = client.request(Method::GET, &format!("http://{host}:8080/x")).expect_err(host);
            assert!(matches!(refused, AddressRefused::Address { .. }), "{host}: {refused}");
        }
        for url in ["file:///etc/passwd", "gopher://example.org", "http://user:secret@example.org", "example.org", ""] {
            assert!(matches!(client.request(Method::GET, url), Err(AddressRefused::NoUrl(_))), "{url}");
        }
        for host in ["example.org", "10.0.0.1", "192.168.1.1", "[2001:db8::1]", "[fd00::1]", "8.8.8.8"] {
            assert!(client.request(Method::GET, &format!("https://{host}/x")).is_ok(), "{host}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_and_no_more() {
        let client = allowed(&["127.0.0.0/8", "fe80::/10"]).client(TIMEOUT).expect("client");
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "[fe80::1]"] {
            assert!(client.request(Method::GET, &format!("http://{host}/")).is_ok(), "{host}");
        }
        for host in ["169.254.169.254", "[::1]", "[64:ff9b::a9fe:a9fe]"] {
            assert!(client.request(Method::GET, &format!("http://{host}/")).is_err(), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_stands_for_this_machine_is_not_called_and_a_redirect_is_not_followed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let url = format!("http://localhost:{}/", listener.local_addr().expect("address").port());
        let refusing = TicketAddresses::default().client(TIMEOUT).expect("client");
        let error = refusing.request(Method::GET, &url).expect("a name").send().await.expect_err("refused");
        let said = super::super::describe(&error);
        assert!(said.contains("TICKET_ADDRESSES_ALLOWED") && said.contains("this machine"), "{said}");
        let nobody = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(nobody.is_err(), "somebody connected");

        let allowing = allowed(&["127.0.0.0/8", "::1/128"]).client(TIMEOUT).expect("client");
        let answering = async {
            let (mut stream, _) = listener.accept().await.expect("a call");
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.expect("a request") > 0);
            let answer = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.expect("answered");
            stream
        };
        let asked = allowing.request(Method::GET, &url).expect("allowed").send();
        let (answer, _stream) = tokio::join!(asked, answering);
        assert_eq!(answer.expect("an answer").status(), 302);
    }
}
