//! How connections to Kafka brokers are secured. One set of settings for every client of the process (INC-13).

use std::path::PathBuf;

use super::outgoing::PeerAccess;
use super::reader::Reader;
use super::secrets::{SecretSource, Shown, secret_names};

/// The SASL mechanisms of this build. Kerberos (GSSAPI) needs a system library and is not built in.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// How a client says who it is.
#[derive(Debug, Clone)]
pub enum Sasl {
    /// PLAIN and SCRAM.
    Password {
        /// `KAFKA_SASL_MECHANISM`.
        mechanism: &'static str,
        /// `KAFKA_SASL_USERNAME`, its file, or Vault.
        username: SecretSource,
        /// `KAFKA_SASL_PASSWORD`, its file, or Vault.
        password: SecretSource,
    },
    /// OAUTHBEARER.
    Token(TokenSource),
}

/// Where tokens for OAUTHBEARER come from, each time one is needed.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// `KAFKA_SASL_OAUTHBEARER_TOKEN_FILE`: a JWT that something else keeps fresh.
    File(PathBuf),
    /// An OAuth 2 token endpoint, asked with client credentials.
    Endpoint(TokenEndpoint),
}

/// A token endpoint and who asks it.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    /// `KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL`.
    pub url: String,
    /// `KAFKA_SASL_OAUTHBEARER_CLIENT_ID`.
    pub client_id: String,
    /// `KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET`, its file, or Vault.
    pub client_secret: SecretSource,
    /// `KAFKA_SASL_OAUTHBEARER_SCOPE`.
    pub scope: Option<String>,
    /// `KAFKA_SASL_OAUTHBEARER_CA_BUNDLE`, and what all peers share.
    pub peer: PeerAccess,
}

/// How connections to brokers are secured.
#[derive(Debug, Clone)]
pub struct KafkaSecurity {
    /// `KAFKA_SECURITY_PROTOCOL`, as librdkafka writes it.
    pub protocol: &'static str,
    /// Set for the SASL protocols.
    pub sasl: Option<Sasl>,
    /// `KAFKA_SSL_CA_LOCATION`: a file or a folder.
    pub ca: Option<String>,
    /// `KAFKA_SSL_CERTIFICATE_LOCATION`.
    pub certificate: Option<String>,
    /// `KAFKA_SSL_KEY_LOCATION`.
    pub key: Option<String>,
    /// `KAFKA_SSL_KEY_PASSWORD`, its file, or Vault.
    pub key_password: Option<SecretSource>,
}

impl KafkaSecurity {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let protocol = reader
            .one_of(
                "KAFKA_SECURITY_PROTOCOL",
                &[
                    ("PLAINTEXT", "plaintext"),
                    ("SSL", "ssl"),
                    ("SASL_PLAINTEXT", "sasl_plaintext"),
                    ("SASL_SSL", "sasl_ssl"),
                ],
                "PLAINTEXT",
                "how connections to brokers are secured",
            )
            .unwrap_or("plaintext");
        let sasl = sasl(reader, protocol);
        let ca = file(reader, "KAFKA_SSL_CA_LOCATION", "CA file");
        let certificate = file(reader, "KAFKA_SSL_CERTIFICATE_LOCATION", "client certificate file");
        let key = secret_file(reader, "KAFKA_SSL_KEY_LOCATION", "client key file");
        let key_password = reader.secret(
            &secret_names!("KAFKA_SSL_KEY_PASSWORD", "password of the client key file", "; added by this product"),
            Shown::Hidden,
        );
        if certificate.is_some() != key.is_some() {
            reader.error(
                "KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION belong together; set both or none"
                    .to_owned(),
            );
        }
        if key_password.is_some() && key.is_none() {
            reader.error("KAFKA_SSL_KEY_PASSWORD needs KAFKA_SSL_KEY_LOCATION".to_owned());
        }
        if !protocol.ends_with("ssl") && (ca.is_some() || certificate.is_some() || key.is_some()) {
            reader.warn(
                "KAFKA_SSL_* settings have no effect without KAFKA_SECURITY_PROTOCOL=SSL or SASL_SSL: connections are not encrypted"
                    .to_owned(),
            );
        }
        Self { protocol, sasl, ca, certificate, key, key_password }
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        self.protocol.ends_with("ssl")
    }
}

