//! The access key of the settings, read each time that a request is signed: files and Vault may hold another one by now.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use crate::config::{S3Keys, Secret, SecretSource};

/// Gives the store's client the access key.
pub(super) struct Keys(pub(super) S3Keys);

/// The key cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(String);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

#[async_trait]
impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let S3Keys { id, secret, session } = &self.0;
        let token = session.as_ref().map(read).transpose()?;
        let [key_id, secret_key] = [read(id)?, read(secret)?].map(|text| text.expose().to_owned());
        Ok(Arc::new(AwsCredential { key_id, secret_key, token: token.map(|text| text.expose().to_owned()) }))
    }
}

fn read(source: &SecretSource) -> object_store::Result<Secret> {
    source.read().map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(Unreadable(error)) })
}
