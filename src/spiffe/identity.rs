//! Follows the Workload API's streams, and gives out what they have delivered.

use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use spiffe::{JwtSource, JwtSvid, SpiffeId, X509BundleSet};
use ticket_activities::now_ms;
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

use super::certificate::expires_at;
use super::error::IdentityError;
use super::jwt;
use super::recorder::{Recorder, Trouble};
use super::tokens::Tokens;
use super::x509::X509;
use crate::config::SpiffeConfig;
use crate::events::{SvidReceived, SvidWithdrawn, WorkloadApiRefused};
use crate::metrics::Metrics;

/// Before a Workload API is asked again that has refused a question itself. One that is away is asked again by the
/// sources, after 0.2 s up to 10 s.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// Most that chance takes off a pause, as a part of it: workers must not ask in step.
const JITTER: f64 = 0.3;
/// How long those wait who can do without: an agent that is there takes milliseconds.
pub(crate) const SETTLING: Duration = Duration::from_secs(5);
/// Between two looks at how long SVIDs still live.
const LOOK: Duration = Duration::from_secs(5);

/// This worker's identity, and whom it believes.
pub struct WorkloadIdentity {
    settings: SpiffeConfig,
    metrics: Arc<Metrics>,
    trouble: Arc<Trouble>,
    x509: SetOnce<X509>,
    jwt: SetOnce<JwtSource>,
    tokens: Tokens,
}

impl std::fmt::Debug for WorkloadIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadIdentity").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How the identity stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whom the Workload API says that this worker is; `None`: no X.509-SVID counts now.
    pub spiffe_id: Option<SpiffeId>,
    /// Seconds until that expires.
    pub expires_in: Option<i64>,
    /// Why there is no X.509-SVID, or no bundle to check JWT-SVIDs with.
    pub missing: Option<String>,
    /// Whether calls to the Workload API fail now.
    pub away: bool,
}

impl WorkloadIdentity {
    /// The identity that the settings ask for; `None`: SPIFFE is off. It is nobody's until it is followed.
    #[must_use]
    pub fn of(config: Option<&SpiffeConfig>, metrics: Arc<Metrics>) -> Option<Arc<Self>> {
        let settings = config?.clone();
        Some(Arc::new(Self {
            settings,
            metrics,
            trouble: Arc::default(),
            x509: SetOnce::new(),
            jwt: SetOnce::new(),
            tokens: Tokens::default(),
        }))
    }

