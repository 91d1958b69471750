//! As whom the store is asked, whatever says so: also while that does not answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::{CredentialProvider, Error, Result};
use tokio::task::JoinHandle;

use super::keys::fits_header;

/// How long a credential is waited for, while there is one that may still be good.
const PATIENCE: Duration = Duration::from_millis(500);

/// Gives the last credential while the next one cannot be had: the store says if it has expired. Most are renewed minutes before that.
#[derive(Debug)]
pub(super) struct Lasting {
    source: AwsCredentialProvider,
    /// The present question. It goes on when nobody waits for the answer any more, and there is one at a time.
    asked: tokio::sync::Mutex<Option<JoinHandle<Result<Arc<AwsCredential>>>>>,
    last: Mutex<Option<Arc<AwsCredential>>>,
}

/// There is no credential.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(&'static str);

impl Lasting {
    pub(super) fn new(source: AwsCredentialProvider) -> Self {
        Self { source, asked: tokio::sync::Mutex::default(), last: Mutex::default() }
    }

    async fn next(&self) -> Result<Arc<AwsCredential>> {
        let mut asked = self.asked.lock().await;
        let source = Arc::clone(&self.source);
        let question = asked.get_or_insert_with(|| tokio::spawn(async move { source.get_credential().await }));
        let answer = question.await;
        *asked = None;
        // The clients of those who give credentials panic as well.
        let next = answer.map_err(|_| {
            unusable(
                "no access key was to be had: what gives it has answered, or the file of the token that it is shown holds, what no \
                 request may have, such as a line end",
            )
        })??;
        let sent = [Some(next.key_id.as_str()), next.token.as_deref()];
        if !sent.into_iter().flatten().all(fits_header) {
            return Err(unusable("the access key that was given holds a character that no request may have"));
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&next));
        Ok(next)
    }

    fn last(&self) -> Option<Arc<AwsCredential>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl CredentialProvider for Lasting {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let Some(last) = self.last() else { return self.next().await };
        match tokio::time::timeout(PATIENCE, self.next()).await {
            Ok(Ok(next)) => return Ok(next),
            Ok(Err(error)) => tracing::debug!(%error, "a store of logs is asked as before"),
            Err(_) => {
                tracing::debug!("a store of logs is asked as before: there is no answer yet as whom it is to be asked")
            }
        }
        Ok(last)
    }
}

fn unusable(what: &'static str) -> Error {
    Error::Generic { store: "S3", source: Box::new(Unusable(what)) }
}
