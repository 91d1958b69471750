//! A bucket, and what is asked of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, PutOptions, PutPayload, RetryConfig};

use super::http::{Busy, Http, last_cause};
use super::keys::Keys;
use super::lasting::Lasting;
use crate::config::{S3Config, S3Keys, S3Login};
use crate::dead_letters::shown;
use crate::logs::folder::run_name;

/// Between two writes of one name: stores that count them allow one a second (R2, Google's).
pub(super) const PACE: Duration = Duration::from_secs(1);
/// Before what had no answer is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest text of an error that is told.
const TOLD_CHARS: usize = 400;

/// A bucket with the logs of tickets. Clones share the client.
#[derive(Clone)]
pub(super) struct Store {
    objects: Arc<dyn ObjectStore>,
    bucket: String,
    prefix: Path,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.root()).finish()
    }
}

impl Store {
    /// The one of these settings. Asks for credentials and connects with the first call.
    ///
    /// # Errors
    /// When its client cannot be built.
    pub(super) fn of(config: &S3Config) -> anyhow::Result<Self> {
        let client =
            client(config).with_context(|| format!("the client of bucket {} cannot be made", config.bucket))?;
        Ok(Self::new(client, &config.bucket, &config.prefix))
    }

    pub(super) fn new(objects: Arc<dyn ObjectStore>, bucket: &str, prefix: &str) -> Self {
        Self { objects, bucket: bucket.to_owned(), prefix: Path::from(prefix) }
    }

    /// The folder of all logs.
    pub(super) fn root(&self) -> String {
        self.address(&self.prefix)
    }

    /// What people ask the store for.
    pub(super) fn address(&self, folder: &Path) -> String {
        let path = folder.as_ref();
        let end = if path.is_empty() { "" } else { "/" };
        format!("s3://{}/{path}{end}", self.bucket)
    }

    /// What is no log of a ticket.
    pub(super) fn beside_logs(&self, name: String) -> Path {
        child(&self.prefix, name)
    }

    /// The folder of one ticket. An id may be `..`, so it is never a name by itself.
    pub(super) fn ticket(&self, ticket_id: &str) -> Path {
        child(&self.prefix, format!("ticket-{ticket_id}"))
    }

    /// The folder of one attempt.
    pub(super) fn attempt(&self, ticket_id: &str, run_id: &str, attempt: u32) -> Path {
        child(&self.ticket(ticket_id), format!("{}.{attempt}", run_name(run_id)))
    }

    /// Writes an object. Whoever gets no answer does not know whether it is there, or will be.
    pub(super) async fn put(&self, key: &Path, payload: impl Into<PutPayload>) -> object_store::Result<()> {
        self.objects.put_opts(key, payload.into(), PutOptions::default()).await.map(|_| ())
    }

    /// An object's bytes from this one on; there must be one.
    pub(super) async fn get(&self, key: &Path, from: u64) -> object_store::Result<Vec<u8>> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        twice(|| async {
            let options = GetOptions { range: range.clone(), ..GetOptions::default() };
            let pieces = self.objects.get_opts(key, options).await?.into_stream();
            pieces
                .try_fold(Vec::new(), |mut bytes, piece| async move {
                    bytes.extend_from_slice(&piece);
                    Ok(bytes)
                })
                .await
        })
        .await
    }

    /// All objects below a folder.
    pub(super) async fn objects(&self, folder: &Path) -> object_store::Result<Vec<ObjectMeta>> {
        twice(|| self.objects.list(Some(folder)).try_collect()).await
    }

    /// The objects below a folder whose keys come after this one, in the order of their keys.
    pub(super) fn objects_after(
        &self,
        folder: &Path,
        key: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list_with_offset(Some(folder), key)
    }

    /// The names of the folders in one.
    pub(super) async fn folders(&self, folder: &Path) -> object_store::Result<Vec<String>> {
        let listed = twice(|| self.objects.list_with_delimiter(Some(folder))).await?;
        Ok(listed.common_prefixes.iter().filter_map(Path::filename).map(str::to_owned).collect())
    }
}

/// What can be asked again harmlessly is, once, when it had no answer.
pub(super) async fn twice<T, F>(ask: impl Fn() -> F) -> object_store::Result<T>
where
    F: Future<Output = object_store::Result<T>>,
{
    match ask().await {
        Err(error) if !is_refusal(&error) => {
            tracing::debug!(%error, "a store of logs is asked again");
            tokio::time::sleep(pause(&error)).await;
            ask().await
        }
        answer => answer,
    }
}

/// How long to wait before what has failed so is asked again.
pub(super) fn pause(error: &Error) -> Duration {
    if Busy::is_cause_of(error) { PACE } else { PAUSE }
}

/// Whether to ask again would be in vain.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. } | Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
}

/// A folder or an object in a folder. What keys must not have is escaped.
pub(super) fn child(folder: &Path, name: String) -> Path {
    let mut path = folder.clone();
    path.extend([name]);
    path
}

/// What a store said, and what to do. What its client says around that are the address and the key, which leave no room for it.
pub(super) fn told(error: &Error) -> String {
    format!(
        "{}; check EXECUTION_LOG_SINK, AWS_REGION, AWS_ENDPOINT_URL_S3, as whom the store is asked, and that it may list the bucket, \
         read and write there",
        shown(&last_cause(error), TOLD_CHARS)
    )
}

fn client(config: &S3Config) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        // Whoever asks knows what may be asked again, and under which name.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_allow_http(true)
        .with_http_connector(Http::new(&config.peer)?);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder = match &config.login {
        S3Login::Keys(keys) => builder.with_credentials(Arc::new(Keys::new(S3Keys::clone(keys))?)),
        S3Login::WebIdentity { token_file, role } => builder
            .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file)
            .with_config(AmazonS3ConfigKey::RoleArn, role)
            .with_config(AmazonS3ConfigKey::RoleSessionName, env!("CARGO_PKG_NAME")),
        S3Login::PodAgent { url, token_file } => builder
            .with_config(AmazonS3ConfigKey::ContainerCredentialsFullUri, url)
            .with_config(AmazonS3ConfigKey::ContainerAuthorizationTokenFile, token_file),
        S3Login::ContainerAgent(path) => builder.with_config(AmazonS3ConfigKey::ContainerCredentialsRelativeUri, path),
        S3Login::Machine => builder,
    };
    let source = Arc::clone(builder.clone().build()?.credentials());
    Ok(Arc::new(builder.with_credentials(Arc::new(Lasting::new(source))).build()?))
}
