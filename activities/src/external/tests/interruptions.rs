//! A stop, a time-out and a drain, each at every step.

use super::fake::{Fake, LOOKUP, NONE, NoParams, ONE_CALL, Scripted, Step, lost};
use super::*;
use ticket_workflows::{ExternalState, FailureClass, code};
use tokio::time::Instant;

/// Longer than anybody waits for.
const FOR_EVER: Duration = Duration::from_secs(1_000_000);
/// The steps at which an attempt can be interrupted; `Watch` without a script lasts until the work ends.
const STEPS: [Step; 5] = [Step::LookUp, Step::Prepare, Step::Create, Step::Watch, Step::Collect];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Interruption {
    Stop,
    Drain,
}

/// Runs an attempt, and `interrupt` beside it, which does not end it by its own end.
async fn beside<const R: u8>(fake: &Fake<R>, job: &Job, interrupt: impl Future<Output = ()>) -> Outcome {
    let driver = fake.driver();
    let (outcome, ()) = tokio::join!(driver.execute(NoParams {}, job.clone()), interrupt);
    outcome
}

/// Runs an attempt that hangs at `step`, and interrupts it there.
async fn interrupted(fake: &Fake<LOOKUP>, step: Step, interruption: Interruption) -> (Job, Outcome) {
    let mut job = job("t");
    if step == Step::LookUp {
        job.lost_workers = 1;
    }
    if step != Step::Watch {
        fake.script(step, [Scripted::Slow(FOR_EVER)]);
    }
    let interrupt = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if step == Step::Collect {
            fake.end_all(0);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if interruption == Interruption::Drain {
            job.detach.cancel();
        }
        job.stop.cancel();
    };
    let outcome = beside(fake, &job, interrupt).await;
    (job, outcome)
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_any_step_leaves_nothing_running_and_says_so() {
    for step in STEPS {
        let fake = Fake::<LOOKUP>::default();
        let (_, outcome) = interrupted(&fake, step, Interruption::Stop).await;
        if step == Step::Collect {
            completed(outcome);
            continue;
        }
        let failed = failed(outcome);
        assert_eq!((failed.code.as_str(), failed.class), (code::CANCELLED, FailureClass::Permanent), "{step:?}");
        let running = fake.state().works.values().filter(|ended| ended.is_none()).count();
        assert_eq!(running, 0, "{step:?}");
        let created = !fake.creates().is_empty();
        assert_eq!(failed.external_state, created.then_some(ExternalState::ConfirmedStopped), "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_at_any_step_stops_nothing_and_the_next_worker_finishes_the_same_work() {
    for step in STEPS {
        let fake = Fake::<LOOKUP>::default();
        let began = Instant::now();
        let (job, outcome) = interrupted(&fake, step, Interruption::Drain).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{step:?}: it is handed back");
        assert!(began.elapsed() < Duration::from_secs(25), "{step:?}: {:?}", began.elapsed());
        assert_eq!(fake.state().stopped, [""; 0], "{step:?}");
        let next = next_worker(&job);
        let driver = fake.driver();
        let end = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                fake.end_all(0);
            }
        };
        let outcome = tokio::select! {
            outcome = driver.execute(NoParams {}, next) => outcome,
            () = end => unreachable!("it never ends"),
        };
        completed(outcome);
        assert_eq!(fake.creates(), [1], "{step:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_time_is_stopped_and_its_output_kept() {
    let fake = Fake::<LOOKUP>::default();
    let began = Instant::now();
    let failed = failed(fake.driver().execute(NoParams {}, job("t")).await);
    // The plan's limit is below what the attempt has left.
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!((failed.code.as_str(), failed.class), (code::TIMEOUT, FailureClass::Retry { after_ms: None }));
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped));
    assert!(failed.report.output["stdout"].as_str().expect("text").starts_with("output of t-t-1-"), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_says_what_the_work_was_last_waited_for() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Watch, vec![Scripted::Untaken(lost()); 1000]);
    let failed = failed(fake.driver().execute(NoParams {}, job("t")).await);
    assert_eq!(failed.code, code::TIMEOUT);
    assert!(failed.message.contains("connection reset"), "{}", failed.message);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_nobody_confirms_is_unknown_and_comes_in_time() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Stop, vec![Scripted::Untaken(lost()); 1000]);
    fake.script(Step::Collect, vec![Scripted::Untaken(lost()); 1000]);
    let began = Instant::now();
    let failed = failed(fake.driver().execute(NoParams {}, job("t")).await);
    assert_eq!(failed.external_state, Some(ExternalState::Unknown));
    // The server gives the attempt up 30 s after its time-out.
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_of_a_stop_is_told_although_the_last_try_has_no_answer() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Stop, [Scripted::Untaken(lost()), Scripted::Slow(FOR_EVER)]);
    let job = Job { time_left: Duration::from_secs(5), ..job("t") };
    let failed = failed(beside(&fake, &job, async {}).await);
    assert_eq!(failed.external_state, Some(ExternalState::Unknown));
    assert!(failed.message.contains("connection reset"), "{}", failed.message);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_the_provider_has_no_call_for_is_asked_for_once_and_said_to_be_unknown() {
    let fake = Fake::<LOOKUP>::default();
    let cause = "it ends nothing".to_owned();
    fake.script(Step::Stop, vec![Scripted::Untaken(Fault::Unsupported { cause }); 2]);
    let began = Instant::now();
    let failed = failed(fake.driver().execute(NoParams {}, job("t")).await);
    assert_eq!((failed.code.as_str(), failed.external_state), (code::TIMEOUT, Some(ExternalState::Unknown)));
    assert!(
        failed.message.contains("is not known to have stopped") && failed.message.contains("it ends nothing"),
        "{}",
        failed.message
    );
    assert_eq!(failed.class, FailureClass::Permanent, "another attempt would begin the same work beside it");
    assert_eq!(began.elapsed().as_secs(), 30, "nobody waits for what never comes");
    let _ = fake.driver().execute(NoParams {}, job("u")).await;
    assert_eq!(fake.state().stopped, [""; 0], "the second answer was left for the second attempt");
}

