//! What the handlers know, and the orders that they give.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use temporalio_client::Client;
use ticket_workflows::{Order, Verb};

use super::Surface;
use super::access::AllowList;
use super::caller::{Authentication, Caller};
use super::given::Reason;
use super::problem::{Kind, Problem};
use super::rate::Buckets;
use crate::config::{Config, IdentityConfig, TemporalConfig};
use crate::events::ApiOrder;
use crate::explain::{self, Account};
use crate::metrics::Metrics;
use crate::orders::{Answer, SendError, send};
use crate::spiffe::{Standing, WorkloadIdentity};
use crate::vault::Held;

/// How long a ticket may take to answer. The orchestrator waits 10 s for all of it (`contracts/engine.md §6`).
const PATIENCE: Duration = Duration::from_secs(5);
/// How long any answer may take.
const LONGEST: Duration = Duration::from_secs(9);

/// The HTTP API. Clones are one.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    surface: Surface,
    identity: IdentityConfig,
    temporal: TemporalConfig,
    registry_connection: &'static str,
    workload: Option<Arc<WorkloadIdentity>>,
    authentication: Authentication,
    allow: AllowList,
    buckets: Buckets,
    client: OnceLock<Client>,
    vault: Option<Held>,
    since: Instant,
}

impl Api {
    /// The API of a worker of these settings, which are those of `identity`.
    #[must_use]
    pub fn new(config: &Config, surface: Surface, identity: Option<Arc<WorkloadIdentity>>) -> Self {
        let authentication = Authentication::of(&config.http_api, identity.as_ref());
        if config.http_api.authenticated && config.http_api.tokens.is_none() && identity.is_none() {
            tracing::info!(
                "nobody can call /api/v1: HTTP_API_ALLOW lets callers in who have a HTTP_API_TOKEN, or a SPIFFE id with SPIFFE_ENABLED"
            );
        }
        Self(Arc::new(Inner {
            surface,
            identity: config.identity.clone(),
            temporal: config.temporal.clone(),
            registry_connection: config.registry_connection(),
            workload: identity,
            authentication,
            allow: config.http_api.allow.clone(),
            buckets: Buckets::new(config.http_api.rate),
            client: OnceLock::new(),
            vault: config.vault.as_ref().map(|vault| vault.held.clone()),
            since: Instant::now(),
        }))
    }

    /// Temporal is there: tickets can be asked about. The first call counts.
    pub fn connected(&self, client: Client) {
        let _ = self.0.client.set(client);
    }

    pub(super) fn surface(&self) -> &Surface {
        &self.0.surface
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.surface.metrics
    }

    pub(super) fn identity(&self) -> &IdentityConfig {
        &self.0.identity
    }

    /// How the Service Registry is called, in words.
    pub(super) fn registry_connection(&self) -> &'static str {
        self.0.registry_connection
    }

    /// How the SPIFFE identity stands; `None`: there is none.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.0.workload.as_ref().map(|identity| identity.standing())
    }

    pub(super) fn authentication(&self) -> &Authentication {
        &self.0.authentication
    }

    pub(super) fn allow(&self) -> &AllowList {
        &self.0.allow
    }

    pub(super) fn buckets(&self) -> &Buckets {
        &self.0.buckets
    }

    pub(super) fn is_registered(&self) -> bool {
        self.0.surface.metrics.agent_registrations.get() > 0
    }

    /// What Vault has given; `None`: secrets do not come from it.
    pub(super) fn vault(&self) -> Option<&Held> {
        self.0.vault.as_ref()
    }

    pub(super) fn uptime(&self) -> Duration {
        self.0.since.elapsed()
    }

    /// How the ticket stands.
    pub(super) async fn account(&self, ticket_id: &str) -> Result<Account, Problem> {
        let client = self.client(ticket_id)?;
        let explained = async {
            match explain::explain(client, &self.0.temporal, ticket_id, PATIENCE).await? {
                Some(account) => Ok(Ok(account)),
                None => explain::unknown(client, ticket_id).await.map(Err),
            }
        };
        match tokio::time::timeout(LONGEST, explained).await {
            Ok(Ok(Ok(account))) => Ok(account),
            Ok(Ok(Err(unknown))) => Err(Problem::new(Kind::UnknownTicket, unknown).of(ticket_id)),
            Ok(Err::<_, tonic::Status>(status)) => {
                let detail =
                    format!("Temporal does not describe the ticket ({:?}: {})", status.code(), status.message());
                Err(Problem::new(Kind::Unavailable, detail).of(ticket_id))
            }
            Err(_) => Err(late(ticket_id)),
        }
    }

    /// Gives an order to a ticket, in the caller's name. It is logged and counted even if the client does not wait for the
    /// answer.
    pub(super) async fn order(
        &self,
        ticket_id: &str,
        caller: &Caller,
        verb: Verb,
        why: &Reason,
    ) -> Result<Answer, Problem> {
        let order = Order { verb, by: caller.identity(), why: why.as_str().to_owned() }.cleaned();
        let (api, id) = (self.clone(), ticket_id.to_owned());
        // The request ends with its connection; what it has ordered may be carried out all the same.
        let carried = tokio::spawn(async move { api.carry(&id, &order).await });
        carried.await.unwrap_or_else(|error| {
            let detail = format!("the order broke off ({error}); it may still be carried out");
            Err(Problem::new(Kind::Unanswered, detail).of(ticket_id))
        })
    }

    /// Carries an order to its ticket.
    async fn carry(&self, ticket_id: &str, order: &Order) -> Result<Answer, Problem> {
        let client = self.client(ticket_id)?;
        let sent = send(client, &self.0.temporal.task_queue, ticket_id, order, PATIENCE);
        let answer = match tokio::time::timeout(LONGEST, sent).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(SendError::Unanswered(detail))) => Err(Problem::new(Kind::Unanswered, detail).of(ticket_id)),
            Ok(Err(error)) => Err(Problem::new(Kind::Unavailable, error.to_string()).of(ticket_id)),
            Err(_) => Err(late(ticket_id)),
        };
        let done = matches!(answer, Ok(Answer::Done(_)));
        self.metrics().emit(ApiOrder { ticket_id, verb: order.verb.as_str(), by: &order.by, done });
        answer
    }

    fn client(&self, ticket_id: &str) -> Result<&Client, Problem> {
        self.0.client.get().ok_or_else(|| {
            Problem::new(Kind::Unavailable, "the worker has not reached Temporal yet; /ready says what it waits for")
                .of(ticket_id)
        })
    }
}

fn late(ticket_id: &str) -> Problem {
    let detail = format!("Temporal did not answer within {} s; what was ordered may still happen", LONGEST.as_secs());
    Problem::new(Kind::Unanswered, detail).of(ticket_id)
}
