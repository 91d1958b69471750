//! Clients as the settings make them, against peers of this process.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::{Config, ConfigErrors, MapSource, Origin};
use crate::test_authority::Authority;

const TIMEOUT: Duration = Duration::from_secs(5);

fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let mut source = MapSource::default();
    for (name, value) in pairs {
        source.set(name, *value, Origin::Environment);
    }
    Config::read(&source)
}

/// How the Schema Registry is reached with these settings.
fn access(pairs: &[(&str, &str)]) -> PeerAccess {
    config(pairs).expect("settings").kafka.schema_registry.peer
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let port = listener.local_addr().expect("address").port();
    (listener, format!("localhost:{port}"))
}

/// Answers one request with 204, and gives its head.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let mut head = String::new();
    while !head.contains("\r\n\r\n") {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await.expect("a request");
        assert!(read > 0, "the request ended early: {head}");
        head += std::str::from_utf8(&part[..read]).expect("text");
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("answered");
    head
}

#[tokio::test]
async fn peers_are_called_through_the_proxy_unless_they_are_near() {
    let ((proxy, proxy_at), (near, near_at)) = (listen().await, listen().await);
    let url = format!("http://{proxy_at}");
    let password = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(password.path(), "hunter2\n").expect("written");
    let password = password.path().to_str().expect("utf-8");
    let named = access(&[
        ("OUTGOING_PROXY_URL", &url),
        ("OUTGOING_PROXY_USERNAME", "worker"),
        ("OUTGOING_PROXY_PASSWORD_FILE", password),
    ]);
    let client = peer_client(TIMEOUT, &named).expect("client");
    let through = async { answer(proxy.accept().await.expect("a call").0).await };
    let (answered, head) = tokio::join!(client.get("http://registry.example.org/subjects").send(), through);
    assert_eq!(answered.expect("an answer").status(), 204);
    assert!(head.starts_with("GET http://registry.example.org/subjects HTTP/1.1\r\n"), "{head}");
    // worker:hunter2
    assert!(head.to_lowercase().contains("proxy-authorization: basic d29ya2vyomh1bnrlcji="), "{head}");

    // Near ones stay near whatever else is named, where the worker may speak plaintext.
    let further = [("OUTGOING_PROXY_URL", url.as_str()), ("OUTGOING_NO_PROXY", "intranet.example")];
    for client in [client, peer_client(TIMEOUT, &access(&further)).expect("client")] {
        let straight = async { answer(near.accept().await.expect("a call").0).await };
        let (answered, head) = tokio::join!(client.get(format!("http://{near_at}/subjects")).send(), straight);
        assert_eq!(answered.expect("an answer").status(), 204);
        assert!(head.starts_with("GET /subjects HTTP/1.1\r\n") && !head.to_lowercase().contains("proxy-"), "{head}");
    }
    let settings = config(&further).expect("settings").outgoing.proxy.clone().expect("a proxy");
    for host in ["vault", "vault.vault.svc.cluster.local", "registry.svc", "localhost", "127.0.0.1", "[::1]"] {
        assert!(settings.is_passed_over_for(host), "{host}");
    }
}

#[tokio::test]
async fn a_peer_that_asks_for_a_certificate_gets_this_workers() {
    install_crypto();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().expect("folder");
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    ours.issue().write(&certificate, &key);
    let (certificate, key) = (certificate.to_str().expect("utf-8"), key.to_str().expect("utf-8"));

    let mut trusted = RootCertStore::empty();
    trusted.add(ours.der()).expect("an authority");
    let verifier = WebPkiClientVerifier::builder(Arc::new(trusted)).build().expect("verifier");
    let (chain, server_key) = theirs.issue().chain();
    let server =
        rustls::ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, server_key);
    let acceptor = TlsAcceptor::from(Arc::new(server.expect("server")));
    let (listener, at) = listen().await;
    let url = format!("https://{at}/subjects");

    let bundle = ("SCHEMA_REGISTRY_CA_BUNDLE", theirs.path());
    let shown = [bundle, ("OUTGOING_CLIENT_CERT_PATH", certificate), ("OUTGOING_CLIENT_KEY_PATH", key)];
    let client = peer_client(TIMEOUT, &access(&shown)).expect("client");
    let serving = async {
        let stream = acceptor.accept(listener.accept().await.expect("a call").0).await.expect("a known client");
        answer(stream).await
    };
    let (answered, _) = tokio::join!(client.get(&url).send(), serving);
    assert_eq!(answered.expect("an answer").status(), 204);

    let client = peer_client(TIMEOUT, &access(&[bundle])).expect("client");
    let refusing = async { acceptor.accept(listener.accept().await.expect("a call").0).await.err() };
    let (answered, refused) = tokio::join!(client.get(&url).send(), refusing);
    assert!(answered.is_err() && refused.is_some(), "{answered:?}");
}

#[test]
fn settings_that_do_not_go_together_are_told_at_once() {
    let none = tempfile::NamedTempFile::new().expect("file");
    let empty = none.path().to_str().expect("utf-8");
    for (pairs, expected) in [
        (&[("OUTGOING_PROXY_URL", "http://user:pass@proxy")][..], "without user info"),
        (&[("OUTGOING_PROXY_URL", "proxy:3128")], "OUTGOING_PROXY_URL"),
        (&[("OUTGOING_PROXY_USERNAME", "u")], "belong together"),
        (&[("OUTGOING_PROXY_USERNAME", "u"), ("OUTGOING_PROXY_PASSWORD", "p")], "no use without OUTGOING_PROXY_URL"),
        (&[("OUTGOING_CLIENT_CERT_PATH", empty)], "belong together"),
        (&[("OUTGOING_CLIENT_CERT_PATH", empty), ("OUTGOING_CLIENT_KEY_PATH", empty)], "OUTGOING_CLIENT_KEY_PATH: "),
        (&[("OUTGOING_CLIENT_CERT_PATH", "/no/such/file")], "/no/such/file"),
        (&[("TICKET_ADDRESSES_ALLOWED", "127.0.0.0/8,metadata.internal")], "metadata.internal"),
    ] {
        let said = config(pairs).expect_err("refused").to_string();
        assert!(said.contains(expected), "{pairs:?}: {said}");
        assert!(!said.contains("user:pass"), "{said}");
    }
    let allowed = config(&[("TICKET_ADDRESSES_ALLOWED", "127.0.0.0/8, 169.254.169.254")]).expect("settings");
    assert_eq!(allowed.outgoing.ticket_addresses.len(), 2);
}
