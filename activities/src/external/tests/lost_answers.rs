//! Answers that do not come, workers that are lost, and how often work is created.

use super::fake::{Fake, LOOKUP, NONE, NoParams, ONE_CALL, Scripted, Step, TOKEN, lost, passing, throttled};
use super::*;
use ticket_workflows::{ExternalState, FailureClass, code};
use tokio::time::Instant;

/// Runs an attempt whose work ends with 0 after a second.
async fn run<const R: u8>(fake: &Fake<R>, job: Job) -> Outcome {
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        loop {
            fake.end_all(0);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let driver = fake.driver();
    tokio::select! {
        outcome = driver.execute(NoParams {}, job) => outcome,
        () = end => unreachable!("it never ends"),
    }
}

#[tokio::test(start_paused = true)]
async fn work_is_created_watched_and_collected() {
    let fake = Fake::<LOOKUP>::default();
    let job = job("t");
    let done = completed(run(&fake, job.clone()).await);
    assert_eq!(fake.creates(), [1]);
    assert_eq!(done.report.output["stdout"], format!("output of {}", Key::of(&job)));
    assert_eq!(done.report.metadata["simulated"], false);
    assert!(done.report.metadata["duration_seconds"].as_f64().expect("a number") >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_a_create_is_resolved_by_looking_or_by_the_token() {
    for taken in [true, false] {
        let errored = Fault::Errored { cause: "500".to_owned() };
        for fault in [lost(), errored, Fault::Malformed { cause: "{\"Id\":".to_owned() }] {
            let scripted = |fault| if taken { Scripted::Taken(fault) } else { Scripted::Untaken(fault) };
            let fake = Fake::<LOOKUP>::default();
            fake.script(Step::Create, [scripted(fault.clone())]);
            completed(run(&fake, job("t")).await);
            assert_eq!(fake.creates(), [1], "{fault}, taken: {taken}");

            let fake = Fake::<TOKEN>::default();
            fake.script(Step::Create, [scripted(fault.clone())]);
            completed(run(&fake, job("t")).await);
            assert_eq!(fake.creates(), [1], "{fault}, taken: {taken}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_a_create_that_nothing_recognises_is_never_repeated() {
    for scripted in [Scripted::Taken(lost()), Scripted::Untaken(lost()), Scripted::Slow(Duration::from_secs(3600))] {
        let fake = Fake::<NONE>::default();
        fake.script(Step::Create, [scripted.clone()]);
        let failed = failed(run(&fake, job("t")).await);
        assert_eq!(failed.external_state, Some(ExternalState::Unknown), "{scripted:?}: {failed:?}");
        assert!(fake.creates().len() <= 1, "{scripted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_never_has_an_answer_is_tried_three_times_and_said_to_be_unknown() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Create, vec![Scripted::Untaken(lost()); 10]);
    let failed = failed(run(&fake, job("t")).await);
    assert_eq!(
        (failed.code.as_str(), failed.external_state),
        (code::PROVIDER_UNAVAILABLE, Some(ExternalState::Unknown))
    );
    assert_eq!(fake.creates(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_is_refused_or_put_off_goes_back_to_the_workflow_at_once() {
    for (fault, code, class) in [
        (throttled(7), code::PROVIDER_UNAVAILABLE, FailureClass::Unavailable { after_ms: Some(7000) }),
        (
            Fault::SetupRefused { cause: "403".to_owned() },
            code::PROVIDER_REFUSED,
            FailureClass::Unavailable { after_ms: None },
        ),
        (
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause: "no".to_owned() },
            code::INVALID_PARAMETERS,
            FailureClass::Permanent,
        ),
    ] {
        let fake = Fake::<LOOKUP>::default();
        fake.script(Step::Create, [Scripted::Untaken(fault)]);
        let began = Instant::now();
        let failed = failed(run(&fake, job("t")).await);
        assert_eq!((failed.code.as_str(), failed.class, failed.external_state), (code, class, None));
        assert!(began.elapsed() < Duration::from_millis(10), "an executor never waits for another attempt");
    }
}

#[tokio::test(start_paused = true)]
async fn inc_44_a_lost_workers_work_is_found_and_not_created_again() {
    for told in [true, false] {
        let fake = Fake::<LOOKUP>::default();
        let first = job("t");
        let driver = fake.driver();
        // Dropped in the middle: the worker was killed.
        let killed = tokio::time::timeout(Duration::from_secs(1), driver.execute(NoParams {}, first.clone())).await;
        assert!(killed.is_err());
        let mut second = next_worker(&first);
        if !told {
            second.recorded = Value::Null;
        }
        completed(run(&fake, second).await);
        assert_eq!(fake.creates(), [1], "heartbeat read: {told}");
    }
}

#[tokio::test(start_paused = true)]
async fn inc_44_a_worker_killed_between_create_and_record_leaves_work_that_is_found() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Create, [Scripted::Slow(Duration::from_secs(10))]);
    let first = job("t");
    let driver = fake.driver();
    let killed = tokio::time::timeout(Duration::from_secs(5), driver.execute(NoParams {}, first.clone())).await;
    assert!(killed.is_err());
    assert_eq!(fake.creates(), [1]);
    completed(run(&fake, next_worker(&first)).await);
    assert_eq!(fake.creates(), [1]);
}

#[tokio::test(start_paused = true)]
async fn work_that_nothing_recognises_is_attached_to_when_its_handle_was_recorded() {
    let fake = Fake::<NONE>::default();
    let first = job("t");
    let driver = fake.driver();
    let killed = tokio::time::timeout(Duration::from_secs(1), driver.execute(NoParams {}, first.clone())).await;
    assert!(killed.is_err());
    completed(run(&fake, next_worker(&first)).await);
    assert_eq!(fake.creates(), [1]);
}

#[tokio::test(start_paused = true)]
async fn inc_44_work_whose_record_cannot_be_read_is_not_created_again_where_nothing_else_finds_it() {
    async fn after_an_unreadable_record<const R: u8>(fake: &Fake<R>) -> Outcome {
        let first = job("t");
        let driver = fake.driver();
        let killed = tokio::time::timeout(Duration::from_secs(1), driver.execute(NoParams {}, first.clone())).await;
        assert!(killed.is_err());
        let mut second = next_worker(&first);
        second.recorded["handle"] = json!({ "form": "of another version" });
        run(fake, second).await
    }

    let fake = Fake::<NONE>::default();
    let failed = failed(after_an_unreadable_record(&fake).await);
    assert_eq!((failed.class, failed.external_state), (FailureClass::Permanent, Some(ExternalState::Unknown)));
    assert!(failed.message.contains("of another version"), "{}", failed.message);
    assert_eq!(fake.creates(), [1]);

    let fake = Fake::<LOOKUP>::default();
    completed(after_an_unreadable_record(&fake).await);
    assert_eq!(fake.creates(), [1], "it is found by its key");
}

#[tokio::test(start_paused = true)]
async fn another_attempt_and_another_run_are_other_work() {
    let fake = Fake::<LOOKUP>::default();
    completed(run(&fake, job("t")).await);
    completed(run(&fake, Job { attempt: 2, ..job("t") }).await);
    completed(run(&fake, Job { run_id: "driven again".to_owned(), ..job("t") }).await);
    assert_eq!(fake.creates(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_passes_is_waited_for_while_work_is_looked_up_watched_and_collected() {
    for fault in passing() {
        for step in [Step::LookUp, Step::Watch, Step::Collect] {
            let fake = Fake::<LOOKUP>::default();
            fake.script(step, vec![Scripted::Untaken(fault.clone()); 3]);
            let mut job = job("t");
            job.lost_workers = 1;
            let done = completed(run(&fake, job).await);
            assert_eq!(done.report.metadata.get("output_missing"), None, "{step:?}: {fault}");
            assert_eq!(fake.creates(), [1], "{step:?}: {fault}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_asks_for_time_gets_it() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Watch, [Scripted::Untaken(throttled(20))]);
    let began = Instant::now();
    completed(run(&fake, job("t")).await);
    assert!(began.elapsed() >= Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_asks_for_an_hour_does_not_get_it_while_work_may_end() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Watch, [Scripted::Untaken(throttled(3600))]);
    let driver = fake.driver().with_patience(Patience { watch: Duration::from_secs(5), ..Patience::default() });
    let began = Instant::now();
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.end_all(0);
    };
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job("t")), end);
    completed(outcome);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn output_that_cannot_be_read_is_said_to_be_missing_and_changes_no_verdict() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Collect, vec![Scripted::Untaken(lost()); 1000]);
    let done = completed(run(&fake, job("t")).await);
    assert_eq!(done.report.metadata["output_missing"], true);
    assert!(done.report.logs.iter().any(|line| line.contains("connection reset")), "{:?}", done.report.logs);
}

/// A first attempt at a ticket with this delivery mode.
fn delivered(mode: &str) -> Job {
    let mut job = job("t");
    let mut ticket = (*job.ticket).clone();
    let qos = json!({ "delivery_mode": mode, "consistency": "EVENTUAL", "durability": "PERSISTENT" });
    ticket.qos = serde_json::from_value(qos).expect("qos");
    job.ticket = Arc::new(ticket);
    job
}

#[tokio::test(start_paused = true)]
async fn work_that_vanished_is_run_again_unless_it_may_run_only_once() {
    for (mode, class) in
        [("AT_LEAST_ONCE", FailureClass::Retry { after_ms: None }), ("AT_MOST_ONCE", FailureClass::Permanent)]
    {
        let fake = Fake::<LOOKUP>::default();
        let vanish = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fake.state().works.clear();
            std::future::pending::<()>().await;
        };
        let driver = fake.driver();
        let outcome = tokio::select! {
            outcome = driver.execute(NoParams {}, delivered(mode)) => outcome,
            () = vanish => unreachable!("it never ends"),
        };
        let failed = failed(outcome);
        assert_eq!((failed.code.as_str(), failed.class), (code::WORK_VANISHED, class), "{mode}");
        assert_eq!(failed.external_state, Some(ExternalState::Unknown));
        assert!(failed.report.output.contains_key("exit_code"), "the provider tells of the work: {:?}", failed.report);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_unknown_of_work_that_may_run_only_once_is_final() {
    for (mode, create, stop) in [
        ("AT_LEAST_ONCE", FailureClass::Unavailable { after_ms: None }, FailureClass::Retry { after_ms: None }),
        ("AT_MOST_ONCE", FailureClass::Permanent, FailureClass::Permanent),
    ] {
        let fake = Fake::<LOOKUP>::default();
        fake.script(Step::Create, vec![Scripted::Untaken(lost()); 10]);
        let uncreated = failed(fake.driver().execute(NoParams {}, delivered(mode)).await);
        assert_eq!((uncreated.class, uncreated.external_state), (create, Some(ExternalState::Unknown)), "{mode}");

        let fake = Fake::<LOOKUP>::default();
        fake.script(Step::Stop, vec![Scripted::Untaken(lost()); 1000]);
        let unstopped = failed(fake.driver().execute(NoParams {}, delivered(mode)).await);
        assert_eq!((unstopped.class, unstopped.external_state), (stop, Some(ExternalState::Unknown)), "{mode}");

        let fake = Fake::<LOOKUP>::default();
        let stopped = failed(fake.driver().execute(NoParams {}, delivered(mode)).await);
        assert_eq!(stopped.class, FailureClass::Retry { after_ms: None }, "{mode}: that it does not run is known");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_will_never_start_ends_the_attempt() {
    for (unanswered, state) in [(0, ExternalState::ConfirmedStopped), (1000, ExternalState::Unknown)] {
        let fake = Fake::<LOOKUP>::default();
        let refused = Fault::TicketRefused { code: code::COMMAND_NOT_FOUND, cause: "no such program".to_owned() };
        fake.script(Step::Watch, [Scripted::Untaken(refused)]);
        fake.script(Step::Stop, vec![Scripted::Untaken(lost()); unanswered]);
        let failed = failed(fake.driver().execute(NoParams {}, job("t")).await);
        assert_eq!((failed.code.as_str(), failed.class), (code::COMMAND_NOT_FOUND, FailureClass::Permanent));
        assert_eq!(failed.external_state, Some(state));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_that_is_the_end_of_the_work_is_final_and_says_so() {
    for fault in [lost(), Fault::Errored { cause: "500".to_owned() }, Fault::Malformed { cause: "<html>".to_owned() }] {
        let fake = Fake::<ONE_CALL>::default();
        fake.script(Step::Create, [Scripted::Taken(fault)]);
        let failed = failed(run(&fake, job("t")).await);
        assert_eq!(
            (failed.code.as_str(), failed.class, failed.external_state),
            (code::PROVIDER_UNAVAILABLE, FailureClass::Permanent, Some(ExternalState::Unknown))
        );
        assert!(failed.report.logs.iter().any(|line| line.contains("no other attempt")), "{:?}", failed.report.logs);
    }
    let fake = Fake::<ONE_CALL>::default();
    fake.script(Step::Create, [Scripted::Untaken(throttled(7))]);
    let throttled = failed(run(&fake, job("t")).await);
    assert_eq!(throttled.class, FailureClass::Unavailable { after_ms: Some(7000) }, "nothing was begun");
}
