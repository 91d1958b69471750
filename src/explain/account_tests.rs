use temporalio_common::worker::WorkerDeploymentVersion;
use ticket_workflows::{AttemptRecord, Ledger};

use super::super::server::WorkflowTask;
use super::*;

const T0: i64 = 1_773_653_400_000;

fn known(run: Run, answer: Answer) -> Known {
    let run = Run { run_id: "r".to_owned(), started_ms: Some(T0), deadline_ms: Some(T0 + 100_000), ..run };
    Known { ticket_id: "t-1".to_owned(), run, answer, recent: None, newest_poll_ms: None }
}

fn running() -> Run {
    Run { status: WorkflowExecutionStatus::Running, ..Run::default() }
}

fn nobody() -> Answer {
    Answer::Nobody("no worker answered within 10 s".to_owned())
}

fn answered(state: State) -> Answer {
    Answer::Status(Box::new(TicketStatus {
        compensation: None,
        orders: Vec::new(),
        paused: false,
        ticket_id: "t-1".to_owned(),
        wait: Wait::of(&state, 4, Some(T0 + 100_000)),
        state,
        max_attempts: 4,
        deadline_ms: Some(T0 + 100_000),
        ledger: Ledger::default(),
        error_code: None,
    }))
}

fn account(known: &Known) -> Account {
    Account::of(known, Vec::new(), None, T0 + 25_000)
}

fn pending(activity: &str, state: PendingActivityState, attempt: i32) -> Pending {
    Pending {
        activity: activity.to_owned(),
        state,
        attempt,
        scheduled_ms: Some(T0 + 1_000),
        last_failure: (attempt > 1).then(|| "no\u{1b}[31mbroker".to_owned()),
        ..Pending::default()
    }
}

#[test]
fn what_a_worker_answers_is_told_as_it_is() {
    for (state, word, kind, since_ms, until_ms) in [
        (State::Received, "received", "worker", T0, None),
        (State::Registering { since_ms: T0 + 1 }, "registering", "dependency_lookup", T0 + 1, None),
        (
            State::Parked { since_ms: T0 + 2, until_ms: T0 + 9, waiting_for: vec!["a".to_owned()], count: 1 },
            "parked",
            "dependencies",
            T0 + 2,
            Some(T0 + 9),
        ),
        (State::Collecting { since_ms: T0 + 3 }, "collecting", "outputs", T0 + 3, None),
        (State::Executing { attempt: 1, since_ms: T0 + 4 }, "executing", "executor", T0 + 4, Some(T0 + 100_000)),
        (State::Stopping { attempt: 1, since_ms: T0 + 5, reason: "r".to_owned() }, "stopping", "stop", T0 + 5, None),
        (
            State::RetryWait { attempt: 1, since_ms: T0 + 6, until_ms: T0 + 60, code: "timeout".to_owned() },
            "retry_wait",
            "retry",
            T0 + 6,
            Some(T0 + 60),
        ),
        (State::Reporting { since_ms: T0 + 7 }, "reporting", "publication", T0 + 7, None),
        (
            State::ReportStuck { since_ms: T0 + 8, owed: [ticket_workflows::Owed::TicketService].into() },
            "report_stuck",
            "stuck_report",
            T0 + 8,
            None,
        ),
        (
            State::CreatingCompensation { since_ms: T0 + 8, attempt: 1, ticket_id: "u".to_owned() },
            "creating_compensation",
            "compensation_creation",
            T0 + 8,
            None,
        ),
        (
            State::Compensating { since_ms: T0 + 9, until_ms: T0 + 90, attempt: 2, ticket_id: "u".to_owned() },
            "compensating",
            "compensation",
            T0 + 9,
            Some(T0 + 90),
        ),
        (
            State::CompensationFailed {
                since_ms: T0 + 10,
                attempt: 1,
                ticket_id: "u".to_owned(),
                code: "timeout".to_owned(),
            },
            "compensation_failed",
            "compensation_order",
            T0 + 10,
            None,
        ),
        (
            State::SettlingCompensation { since_ms: T0 + 11 },
            "settling_compensation",
            "compensation_settlement",
            T0 + 11,
            None,
        ),
    ] {
        let told = account(&known(running(), answered(state)));
        assert_eq!(told.state, word);
        let waiting_for = told.waiting_for.expect("a wait");
        assert_eq!(waiting_for["kind"], kind);
        assert_eq!(told.since, format_instant(since_ms), "{word}");
        assert_eq!(told.until, until_ms.and_then(format_instant), "{word}");
        assert!(told.unblocked_by.is_some_and(|by| !by.is_empty()), "{word}");
        assert_eq!(told.deadline_used, Some(0.25));
        assert_eq!(told.unanswered, None);
        assert!(told.explanation.starts_with("Ticket t-1 ") && told.explanation.contains("25 %"), "{word}");
    }
}