    /// For a command: as [`WorkloadIdentity::of`], followed to the end of the process, once all has been delivered or after
    /// five seconds.
    pub async fn of_command(config: Option<&SpiffeConfig>, metrics: Arc<Metrics>) -> Option<Arc<Self>> {
        let identity = Self::of(config, metrics)?;
        tokio::spawn(Arc::clone(&identity).follow(CancellationToken::new()));
        identity.settled(SETTLING).await;
        Some(identity)
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &SpiffeConfig {
        &self.settings
    }

    /// Follows the Workload API until stopped, whether it is there or not.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let x509 = async {
            if self.settings.x509 {
                self.follow_x509(&stop).await;
            }
        };
        tokio::join!(x509, self.follow_jwt(&stop), self.show_lifetimes(&stop));
    }

    /// Waits until everything has been delivered once, or no longer than this.
    pub async fn settled(&self, patience: Duration) {
        let all = async {
            if self.settings.x509 {
                self.x509.wait().await;
            }
            self.jwt.wait().await;
        };
        // Who asks finds out by itself what is missing.
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let svid = if self.settings.x509 { self.x509().and_then(X509::svid).map(Some) } else { Ok(None) };
        let missing = match &svid {
            Err(error) => Some(error.to_string()),
            Ok(_) => self.jwt().and_then(|source| bundles(source).map(drop)).err().map(|error| error.to_string()),
        };
        let svid = svid.ok().flatten();
        let expires = svid.as_ref().and_then(|svid| expires_at(svid.leaf().as_bytes()));
        Standing {
            spiffe_id: svid.as_ref().map(|svid| svid.spiffe_id().clone()),
            expires_in: expires.map(|at| at - now_ms() / 1000),
            missing,
            away: self.trouble.is_recent(),
        }
    }

    /// TLS for connections to the Service Registry, and the number of the delivery that it rests on: with another number,
    /// connections are to be made anew.
    ///
    /// # Errors
    /// When no X.509-SVID counts now.
    pub(crate) fn registry_tls(&self) -> Result<(Arc<ClientConfig>, u64), IdentityError> {
        let x509 = self.x509()?;
        x509.svid()?;
        Ok((x509.client(), x509.revision()))
    }

    /// TLS for connections of the HTTP API's callers.
    ///
    /// # Errors
    /// When no X.509-SVID counts now.
    pub(crate) fn server_tls(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let x509 = self.x509()?;
        x509.svid()?;
        Ok(x509.server())
    }

    /// A JWT-SVID for this audience.
    ///
    /// # Errors
    /// When there is none that counts, and the Workload API gives none within `patience`.
    pub(crate) async fn token(&self, audience: &str, patience: Duration) -> Result<Arc<JwtSvid>, IdentityError> {
        let source = self.jwt()?;
        // An agent that takes the identity back ends this stream too; a token that was had before is not presented then.
        bundles(source)?;
        self.tokens.token(source, audience, patience, &self.metrics).await
    }

    /// The token for this audience was not believed: the next call asks for another.
    pub(crate) fn forget_token(&self, audience: &str) {
        self.tokens.forget(audience);
    }

    /// Who presents this bearer token, if it is a JWT-SVID for this worker that is to be believed.
    ///
    /// # Errors
    /// When it may be one, and there is no bundle to check it with.
    pub(crate) fn caller(&self, token: &str) -> Result<Option<SpiffeId>, IdentityError> {
        if !jwt::is_jwt(token) {
            return Ok(None);
        }
        let bundles = bundles(self.jwt()?)?;
        // An agent that delivers none for it trusts nobody of it.
        let Some(bundle) = bundles.get(&self.settings.trust_domain) else { return Ok(None) };
        let now = now_ms() as f64 / 1000.0;
        let caller = jwt::verify(token, &bundle, &self.settings.api_audience, now);
        Ok(caller.inspect_err(|error| tracing::debug!(%error, "jwt_svid_refused")).ok())
    }

    fn x509(&self) -> Result<&X509, IdentityError> {
        self.x509.get().ok_or_else(|| self.not_yet("X.509-SVID"))
    }

    fn jwt(&self) -> Result<&JwtSource, IdentityError> {
        self.jwt.get().ok_or_else(|| self.not_yet("JWT bundle"))
    }

    fn not_yet(&self, what: &'static str) -> IdentityError {
        IdentityError::NotYet { what, endpoint: self.settings.endpoint.clone() }
    }

    async fn follow_x509(&self, stop: &CancellationToken) {
        let errors = || self.metrics.spiffe.svid_fetch.with_label_values(&["x509", "error"]);
        let first = self.until_taken("X.509-SVID", || X509::first(&self.settings, self.recorder(errors())));
        let Some(first) = stop.run_until_cancelled(first).await else { return };
        // This is the only one who sets it.
        let _ = self.x509.set(first);
        let Some(x509) = self.x509.get() else { return };
        let mut deliveries = x509.source().updated();
        let mut believed = None;
        loop {
            self.take_in(x509, &mut believed);
            if !matches!(stop.run_until_cancelled(deliveries.changed()).await, Some(Ok(_))) {
                break;
            }
        }
        if let Err(error) = x509.source().shutdown_configured().await {
            tracing::warn!(%error, "the stream of X.509-SVIDs did not end as it should");
        }
    }

    /// Shows a delivery. `believed`: the bundles of the one before.
    fn take_in(&self, x509: &X509, believed: &mut Option<Arc<X509BundleSet>>) {
        match x509.svid() {
            Ok(svid) => {
                let expires = expires_at(svid.leaf().as_bytes()).unwrap_or_default();
                let expires_in = expires - now_ms() / 1000;
                self.metrics.emit(SvidReceived { spiffe_id: svid.spiffe_id(), expires_in });
            }
            Err(error) => self.metrics.emit(SvidWithdrawn { error: &error.to_string() }),
        }
        let bundles = x509.source().state().context().ok().map(|context| Arc::clone(context.bundle_set()));
        if bundles.is_some() && *believed != bundles {
            self.metrics.spiffe.trust_bundle_updates.with_label_values(&["success"]).inc();
        }
        *believed = bundles;
        self.show_lifetime();
    }

    async fn follow_jwt(&self, stop: &CancellationToken) {
        let errors = || self.metrics.spiffe.trust_bundle_updates.with_label_values(&["error"]);
        let first = self.until_taken("JWT bundle", || async {
            let source = JwtSource::builder().endpoint(&self.settings.endpoint);
            Ok(source.metrics(Arc::new(self.recorder(errors()))).build().await?)
        });
        let Some(first) = stop.run_until_cancelled(first).await else { return };
        let _ = self.jwt.set(first);
        let Some(source) = self.jwt.get() else { return };
        let mut deliveries = source.updated();
        loop {
            self.metrics.spiffe.trust_bundle_updates.with_label_values(&["success"]).inc();
            if !matches!(stop.run_until_cancelled(deliveries.changed()).await, Some(Ok(_))) {
                break;
            }
        }
        if let Err(error) = source.shutdown_configured().await {
            tracing::warn!(%error, "the stream of JWT bundles did not end as it should");
        }
    }

    fn recorder(&self, errors: prometheus::IntCounter) -> Recorder {
        Recorder { errors, trouble: Arc::clone(&self.trouble) }
    }

    /// Asks until the question itself is taken.
    async fn until_taken<T, F>(&self, what: &'static str, ask: impl Fn() -> F) -> T
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        loop {
            match ask().await {
                Ok(taken) => return taken,
                Err(error) => self.metrics.emit(WorkloadApiRefused { what, error: &format!("{error:#}") }),
            }
            tokio::time::sleep(REFUSED_PAUSE.mul_f64(1.0 - JITTER * fastrand::f64())).await;
        }
    }

    async fn show_lifetimes(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            self.show_lifetime();
        }
    }

    fn show_lifetime(&self) {
        let x509 = self.x509.get().and_then(|x509| x509.svid().ok());
        let x509_ms = x509.and_then(|svid| expires_at(svid.leaf().as_bytes())).map(|seconds| seconds * 1000);
        for (svid_type, expires_ms) in [("x509", x509_ms), ("jwt", self.tokens.first_expiry_ms())] {
            let left = expires_ms.map_or(0, |at| (at - now_ms()).max(0) / 1000);
            self.metrics.spiffe.svid_ttl.with_label_values(&[svid_type]).set(left);
        }
    }
}

fn bundles(source: &JwtSource) -> Result<Arc<spiffe::JwtBundleSet>, IdentityError> {
    let gone = |error: spiffe::jwt_source::JwtSourceError| IdentityError::Gone {
        what: "JWT bundle",
        reason: crate::net::describe(&error),
    };
    source.state().bundle_set().map_err(gone)
}
