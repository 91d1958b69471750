//! The secrets that must not be in a log.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ticket_activities::WorkerSecrets;
use zeroize::Zeroizing;

use super::disk::Disk;
use crate::config::{Secret, SecretSource};

/// Shortest part of a list that is taken for a secret of its own.
const SHORTEST_PART: usize = 8;

/// How long the files of secrets may take to answer: commands and the end of external work wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What settings, their files and Vault hold.
#[derive(Debug)]
pub struct HeldSecrets {
    known: Arc<Known>,
    disk: Disk,
}

#[derive(Debug)]
struct Known {
    sources: Vec<SecretSource>,
    /// As each was read last: a file that is gone for a moment holds the worker's secret all the same.
    last: Mutex<Vec<Option<Secret>>>,
}

impl HeldSecrets {
    /// Of these places. Reads them once.
    ///
    /// # Errors
    /// When the thread that reads them cannot be started.
    pub fn new(sources: Vec<SecretSource>) -> io::Result<Self> {
        let last = sources.iter().map(|source| source.read().ok()).collect();
        Ok(Self { known: Arc::new(Known { sources, last: Mutex::new(last) }), disk: Disk::new(PATIENCE)? })
    }
}

impl Known {
    /// Reads the secrets as they are now. One that cannot be read stays as it was last.
    fn read(&self) {
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
    }

    /// As they were last read. One that could never be read is not held.
    fn texts(&self) -> Vec<Zeroizing<String>> {
        let held: Vec<Secret> =
            self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect();
        let mut texts = Vec::new();
        for secret in held {
            let text = secret.expose();
            texts.push(Zeroizing::new(text.to_owned()));
            // Tokens and headers are lists of `name=secret`.
            let parts = text.split([',', '\n']).filter_map(|part| Some(part.split_once('=')?.1.trim()));
            texts.extend(parts.filter(|part| part.len() >= SHORTEST_PART).map(|part| Zeroizing::new(part.to_owned())));
        }
        texts
    }
}

impl WorkerSecrets for HeldSecrets {
    fn texts(&self) -> BoxFuture<'_, Vec<Zeroizing<String>>> {
        Box::pin(async {
            let known = Arc::clone(&self.known);
            let read = move || {
                known.read();
                Ok(())
            };
            if let Err(error) = self.disk.try_call(read).await {
                tracing::warn!(%error, "secrets are looked for in logs as they were last read");
            }
            self.known.texts()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, MapSource};

    async fn texts(config: Config) -> Vec<Zeroizing<String>> {
        HeldSecrets::new(config.secrets).expect("a thread").texts().await
    }

    #[tokio::test]
    async fn every_secret_of_the_settings_is_known_and_so_is_each_token_of_a_list() {
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
        let texts = texts(config).await;
        let texts: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
        for secret in
            ["of-a-file", "temporal-key", "ops-token-of-24-characters", "ci-token-of-24-characters", "of-a-url"]
        {
            assert!(texts.contains(&secret), "{secret}: {texts:?}");
        }
        assert!(!texts.contains(&"worker"), "a user's name is in too many words: {texts:?}");
    }

    #[tokio::test]
    async fn a_secret_whose_file_is_gone_is_still_looked_for() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "of-a-file").expect("written");
        let settings = [("TEMPORAL_API_KEY_FILE", path.to_str().expect("text"))];
        let held = HeldSecrets::new(Config::read(&MapSource::from(settings)).expect("settings").secrets);
        let held = held.expect("a thread");
        for written in [Some("written-anew"), None, Some("and-again")] {
            match written {
                Some(text) => std::fs::write(&path, text).expect("written"),
                None => std::fs::remove_file(&path).expect("removed"),
            }
            let expected = written.unwrap_or("written-anew");
            assert!(held.texts().await.iter().any(|text| text.as_str() == expected), "{written:?}");
        }
        // A file system that does not answer: a pipe that nobody writes to.
        std::fs::remove_file(&path).expect("removed");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let began = std::time::Instant::now();
        for _ in 0..10 {
            assert!(held.texts().await.iter().any(|text| text.as_str() == "and-again"));
        }
        assert!(began.elapsed() < 3 * PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn keys_and_tokens_that_settings_name_as_files_are_secrets() {
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
        let texts = texts(config).await;
        let held = |text: &str| texts.iter().any(|held| held.contains(text));
        for secret in ["secret of kafka.key", "secret of kafka.jwt", "secret of mtls.key", "PRIVATE KEY"] {
            assert!(held(secret), "{secret}");
        }
        assert!(!held("secret of kafka.crt") && !held("BEGIN CERTIFICATE"), "a certificate is no secret");
    }
}