#[test]
fn without_an_answer_the_description_says_what_it_can() {
    use PendingActivityState::{CancelRequested, Scheduled, Started};
    let timer = || Recent { timer: Some((Some(T0 + 2_000), Some(T0 + 30_000))), ..Recent::default() };
    let parked =
        Run { phase: Some("parked".to_owned()), dependencies: vec!["a".to_owned(), "b".to_owned()], ..running() };
    let in_phase = |phase: &str, pending: Option<Pending>| Run {
        phase: Some(phase.to_owned()),
        pending: pending.into_iter().collect(),
        ..running()
    };
    let with = |pending: Pending| Run { pending: vec![pending], ..running() };
    let task = Run { workflow_task: Some(WorkflowTask { attempt: 1, scheduled_ms: Some(T0 + 3_000) }), ..running() };
    for (run, recent, state, kind, since_ms, until_ms) in [
        (with(pending("execute", Started, 1)), None, "executing", "executor", T0 + 1_000, None),
        (with(pending("execute", CancelRequested, 1)), None, "stopping", "stop", T0 + 1_000, None),
        (with(pending("report", Scheduled, 7)), None, "reporting", "publication", T0 + 1_000, None),
        (with(pending("register", Started, 1)), None, "registering", "dependency_lookup", T0 + 1_000, None),
        (with(pending("collect", Started, 1)), None, "collecting", "outputs", T0 + 1_000, None),
        (parked, Some(timer()), "parked", "dependencies", T0, Some(T0 + 30_000)),
        (
            in_phase("compensating", Some(pending("compensate", Scheduled, 2))),
            None,
            "creating_compensation",
            "compensation_creation",
            T0 + 1_000,
            None,
        ),
        (in_phase("compensating", None), Some(timer()), "compensating", "compensation", T0 + 2_000, Some(T0 + 30_000)),
        (in_phase("compensation_failed", None), None, "compensation_failed", "compensation_order", T0, None),
        (
            in_phase("compensated", Some(pending("set_status", Started, 1))),
            None,
            "settling_compensation",
            "compensation_settlement",
            T0 + 1_000,
            None,
        ),
        (running(), Some(timer()), "retry_wait", "retry", T0 + 2_000, Some(T0 + 30_000)),
        (task, None, "unknown", "worker", T0 + 3_000, None),
        (running(), None, "unknown", "worker", T0, None),
    ] {
        let told = account(&Known { recent, newest_poll_ms: Some(None), ..known(run, nobody()) });
        let waiting_for = told.waiting_for.expect("a wait");
        assert_eq!((told.state.as_str(), &waiting_for["kind"]), (state, &json!(kind)));
        assert_eq!(told.since, format_instant(since_ms), "{state}");
        assert_eq!(told.until, until_ms.and_then(format_instant), "{state}");
        assert!(told.unanswered.is_some() && told.explanation.contains("no worker polls"), "{}", told.explanation);
        assert!(!told.explanation.contains('\u{1b}'));
        if kind == "publication" {
            assert_eq!(waiting_for["activity_attempt"], 7);
            assert!(told.explanation.contains("7th") && told.explanation.contains("broker"), "{}", told.explanation);
        }
    }
}

#[test]
fn a_workflow_task_that_fails_again_and_again_is_told_first() {
    let task = |attempt| Some(WorkflowTask { attempt, scheduled_ms: Some(T0) });
    let failure = || Some(Recent { task_failure: Some("[TMPRL1100] nondeterminism".to_owned()), ..Recent::default() });
    let stuck = Known { recent: failure(), ..known(Run { workflow_task: task(9), ..running() }, nobody()) };
    let told = account(&stuck);
    assert_eq!(told.waiting_for.as_ref().map(|it| it["kind"].clone()), Some(json!("workflow_task")));
    assert!(told.explanation.contains("stuck") && told.explanation.contains("TMPRL1100"), "{}", told.explanation);
    // A task that was only lost with its worker.
    let lost = Known { recent: None, ..known(Run { workflow_task: task(2), ..running() }, nobody()) };
    let told = account(&lost);
    assert_eq!(told.waiting_for, Some(json!({ "kind": "worker", "attempt": 2 })));
    assert!(told.explanation.contains("attempt 2") && !told.explanation.contains("stuck"), "{}", told.explanation);
}

