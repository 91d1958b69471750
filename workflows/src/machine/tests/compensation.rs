//! A failed ticket whose work is undone by another one.

use super::*;
use crate::orders::{Order, Verb};
use crate::policy::CompensationPolicy;
use crate::visibility::TicketPhase;

const PATIENCE: i64 = 300_000;

fn policy() -> TicketPolicy {
    let compensation = Some(CompensationPolicy { appear_timeout_ms: PATIENCE as u64 });
    TicketPolicy { compensation, ..TicketPolicy::default() }
}

fn undoable() -> Machine {
    Machine::new(&ticket(r#"{"timeout_ms":1000,"max_retries":0}"#, "[]"), &policy()).of_run("run-1")
}

fn id(run: &str, attempt: u32) -> String {
    let original = ticket_schemas::TicketId::parse("t-1").expect("an id");
    ticket_schemas::compensation_id(&original, "rollback_execution", &format!("{run}#{attempt}"))
}

fn broke() -> Event {
    failed(FailureClass::Permanent)
}

fn stands(state: DependencyState) -> Event {
    Event::CompensationStands(state)
}

fn told(ticket_id: &str, outcome: DependencyState) -> Event {
    Event::PredecessorEnded(DependencyOutcome { ticket_id: ticket_id.to_owned(), outcome })
}

fn not_undone() -> DependencyState {
    DependencyState::Failed { code: code::EXECUTION_FAILED.to_owned() }
}

fn order(verb: Verb) -> Order {
    Order { verb, by: "ana".to_owned(), why: "because".to_owned() }
}

fn cancel() -> Verb {
    Verb::Cancel { preempted_by: None, grace_ms: None }
}

/// A machine in a state of the compensation, by name.
fn machine_in(state: &str) -> Machine {
    let creating = vec![Event::Admitted, broke(), Event::Published];
    let compensating = [creating.clone(), vec![Event::CompensationCreated, stands(DependencyState::Open)]].concat();
    let events = match state {
        "reporting" => vec![Event::Admitted, broke()],
        "creating_compensation" => creating,
        "compensating" => compensating,
        "compensation_failed" => [compensating, vec![told(&id("run-1", 1), not_undone())]].concat(),
        "settling_compensated" => [compensating, vec![told(&id("run-1", 1), DependencyState::Completed)]].concat(),
        "settling_skipped" => [compensating, vec![Event::Ordered(order(Verb::SkipCompensation))]].concat(),
        other => panic!("{other}"),
    };
    let mut machine = undoable();
    run(&mut machine, events.into_iter().map(|event| (10, event)));
    machine
}

const STATES: [&str; 6] = [
    "reporting",
    "creating_compensation",
    "compensating",
    "compensation_failed",
    "settling_compensated",
    "settling_skipped",
];

#[test]
fn inc_38_a_failed_ticket_is_reported_first_and_undone_then() {
    let mut machine = undoable();
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (5, broke()),
            (6, Event::Published),
            (7, Event::CompensationCreated),
            (8, stands(DependencyState::Open)),
            (PATIENCE + 8, Event::WaitOver),
            (PATIENCE + 9, stands(DependencyState::Open)),
            (PATIENCE + 10, told("another", DependencyState::Completed)),
            (PATIENCE + 11, told(&id("run-1", 1), DependencyState::Completed)),
            (PATIENCE + 12, Event::CompensationSettled),
        ],
    );
    assert_eq!(
        commands[1..],
        [
            Command::Publish,
            Command::Compensate { attempt: 1, again: false },
            Command::FollowCompensation,
            Command::AwaitCompensation { until_ms: T0 + 8 + PATIENCE },
            Command::FollowCompensation,
            Command::AwaitCompensation { until_ms: T0 + PATIENCE + 9 + PATIENCE + 2 },
            Command::Ignore,
            Command::SettleCompensation,
            Command::Close,
        ]
    );
    let compensation = machine.compensation().expect("a compensation");
    assert_eq!((&compensation.ticket_id, compensation.attempt), (&id("run-1", 1), 1));
    assert_eq!(compensation.state, CompensationState::Completed);
    assert_eq!(machine.compensation_phase(), Some(TicketPhase::Compensated));
    // What was published stays true.
    assert_eq!(machine.verdict().and_then(Verdict::failure).map(|it| it.code.as_str()), Some(code::EXECUTION_FAILED));
}

