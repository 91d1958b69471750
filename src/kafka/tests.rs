//! Settings become the right librdkafka settings, the same for every client.

use super::*;
use crate::config::{Config, MapSource};

fn clients(pairs: &[(&str, &str)]) -> Clients {
    let mut source = MapSource::default();
    for (name, value) in pairs {
        source.set(name, *value, crate::config::Origin::Environment);
    }
    Clients::new(&Config::read(&source).expect("valid").kafka).expect("clients")
}

type Pairs = Vec<(&'static str, &'static str)>;

/// A file that is there.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

const SASL: [(&str, &str); 2] = [("KAFKA_SASL_USERNAME", "user"), ("KAFKA_SASL_PASSWORD", "secret")];

#[test]
fn inc_13_every_mechanism_reaches_every_client() {
    let tls = [
        ("KAFKA_SSL_CA_LOCATION", FILE),
        ("KAFKA_SSL_CERTIFICATE_LOCATION", FILE),
        ("KAFKA_SSL_KEY_LOCATION", FILE),
        ("KAFKA_SSL_KEY_PASSWORD", "key-secret"),
    ];
    let ours = |protocol, mechanism| vec![("KAFKA_SECURITY_PROTOCOL", protocol), ("KAFKA_SASL_MECHANISM", mechanism)];
    let with_tls = [
        ("ssl.ca.location", FILE),
        ("ssl.certificate.location", FILE),
        ("ssl.key.location", FILE),
        ("ssl.key.password", "key-secret"),
    ];
    let user = [("sasl.username", "user"), ("sasl.password", "secret")];
    let mut cases: Vec<(Pairs, Pairs)> = vec![
        (vec![], vec![("security.protocol", "plaintext")]),
        ([&ours("SSL", "")[..], &tls].concat(), [&[("security.protocol", "ssl")][..], &with_tls].concat()),
        // What does not belong to the protocol is left out.
        ([&ours("PLAINTEXT", "PLAIN")[..], &tls, &SASL].concat(), vec![("security.protocol", "plaintext")]),
        (
            [&ours("SASL_SSL", "oauthbearer")[..], &[("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", FILE)]].concat(),
            vec![("security.protocol", "sasl_ssl"), ("sasl.mechanisms", "OAUTHBEARER")],
        ),
    ];
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        cases.push((
            [&ours("SASL_SSL", mechanism)[..], &tls, &SASL].concat(),
            [&[("security.protocol", "sasl_ssl"), ("sasl.mechanisms", mechanism)][..], &user, &with_tls].concat(),
        ));
        cases.push((
            [&ours("SASL_PLAINTEXT", mechanism)[..], &SASL].concat(),
            [&[("security.protocol", "sasl_plaintext"), ("sasl.mechanisms", mechanism)][..], &user].concat(),
        ));
    }
    for (settings, expected) in cases {
        let clients = clients(&settings);
        for config in [clients.base_config(), clients.producer_config(), clients.tickets_config()] {
            let secured =
                |key: &&str| key.starts_with("sasl.") || key.starts_with("ssl.") || *key == "security.protocol";
            let map = config.config_map();
            // The map hides secrets; `get` does not.
            let mut found: Vec<(&str, &str)> =
                map.keys().copied().filter(secured).filter_map(|key| Some((key, config.get(key)?))).collect();
            found.sort_unstable();
            let mut expected = expected.clone();
            expected.sort_unstable();
            assert_eq!(found, expected, "{settings:?}");
        }
    }
}

#[test]
fn librdkafka_takes_every_mechanism() {
    let token = ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", FILE);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
        for protocol in ["SASL_SSL", "SASL_PLAINTEXT"] {
            let settings = [
                ("KAFKA_SECURITY_PROTOCOL", protocol),
                ("KAFKA_SASL_MECHANISM", mechanism),
                ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
            ];
            let settings = [&settings[..], &SASL, &[token]].concat();
            let clients = clients(&settings);
            assert!(clients.reader("test").is_ok() && clients.producer().is_ok(), "{protocol} {mechanism}");
        }
    }
}

#[test]
fn a_token_that_cannot_be_had_is_what_the_caller_is_told() {
    let clients = clients(&[
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"),
        ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", FILE),
        ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
    ]);
    let reader = clients.reader("test").expect("reader");
    let error = metadata(&reader, "topic", METADATA_TIMEOUT).expect_err("no token").to_string();
    assert!(error.contains("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE") && error.contains("no JWT"), "{error}");
}

#[test]
fn what_may_change_is_watched_only_where_it_matters() {
    for (settings, expected) in [
        (vec![], false),
        (vec![("KAFKA_SSL_CA_LOCATION", FILE)], false),
        (vec![("KAFKA_SECURITY_PROTOCOL", "SSL")], false),
        (vec![("KAFKA_SECURITY_PROTOCOL", "SSL"), ("KAFKA_SSL_CA_LOCATION", FILE)], true),
        ([&[("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")][..], &SASL].concat(), false),
        (
            vec![
                ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
                ("KAFKA_SASL_USERNAME", "user"),
                ("KAFKA_SASL_PASSWORD_FILE", FILE),
            ],
            true,
        ),
    ] {
        assert_eq!(clients(&settings).may_change(), expected, "{settings:?}");
    }
}
