//! A compensation as the platform sees it: the ticket that undoes, created once however often it is tried, and the status of
//! the ticket that it undoes (`docs/adr/0015-compensation.md`).

use ticket_workflows::{Settlement, Undoing};

use crate::ports::{CompensationError, CompensationMark, CompensationService, TicketSink};

/// Creates the ticket: through the ticket service, which publishes it, when there is one. It is published from here when the
/// service cannot be had, or when what it created did not appear. A copy is harmless: id and digest are the same.
pub(crate) async fn create(
    tickets: &dyn TicketSink,
    ticket_service: Option<&dyn CompensationService>,
    undoing: &Undoing,
) -> Result<(), CompensationError> {
    let ticket = &undoing.ticket;
    let created = match ticket_service {
        Some(ticket_service) if !undoing.again => match ticket_service.create(ticket).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(ticket_id = %ticket.ticket_id, %error, "the compensation ticket is published without the ticket service");
                false
            }
        },
        _ => false,
    };
    if !created {
        tickets.publish(ticket, &undoing.trace).await?;
    }
    match ticket_service {
        Some(ticket_service) => {
            let mark = CompensationMark::Compensating { ticket_id: ticket.ticket_id.as_str() };
            ticket_service.mark(&undoing.original, mark).await
        }
        None => Ok(()),
    }
}

/// Tells the ticket service what became of it.
pub(crate) async fn settle(
    ticket_service: Option<&dyn CompensationService>,
    settlement: &Settlement,
) -> Result<(), CompensationError> {
    let Some(ticket_service) = ticket_service else { return Ok(()) };
    let error_message = settlement.error_message.as_str();
    let mark = match settlement.compensated {
        true => CompensationMark::Compensated { error_message },
        false => CompensationMark::Failed { error_message },
    };
    ticket_service.mark(&settlement.original, mark).await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use ticket_schemas::{Ticket, decode_json_ticket};
    use ticket_workflows::TraceContext;

    use super::*;

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

    impl CompensationService for Peers {
        fn create<'a>(&'a self, ticket: &'a Ticket) -> BoxFuture<'a, Result<(), CompensationError>> {
            self.ask(format!("create {}", ticket.ticket_id))
        }

        fn mark<'a>(
            &'a self,
            original: &'a str,
            mark: CompensationMark<'a>,
        ) -> BoxFuture<'a, Result<(), CompensationError>> {
            self.ask(format!("mark {original} {mark:?}"))
        }
    }

    fn undoing(again: bool) -> Undoing {
        let text = r#"{"ticket_id":"u","task_id":"u","task_type":"COMPENSATE","status":"PENDING","dependencies":[]}"#;
        let ticket = decode_json_ticket(text.as_bytes()).expect("a ticket");
        Undoing { original: "o".to_owned(), ticket, again, trace: TraceContext::default() }
    }

    const COMPENSATING: &str = r#"mark o Compensating { ticket_id: "u" }"#;

    #[tokio::test]
    async fn inc_38_a_ticket_is_created_by_the_service_or_published_whatever_is_away() {
        for (service, again, broken, expected, done) in [
            (false, false, &[] as &[_], vec!["publish u"], true),
            (false, false, &["publish"], vec!["publish u"], false),
            (true, false, &[], vec!["create u", COMPENSATING], true),
            (true, false, &["create"], vec!["create u", "publish u", COMPENSATING], true),
            (true, true, &[], vec!["publish u", COMPENSATING], true),
            (true, false, &["create", "publish"], vec!["create u", "publish u"], false),
            (true, false, &["mark"], vec!["create u", COMPENSATING], false),
        ] {
            let peers = Peers { broken, ..Peers::default() };
            let service = service.then_some(&peers as &dyn CompensationService);
            let created = create(&peers, service, &undoing(again)).await;
            assert_eq!(created.is_ok(), done, "{expected:?}");
            assert_eq!(*peers.asked.lock().expect("asked"), expected);
        }
    }

    #[tokio::test]
    async fn inc_35_the_original_ends_as_compensated_or_as_failed_with_its_error_kept() {
        for (compensated, expected) in [
            (true, r#"mark o Compensated { error_message: "it broke" }"#),
            (false, r#"mark o Failed { error_message: "it broke" }"#),
        ] {
            let peers = Peers::default();
            let settlement = Settlement {
                original: "o".to_owned(),
                ticket_id: "u".to_owned(),
                compensated,
                error_message: "it broke".to_owned(),
            };
            settle(Some(&peers), &settlement).await.expect("told");
            assert_eq!(*peers.asked.lock().expect("asked"), [expected]);
            settle(None, &settlement).await.expect("nobody to tell");
        }
    }
}
