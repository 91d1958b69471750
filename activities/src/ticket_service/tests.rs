//! What the scripted's answers mean, against one that is scripted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::*;

type Answer = Result<(), TicketServiceError>;

/// Answers in order, then always with success. A call takes `takes`.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    told: Mutex<Vec<ServiceStatus>>,
    takes: Duration,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() })
    }

    fn told(&self) -> usize {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl TicketService for Scripted {
    fn set_status<'a>(&'a self, update: &'a StatusUpdate, _within: Duration) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            tokio::time::sleep(self.takes).await;
            self.told.lock().unwrap_or_else(PoisonError::into_inner).push(update.status);
            self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Ok(()))
        })
    }

    fn status<'a>(
        &'a self,
        _ticket_id: &'a str,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Option<TicketStatus>, TicketServiceError>> {
        Box::pin(async { Ok(None) })
    }

    fn create<'a>(
        &'a self,
        _ticket: &'a Ticket,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Created, TicketServiceError>> {
        Box::pin(async { Ok(Created::New) })
    }
}

fn unknown() -> Answer {
    Err(TicketServiceError::UnknownTicket { ticket_id: "t".to_owned() })
}

fn away() -> Answer {
    Err(TicketServiceError::Unavailable { reason: "away".to_owned(), after: None })
}

fn update(owed_for_ms: i64) -> StatusUpdate {
    StatusUpdate {
        ticket_id: "t".to_owned(),
        status: ServiceStatus::Failed,
        error_message: Some("why".to_owned()),
        actual_duration_ms: Some(7),
        since_ms: now_ms() - owed_for_ms,
        unknown_after_ms: 600_000,
    }
}

#[tokio::test]
async fn inc_36_an_unknown_ticket_is_tried_again_until_it_is_unknown_for_too_long() {
    let told = async |answer: Answer, owed_for_ms: i64| {
        settle(Some(Scripted::new([answer]).as_ref()), &update(owed_for_ms), TRY).await
    };
    assert!(told(unknown(), 0).await.is_err());
    assert!(told(unknown(), 599_000).await.is_err());
    assert_eq!(told(unknown(), 600_000).await, Ok(StatusEnd::UnknownTicket));
    // One that is away is tried for ever.
    assert!(told(away(), 600_000_000).await.is_err());
    assert_eq!(told(Ok(()), 0).await, Ok(StatusEnd::Noted));
    let refused = StatusEnd::Refused { reason: "no".to_owned() };
    assert_eq!(told(Err(TicketServiceError::Refused { reason: "no".to_owned() }), 0).await, Ok(refused));
    assert_eq!(settle(None, &update(0), TRY).await, Ok(StatusEnd::NoService));
}

#[tokio::test(start_paused = true)]
async fn inc_36_running_is_sent_again_when_the_service_does_not_know_the_ticket_yet() {
    let scripted = Scripted::new([unknown(), away(), unknown()]);
    let running = Running::send(Arc::clone(&scripted) as Arc<dyn TicketService>, "t".to_owned(), 600_000);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scripted.told(), 4);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_running_call_begins_or_goes_on_after_the_end_of_the_work() {
    // A try is pending: it does not begin.
    let scripted = Scripted::new([unknown(), unknown()]);
    let running = Running::send(Arc::clone(&scripted) as Arc<dyn TicketService>, "t".to_owned(), 600_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.end().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scripted.told(), 1);

    // A short call that is under way ends first, a long one is dropped and delays nothing further.
    for (takes, told) in [(Duration::from_millis(400), 1), (Duration::from_secs(30), 0)] {
        let scripted = Arc::new(Scripted { takes, ..Scripted::default() });
        let running = Running::send(Arc::clone(&scripted) as Arc<dyn TicketService>, "t".to_owned(), 600_000);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let before = tokio::time::Instant::now();
        running.end().await;
        assert!(before.elapsed() <= LAST_CALL + Duration::from_millis(10), "{:?}", before.elapsed());
        assert_eq!(scripted.told(), told);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(scripted.told(), told);
    }
}
