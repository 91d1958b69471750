//! What clients log in with, as the settings and their files say at one moment.

use std::path::Path;

use rdkafka::ClientConfig;
use sha2::{Digest as _, Sha256};

use crate::config::{KafkaSecurity, Sasl, Secret, SecretSource};

/// Credentials as they were read. Equal ones let clients in alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    sasl: Option<SaslLogin>,
    /// Files that librdkafka reads itself: its key, path, digest of the content.
    files: Vec<(&'static str, String, Option<[u8; 32]>)>,
    key_password: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum SaslLogin {
    Password { mechanism: &'static str, username: Secret, password: Secret },
    Token,
}

impl Login {
    /// Reads everything now.
    ///
    /// # Errors
    /// When a file cannot be read or is empty, or Vault has given nothing. The sentence names the setting, never content.
    pub(crate) fn read(security: &KafkaSecurity) -> Result<Self, String> {
        let sasl = match &security.sasl {
            None => None,
            Some(Sasl::Token(_)) => Some(SaslLogin::Token),
            Some(Sasl::Password { mechanism, username, password }) => {
                Some(SaslLogin::Password { mechanism, username: username.read()?, password: password.read()? })
            }
        };
        let mut files = Vec::new();
        if security.encrypts() {
            for (key, name, path) in [
                ("ssl.ca.location", "KAFKA_SSL_CA_LOCATION", &security.ca),
                ("ssl.certificate.location", "KAFKA_SSL_CERTIFICATE_LOCATION", &security.certificate),
                ("ssl.key.location", "KAFKA_SSL_KEY_LOCATION", &security.key),
            ] {
                if let Some(path) = path {
                    files.push((key, path.clone(), digest(path).map_err(|error| format!("{name}: {path}: {error}"))?));
                }
            }
        }
        let key_password = security.key_password.as_ref().filter(|_| security.encrypts());
        let key_password = key_password.map(SecretSource::read).transpose()?;
        Ok(Self { sasl, files, key_password })
    }

    /// Adds it to a client's configuration.
    pub(crate) fn apply(&self, client: &mut ClientConfig) {
        match &self.sasl {
            Some(SaslLogin::Password { mechanism, username, password }) => {
                client
                    .set("sasl.mechanisms", *mechanism)
                    .set("sasl.username", username.expose())
                    .set("sasl.password", password.expose());
            }
            Some(SaslLogin::Token) => {
                client.set("sasl.mechanisms", "OAUTHBEARER");
            }
            None => {}
        }
        for (key, path, _) in &self.files {
            client.set(*key, path);
        }
        if let Some(password) = &self.key_password {
            client.set("ssl.key.password", password.expose());
        }
    }
}

/// Digest of a file's content; none for a folder of authorities, which is taken as it is.
fn digest(path: &str) -> std::io::Result<Option<[u8; 32]>> {
    if Path::new(path).is_dir() {
        return Ok(None);
    }
    Ok(Some(Sha256::digest(std::fs::read(path)?).into()))
}
