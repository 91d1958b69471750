//! How tickets find those they depend on, and how they tell those that depend on them
//! (`docs/adr/0013-dependencies.md`).
//!
//! Nobody is missed, whoever comes first: a predecessor that is open takes a subscription, and closes only when it has
//! answered it; one that nobody has heard of has a waiting list, which is looked at after it has been joined, and which
//! the predecessor tells when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use temporalio_sdk::activities::ActivityContext;
use ticket_schemas::TicketStatus;
use ticket_workflows::{
    DependencyState, OUTCOME_SIGNAL, Registered, Registration, SUBSCRIBE_SIGNAL, Subscription, Tell, waiters_id,
    workflow_id,
};
use tonic::{Code, Status};

use crate::temporal::{Described, Server};
use crate::ticket_service::TicketService;

/// Calls at once.
const CONCURRENCY: usize = 16;
/// A predecessor with so many events has about a hundred subscribers: further ones go by its waiting list.
const RELAY_FROM_EVENTS: i64 = 250;
/// Tickets looked at in the search for a cycle. A longer one ends by the wait's own limits.
const MOST_LOOKED_AT: usize = 256;
/// Times that a predecessor may close between being described and being subscribed to.
const TRIES: usize = 5;
/// How long the ticket service gets for saying how one predecessor stands.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// The workflow that an activity belongs to.
struct Caller {
    server: Server,
    workflow_id: String,
    run_id: String,
}

impl Caller {
    fn of(ctx: &ActivityContext) -> Self {
        let info = ctx.info();
        Self {
            server: Server::new(ctx.client(), info.task_queue.clone()),
            workflow_id: info.workflow_id.clone().unwrap_or_default(),
            run_id: info.workflow_run_id.clone().unwrap_or_default(),
        }
    }

