//! Every row of the transition table, as (state, event) → (command, state).

use super::*;
use crate::dependencies::{DependencyOutcome, Registered};
use crate::outcome::{Completed, Evidence, ExecutionReport};

mod compensation;
mod dependencies;
mod orders;

const T0: i64 = 1_773_653_400_000;

fn ticket(sla: &str, dependencies: &str) -> Ticket {
    let text = format!(
        r#"{{"ticket_id":"t-1","plan_id":"p","intent_id":"i","task_id":"a","task_type":"EXECUTE","status":"PENDING",
            "dependencies":{dependencies},"sla":{sla},"parameters":{{}}}}"#
    );
    ticket_schemas::decode_json_ticket(text.as_bytes()).expect("a valid ticket")
}

fn machine(sla: &str) -> Machine {
    Machine::new(&ticket(sla, "[]"), &TicketPolicy::default())
}

fn response(outcome: Outcome) -> Event {
    Event::Answered(Box::new(ExecuteResponse {
        outcome,
        agent_id: "worker-1".to_owned(),
        started_at_ms: T0 + 1,
        ended_at_ms: T0 + 2,
        lost_workers: 0,
    }))
}

fn completed() -> Event {
    let evidence = Evidence::new("true", "exit code 0").expect("evidence");
    response(Outcome::Completed(Completed { evidence, report: ExecutionReport::default() }))
}

fn failed(class: FailureClass) -> Event {
    response(Outcome::Failed(Failed::new(code::EXECUTION_FAILED, class, "it broke")))
}

const RETRY: FailureClass = FailureClass::Retry { after_ms: None };
const FOREVER: &str = r#"{"timeout_ms":1000,"max_retries":1}"#;

fn run(machine: &mut Machine, events: impl IntoIterator<Item = (i64, Event)>) -> Vec<Command> {
    events.into_iter().map(|(after, event)| machine.apply(T0 + after, event, || 0.0)).collect()
}