#[tokio::test(start_paused = true)]
async fn work_that_the_stop_finds_ended_is_judged_by_its_end() {
    for stopped in [true, false] {
        for (exit_code, evidence) in [(0, true), (3, false)] {
            let fake = Fake::<LOOKUP>::default();
            fake.script(Step::Watch, [Scripted::Slow(FOR_EVER)]);
            let job = job("t");
            let interrupt = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                fake.end_all(exit_code);
                if stopped {
                    job.stop.cancel();
                }
            };
            let outcome = beside(&fake, &job, interrupt).await;
            if evidence {
                let done = completed(outcome);
                assert_eq!(done.report.output["exit_code"], 0, "stopped: {stopped}");
                continue;
            }
            let failed = failed(outcome);
            assert_eq!((failed.code.as_str(), failed.external_state), (code::EXECUTION_FAILED, None), "{stopped}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_a_create_that_nothing_recognises_says_that_nobody_knows() {
    for (interruption, code) in [(Interruption::Stop, code::CANCELLED), (Interruption::Drain, code::INFRASTRUCTURE)] {
        let fake = Fake::<NONE>::default();
        fake.script(Step::Create, [Scripted::Slow(FOR_EVER)]);
        let job = job("t");
        let interrupt = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if interruption == Interruption::Drain {
                job.detach.cancel();
            }
            job.stop.cancel();
        };
        let failed = failed(beside(&fake, &job, interrupt).await);
        // What is handed back is judged by whoever gets it.
        let state = (interruption == Interruption::Stop).then_some(ExternalState::Unknown);
        assert_eq!((failed.code.as_str(), failed.external_state), (code, state), "{interruption:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_what_is_gone_is_confirmed() {
    let fake = Fake::<LOOKUP>::default();
    fake.script(Step::Watch, [Scripted::Slow(FOR_EVER)]);
    let job = job("t");
    let interrupt = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.state().works.clear();
        job.stop.cancel();
    };
    let outcome = beside(&fake, &job, interrupt).await;
    assert_eq!(failed(outcome).external_state, Some(ExternalState::ConfirmedStopped));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_time_creates_nothing() {
    let fake = Fake::<LOOKUP>::default();
    let mut job = job("t");
    job.time_left = Duration::ZERO;
    let failed = failed(fake.driver().execute(NoParams {}, job).await);
    assert_eq!((failed.code.as_str(), failed.external_state), (code::TIMEOUT, None));
    assert!(fake.creates().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_goes_away_keeps_an_end_that_nobody_else_is_told() {
    for exit_code in [0, 3] {
        let fake = Fake::<ONE_CALL>::default();
        fake.script(Step::Follow, vec![Scripted::Slow(FOR_EVER); 10]);
        let job = job("t");
        let interrupt = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fake.end_all(exit_code);
            tokio::time::sleep(Duration::from_secs(1)).await;
            job.detach.cancel();
            job.stop.cancel();
        };
        let began = Instant::now();
        let report = match beside(&fake, &job, interrupt).await {
            Outcome::Completed(completed) => completed.report,
            Outcome::Failed(failed) => {
                assert_eq!((failed.code.as_str(), exit_code), (code::EXECUTION_FAILED, 3), "{failed:?}");
                failed.report
            }
        };
        assert_eq!(report.output["exit_code"], exit_code);
        assert_eq!(fake.creates(), [1]);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_goes_away_while_it_creates_keeps_the_answer_and_hands_back_what_has_none() {
    for ends in [true, false] {
        let fake = Fake::<ONE_CALL>::default();
        fake.script(Step::Create, [Scripted::Slow(Duration::from_secs(2))]);
        let job = job("t");
        let interrupt = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            job.detach.cancel();
            job.stop.cancel();
            if ends {
                fake.end_all(0);
            }
        };
        let outcome = beside(&fake, &job, interrupt).await;
        if ends {
            completed(outcome);
        } else {
            assert_eq!(failed(outcome).code, code::INFRASTRUCTURE, "it is handed back");
        }
        assert_eq!(fake.creates(), [1]);
    }
}