#[test]
fn inc_38_nothing_is_undone_that_was_not_done_or_is_not_to_be_undone() {
    let undone = |mut machine: Machine, events: Vec<Event>| {
        let commands = run(&mut machine, events.into_iter().map(|event| (10, event)));
        assert!(machine.compensation().is_some() == (machine.state() != &State::Closed), "{commands:?}");
        machine.compensation().is_some()
    };
    let answered = |code| response(Outcome::Failed(Failed::permanent(code, "it broke")));
    let ends = |event| vec![Event::Admitted, event, Event::Published];
    assert!(undone(undoable(), ends(broke())));
    assert!(undone(undoable(), ends(Event::TimedOut)));
    assert!(undone(undoable(), ends(Event::Broken("a panic".to_owned()))));
    assert!(!undone(undoable(), ends(completed())));
    for code in [code::EXECUTOR_NOT_AVAILABLE, code::INVALID_PARAMETERS, code::COMMAND_NOT_FOUND] {
        assert!(!undone(undoable(), ends(answered(code))), "{code}");
    }
    let cancelled = vec![
        Event::Admitted,
        Event::CancelRequested("unwanted".to_owned()),
        answered(code::CANCELLED),
        Event::Published,
    ];
    assert!(!undone(undoable(), cancelled), "somebody decided that, and decides what is undone");
    let expired = format!(r#"{{"deadline":{},"timeout_ms":1,"max_retries":0}}"#, T0 - 1);
    assert!(!undone(Machine::new(&ticket(&expired, "[]"), &policy()), vec![Event::Admitted, Event::Published]));
    assert!(!undone(machine(r#"{"max_retries":0}"#), ends(broke())), "not without the policy");
    let mut reading = ticket(r#"{"max_retries":0}"#, "[]");
    reading.task_type = ticket_schemas::TaskType::Query;
    assert!(!undone(Machine::new(&reading, &policy()), ends(broke())), "reading leaves nothing behind");
}

#[test]
fn inc_38_each_run_and_each_try_has_a_ticket_of_its_own() {
    let mut machine = machine_in("compensation_failed");
    let resumed = machine.apply(T0 + 20, Event::Ordered(order(Verb::ResumeCompensation)), || 0.0);
    assert_eq!(resumed, Command::Compensate { attempt: 2, again: false });
    assert_eq!(machine.compensation().map(|it| it.ticket_id.clone()), Some(id("run-1", 2)));
    assert_eq!(machine.compensation_epoch().as_deref(), Some("run-1#2"));
    let other = undoable().of_run("run-2");
    let mut other = other;
    run(&mut other, [(0, Event::Admitted), (5, broke()), (6, Event::Published)]);
    assert_eq!(other.compensation().map(|it| it.ticket_id.clone()), Some(id("run-2", 1)));
}

#[test]
fn a_compensation_that_does_not_appear_is_created_once_more_and_then_an_operators() {
    let mut machine = machine_in("creating_compensation");
    let unknown = || stands(DependencyState::Unknown);
    let commands = run(
        &mut machine,
        [
            (10, Event::CompensationCreated),
            (10, unknown()),
            (10 + PATIENCE, Event::WaitOver),
            (10 + PATIENCE, unknown()),
            (20 + PATIENCE, Event::CompensationCreated),
            (20 + 2 * PATIENCE, unknown()),
        ],
    );
    assert_eq!(
        commands,
        [
            Command::FollowCompensation,
            Command::AwaitCompensation { until_ms: T0 + 10 + PATIENCE },
            Command::FollowCompensation,
            Command::Compensate { attempt: 1, again: true },
            Command::FollowCompensation,
            Command::AwaitOperator { until_ms: Some(T0 + 20 + 3 * PATIENCE) },
        ]
    );
    let State::CompensationFailed { code, .. } = machine.state() else { panic!("{:?}", machine.state()) };
    assert_eq!(code, code::DEPENDENCY_UNKNOWN);
    let mut resumed = machine.clone();
    let command = resumed.apply(T0 + 3 * PATIENCE, Event::Ordered(order(Verb::ResumeCompensation)), || 0.0);
    assert_eq!(command, Command::Compensate { attempt: 1, again: true }, "it may still come: the same ticket");
    let late = machine.apply(T0 + 3 * PATIENCE, told(&id("run-1", 1), DependencyState::Completed), || 0.0);
    assert_eq!(late, Command::SettleCompensation, "it came after all");
}

#[test]
fn a_compensation_that_nobody_has_heard_of_is_looked_for_until_it_comes() {
    let mut machine = machine_in("creating_compensation");
    let unknown = || stands(DependencyState::Unknown);
    let created = || Event::CompensationCreated;
    let failed_at = 10 + 2 * PATIENCE;
    run(
        &mut machine,
        [(10, created()), (10 + PATIENCE, unknown()), (10 + PATIENCE, created()), (failed_at, unknown())],
    );
    let commands = run(
        &mut machine,
        [
            (failed_at + PATIENCE, Event::WaitOver),
            (failed_at + PATIENCE, unknown()),
            (failed_at + 2 * PATIENCE, Event::WaitOver),
            (failed_at + 2 * PATIENCE, unknown()),
            (failed_at + 4 * PATIENCE, Event::WaitOver),
            (failed_at + 4 * PATIENCE, stands(DependencyState::Open)),
        ],
    );
    let until = |after| Command::AwaitOperator { until_ms: Some(T0 + failed_at + after) };
    let follow = || Command::FollowCompensation;
    let waits = Command::AwaitCompensation { until_ms: T0 + failed_at + 5 * PATIENCE };
    assert_eq!(commands, [follow(), until(2 * PATIENCE), follow(), until(4 * PATIENCE), follow(), waits]);
    assert_eq!(machine.compensation_phase(), Some(TicketPhase::Compensating));
    let done = machine.apply(T0 + failed_at + 5 * PATIENCE, stands(DependencyState::Completed), || 0.0);
    assert_eq!(done, Command::SettleCompensation);
}

/// `+` it changes something, `=` it is so already, `-` it is refused.
fn weighed(verb: &Verb) -> String {
    let one = |state: &&str| {
        let mut machine = machine_in(state);
        let order = order(verb.clone());
        let refused = machine.refuses(T0 + 20, &order);
        assert_eq!(machine.answer(T0 + 20, &order).done, refused.is_none(), "{state}");
        let (before, orders) = (machine.clone(), machine.orders().len());
        let command = machine.apply(T0 + 20, Event::Ordered(order), || 0.0);
        assert_eq!(machine.verdict(), before.verdict(), "{state}: what was published stays true");
        if machine.orders().len() > orders {
            return '+';
        }
        assert_eq!((command, machine.state()), (Command::Ignore, before.state()), "{state}");
        if refused.is_none() { '=' } else { '-' }
    };
    STATES.iter().map(one).collect()
}

#[test]
fn every_verb_in_every_state_of_a_compensation() {
    for (verb, expected) in [
        (Verb::ResumeCompensation, "-==+=-"),
        (Verb::SkipCompensation, "-+++-="),
        (cancel(), "------"),
        (Verb::Pause, "------"),
        (Verb::Resume, "------"),
        (Verb::RetryNow, "------"),
        (Verb::ExtendDeadline { deadline_ms: T0 + 1 }, "------"),
    ] {
        assert_eq!(weighed(&verb), expected, "{verb:?} in {STATES:?}");
    }
}

#[test]
fn a_cancel_is_refused_with_the_way_out_and_a_cancelled_workflow_goes_on() {
    for state in ["creating_compensation", "compensating", "compensation_failed"] {
        let mut machine = machine_in(state);
        let refusal = machine.refuses(T0 + 20, &order(cancel())).expect("refused");
        assert!(refusal.contains(&id("run-1", 1)) && refusal.contains("compensation skip"), "{refusal}");
        assert!(refusal.contains("FAILED (execution_failed)"), "{refusal}");
        let before = machine.clone();
        let command = machine.apply(T0 + 20, Event::CancelRequested("by the server".to_owned()), || 0.0);
        assert_eq!((command, machine.state()), (Command::Ignore, before.state()), "{state}");
    }
    let nothing = machine_in("reporting").refuses(T0 + 20, &order(Verb::SkipCompensation)).expect("refused");
    assert!(nothing.contains("nothing is being undone"), "{nothing}");
}

#[test]
fn every_state_of_a_compensation_is_shown() {
    for (state, shown) in [
        ("creating_compensation", "is being created"),
        ("compensating", "undoes it since"),
        ("compensation_failed", "an order to resume the compensation or to skip it"),
        ("settling_compensated", "has undone what it did"),
        ("settling_skipped", "what it did stays as it is"),
    ] {
        let details = crate::details::current_details(&machine_in(state));
        assert!(details.contains(shown) && details.contains(&id("run-1", 1)), "{state}: {details}");
        assert!(details.contains("Failed with `execution_failed`"), "{state}: {details}");
    }
}