#[test]
fn the_straight_path_is_four_commands() {
    let mut machine = machine(FOREVER);
    let commands = run(&mut machine, [(0, Event::Admitted), (5, completed()), (6, Event::Published)]);
    assert_eq!(commands, [Command::Execute { attempt: 1, timeout_ms: 1_500 }, Command::Publish, Command::Close]);
    assert_eq!(machine.state(), &State::Closed);
    assert!(matches!(machine.verdict(), Some(Verdict::Completed(_))));
    assert_eq!(machine.ledger().count, 1);
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let mut machine = machine(r#"{"timeout_ms":1000,"max_retries":5}"#);
    let commands = run(&mut machine, [(0, Event::Admitted), (5, failed(FailureClass::Permanent))]);
    assert_eq!(commands[1], Command::Publish);
    assert_eq!(machine.verdict().and_then(Verdict::failure).map(|f| f.code.as_str()), Some(code::EXECUTION_FAILED));
}

#[test]
fn retries_wait_with_backoff_and_end_after_max_retries() {
    let mut machine = machine(FOREVER);
    let commands =
        run(&mut machine, [(0, Event::Admitted), (5, failed(RETRY)), (2_005, Event::WaitOver), (2_010, failed(RETRY))]);
    assert_eq!(commands[1], Command::Wait { for_ms: 2_000 });
    assert_eq!(commands[2], Command::Execute { attempt: 2, timeout_ms: 1_500 });
    assert_eq!(commands[3], Command::Publish);
    let message = &machine.verdict().and_then(Verdict::failure).expect("failed").message;
    assert!(message.starts_with("attempt 2 of 2:"), "{message}");
}

#[test]
fn zero_retries_is_one_attempt() {
    let mut machine = machine(r#"{"timeout_ms":1000,"max_retries":0}"#);
    let commands = run(&mut machine, [(0, Event::Admitted), (5, Event::TimedOut)]);
    assert_eq!(commands[1], Command::Publish);
    assert_eq!(machine.verdict().and_then(Verdict::failure).map(|f| f.code.as_str()), Some(code::TIMEOUT));
}

#[test]
fn inc_43_an_expired_deadline_fails_before_anything_starts() {
    let sla = format!(r#"{{"deadline":{},"timeout_ms":1000,"max_retries":1}}"#, T0 - 1);
    let mut machine = machine(&sla);
    assert_eq!(run(&mut machine, [(0, Event::Admitted)]), [Command::Publish]);
    assert_eq!(machine.ledger().count, 0);
    assert_eq!(machine.verdict().and_then(Verdict::failure).map(|f| f.code.as_str()), Some(code::DEADLINE_EXCEEDED));
}

#[test]
fn inc_43_the_deadline_bounds_attempts_and_retries() {
    let sla = format!(r#"{{"deadline":{},"timeout_ms":600000,"max_retries":3}}"#, T0 + 1_000);
    let mut machine = machine(&sla);
    let commands = run(&mut machine, [(0, Event::Admitted), (500, failed(RETRY))]);
    assert_eq!(commands[0], Command::Execute { attempt: 1, timeout_ms: 1_000 });
    assert_eq!(commands[1], Command::Publish, "a back-off of 2 s does not fit before the deadline");
    let failure = machine.verdict().and_then(Verdict::failure).expect("failed");
    assert_eq!(failure.code, code::DEADLINE_EXCEEDED);
    assert!(failure.message.contains("execution_failed"), "{}", failure.message);
}

#[test]
fn a_marking_deadline_never_ends_work() {
    let policy = TicketPolicy { deadline: DeadlinePolicy::Mark, ..TicketPolicy::default() };
    let sla = format!(r#"{{"deadline":{},"timeout_ms":1000,"max_retries":1}}"#, T0 - 1);
    let mut machine = Machine::new(&ticket(&sla, "[]"), &policy);
    assert_eq!(run(&mut machine, [(0, Event::Admitted)]), [Command::Execute { attempt: 1, timeout_ms: 1_500 }]);
    assert_eq!(machine.enforced_deadline_ms(), None);
}

#[test]
fn a_missing_sla_takes_the_defaults() {
    let mut machine = machine("null");
    assert_eq!(run(&mut machine, [(0, Event::Admitted)]), [Command::Execute { attempt: 1, timeout_ms: 90_000 }]);
    assert_eq!(machine.max_attempts(), 4);
}

#[test]
fn a_reference_to_nobodys_output_fails_before_anything_starts() {
    let mut ticket = ticket(FOREVER, "[]");
    ticket.parameters.insert("p".to_owned(), "${dependencies.x.output.y}".into());
    let mut machine = Machine::new(&ticket, &TicketPolicy::default());
    assert_eq!(run(&mut machine, [(0, Event::Admitted)]), [Command::Publish]);
    assert_eq!(machine.verdict().and_then(Verdict::failure).map(|f| f.code.as_str()), Some(code::INVALID_REFERENCE));
}

#[test]
fn a_cancel_stops_the_attempt_and_waits_for_it() {
    let mut stopped = Failed::permanent(code::CANCELLED, "stopped");
    stopped.external_state = Some(ExternalState::ConfirmedStopped);
    let mut machine = machine(FOREVER);
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (5, Event::CancelRequested("not needed".to_owned())),
            (6, Event::CancelRequested("again".to_owned())),
            (9, response(stopped.into())),
        ],
    );
    assert_eq!(commands[1..], [Command::Stop, Command::Ignore, Command::Publish]);
    let Some(Verdict::Cancelled(failed)) = machine.verdict() else { panic!("{:?}", machine.verdict()) };
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped));
    assert!(failed.message.contains("not needed"));
}

#[test]
fn work_that_completed_before_the_stop_reached_it_is_completed() {
    let mut machine = machine(FOREVER);
    run(&mut machine, [(0, Event::Admitted), (5, Event::CancelRequested("x".to_owned())), (9, completed())]);
    assert!(matches!(machine.verdict(), Some(Verdict::Completed(_))));
}

#[test]
fn a_cancel_works_in_every_open_state() {
    let cancel = || Event::CancelRequested("x".to_owned());
    let mut received = machine(FOREVER);
    assert_eq!(run(&mut received, [(0, cancel())]), [Command::Publish]);
    let mut waiting = machine(FOREVER);
    assert_eq!(run(&mut waiting, [(0, Event::Admitted), (5, failed(RETRY)), (6, cancel())])[2], Command::Publish);
    for end in [Event::Stopped, Event::TimedOut, Event::Broken("x".to_owned())] {
        let mut stopping = machine(FOREVER);
        run(&mut stopping, [(0, Event::Admitted), (5, cancel()), (6, end)]);
        let Some(Verdict::Cancelled(failed)) = stopping.verdict() else { panic!("{:?}", stopping.verdict()) };
        assert_eq!(failed.external_state, Some(ExternalState::Unknown));
    }
}

#[test]
fn the_verdict_never_changes_once_it_is_known() {
    let mut machine = machine(FOREVER);
    run(&mut machine, [(0, Event::Admitted), (5, completed())]);
    let verdict = machine.verdict().cloned();
    let late = [
        (6, Event::Admitted),
        (7, failed(RETRY)),
        (8, Event::TimedOut),
        (9, Event::Stopped),
        (10, Event::Broken("x".to_owned())),
        (11, Event::WaitOver),
        (12, Event::CancelRequested("x".to_owned())),
    ];
    assert!(run(&mut machine, late.clone()).iter().all(|command| *command == Command::Ignore));
    run(&mut machine, [(13, Event::Published)]);
    assert!(run(&mut machine, late).iter().all(|command| *command == Command::Ignore));
    assert_eq!(machine.verdict(), verdict.as_ref());
    assert_eq!(machine.state(), &State::Closed);
}

#[test]
fn the_ledger_is_bounded_and_keeps_the_last_attempts() {
    let mut machine = machine(r#"{"timeout_ms":1000,"max_retries":100}"#);
    run(&mut machine, [(0, Event::Admitted)]);
    for n in 0..50 {
        run(&mut machine, [(n, failed(RETRY)), (n + 1, Event::WaitOver)]);
    }
    assert_eq!(machine.ledger().count, 50);
    assert_eq!(machine.ledger().attempts.len(), Ledger::KEPT);
    assert_eq!(machine.ledger().attempts.last().map(|a| a.attempt), Some(50));
}

#[test]
fn a_broken_executor_fails_the_ticket_as_internal() {
    let mut machine = machine(FOREVER);
    run(&mut machine, [(0, Event::Admitted), (5, Event::Broken("panicked".to_owned()))]);
    assert_eq!(machine.verdict().and_then(Verdict::failure).map(|f| f.code.as_str()), Some(code::INTERNAL));
}

#[test]
fn a_result_is_made_of_times_that_the_history_holds_or_goes_through_the_history_first() {
    let cancel = || Event::CancelRequested("x".to_owned());
    let mut answered = machine(FOREVER);
    run(&mut answered, [(0, Event::Admitted), (500, completed())]);
    assert_eq!(answered.concluded(), Some(Concluded { at_ms: T0 + 2, recorded: true }), "the executor's own end");
    let mut refused = Machine::new(&ticket(FOREVER, r#"["t-1"]"#), &TicketPolicy::default());
    run(&mut refused, [(0, Event::Admitted)]);
    assert_eq!(refused.concluded(), Some(Concluded { at_ms: T0, recorded: true }));
    for events in [
        vec![(0, Event::Admitted), (5, failed(RETRY)), (700, cancel())],
        vec![(0, Event::Admitted), (5, cancel()), (700, Event::Stopped)],
        vec![(0, Event::Admitted), (700, Event::Broken("x".to_owned()))],
    ] {
        let mut unrecorded = machine(FOREVER);
        run(&mut unrecorded, events);
        assert_eq!(unrecorded.concluded(), Some(Concluded { at_ms: T0 + 700, recorded: false }));
    }
}

#[test]
fn how_a_failed_attempt_ends_its_ticket_does_not_depend_on_when_the_workflow_hears_of_it() {
    let sla = format!(r#"{{"deadline":{},"timeout_ms":1000,"max_retries":0}}"#, T0 + 1_000);
    let heard_at = |after_ms: i64| {
        let mut machine = machine(&sla);
        run(&mut machine, [(0, Event::Admitted), (after_ms, timed_out_answer())]);
        machine.verdict().and_then(Verdict::failure).map(|failed| failed.code.clone())
    };
    assert_eq!(heard_at(999), heard_at(1_001), "the executor had answered before the deadline");
}

fn timed_out_answer() -> Event {
    response(Outcome::Failed(Failed::new(code::TIMEOUT, RETRY, "too slow")))
}

/// Lets attempts fail until the machine gives up; before the server would.
fn attempts_until_full(machine: &mut Machine) -> i64 {
    let mut attempts = 0;
    while machine.verdict().is_none() {
        attempts += 1;
        assert!(attempts < 50, "50 MiB are full");
        run(machine, [(attempts, failed(RETRY)), (attempts, Event::WaitOver)]);
    }
    attempts
}

#[test]
fn attempts_never_fill_the_history_until_the_server_ends_the_workflow() {
    let mut large = ticket(r#"{"timeout_ms":1000,"max_retries":1000}"#, "[]");
    large.parameters.insert("data".to_owned(), "x".repeat(1_000_000).into());
    let mut machine = Machine::new(&large, &TicketPolicy::default());
    run(&mut machine, [(0, Event::Admitted)]);
    let attempts = attempts_until_full(&mut machine);
    assert!(attempts > 20, "{attempts}");
    let failure = machine.verdict().and_then(Verdict::failure).expect("failed");
    assert_eq!(failure.code, code::EXECUTION_FAILED);
    assert!(failure.message.contains("history"), "{}", failure.message);
}
