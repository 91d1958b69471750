//! The secrets that must not be in a log.

use std::sync::{Mutex, PoisonError};

use ticket_activities::WorkerSecrets;
use zeroize::Zeroizing;

use crate::config::{Secret, SecretSource};

/// Shortest part of a list that is taken for a secret of its own.
const SHORTEST_PART: usize = 8;

/// What settings, their files and Vault hold.
#[derive(Debug)]
pub struct HeldSecrets {
    sources: Vec<SecretSource>,
    /// As each was read last: a file that is gone for a moment holds the worker's secret all the same.
    last: Mutex<Vec<Option<Secret>>>,
}

impl HeldSecrets {
    /// Of these places. Reads them once.
    #[must_use]
    pub fn new(sources: Vec<SecretSource>) -> Self {
        let last = sources.iter().map(|source| source.read().ok()).collect();
        Self { sources, last: Mutex::new(last) }
    }

    /// The secrets as they are now, or were last. One that could never be read is not held.
    fn held(&self) -> Vec<Secret> {
        let now: Vec<_> = self.sources.iter().map(SecretSource::read).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (last, now) in last.iter_mut().zip(now) {
            match now {
                Ok(secret) => *last = Some(secret),
                Err(error) if last.is_some() => {
                    tracing::warn!(error, "a secret is looked for in logs as it was last read");
                }
                Err(_) => {}
            }
        }
        last.iter().flatten().cloned().collect()
    }
}

impl WorkerSecrets for HeldSecrets {
    fn texts(&self) -> Vec<Zeroizing<String>> {
        let mut texts = Vec::new();
        for secret in self.held() {
            let text = secret.expose();
            texts.push(Zeroizing::new(text.to_owned()));
            // Tokens and headers are lists of `name=secret`.
            let parts = text.split([',', '\n']).filter_map(|part| Some(part.split_once('=')?.1.trim()));
            texts.extend(parts.filter(|part| part.len() >= SHORTEST_PART).map(|part| Zeroizing::new(part.to_owned())));
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, MapSource};

    #[test]
    fn every_secret_of_the_settings_is_known_and_so_is_each_token_of_a_list() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "of-a-file\n").expect("written");
        let path = file.path().to_str().expect("text");
        let config = Config::read(&MapSource::from([
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_USERNAME", "worker"),
            ("KAFKA_SASL_PASSWORD_FILE", path),
            ("TEMPORAL_API_KEY", "temporal-key"),
            ("HTTP_API_TOKEN", "ops=ops-token-of-24-characters,ci=ci-token-of-24-characters"),
            ("KAFKA_SCHEMA_REGISTRY_URL", "https://user:of-a-url@registry"),
        ]))
        .expect("settings");
        let texts = HeldSecrets::new(config.secrets).texts();
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
        for secret in
            ["of-a-file", "temporal-key", "ops-token-of-24-characters", "ci-token-of-24-characters", "of-a-url"]
        {
            assert!(texts.contains(&secret), "{secret}: {texts:?}");
        }
        assert!(!texts.contains(&"worker"), "a user's name is in too many words: {texts:?}");
    }

    #[test]
    fn a_secret_whose_file_is_gone_is_still_looked_for() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "of-a-file").expect("written");
        let settings = [("TEMPORAL_API_KEY_FILE", path.to_str().expect("text"))];
        let held = HeldSecrets::new(Config::read(&MapSource::from(settings)).expect("settings").secrets);
        for written in [Some("written-anew"), None, Some("and-again")] {
            match written {
                Some(text) => std::fs::write(&path, text).expect("written"),
                None => std::fs::remove_file(&path).expect("removed"),
            }
            let expected = written.unwrap_or("written-anew");
            assert!(held.texts().iter().any(|text| text.as_str() == expected), "{written:?}");
        }
    }

    #[test]
    fn keys_and_tokens_that_settings_name_as_files_are_secrets() {
        let folder = tempfile::tempdir().expect("folder");
        let path = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("secret of {name}")).expect("written");
            path.to_str().expect("text").to_owned()
        };
        let (key, certificate, token) = (path("kafka.key"), path("kafka.crt"), path("kafka.jwt"));
        let (mtls_key, mtls_certificate) = (path("mtls.key"), path("mtls.crt"));
        let pair = rcgen::KeyPair::generate().expect("a key");
        let shown = rcgen::CertificateParams::new(["worker".to_owned()]).expect("a name").self_signed(&pair);
        let (outgoing_key, outgoing_certificate) = (path("outgoing.key"), path("outgoing.crt"));
        std::fs::write(&outgoing_key, pair.serialize_pem()).expect("written");
        std::fs::write(&outgoing_certificate, shown.expect("a certificate").pem()).expect("written");
        crate::net::install_crypto();
        let config = Config::read(&MapSource::from([
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "OAUTHBEARER"),
            ("KAFKA_SASL_OAUTHBEARER_TOKEN_FILE", token.as_str()),
            ("KAFKA_SSL_KEY_LOCATION", &key),
            ("KAFKA_SSL_CERTIFICATE_LOCATION", &certificate),
            ("SERVICE_REGISTRY_HOST", "registry"),
            ("ENABLE_MTLS", "true"),
            ("MTLS_KEY_PATH", &mtls_key),
            ("MTLS_CERT_PATH", &mtls_certificate),
            ("OUTGOING_CLIENT_KEY_PATH", &outgoing_key),
            ("OUTGOING_CLIENT_CERT_PATH", &outgoing_certificate),
        ]))
        .expect("settings");
        let texts = HeldSecrets::new(config.secrets).texts();
        let held = |text: &str| texts.iter().any(|held| held.contains(text));
        for secret in ["secret of kafka.key", "secret of kafka.jwt", "secret of mtls.key", "PRIVATE KEY"] {
            assert!(held(secret), "{secret}");
        }
        assert!(!held("secret of kafka.crt") && !held("BEGIN CERTIFICATE"), "a certificate is no secret");
    }
}
