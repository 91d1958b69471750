//! What a caller may do: an exact list of verbs for each identity. Nothing is allowed that is not in it (INC-50, INC-106).

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt as _};

use super::api::Api;
use super::caller::Caller;
use super::connections::Peer;
use super::problem::{Kind, Problem};
use super::rate::Payer;
use crate::events::ApiRefused;

/// What can be done over the API, each by a name in `HTTP_API_ALLOW`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Permission {
    /// Ask what the worker is and has to do.
    Status,
    /// Ask how a ticket or a task stands.
    Read,
    /// Announce a task.
    Submit,
    /// Cancel a ticket.
    Cancel,
    /// Pause a ticket.
    Pause,
    /// Resume a ticket.
    Resume,
    /// End a ticket's wait for a retry.
    Retry,
    /// Move a ticket's deadline.
    ExtendDeadline,
    /// Have a ticket wait no longer for another.
    SkipDependency,
    /// Try an undo once more.
    ResumeCompensation,
    /// Leave what a failed ticket did as it is.
    SkipCompensation,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Status,
        Self::Read,
        Self::Submit,
        Self::Cancel,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::ExtendDeadline,
        Self::SkipDependency,
        Self::ResumeCompensation,
        Self::SkipCompensation,
    ];

    /// Its name in `HTTP_API_ALLOW`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::ExtendDeadline => "extend-deadline",
            Self::SkipDependency => "skip-dependency",
            Self::ResumeCompensation => "compensation-resume",
            Self::SkipCompensation => "compensation-skip",
        }
    }
}

impl FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is no verb of the API (known: {known})")
        })
    }
}

/// Identities and what each may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(BTreeMap<String, BTreeSet<Permission>>);

impl AllowList {
    /// Allows an identity more.
    pub fn add(&mut self, identity: String, permissions: impl IntoIterator<Item = Permission>) {
        self.0.entry(identity).or_default().extend(permissions);
    }

    /// Whether nobody may do anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// Whether the caller may do it. Whom nobody asked to prove anything may do everything.
    pub(super) fn allows(&self, caller: &Caller, permission: Permission) -> bool {
        *caller == Caller::Anyone
            || self.0.get(&caller.identity()).is_some_and(|permissions| permissions.contains(&permission))
    }
}

/// The operations, open to callers who may do this.
pub(super) fn guarded(
    api: &Api,
    permission: Permission,
    operations: UtoipaMethodRouter<Api>,
) -> UtoipaMethodRouter<Api> {
    let guard = Guard { api: api.clone(), permission };
    operations.map(|methods| methods.route_layer(from_fn_with_state(guard, admit)))
}

#[derive(Clone)]
struct Guard {
    api: Api,
    permission: Permission,
}

/// Lets a request pass on, with the caller in its extensions.
async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = guard.caller(&parts)?;
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

impl Guard {
    /// Who calls, and may do so.
    fn caller(&self, parts: &Parts) -> Result<Caller, Problem> {
        self.admitted(parts).inspect_err(|problem| {
            let (reason, verb) = (problem.reason(), self.permission.as_str());
            self.api.metrics().emit(ApiRefused { reason: &reason, verb, detail: &problem.detail });
        })
    }

    fn admitted(&self, parts: &Parts) -> Result<Caller, Problem> {
        let (buckets, now) = (self.api.buckets(), Instant::now());
        let address = parts.extensions.get::<Peer>().map_or(Payer::Others, |Peer(at)| Payer::Address(*at));
        // Else the rate would not limit those who try tokens: the right one pays from another bucket.
        if buckets.used_up(&address, now) {
            return Err(too_many("requests without a known token have used up what this address may ask this second"));
        }
        let caller = self.api.authentication().caller(parts);
        let payer = match &caller {
            Ok(caller @ (Caller::Token(_) | Caller::Spiffe(_))) => Payer::Identity(caller.identity()),
            Ok(Caller::Anyone) | Err(_) => address,
        };
        if !buckets.take(payer, now) {
            return Err(too_many("the caller's requests of this second are used up"));
        }
        let caller = caller?;
        if self.api.allow().allows(&caller, self.permission) {
            return Ok(caller);
        }
        let detail = format!("{} may not {}", caller.identity(), self.permission.as_str());
        Err(Problem::new(Kind::Forbidden, detail))
    }
}

fn too_many(detail: &str) -> Problem {
    Problem::new(Kind::TooManyRequests, detail)
}
