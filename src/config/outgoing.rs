//! How HTTP peers are reached: through which proxy, with which certificate of this worker, and what of them a ticket may name.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::kafka_security::{file, secret_file};
use super::near::is_near;
use super::reader::Reader;
use super::secrets::{SecretSource, Shown, secret_names};

/// What all HTTP clients have in common.
#[derive(Debug, Clone, Default)]
pub struct OutgoingConfig {
    /// The proxy; `None`: peers are called directly.
    pub proxy: Option<ProxyConfig>,
    /// What this worker shows to peers that ask for a certificate; `None`: nothing.
    pub certificate: Option<ClientCertificate>,
    /// `TICKET_ADDRESSES_ALLOWED`: what addresses that come from tickets may reach, beside what anybody may.
    pub ticket_addresses: Vec<IpNet>,
}

/// A forward proxy.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// `OUTGOING_PROXY_URL`.
    pub url: String,
    /// `OUTGOING_PROXY_USERNAME` and `OUTGOING_PROXY_PASSWORD`.
    pub login: Option<(String, SecretSource)>,
    /// `OUTGOING_NO_PROXY`: comma list of names, of domains with a dot in front, of addresses and of networks that are called
    /// directly, beside this machine and the cluster.
    pub direct: String,
}

impl ProxyConfig {
    /// Whether a host is never called through the proxy: where plaintext is allowed, a proxy would read it.
    #[must_use]
    pub fn is_passed_over_for(&self, host: &str) -> bool {
        is_near(host)
    }
}

/// A certificate and its key, PEM files.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// `OUTGOING_CLIENT_CERT_PATH`: the certificate, and those between it and its authority.
    pub certificate: String,
    /// `OUTGOING_CLIENT_KEY_PATH`.
    pub key: String,
}

/// How one HTTP peer is reached, beside its address.
#[derive(Debug, Clone, Default)]
pub struct PeerAccess {
    /// A PEM file with the only authorities trusted; `None`: the system's.
    pub ca_bundle: Option<String>,
    /// What it has in common with the others.
    pub outgoing: Arc<OutgoingConfig>,
}

impl OutgoingConfig {
    /// Reads the settings. Clients whose settings are read afterwards are made so.
    pub(super) fn read(reader: &mut Reader<'_>) -> Arc<Self> {
        let (proxy, certificate) = (proxy(reader), certificate(reader));
        let outgoing = Arc::new(Self { proxy, certificate, ticket_addresses: ticket_addresses(reader) });
        reader.peers_by(Arc::clone(&outgoing));
        outgoing
    }
}

fn proxy(reader: &mut Reader<'_>) -> Option<ProxyConfig> {
    const URL: &str = "OUTGOING_PROXY_URL";
    let url =
        reader.url(URL, "forward proxy of HTTP peers; unset: none, whatever HTTP_PROXY says; added by this product");
    let username = reader.optional("OUTGOING_PROXY_USERNAME", "user of the proxy; added by this product");
    // Vault itself may be behind the proxy.
    let password = reader.fixed(
        &secret_names!("OUTGOING_PROXY_PASSWORD", "password of the proxy's user", "; added by this product"),
        Shown::Hidden,
    );
    let direct = reader.text(
        "OUTGOING_NO_PROXY",
        "",
        "names, .domains, addresses and networks that are called without the proxy, beside this machine and the cluster; added by \
         this product",
    );
    if username.is_some() != password.is_some() {
        reader
            .error("OUTGOING_PROXY_USERNAME and OUTGOING_PROXY_PASSWORD belong together; set both or none".to_owned());
    }
    let login = username.zip(password);
    if url.is_none() && login.is_some() {
        reader.error(format!("OUTGOING_PROXY_USERNAME has no use without {URL}"));
    }
    let url = url?;
    if login.is_some() && url.starts_with("http://") && !host_of(&url).is_some_and(|host| is_near(&host)) {
        reader.warn(format!("{URL} is http: the password of the proxy's user is sent unencrypted"));
    }
    Some(ProxyConfig { url, login, direct })
}

fn host_of(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn certificate(reader: &mut Reader<'_>) -> Option<ClientCertificate> {
    const CERTIFICATE: &str = "OUTGOING_CLIENT_CERT_PATH";
    const KEY: &str = "OUTGOING_CLIENT_KEY_PATH";
    let certificate = file(
        reader,
        CERTIFICATE,
        "PEM file with the certificate shown to HTTP peers that ask for one; added by this product",
    );
    let key = secret_file(reader, KEY, "PEM file with its key; added by this product");
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let pair = ClientCertificate { certificate, key };
            if let Err(error) = crate::net::identity(&pair) {
                reader.error(format!("{CERTIFICATE} and {KEY}: {error:#}"));
            }
            Some(pair)
        }
        (None, None) => None,
        _ => {
            reader.error(format!("{CERTIFICATE} and {KEY} belong together; set both or none"));
            None
        }
    }
}

fn ticket_addresses(reader: &mut Reader<'_>) -> Vec<IpNet> {
    const NAME: &str = "TICKET_ADDRESSES_ALLOWED";
    let texts = reader.list(
        NAME,
        "",
        "addresses and networks of this machine, its links and metadata services that a ticket may name; added by this product",
    );
    let network = |text: &String| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    for text in texts.iter().filter(|text| network(text).is_none()) {
        reader.error(format!("{NAME}: {text:?} is no address and no network such as 127.0.0.0/8"));
    }
    texts.iter().filter_map(network).collect()
}