#[test]
fn a_closed_ticket_says_how_it_ended_and_waits_for_nothing() {
    for (status, close, state, error_code, needle) in [
        (WorkflowExecutionStatus::Completed, (None, "echo answered exit code 0"), "completed", None, "exit code 0"),
        (
            WorkflowExecutionStatus::Failed,
            (Some("timeout"), "attempt 2 of 2: too long"),
            "failed",
            Some("timeout"),
            "failed with timeout",
        ),
        (WorkflowExecutionStatus::Canceled, (None, "unwanted"), "cancelled", Some("cancelled"), "was cancelled"),
        (WorkflowExecutionStatus::Terminated, (None, "by me: so"), "terminated", None, "without a result"),
    ] {
        let run = Run { status, closed_ms: Some(T0 + 150_000), ..Run::default() };
        let close = Some((close.0.map(str::to_owned), close.1.to_owned()));
        let told = account(&Known { recent: Some(Recent { close, ..Recent::default() }), ..known(run, nobody()) });
        assert_eq!((told.state.as_str(), told.error_code.as_deref()), (state, error_code));
        assert_eq!((told.waiting_for, told.until, told.unblocked_by), (None, None, None));
        assert_eq!(told.since, format_instant(T0 + 150_000));
        assert_eq!(told.deadline_used, Some(1.5));
        assert!(told.explanation.contains(needle), "{}", told.explanation);
    }
}

#[test]
fn an_executor_is_named_with_what_the_server_knows_of_it() {
    let attempt = Pending {
        worker: Some("worker-agents@a-1".to_owned()),
        until_ms: Some(T0 + 50_000),
        ..pending("execute", PendingActivityState::Started, 2)
    };
    let run = Run {
        task_type: Some("EXECUTE".to_owned()),
        provider: Some("local".to_owned()),
        pending: vec![attempt],
        ..running()
    };
    let mut known = known(run, answered(State::Executing { attempt: 2, since_ms: T0 }));
    if let Answer::Status(status) = &mut known.answer {
        status.ledger.count = 1;
        status.ledger.attempts.push(AttemptRecord {
            attempt: 1,
            started_at_ms: T0,
            ended_at_ms: T0 + 5,
            end: "timeout".to_owned(),
            worker: None,
            lost_workers: 0,
        });
    }
    let told = account(&known);
    let waiting_for = told.waiting_for.expect("a wait");
    assert_eq!((&waiting_for["provider"], &waiting_for["worker"]), (&json!("local"), &json!("worker-agents@a-1")));
    assert_eq!(told.until, format_instant(T0 + 50_000));
    let text = told.explanation;
    assert!(text.contains("EXECUTE with provider local: attempt 2 of 4 runs on worker-agents@a-1"), "{text}");
    assert!(text.contains("the last ended with timeout"), "{text}");
}

#[test]
fn a_deadline_before_the_start_is_used_up() {
    for (from, to, now, share) in [(0, 100, 50, 0.5), (0, 100, 250, 2.5), (100, 50, 0, 1.0), (100, 200, 0, 0.0)] {
        assert!((used(from, to, now) - share).abs() < 1e-9);
    }
}

#[test]
fn a_ticket_that_only_workers_of_one_version_run_is_told_with_the_way_out() {
    let version = WorkerDeploymentVersion::builder().deployment_name("agents").build_id("one").build();
    let run = Run { pinned: Some(version), task_queue: "q".to_owned(), ..running() };
    let polled = |newest_poll_ms| account(&Known { newest_poll_ms, ..known(run.clone(), nobody()) }).explanation;
    for (newest_poll_ms, part) in [
        (None, "no worker of build \"one\" of deployment \"agents\", to which it is pinned, polls"),
        (Some(T0), "that one of build \"one\" of deployment \"agents\", to which it is pinned, polled"),
    ] {
        let told = polled(Some(newest_poll_ms));
        assert!(
            told.contains(part) && told.contains("update-options -w ticket-t-1"),
            "{part:?} is missing in {told:?}"
        );
    }
}
