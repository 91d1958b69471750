//! SPIFFE without an agent to install: trust domains that issue SVIDs, and a Workload API as the public standard says on a
//! unix socket, whose answers a test decides.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{Stream, StreamExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use platform_proto::workload_api::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
use platform_proto::workload_api::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, X509svid, X509svidRequest,
    X509svidResponse,
};
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// An authority for the ids of one trust domain.
pub(crate) struct TrustDomain {
    name: String,
    authority: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    tokens: EcdsaKeyPair,
    key_id: String,
}

/// An X.509-SVID with its key.
#[derive(Clone)]
pub(crate) struct Svid {
    pub(crate) id: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Svid {
    /// As rustls wants it.
    pub(crate) fn chain(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone().into()))
    }
}

/// Seconds since 1970, and then some; before now when `later` is negative.
pub(crate) fn epoch(later: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("soon enough") + later
}

impl TrustDomain {
    /// A new one. Two of one name trust each other's SVIDs no more than those of strangers.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{name}"))];
        let authority = params.self_signed(&key).expect("signed").der().clone();
        let random = SystemRandom::new();
        let token_key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("key");
        let tokens =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, token_key.as_ref(), &random).expect("key");
        let key_id = format!("key-{:x}", fastrand::u64(..));
        Self { name: name.to_owned(), authority, issuer: Issuer::new(params, key), tokens, key_id }
    }

    /// An id of it.
    pub(crate) fn id(&self, path: &str) -> String {
        format!("spiffe://{}{path}", self.name)
    }

    /// An X.509-SVID that expires after so many seconds, or has expired before so many.
    pub(crate) fn issue(&self, id: &str, lifetime: i64) -> Svid {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        let at = |seconds: i64| {
            let since = Duration::from_secs(u64::try_from(epoch(seconds)).expect("after 1970"));
            rcgen::date_time_ymd(1970, 1, 1) + since
        };
        params.not_before = at(-3600);
        params.not_after = at(lifetime);
        params.subject_alt_names = vec![uri(id)];
        // SPIRE writes it out, and the crate asks for it.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        let certificate = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        Svid { id: id.to_owned(), certificate, key: key.serialize_der() }
    }

    /// The authority's certificate.
    pub(crate) fn authority(&self) -> CertificateDer<'static> {
        self.authority.clone()
    }

    /// Its keys for JWT-SVIDs, as a JWK set.
    pub(crate) fn key_set(&self) -> Vec<u8> {
        let point = self.tokens.public_key().as_ref();
        // 4, then both coordinates.
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
        let key = json!({ "kty": "EC", "crv": "P-256", "use": "jwt-svid", "kid": self.key_id, "x": x, "y": y });
        json!({ "keys": [key] }).to_string().into_bytes()
    }

    /// A JWT-SVID that expires after so many seconds.
    pub(crate) fn token(&self, id: &str, audience: &[String], lifetime: i64) -> String {
        let header = json!({ "alg": "ES256", "kid": self.key_id, "typ": "JWT" });
        self.sign(&header, &json!({ "sub": id, "aud": audience, "exp": epoch(lifetime), "iat": epoch(0) }))
    }

    /// Any header and claims, signed.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.tokens.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The id of the key that it signs tokens with.
    pub(crate) fn key_id(&self) -> &str {
        &self.key_id
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).expect("ASCII"))
}

/// What the agent delivers; `None`: it denies that the caller is anybody.
type Delivery = Option<(X509svidResponse, JwtBundlesResponse)>;

/// An agent of a trust domain. Clones are one.
#[derive(Clone)]
pub(crate) struct Agent {
    domain: Arc<TrustDomain>,
    id: String,
    delivery: Arc<watch::Sender<Delivery>>,
    token_lifetime: Arc<AtomicU64>,
    tokens: Arc<AtomicU32>,
}

