//! What attempts at one endpoint do to each other: a circuit that opens, a rate, a pause that the endpoint asks for.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use ticket_workflows::{ExternalState, FailureClass, code};
use tokio::time::Instant;

use super::fake::{Fake, LOOKUP, NONE, NoParams, ONE_CALL, Scripted, Step, TOKEN, lost, throttled};
use super::*;

const FAULTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(30);
/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// What was seen of an endpoint.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<EndpointEvent>>>);

impl Seen {
    fn all(&self) -> Vec<EndpointEvent> {
        self.0.lock().expect("no test panics with it").clone()
    }

    fn states(&self) -> Vec<CircuitState> {
        let states = self.all().into_iter().filter_map(|event| match event {
            EndpointEvent::Circuit(state) => Some(state),
            _ => None,
        });
        states.collect()
    }

    /// The longest wait for a turn.
    fn waited(&self) -> Duration {
        let waits = self.all().into_iter().filter_map(|event| match event {
            EndpointEvent::Waited(time) => Some(time),
            _ => None,
        });
        waits.max().unwrap_or_default()
    }

    fn refused(&self) -> usize {
        self.all().iter().filter(|event| **event == EndpointEvent::Refused).count()
    }
}

/// A worker's driver whose attempts share an endpoint with this rate.
fn driver<const R: u8>(fake: &Fake<R>, rate: u32) -> (External<Fake<R>>, Seen) {
    let seen = Seen::default();
    let limits = EndpointLimits { faults_to_open: NonZeroU32::new(FAULTS), pause: PAUSE, rate: NonZeroU32::new(rate) };
    let on_event = {
        let seen = seen.clone();
        Arc::new(move |event| seen.0.lock().expect("no test panics with it").push(event))
    };
    (fake.driver().at(Endpoint::new("fake", limits, on_event)), seen)
}

fn away() -> Fault {
    Fault::Unavailable { cause: "connection refused".to_owned(), after: None }
}

/// Attempts at so many tickets that begin nothing, one after the other.
async fn fail<const R: u8>(fake: &Fake<R>, driver: &External<Fake<R>>, times: u32, step: Step, fault: &Fault) {
    static TICKETS: AtomicU32 = AtomicU32::new(0);
    for _ in 0..times {
        fake.script(step, [Scripted::Untaken(fault.clone())]);
        let number = TICKETS.fetch_add(1, Ordering::Relaxed);
        failed(driver.execute(NoParams {}, job(&format!("fails-{number}"))).await);
    }
}

