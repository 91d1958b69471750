//! The access key of the settings, read each time that a request is signed: files and Vault may hold another one by now.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error};

use crate::config::{S3Keys, SecretSource};
use crate::logs::disk::Disk;

/// How long the files of a key may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Gives the store's client the access key.
pub(super) struct Keys {
    keys: Arc<S3Keys>,
    disk: Disk,
}

impl Keys {
    /// # Errors
    /// When the thread that reads them cannot be started.
    pub(super) fn new(keys: S3Keys) -> io::Result<Self> {
        Ok(Self { keys: Arc::new(keys), disk: Disk::new(PATIENCE)? })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(hidden)")
    }
}

#[async_trait]
impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let keys = Arc::clone(&self.keys);
        let read = self.disk.try_call(move || read(&keys).map_err(io::Error::other)).await;
        read.map(Arc::new).map_err(|error| Error::Generic { store: "S3", source: Box::new(error) })
    }
}

fn read(keys: &S3Keys) -> Result<AwsCredential, String> {
    let key_id = in_header(&keys.id)?;
    let token = keys.session.as_ref().map(in_header).transpose()?;
    Ok(AwsCredential { key_id, secret_key: keys.secret.read()?.expose().to_owned(), token })
}

/// What becomes a part of a header.
fn in_header(source: &SecretSource) -> Result<String, String> {
    let text = source.read()?;
    if !fits_header(text.expose()) {
        return Err(format!("{}: expected printable ASCII without spaces", source.setting()));
    }
    Ok(text.expose().to_owned())
}

/// Whether a credential can be sent: the store's client panics at what no header may have.
pub(super) fn fits_header(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