    /// The same for every copy of one message of this run, different for any other.
    fn request_id(&self, what: &[&str]) -> String {
        let mut digest = Sha256::new().chain_update(&self.run_id);
        for part in what {
            digest = digest.chain_update([0]).chain_update(part);
        }
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Finds out how the predecessors stand and subscribes to those that are not at their end.
pub(crate) async fn register(
    ctx: &ActivityContext,
    registration: &Registration,
    service: Option<&dyn TicketService>,
) -> Result<Registered, Status> {
    let caller = Caller::of(ctx);
    let service = if registration.workflows_only { None } else { service };
    let (one, look_after_ms) = (&caller, registration.look_after_ms);
    let found: Vec<_> = stream::iter(registration.dependencies.clone())
        .map(async |id| {
            let described = register_one(one, &id, look_after_ms, service).await?;
            Ok::<_, Status>((id, described))
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    let cycle = cycle(&caller.server, &registration.ticket_id, &found).await?;
    Ok(Registered { states: found.into_iter().map(|(id, described)| (id, described.state)).collect(), cycle })
}

async fn register_one(
    caller: &Caller,
    ticket_id: &str,
    look_after_ms: u64,
    service: Option<&dyn TicketService>,
) -> Result<Described, Status> {
    let (server, me) = (&caller.server, caller.workflow_id.as_str());
    let mut joined = false;
    for _ in 0..TRIES {
        let described = server.describe(ticket_id).await?;
        match described.state {
            DependencyState::Completed | DependencyState::Failed { .. } => return Ok(described),
            DependencyState::Unknown if joined => {
                return Ok(Described { state: elsewhere(service, ticket_id).await, ..described });
            }
            DependencyState::Unknown => {
                let state = elsewhere(service, ticket_id).await;
                if matches!(state, DependencyState::Completed | DependencyState::Failed { .. }) {
                    return Ok(Described { state, ..described });
                }
                server.join_list(ticket_id, me, look_after_ms).await?;
                // It may have come, and gone, before it could hear of the list.
                joined = true;
            }
            DependencyState::Open => {
                let (subscriber, request_id) = if described.events < RELAY_FROM_EVENTS {
                    (me.to_owned(), caller.request_id(&["subscribe", ticket_id]))
                } else {
                    let list_run = server.join_list(ticket_id, me, look_after_ms).await?;
                    // All that join the same run of the list subscribe it once.
                    (waiters_id(ticket_id), format!("list-{list_run}"))
                };
                let subscription = Subscription { workflow_id: subscriber };
                if server.signal(&workflow_id(ticket_id), SUBSCRIBE_SIGNAL, &subscription, request_id).await? {
                    return Ok(described);
                }
            }
        }
    }
    Err(Status::unavailable(format!("ticket {ticket_id} closed again and again while it was subscribed to")))
}

/// How a ticket stands that Temporal does not know: another worker, or another service, may have run it. What the ticket
/// service cannot say now counts as open, since nobody can say that the ticket is unheard of.
async fn elsewhere(service: Option<&dyn TicketService>, ticket_id: &str) -> DependencyState {
    let Some(tickets) = service else { return DependencyState::Unknown };
    match tickets.status(ticket_id, ELSEWHERE).await {
        Ok(None) => DependencyState::Unknown,
        Ok(Some(TicketStatus::Completed)) => DependencyState::Completed,
        Ok(Some(status @ (TicketStatus::Failed | TicketStatus::Compensating | TicketStatus::Compensated))) => {
            DependencyState::Failed { code: status.as_str().to_lowercase() }
        }
        Ok(Some(TicketStatus::Pending | TicketStatus::Running)) => DependencyState::Open,
        Err(error) => {
            tracing::info!(ticket_id, %error, "how the predecessor stands is asked again later");
            DependencyState::Open
        }
    }
}

/// Whether tickets that wait lead from `found` back to `ticket_id`: the path, both ends included. The last ticket of a
/// cycle to start sees all others, so one of them finds it.
async fn cycle(server: &Server, ticket_id: &str, found: &[(String, Described)]) -> Result<Option<Vec<String>>, Status> {
    let mut came_from: BTreeMap<String, String> = BTreeMap::new();
    let mut level: Vec<(String, Vec<String>)> = Vec::new();
    for (id, described) in found {
        came_from.insert(id.clone(), ticket_id.to_owned());
        if !described.waits_for.is_empty() {
            level.push((id.clone(), described.waits_for.clone()));
        }
    }
    let mut looked_at = 0;
    while !level.is_empty() {
        let mut next = BTreeSet::new();
        for (id, waits_for) in level {
            for further in waits_for {
                if further == ticket_id {
                    return Ok(Some(path(&came_from, ticket_id, id)));
                }
                if !came_from.contains_key(&further) {
                    came_from.insert(further.clone(), id.clone());
                    next.insert(further);
                }
            }
        }
        looked_at += next.len();
        if looked_at > MOST_LOOKED_AT {
            return Ok(None);
        }
        level = stream::iter(next)
            .map(|id| async {
                let described = server.describe(&id).await?;
                Ok::<_, Status>((id, described.waits_for))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        level.retain(|(_, waits_for)| !waits_for.is_empty());
    }
    Ok(None)
}

fn path(came_from: &BTreeMap<String, String>, ticket_id: &str, last: String) -> Vec<String> {
    let mut back = vec![ticket_id.to_owned()];
    let mut at = last;
    while at != ticket_id {
        let before = came_from.get(&at).cloned().unwrap_or_else(|| ticket_id.to_owned());
        back.push(std::mem::replace(&mut at, before));
    }
    back.push(ticket_id.to_owned());
    back.reverse();
    back
}

/// Tells workflows how the ticket ended.
pub(crate) async fn tell(ctx: &ActivityContext, tell: &Tell) -> Result<(), Status> {
    let (caller, outcome) = (&Caller::of(ctx), &tell.outcome);
    // All of them, whatever becomes of one.
    let failures: Vec<_> = stream::iter(tell.subscribers.clone())
        .map(async |subscriber| {
            let request_id = caller.request_id(&["tell", &outcome.ticket_id, &subscriber]);
            match caller.server.signal(&subscriber, OUTCOME_SIGNAL, outcome, request_id).await {
                // One that is closed does not wait any more.
                Ok(_) => None,
                // Not for being asked again: a name that is none, a workflow that takes no more signals.
                Err(status) if matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied) => {
                    tracing::warn!(subscriber, %status, "a dependent cannot be told; it looks for itself");
                    None
                }
                Err(status) => Some(status),
            }
        })
        .buffer_unordered(CONCURRENCY)
        .filter_map(async |failure| failure)
        .collect()
        .await;
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// How one ticket stands.
pub(crate) async fn look(
    ctx: &ActivityContext,
    ticket_id: &str,
    service: Option<&dyn TicketService>,
) -> Result<DependencyState, Status> {
    match Caller::of(ctx).server.describe(ticket_id).await?.state {
        DependencyState::Unknown => Ok(elsewhere(service, ticket_id).await),
        known => Ok(known),
    }
}