/// An agent that serves; it stops when this is dropped, and its connections break.
pub(crate) struct Serving {
    stop: CancellationToken,
    socket: std::path::PathBuf,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Agent {
    /// An agent for one workload, with an SVID for an hour.
    pub(crate) fn new(domain: &Arc<TrustDomain>, id: &str) -> Self {
        let agent = Self {
            domain: Arc::clone(domain),
            id: id.to_owned(),
            delivery: Arc::new(watch::Sender::new(None)),
            token_lifetime: Arc::new(AtomicU64::new(300)),
            tokens: Arc::default(),
        };
        agent.rotate(3600);
        agent
    }

    /// Delivers a new SVID of so many seconds.
    pub(crate) fn rotate(&self, lifetime: i64) {
        self.deliver(&self.domain.issue(&self.id, lifetime), &self.domain);
    }

    /// Delivers this SVID, and the bundles of this authority for the agent's trust domain.
    pub(crate) fn deliver(&self, svid: &Svid, believed: &TrustDomain) {
        let one = X509svid {
            spiffe_id: svid.id.clone(),
            x509_svid: svid.certificate.to_vec(),
            x509_svid_key: svid.key.clone(),
            bundle: believed.authority.to_vec(),
            hint: String::new(),
        };
        let x509 = X509svidResponse { svids: vec![one], ..X509svidResponse::default() };
        let bundles = HashMap::from([(self.domain.id(""), believed.key_set())]);
        self.delivery.send_replace(Some((x509, JwtBundlesResponse { bundles })));
    }

    /// Denies that the workload is anybody.
    pub(crate) fn deny(&self) {
        self.delivery.send_replace(None);
    }

    /// How long JWT-SVIDs live from now on, in seconds.
    pub(crate) fn set_token_lifetime(&self, seconds: u64) {
        self.token_lifetime.store(seconds, Ordering::Relaxed);
    }

    /// How many JWT-SVIDs it has issued.
    pub(crate) fn tokens(&self) -> u32 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Serves on a socket that is not there yet.
    pub(crate) fn serve(&self, socket: &Path) -> Serving {
        let listener = UnixListener::bind(socket).expect("a socket");
        let (agent, stop) = (self.clone(), CancellationToken::new());
        let serving = Serving { stop: stop.clone(), socket: socket.to_owned() };
        tokio::spawn(async move {
            while let Some(Ok((connection, _))) = stop.run_until_cancelled(listener.accept()).await {
                let service = TowerToHyperService::new(SpiffeWorkloadApiServer::new(agent.clone()));
                let stop = stop.clone();
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new()).http2_only();
                    let serving = builder.serve_connection(TokioIo::new(connection), service);
                    // The other side may go at any time.
                    let _ = stop.run_until_cancelled(serving).await;
                });
            }
        });
        serving
    }

    /// A part of each delivery, from the present one on.
    fn stream<T: 'static>(
        &self,
        part: impl Fn((X509svidResponse, JwtBundlesResponse)) -> T + Send + 'static,
    ) -> Deliveries<T> {
        let mut deliveries = self.delivery.subscribe();
        deliveries.mark_changed();
        Box::pin(
            futures::stream::unfold(deliveries, async |mut deliveries| {
                deliveries.changed().await.ok()?;
                let delivery = deliveries.borrow_and_update().clone();
                Some((delivery, deliveries))
            })
            .map(move |delivery| delivery.map(&part).ok_or_else(|| Status::permission_denied("no identity issued"))),
        )
    }
}

/// The standard has a server refuse who does not say this: no browser can be made to.
fn secured<T>(request: &Request<T>) -> Result<(), Status> {
    match request.metadata().get("workload.spiffe.io") {
        Some(value) if value == "true" => Ok(()),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

type Deliveries<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Agent {
    type FetchX509SVIDStream = Deliveries<X509svidResponse>;
    type FetchJWTBundlesStream = Deliveries<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        secured(&request)?;
        Ok(Response::new(self.stream(|(x509, _)| x509)))
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        secured(&request)?;
        let asked = request.into_inner();
        if asked.audience.is_empty() {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        if self.delivery.borrow().is_none() {
            return Err(Status::permission_denied("no identity issued"));
        }
        let lifetime = i64::try_from(self.token_lifetime.load(Ordering::Relaxed)).expect("soon enough");
        self.tokens.fetch_add(1, Ordering::Relaxed);
        let svid = self.domain.token(&self.id, &asked.audience, lifetime);
        let one = Jwtsvid { spiffe_id: self.id.clone(), svid, hint: String::new() };
        Ok(Response::new(JwtsvidResponse { svids: vec![one] }))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        secured(&request)?;
        Ok(Response::new(self.stream(|(_, bundles)| bundles)))
    }
}
