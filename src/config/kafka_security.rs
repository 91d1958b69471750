//! How connections to Kafka brokers are secured. One set of settings for every client of the process (INC-13).

use std::path::PathBuf;

use super::reader::{Reader, Secret};

/// The SASL mechanisms of this build. Kerberos (GSSAPI) needs a system library and is not built in.
const MECHANISMS: [&str; 4] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// A secret that a setting holds, or a file whose content is it. A file may change while the worker runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The setting's own text.
    Value(Secret),
    /// The file's content, without line ends at its end.
    File(PathBuf),
}

impl SecretSource {
    /// The secret as it is now.
    ///
    /// # Errors
    /// When the file cannot be read or holds nothing. The sentence names the file, never its content.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(Secret::new(text)) }
            }
        }
    }
}

/// How a client says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sasl {
    /// PLAIN and SCRAM.
    Password {
        /// `KAFKA_SASL_MECHANISM`.
        mechanism: &'static str,
        /// `KAFKA_SASL_USERNAME` or `KAFKA_SASL_USERNAME_FILE`.
        username: SecretSource,
        /// `KAFKA_SASL_PASSWORD` or `KAFKA_SASL_PASSWORD_FILE`.
        password: SecretSource,
    },
    /// OAUTHBEARER.
    Token(TokenSource),
}

/// Where tokens for OAUTHBEARER come from, each time one is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// `KAFKA_SASL_OAUTHBEARER_TOKEN_FILE`: a JWT that something else keeps fresh.
    File(PathBuf),
    /// An OAuth 2 token endpoint, asked with client credentials.
    Endpoint(TokenEndpoint),
}

/// A token endpoint and who asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// `KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL`.
    pub url: String,
    /// `KAFKA_SASL_OAUTHBEARER_CLIENT_ID`.
    pub client_id: String,
    /// `KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET` or its file.
    pub client_secret: SecretSource,
    /// `KAFKA_SASL_OAUTHBEARER_SCOPE`.
    pub scope: Option<String>,
    /// `KAFKA_SASL_OAUTHBEARER_CA_BUNDLE`: the only authorities trusted; `None`: the system's.
    pub ca_bundle: Option<String>,
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
    /// `KAFKA_SSL_KEY_PASSWORD`.
    pub key_password: Option<Secret>,
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
        let key = file(reader, "KAFKA_SSL_KEY_LOCATION", "client key file");
        let key_password =
            reader.secret("KAFKA_SSL_KEY_PASSWORD", "password of the client key file; added by this product");
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
    let username = secret_or_file(
        reader,
        ("KAFKA_SASL_USERNAME", "SASL user"),
        ("KAFKA_SASL_USERNAME_FILE", "file with the SASL user, read again when it changes; added by this product"),
        Shown::Plainly,
    );
    let password = secret_or_file(
        reader,
        ("KAFKA_SASL_PASSWORD", "SASL password"),
        ("KAFKA_SASL_PASSWORD_FILE", "file with the SASL password, read again when it changes; added by this product"),
        Shown::Hidden,
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
            reader.error(format!("KAFKA_SECURITY_PROTOCOL asks for SASL with {mechanism}; set {name} or {name}_FILE"));
        }
    }
    Some(Sasl::Password { mechanism, username: username?, password: password? })
}

/// Incomplete settings are an error; none at all are none.
fn token_source(reader: &mut Reader<'_>) -> Option<TokenSource> {
    const URL: &str = "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL";
    let token_file = file(
        reader,
        "KAFKA_SASL_OAUTHBEARER_TOKEN_FILE",
        "file with the JWT for OAUTHBEARER, read again for every token; added by this product",
    );
    let url = reader.url(URL, "token endpoint for OAUTHBEARER, asked with client credentials; added by this product");
    let client_id =
        reader.optional("KAFKA_SASL_OAUTHBEARER_CLIENT_ID", "client id at the endpoint; added by this product");
    let client_secret = secret_or_file(
        reader,
        ("KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET", "client secret at the endpoint; added by this product"),
        (
            "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE",
            "file with the client secret, read again for every token; added by this product",
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
            Some(TokenSource::Endpoint(TokenEndpoint { url, client_id, client_secret, scope, ca_bundle }))
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

/// Whether `worker-agents config` shows a value.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    Plainly,
    Hidden,
}

/// A secret in a setting, or in a file that another setting names; both are an error.
pub(super) fn secret_or_file(
    reader: &mut Reader<'_>,
    (name, help): (&'static str, &'static str),
    (file_name, file_help): (&'static str, &'static str),
    shown: Shown,
) -> Option<SecretSource> {
    let value = match shown {
        Shown::Plainly => reader.optional(name, help).map(Secret::new),
        Shown::Hidden => reader.secret(name, help),
    };
    let path = reader.optional(file_name, file_help);
    match (value, path) {
        (Some(_), Some(_)) => {
            reader.error(format!("{name} and {file_name} are both set; keep one of them"));
            None
        }
        (Some(value), None) => Some(SecretSource::Value(value)),
        (None, Some(path)) => {
            let source = SecretSource::File(PathBuf::from(path));
            if let Err(error) = source.read() {
                reader.error(format!("{file_name}: {error}"));
            }
            Some(source)
        }
        (None, None) => None,
    }
}

/// A path that must exist.
pub(super) fn file(reader: &mut Reader<'_>, name: &'static str, help: &'static str) -> Option<String> {
    let path = reader.optional(name, help);
    if let Some(path) = path.as_deref()
        && let Err(error) = std::fs::metadata(path)
    {
        reader.error(format!("{name}={path:?}: {error}"));
    }
    path
}