fn sasl(reader: &mut Reader<'_>, protocol: &str) -> Option<Sasl> {
    let wanted =
        reader.text("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER");
    let by_password = protocol.starts_with("sasl") && !wanted.eq_ignore_ascii_case("OAUTHBEARER");
    // Where the platform keeps them.
    let in_vault = |place| if by_password { place } else { "" };
    let username = reader.secret_or(
        &secret_names!("KAFKA_SASL_USERNAME", "SASL user"),
        Shown::Plainly,
        in_vault("worker/kafka#username"),
    );
    let password = reader.secret_or(
        &secret_names!("KAFKA_SASL_PASSWORD", "SASL password"),
        Shown::Hidden,
        in_vault("worker/kafka#password"),
    );
    let token = token_source(reader);
    if !protocol.starts_with("sasl") {
        if username.is_some() || password.is_some() || token.is_some() {
            reader.warn(
                "KAFKA_SASL_* settings have no effect without KAFKA_SECURITY_PROTOCOL=SASL_SSL or SASL_PLAINTEXT"
                    .to_owned(),
            );
        }
        return None;
    }
    let Some(mechanism) = MECHANISMS.into_iter().find(|known| known.eq_ignore_ascii_case(&wanted)) else {
        let known = MECHANISMS.join(", ");
        reader.error(format!("KAFKA_SASL_MECHANISM={wanted:?}: expected one of {known}"));
        return None;
    };
    if protocol == "sasl_plaintext" && matches!(mechanism, "PLAIN" | "OAUTHBEARER") {
        reader.warn(format!(
            "KAFKA_SASL_MECHANISM={mechanism} with SASL_PLAINTEXT sends the secret unencrypted; use SASL_SSL"
        ));
    }
    if mechanism == "OAUTHBEARER" {
        if username.is_some() || password.is_some() {
            reader.warn("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD have no effect with OAUTHBEARER".to_owned());
        }
        if token.is_none() {
            reader.error(
                "KAFKA_SASL_MECHANISM=OAUTHBEARER needs KAFKA_SASL_OAUTHBEARER_TOKEN_FILE, a file with a JWT that is kept fresh, \
                 or KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL with client id and secret"
                    .to_owned(),
            );
        }
        return token.map(Sasl::Token);
    }
    if token.is_some() {
        reader.warn(format!("KAFKA_SASL_OAUTHBEARER_* settings have no effect with KAFKA_SASL_MECHANISM={mechanism}"));
    }
    for (name, missing) in [("KAFKA_SASL_USERNAME", username.is_none()), ("KAFKA_SASL_PASSWORD", password.is_none())] {
        if missing {
            reader.error(format!(
                "KAFKA_SECURITY_PROTOCOL asks for SASL with {mechanism}; set {name}, {name}_FILE or {name}_VAULT"
            ));
        }
    }
    Some(Sasl::Password { mechanism, username: username?, password: password? })
}

/// Incomplete settings are an error; none at all are none.
fn token_source(reader: &mut Reader<'_>) -> Option<TokenSource> {
    const URL: &str = "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL";
    let token_file = secret_file(
        reader,
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        "file with the JWT for OAUTHBEARER, read again for every token; added by this product",
    );
    let url = reader.url(URL, "token endpoint for OAUTHBEARER, asked with client credentials; added by this product");
    let client_id =
        reader.optional("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "client id at the endpoint; added by this product");
    let client_secret = reader.secret(
        &secret_names!(
            "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET",
            "client secret at the endpoint",
            "; added by this product"
        ),
        Shown::Hidden,
    );
    let scope = reader.optional("KAFKA_SASL_OAUTHBEARER_SCOPE", "scope to ask the endpoint for; added by this product");
    let ca_bundle = file(
        reader,
        "KAFKA_SASL_OAUTHBEARER_CA_BUNDLE",
        "PEM file with the authorities of the endpoint's certificate; added by this product",
    );
    match (token_file, url, client_id, client_secret) {
        (Some(_), Some(_), ..) => {
            reader.error(format!("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE and {URL} are both set; keep one of them"));
            None
        }
        (Some(path), None, ..) => Some(TokenSource::File(PathBuf::from(path))),
        (None, Some(url), Some(client_id), Some(client_secret)) => {
            let peer = reader.peer_access(ca_bundle);
            Some(TokenSource::Endpoint(TokenEndpoint { url, client_id, client_secret, scope, peer }))
        }
        (None, Some(_), ..) => {
            reader.error(format!(
                "{URL} needs KAFKA_SASL_OAUTHBEARER_CLIENT_ID and KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET or its _FILE"
            ));
            None
        }
        (None, None, ..) => None,
    }
}

/// A path that must exist.
pub(super) fn file(reader: &mut Reader<'_>, name: &'static str, help: &'static str) -> Option<String> {
    let path = reader.optional(name, help);
    if let Some(path) = &path {
        check_file(reader, name, path);
    }
    path
}

/// A file that is not there is an error.
pub(super) fn check_file(reader: &mut Reader<'_>, name: &str, path: &str) {
    if let Err(error) = std::fs::metadata(path) {
        reader.error(format!("{name}={path:?}: {error}"));
    }
}

/// The same for a file that holds a secret.
pub(super) fn secret_file(reader: &mut Reader<'_>, name: &'static str, help: &'static str) -> Option<String> {
    let path = file(reader, name, help);
    if let Some(path) = &path {
        reader.remember(&SecretSource::of_file(name, path));
    }
    path
}
