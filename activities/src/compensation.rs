//! The ticket that undoes a failed one, created once however often it is tried (`docs/adr/0016-compensation.md`).

use std::time::Duration;

use ticket_workflows::Undoing;

use crate::ports::{CompensationError, TicketSink};
use crate::ticket_service::TicketService;

/// How long the ticket service gets. The activity has 30 s, and a publication may need 20 of them.
const WITHIN: Duration = Duration::from_secs(8);

/// Creates the ticket: through the ticket service, which publishes it, when there is one. It is published from here when the
/// service cannot be had, or when what it created did not appear. A copy is harmless: id and digest are the same.
pub(crate) async fn create(
    tickets: &dyn TicketSink,
    ticket_service: Option<&dyn TicketService>,
    undoing: &Undoing,
) -> Result<(), CompensationError> {
    let ticket = &undoing.ticket;
    if let Some(ticket_service) = ticket_service.filter(|_| !undoing.again) {
        match ticket_service.create(ticket, WITHIN).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::warn!(ticket_id = %ticket.ticket_id, %error, "the compensation ticket is published without the ticket service");
            }
        }
    }
    tickets.publish(ticket, &undoing.trace).await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use ticket_schemas::{Ticket, TicketStatus, decode_json_ticket};
    use ticket_workflows::{StatusUpdate, TraceContext};

    use super::*;
    use crate::ticket_service::{Created, TicketServiceError};

    /// A topic and a ticket service that write down what they are asked, and fail when they are told to.
    #[derive(Default)]
    struct Peers {
        asked: Mutex<Vec<String>>,
        broken: &'static [&'static str],
    }

    impl Peers {
        fn ask(&self, what: String) -> BoxFuture<'_, Result<(), CompensationError>> {
            let broken = self.broken.iter().any(|broken| what.starts_with(broken));
            self.asked.lock().expect("asked").push(what);
            let error = || CompensationError { ticket_id: "u".to_owned(), cause: "away".to_owned() };
            async move { if broken { Err(error()) } else { Ok(()) } }.boxed()
        }
    }

    impl TicketSink for Peers {
        fn publish<'a>(
            &'a self,
            ticket: &'a Ticket,
            _: &'a TraceContext,
        ) -> BoxFuture<'a, Result<(), CompensationError>> {
            self.ask(format!("publish {}", ticket.ticket_id))
        }
    }

    impl TicketService for Peers {
        fn set_status<'a>(
            &'a self,
            update: &'a StatusUpdate,
            _: Duration,
        ) -> BoxFuture<'a, Result<(), TicketServiceError>> {
            panic!("not a matter of creation: {update:?}")
        }

        fn status<'a>(
            &'a self,
            ticket_id: &'a str,
            _: Duration,
        ) -> BoxFuture<'a, Result<Option<TicketStatus>, TicketServiceError>> {
            panic!("not a matter of creation: {ticket_id}")
        }

        fn create<'a>(&'a self, ticket: &'a Ticket, _: Duration) -> BoxFuture<'a, Result<Created, TicketServiceError>> {
            let asked = self.ask(format!("create {}", ticket.ticket_id));
            let error = |error: CompensationError| TicketServiceError::Unavailable { reason: error.cause, after: None };
            async move { asked.await.map(|()| Created::New).map_err(error) }.boxed()
        }
    }

    fn undoing(again: bool) -> Undoing {
        let text = r#"{"ticket_id":"u","task_id":"u","task_type":"COMPENSATE","status":"PENDING","dependencies":[]}"#;
        let ticket = decode_json_ticket(text.as_bytes()).expect("a ticket");
        Undoing { original: "o".to_owned(), ticket, again, trace: TraceContext::default() }
    }

    #[tokio::test]
    async fn inc_38_a_ticket_is_created_by_the_service_or_published_whatever_is_away() {
        for (service, again, broken, expected, done) in [
            (false, false, &[] as &[_], vec!["publish u"], true),
            (false, false, &["publish"], vec!["publish u"], false),
            (true, false, &[], vec!["create u"], true),
            (true, false, &["create"], vec!["create u", "publish u"], true),
            (true, true, &[], vec!["publish u"], true),
            (true, false, &["create", "publish"], vec!["create u", "publish u"], false),
        ] {
            let peers = Peers { broken, ..Peers::default() };
            let service = service.then_some(&peers as &dyn TicketService);
            let created = create(&peers, service, &undoing(again)).await;
            assert_eq!(created.is_ok(), done, "{expected:?}");
            assert_eq!(*peers.asked.lock().expect("asked"), expected);
        }
    }
}