/// Runs attempts whose work ends with 0 as soon as it is there.
async fn ending<T, const R: u8>(fake: &Fake<R>, attempts: impl Future<Output = T>) -> T {
    let end = async {
        loop {
            fake.end_all(0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        outcome = attempts => outcome,
        () = end => unreachable!("it never ends"),
    }
}

/// An attempt whose work ends with 0 as soon as it is there.
async fn run<const R: u8>(fake: &Fake<R>, driver: &External<Fake<R>>, job: Job) -> Outcome {
    ending(fake, driver.execute(NoParams {}, job)).await
}

/// So many attempts at once.
async fn together<const R: u8>(fake: &Fake<R>, driver: &External<Fake<R>>, attempts: u32) -> Vec<Outcome> {
    ending(fake, join_all((0..attempts).map(|number| driver.execute(NoParams {}, job(&format!("t-{number}")))))).await
}

/// Takes a thousand turns, before whoever asks later.
async fn crowd(endpoint: &Endpoint) {
    join_all((0..1000).map(|_| endpoint.turn(FOR_EVER))).await;
}

#[tokio::test(start_paused = true)]
async fn faults_in_a_row_keep_attempts_from_beginning_until_one_has_tried() {
    for step in [Step::Prepare, Step::Create] {
        let fake = Fake::<LOOKUP>::default();
        let (driver, seen) = driver(&fake, 0);
        fail(&fake, &driver, FAULTS, step, &away()).await;
        assert_eq!(seen.states(), [CircuitState::Closed, CircuitState::Open], "{step:?}");

        tokio::time::sleep(PAUSE / 3).await;
        let refused = failed(driver.execute(NoParams {}, job("refused")).await);
        assert_eq!(refused.code, code::PROVIDER_UNAVAILABLE, "{step:?}");
        assert!(
            matches!(refused.class, FailureClass::Unavailable { after_ms: Some(19_900..=20_000) }),
            "{step:?}: what is left of the pause: {:?}",
            refused.class
        );
        assert_eq!((refused.external_state, refused.evidence), (None, None), "another provider may take over");
        assert!(refused.message.contains("was not called"), "{}", refused.message);
        assert_eq!((fake.creates().len(), seen.refused()), (0, 1), "{step:?}: nothing was asked for");

        tokio::time::sleep(PAUSE).await;
        fail(&fake, &driver, 1, step, &away()).await;
        failed(driver.execute(NoParams {}, job("refused")).await);
        assert_eq!(seen.refused(), 2, "{step:?}: whoever tries decides for all");

        tokio::time::sleep(PAUSE).await;
        completed(run(&fake, &driver, job("t")).await);
        let after = [CircuitState::HalfOpen, CircuitState::Open, CircuitState::HalfOpen, CircuitState::Closed];
        assert_eq!(seen.states()[2..], after, "{step:?}");
        assert_eq!(fake.creates(), [1], "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_come_back_together_wait_for_nobody() {
    let fake = Fake::<NONE>::default();
    let (driver, seen) = driver(&fake, 0);
    fail(&fake, &driver, FAULTS, Step::Create, &away()).await;
    tokio::time::sleep(PAUSE).await;
    // As one that pulls an image does, it says nothing for a while.
    fake.script(Step::Prepare, [Scripted::Slow(Duration::from_secs(20))]);
    let begun = Instant::now();
    let first = driver.execute(NoParams {}, job("first"));
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        together(&fake, &driver, 9).await.into_iter().for_each(|outcome| drop(completed(outcome)));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    };
    let (first, ()) = ending(&fake, async { tokio::join!(first, others) }).await;
    completed(first);
    assert_eq!((seen.refused(), fake.creates().len()), (0, 10));
    assert_eq!(seen.states()[2..], [CircuitState::HalfOpen, CircuitState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn those_that_come_back_together_too_early_open_it_once() {
    let fake = Fake::<NONE>::default();
    let (driver, seen) = driver(&fake, 0);
    fail(&fake, &driver, FAULTS, Step::Create, &away()).await;
    tokio::time::sleep(PAUSE).await;
    fake.script(Step::Create, vec![Scripted::Untaken(away()); 10]);
    let begun = Instant::now();
    together(&fake, &driver, 10).await.into_iter().for_each(|outcome| drop(failed(outcome)));
    assert!(begun.elapsed().is_zero(), "nobody waits in its slot: {:?}", begun.elapsed());
    assert_eq!(seen.states()[2..], [CircuitState::HalfOpen, CircuitState::Open]);
    assert!(fake.creates().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_while_an_attempt_prepares_lets_it_begin_nothing() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    fake.script(Step::Prepare, [Scripted::Slow(Duration::from_secs(10))]);
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fail(&fake, &driver, FAULTS, Step::Create, &away()).await;
    };
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job("t")), others);
    let refused = failed(outcome);
    assert!(matches!(refused.class, FailureClass::Unavailable { after_ms: Some(_) }), "{refused:?}");
    assert_eq!((refused.external_state, seen.refused(), fake.creates().len()), (None, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_while_a_call_waits_for_its_turn_keeps_it_away() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    let endpoint = &driver.endpoint;
    let tickets: Vec<_> = (0..FAULTS).map(|number| format!("t-{number}")).collect();
    let leaves = join_all(tickets.iter().map(|ticket| endpoint.enter(ticket, FOR_EVER))).await;
    endpoint.call(async { Err::<(), _>(throttled(3)) }).await.expect_err("it asks for time");
    let open = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for leave in leaves {
            endpoint.heard(leave.expect("it is closed"), &Err::<(), _>(away()));
        }
    };
    let (entered, ()) = tokio::join!(endpoint.enter("t", FOR_EVER), open);
    assert!(matches!(entered, Err(Fault::Unavailable { .. })), "{entered:?}");
    assert_eq!(seen.refused(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_under_way_when_it_opened_does_not_close_it() {
    let fake = Fake::<NONE>::default();
    let (driver, seen) = driver(&fake, 0);
    fake.script(Step::Create, [Scripted::Slow(Duration::from_secs(10))]);
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fail(&fake, &driver, FAULTS, Step::Create, &away()).await;
    };
    let (outcome, ()) = ending(&fake, async { tokio::join!(driver.execute(NoParams {}, job("t")), others) }).await;
    completed(outcome);
    assert_eq!(seen.states(), [CircuitState::Closed, CircuitState::Open]);
}

#[tokio::test(start_paused = true)]
async fn one_piece_of_work_that_fails_at_every_call_keeps_nobody_away() {
    // Nobody can watch, collect or look for it.
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    for step in [Step::LookUp, Step::Watch, Step::Collect] {
        fake.script(step, vec![Scripted::Untaken(away()); FAULTS as usize]);
    }
    completed(run(&fake, &driver, Job { lost_workers: 1, ..job("t") }).await);
    // Nobody answers its creates.
    fake.script(Step::Create, vec![Scripted::Untaken(lost()); FAULTS as usize]);
    failed(driver.execute(NoParams {}, job("u")).await);
    assert_eq!(seen.states(), [CircuitState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn one_ticket_keeps_nobody_away_however_often_it_is_tried() {
    let fake = Fake::<NONE>::default();
    let (driver, seen) = driver(&fake, 0);
    for attempt in 1..=10 * FAULTS {
        fake.script(Step::Create, [Scripted::Untaken(lost())]);
        failed(driver.execute(NoParams {}, Job { attempt, ..job("t") }).await);
    }
    assert_eq!(seen.states(), [CircuitState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_over_is_told_although_nobody_calls() {
    let fake = Fake::<NONE>::default();
    let (driver, seen) = driver(&fake, 0);
    fail(&fake, &driver, FAULTS, Step::Create, &away()).await;
    tokio::time::sleep(PAUSE / 2).await;
    assert_eq!(seen.states()[1..], [CircuitState::Open]);
    tokio::time::sleep(PAUSE).await;
    assert_eq!(seen.states()[1..], [CircuitState::Open, CircuitState::HalfOpen]);
}

#[tokio::test(start_paused = true)]
async fn what_keeps_this_worker_from_preparing_is_no_answer() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    let unreadable = Fault::SetupRefused { cause: "the password cannot be read".to_owned() };
    for _ in 0..FAULTS {
        fail(&fake, &driver, 1, Step::Create, &away()).await;
        fail(&fake, &driver, 1, Step::Prepare, &unreadable).await;
    }
    assert_eq!(seen.states(), [CircuitState::Closed, CircuitState::Open]);
}

#[tokio::test(start_paused = true)]
async fn work_that_has_ended_is_seen_however_long_a_turn_takes() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, _) = driver(&fake, 1);
    let driver = driver.with_patience(Patience {
        watch: Duration::from_secs(1),
        longest_pause: Duration::from_secs(3),
        ..Patience::default()
    });
    let begun = Instant::now();
    let crowded = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(fake.creates(), [1]);
        tokio::join!(crowd(&driver.endpoint), async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            fake.end_all(0);
        });
    };
    let outcome = tokio::select! {
        outcome = driver.execute(NoParams {}, job("t")) => outcome,
        () = crowded => unreachable!("the crowd has a thousand turns to take"),
    };
    completed(outcome);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_time_goes_before_it_begins_says_so() {
    for crowded in [false, true] {
        let fake = Fake::<LOOKUP>::default();
        let (driver, seen) = driver(&fake, 1);
        if !crowded {
            fake.script(Step::Prepare, [Scripted::Slow(FOR_EVER)]);
        }
        let crowd = async {
            if crowded {
                crowd(&driver.endpoint).await;
            }
            std::future::pending::<()>().await;
        };
        // The crowd has its turns at whole seconds.
        let job = Job { time_left: Duration::from_millis(29_500), ..job("t") };
        let outcome = tokio::select! {
            biased;
            () = crowd => unreachable!("it never ends"),
            outcome = driver.execute(NoParams {}, job) => outcome,
        };
        let late = failed(outcome);
        assert_eq!((late.code.as_str(), late.external_state), (code::TIMEOUT, None), "crowded: {crowded}");
        let (class, spent) = if crowded {
            // Another provider may take over.
            (FailureClass::Unavailable { after_ms: None }, "waiting for a turn to call")
        } else {
            (FailureClass::Retry { after_ms: None }, "preparing it")
        };
        assert_eq!(late.class, class, "{late:?}");
        assert!(late.message.contains("nothing was begun within the attempt's time of 29.5 s"), "{}", late.message);
        assert!(late.message.contains(spent), "{}", late.message);
        assert!(fake.creates().is_empty());
        let has_waited = seen.waited() >= Duration::from_millis(29_400);
        assert_eq!(has_waited, crowded, "it is seen to have waited: {:?}", seen.waited());
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_time_goes_to_a_look_says_so() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, _) = driver(&fake, 0);
    fake.script(Step::LookUp, [Scripted::Slow(FOR_EVER), Scripted::Slow(Duration::from_secs(15))]);
    let late = failed(driver.execute(NoParams {}, Job { lost_workers: 1, ..job("t") }).await);
    assert_eq!((late.code.as_str(), late.external_state), (code::TIMEOUT, None), "{late:?}");
    assert_eq!(late.class, FailureClass::Retry { after_ms: None }, "{late:?}");
    assert!(late.message.contains("looking for what a lost worker may have begun"), "{}", late.message);
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_worker_may_have_begun_is_unknown_where_it_was_not_created_again() {
    let preparing = Scripted::Slow(FOR_EVER);
    for (step, scripted, code) in [
        (Step::Prepare, preparing, code::TIMEOUT),
        (Step::Prepare, Scripted::Untaken(away()), code::PROVIDER_UNAVAILABLE),
        (Step::Create, Scripted::Untaken(away()), code::PROVIDER_UNAVAILABLE),
    ] {
        let fake = Fake::<TOKEN>::default();
        let (driver, _) = driver(&fake, 0);
        fake.script(step, [scripted]);
        let late = failed(driver.execute(NoParams {}, Job { lost_workers: 1, ..job("t") }).await);
        assert_eq!((late.code.as_str(), late.external_state), (code, Some(ExternalState::Unknown)), "{late:?}");
        assert!(!late.message.contains("nothing was begun"), "{}", late.message);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_refuses_it_has_answered() {
    let answers = [
        throttled(0),
        Fault::Deferred { cause: "a registry is away".to_owned(), after: None },
        Fault::SetupRefused { cause: "403".to_owned() },
        Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause: "400".to_owned() },
    ];
    for fault in answers {
        let fake = Fake::<LOOKUP>::default();
        let (driver, seen) = driver(&fake, 0);
        fail(&fake, &driver, 10 * FAULTS, Step::Create, &fault).await;
        assert_eq!(seen.states(), [CircuitState::Closed], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_failed_is_no_fault_of_its_endpoint() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    for number in 0..10 * FAULTS {
        let end = async {
            loop {
                fake.end_all(1);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            outcome = driver.execute(NoParams {}, job(&format!("t-{number}"))) => {
                assert_eq!(failed(outcome).code, code::EXECUTION_FAILED);
            }
            () = end => unreachable!("it never ends"),
        }
    }
    assert_eq!(seen.states(), [CircuitState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_counts() {
    let fake = Fake::<NONE>::default();
    let (driver, seen) = driver(&fake, 0);
    for number in 0..FAULTS {
        fake.script(Step::Create, [Scripted::Slow(Duration::from_secs(3600))]);
        failed(driver.execute(NoParams {}, job(&format!("t-{number}"))).await);
    }
    assert_eq!(seen.states(), [CircuitState::Closed, CircuitState::Open]);
}

#[tokio::test(start_paused = true)]
async fn work_that_has_begun_is_watched_to_its_end_while_none_begins() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    let begun = job("begun");
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fail(&fake, &driver, FAULTS, Step::Create, &away()).await;
        failed(driver.execute(NoParams {}, job("refused")).await);
        fake.end_all(0);
    };
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, begun.clone()), others);
    completed(outcome);
    assert_eq!((fake.creates(), seen.refused()), (vec![1], 1));
    assert_eq!(seen.states(), [CircuitState::Closed, CircuitState::Open]);
}

#[tokio::test(start_paused = true)]
async fn work_that_has_begun_is_stopped_while_none_begins() {
    for (unanswered, state) in [(0, ExternalState::ConfirmedStopped), (1000, ExternalState::Unknown)] {
        let fake = Fake::<LOOKUP>::default();
        let (driver, _) = driver(&fake, 0);
        let began = Instant::now();
        let begun = job("begun");
        let others = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fail(&fake, &driver, FAULTS - 1, Step::Create, &away()).await;
            // Nobody has a turn now, either.
            let later = Fault::Unavailable { cause: "503".to_owned(), after: Some(Duration::from_secs(60)) };
            fail(&fake, &driver, 1, Step::Create, &later).await;
            fake.script(Step::Stop, vec![Scripted::Untaken(lost()); unanswered]);
            begun.stop.cancel();
        };
        let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, begun.clone()), others);
        let stopped = failed(outcome);
        assert_eq!((stopped.code.as_str(), stopped.external_state), (code::CANCELLED, Some(state)));
        assert_eq!(fake.state().stopped.len(), usize::from(unanswered == 0));
        assert!(stopped.report.output["stdout"].is_string(), "what it had written is kept");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
}

/// A worker is lost over its work, and the next one, whose circuit is open, finds that again.
async fn found_again<const R: u8>() {
    let fake = Fake::<R>::default();
    let first = job("t");
    let killed = tokio::time::timeout(Duration::from_secs(1), fake.driver().execute(NoParams {}, first.clone())).await;
    assert!(killed.is_err());
    let (after, seen) = driver(&fake, 0);
    fail(&fake, &after, FAULTS, Step::Create, &away()).await;
    let next = Job { recorded: Value::Null, ..next_worker(&first) };
    completed(run(&fake, &after, next).await);
    assert_eq!((fake.creates(), seen.refused()), (vec![1], 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_worker_may_have_begun_is_looked_for_whatever_the_circuit() {
    // By its key, and by creating it again.
    found_again::<LOOKUP>().await;
    found_again::<TOKEN>().await;

    // Not found at all: it would be begun once more.
    let fake = Fake::<NONE>::default();
    let (after, seen) = driver(&fake, 0);
    fail(&fake, &after, FAULTS, Step::Create, &away()).await;
    failed(after.execute(NoParams {}, Job { lost_workers: 1, ..job("t") }).await);
    assert_eq!((fake.creates(), seen.refused()), (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn a_create_in_doubt_is_resolved_whatever_the_circuit() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    fail(&fake, &driver, FAULTS - 1, Step::Create, &away()).await;
    // Its lost answer opens the circuit, and the look that follows is made.
    fake.script(Step::Create, [Scripted::Taken(lost())]);
    completed(run(&fake, &driver, job("t")).await);
    assert_eq!(fake.creates(), [1]);
    assert_eq!(seen.states(), [CircuitState::Closed, CircuitState::Open]);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_attempts_is_held_to_the_rate() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 10);
    let begun = Instant::now();
    together(&fake, &driver, 20).await.into_iter().for_each(|outcome| drop(completed(outcome)));
    assert_eq!(fake.creates(), [1; 20]);
    // Each prepares, creates, watches and collects: 80 calls, 10 of them at once.
    assert!(begun.elapsed() >= Duration::from_secs(7), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    let waited = seen.all().iter().filter(|event| matches!(event, EndpointEvent::Waited(_))).count();
    assert!((60..=70).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_slows_all_attempts_for_a_moment_and_fails_none_but_its_own() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    let begun = Instant::now();
    fail(&fake, &driver, 1, Step::Create, &throttled(20)).await;
    assert!(begun.elapsed() < Duration::from_millis(10), "it goes back to the workflow, which waits");
    completed(run(&fake, &driver, job("t")).await);
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(6), "nobody waits long in its slot: {:?}", begun.elapsed());
    assert_eq!(seen.states(), [CircuitState::Closed]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_waits_for_its_turn_can_be_stopped_and_has_begun_nothing() {
    let fake = Fake::<LOOKUP>::default();
    let (driver, seen) = driver(&fake, 0);
    fail(&fake, &driver, 1, Step::Create, &throttled(20)).await;
    let waiting = job("t");
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        waiting.stop.cancel();
    };
    let begun = Instant::now();
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, waiting.clone()), stop);
    let stopped = failed(outcome);
    assert_eq!((stopped.code.as_str(), stopped.external_state), (code::CANCELLED, None));
    assert!(begun.elapsed() < Duration::from_secs(2) && fake.creates().is_empty());
    assert!(seen.waited() >= Duration::from_secs(1), "it is seen to have waited: {:?}", seen.waited());
}

#[tokio::test(start_paused = true)]
async fn work_that_is_one_call_waits_for_one_turn() {
    let fake = Fake::<ONE_CALL>::default();
    let (driver, seen) = driver(&fake, 10);
    let begun = Instant::now();
    for outcome in together(&fake, &driver, 30).await {
        completed(outcome);
    }
    let took = begun.elapsed();
    assert!((Duration::from_millis(1_900)..Duration::from_millis(2_300)).contains(&took), "ten at once: {took:?}");
    assert!(seen.waited() < Duration::from_millis(2_300), "{:?}", seen.waited());
}

#[tokio::test(start_paused = true)]
async fn a_create_that_goes_on_without_an_answer_says_nothing_of_the_endpoint() {
    let fake = Fake::<ONE_CALL>::default();
    let (driver, seen) = driver(&fake, 0);
    fail(&fake, &driver, FAULTS - 1, Step::Create, &away()).await;
    completed(run(&fake, &driver, job("unheard")).await);
    fail(&fake, &driver, 1, Step::Create, &away()).await;
    assert_eq!(seen.states(), [CircuitState::Closed, CircuitState::Open], "it has interrupted no row");
    tokio::time::sleep(PAUSE).await;
    completed(run(&fake, &driver, job("unheard")).await);
    assert_eq!(seen.states().last(), Some(&CircuitState::HalfOpen), "and closes nothing");
}
