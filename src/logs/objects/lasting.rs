//! As whom the store is asked, whatever says so: also while that does not answer.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::Shared;
use object_store::aws::{AwsCredential, AwsCredentialProvider};
use object_store::{CredentialProvider, Error, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::http::last_cause;
use super::keys::fits_header;

/// How long a credential is waited for, from when it was first asked for, while there is one that may still be good.
const PATIENCE: Duration = Duration::from_millis(500);

/// A credential, or why there is none, for all who wait for it.
type Answer = Result<Arc<AwsCredential>, Arc<Error>>;

/// Gives the last credential while the next one cannot be had: the store says if it has expired. Most are renewed minutes before that.
#[derive(Debug)]
pub(super) struct Lasting {
    source: AwsCredentialProvider,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    last: Option<Arc<AwsCredential>>,
    /// The present question, if there is one.
    question: Option<Question>,
}

#[derive(Debug, Clone)]
struct Question {
    asked: Instant,
    answer: Shared<oneshot::Receiver<Answer>>,
}

/// There is no credential.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

impl Lasting {
    pub(super) fn new(source: AwsCredentialProvider) -> Self {
        Self { source, known: Arc::default() }
    }

    /// The last credential, and the present question or a new one.
    fn ask(&self) -> (Option<Arc<AwsCredential>>, Question) {
        let mut known = lock(&self.known);
        let question = known.question.get_or_insert_with(|| {
            let (tell, told) = oneshot::channel();
            tokio::spawn(answer(Arc::clone(&self.source), Arc::clone(&self.known), tell));
            Question { asked: Instant::now(), answer: told.shared() }
        });
        let question = question.clone();
        (known.last.clone(), question)
    }
}

#[async_trait]
impl CredentialProvider for Lasting {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let (last, Question { asked, answer }) = self.ask();
        let next = async { answer.await.unwrap_or_else(|_| Err(Arc::new(unusable("the worker is ending")))) };
        let Some(last) = last else {
            return next.await.map_err(|error| Error::Generic { store: "S3", source: Box::new(error) });
        };
        match timeout_at(asked + PATIENCE, next).await {
            Ok(Ok(next)) => return Ok(next),
            Ok(Err(error)) => tracing::debug!(%error, "a store of logs is asked as before"),
            Err(_) => {
                tracing::debug!("a store of logs is asked as before: there is no answer yet as whom it is to be asked")
            }
        }
        Ok(last)
    }
}

/// Asks, also when nobody waits for the answer any more: it is known to those who ask later, and none of them is given an old one.
async fn answer(source: AwsCredentialProvider, known: Arc<Mutex<Known>>, tell: oneshot::Sender<Answer>) {
    let answer = next(&source).await.map_err(Arc::new);
    {
        let mut known = lock(&known);
        known.question = None;
        if let Ok(next) = &answer {
            known.last = Some(Arc::clone(next));
        }
    }
    // Whoever asked may be gone.
    let _ = tell.send(answer);
}

/// The next credential, if it can be sent.
async fn next(source: &AwsCredentialProvider) -> Result<Arc<AwsCredential>> {
    // The clients of those who give credentials panic as well.
    let given = AssertUnwindSafe(source.get_credential()).catch_unwind().await;
    let next = given.map_err(|_| {
        unusable(
            "no access key was to be had: what gives it has answered, or the file of the token that it is shown holds, what no request \
             may have, such as a line end",
        )
    })?;
    let next = next.map_err(|error| {
        // Whoever gives it is not the store, whatever it answers.
        let said = last_cause(&error);
        unusable(&format!(
            "no access key was to be had: {said}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine, the pod or the \
             service account a role"
        ))
    })?;
    let sent = [Some(next.key_id.as_str()), next.token.as_deref()];
    if !sent.into_iter().flatten().all(fits_header) {
        return Err(unusable("the access key that was given holds a character that no request may have"));
    }
    Ok(next)
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unusable(what: &str) -> Error {
    Error::Generic { store: "S3", source: Box::new(Unusable(what.to_owned())) }
}
