//! What activities need of the Execution Ticket Service, and what its answers mean for a ticket
//! (`docs/adr/0015-ticket-service.md`).
//!
//! The service is told and never waited for: RUNNING goes out beside the work, the end of a ticket beside its result.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use temporalio_common::error::ApplicationFailure;
use temporalio_sdk::activities::ActivityError;
use ticket_schemas::{Ticket, TicketStatus};
use ticket_workflows::{ServiceStatus, StatusEnd, StatusUpdate};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::trace;

/// The platform's ticket service. Calls end by themselves, at the latest after `within`.
pub trait TicketService: Send + Sync + 'static {
    /// Sets a ticket's status.
    fn set_status<'a>(
        &'a self,
        update: &'a StatusUpdate,
        within: Duration,
    ) -> BoxFuture<'a, Result<(), TicketServiceError>>;

    /// How a ticket stands; `None`: the service does not know it.
    fn status<'a>(
        &'a self,
        ticket_id: &'a str,
        within: Duration,
    ) -> BoxFuture<'a, Result<Option<TicketStatus>, TicketServiceError>>;

    /// Creates a ticket, which the service then publishes. One that exists already under its id is left as it is, and
    /// that is no error: the id of a ticket says what it is.
    fn create<'a>(&'a self, ticket: &'a Ticket, within: Duration)
    -> BoxFuture<'a, Result<Created, TicketServiceError>>;
}

/// What became of a ticket that was to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there now.
    New,
    /// It was there before.
    AlreadyThere,
}

/// Why the ticket service did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketServiceError {
    /// It does not know the ticket: not yet, or never (INC-36).
    #[error("the ticket service does not know ticket {ticket_id}; it reads tickets from Kafka by itself")]
    UnknownTicket {
        /// The ticket.
        ticket_id: String,
    },
    /// It refuses the call, and will again.
    #[error("the ticket service refused the call: {reason}")]
    Refused {
        /// What it said, bounded.
        reason: String,
    },
    /// No usable answer; asking again may help.
    #[error("the ticket service gave no usable answer: {reason}")]
    Unavailable {
        /// What happened, bounded.
        reason: String,
        /// Not before this time, if it said so.
        after: Option<Duration>,
    },
}

impl TicketServiceError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownTicket { .. } => "ticket_service_unknown_ticket",
            Self::Refused { .. } => "ticket_service_refused",
            Self::Unavailable { .. } => "ticket_service_unavailable",
        }
    }

    /// Not to be asked before this time, if it said so.
    #[must_use]
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { after, .. } => *after,
            _ => None,
        }
    }
}

impl TicketServiceError {
    /// The failure of an activity that is tried again, not before the service wants it.
    pub(crate) fn to_be_tried_again(&self) -> ActivityError {
        let failure = ApplicationFailure::builder(self.to_string()).type_name(self.code().to_owned());
        ActivityError::application(failure.maybe_next_retry_delay(self.after()).build())
    }
}

/// Tells the service once. What it will not take however often it is told is an end too, which the history then holds.
pub(crate) async fn settle(
    service: Option<&dyn TicketService>,
    update: &StatusUpdate,
    within: Duration,
) -> Result<StatusEnd, TicketServiceError> {
    let Some(tickets) = service else { return Ok(StatusEnd::NoService) };
    match tickets.set_status(update, within).await {
        Ok(()) => Ok(StatusEnd::Noted),
        Err(TicketServiceError::Refused { reason }) => Ok(StatusEnd::Refused { reason }),
        Err(TicketServiceError::UnknownTicket { .. }) if owed_for_ms(update) >= update.unknown_after_ms => {
            Ok(StatusEnd::UnknownTicket)
        }
        Err(error) => Err(error),
    }
}

fn owed_for_ms(update: &StatusUpdate) -> u64 {
    u64::try_from(now_ms().saturating_sub(update.since_ms)).unwrap_or(0)
}

/// First pause before RUNNING is sent again. The service reads the same record as the worker, and mostly a moment later.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(5);
/// How long the end of the work waits for a call that is under way: it must not reach the service after the terminal one.
const LAST_CALL: Duration = Duration::from_millis(500);

/// RUNNING on its way to the service, beside the work.
pub(crate) struct Running {
    over: CancellationToken,
    sending: JoinHandle<()>,
}

impl Running {
    /// Begins to send. `unknown_after_ms`: how long it is tried in vain.
    pub(crate) fn send(service: Arc<dyn TicketService>, ticket_id: String, unknown_after_ms: u64) -> Self {
        let update = StatusUpdate {
            ticket_id,
            status: ServiceStatus::Running,
            error_message: None,
            actual_duration_ms: None,
            since_ms: now_ms(),
            unknown_after_ms,
        };
        let over = CancellationToken::new();
        let sending = tokio::spawn(trace::within(trace::current(), send_until_sent(service, update, over.clone())));
        Self { over, sending }
    }

    /// The work is over: no further try begins, and one that is under way gets a moment to end.
    pub(crate) async fn end(mut self) {
        self.over.cancel();
        if tokio::time::timeout(LAST_CALL, &mut self.sending).await.is_err() {
            self.sending.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.sending.abort();
    }
}

async fn send_until_sent(tickets: Arc<dyn TicketService>, update: StatusUpdate, over: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        match settle(Some(tickets.as_ref()), &update, TRY).await {
            Ok(StatusEnd::Noted) => return,
            Ok(end) => {
                tracing::warn!(ticket_id = update.ticket_id, ?end, "the ticket service was not told RUNNING");
                return;
            }
            Err(error) if owed_for_ms(&update) >= update.unknown_after_ms => {
                tracing::warn!(ticket_id = update.ticket_id, %error, "the ticket service was not told RUNNING");
                return;
            }
            Err(error) => {
                tracing::debug!(ticket_id = update.ticket_id, %error, "RUNNING is sent again");
                let wait = error.after().unwrap_or_default().clamp(pause, LONGEST_PAUSE);
                if over.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        if over.is_cancelled() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
