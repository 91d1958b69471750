//! Every verb in every state.

use super::*;
use crate::orders::{Order, Verb};

const DEADLINE: i64 = T0 + 600_000;

fn sla() -> String {
    format!(r#"{{"deadline":{DEADLINE},"timeout_ms":1000,"max_retries":2}}"#)
}

fn order(verb: Verb) -> Order {
    Order { verb, by: "ana".to_owned(), why: "because".to_owned() }
}

fn ordered(verb: Verb) -> Event {
    Event::Ordered(order(verb))
}

fn cancel() -> Verb {
    Verb::Cancel { preempted_by: None, grace_ms: None }
}

fn skip(ticket_id: &str) -> Verb {
    Verb::SkipDependency { ticket_id: ticket_id.to_owned() }
}

fn extend(after_ms: i64) -> Verb {
    Verb::ExtendDeadline { deadline_ms: DEADLINE + after_ms }
}

fn registered(states: &[(&str, DependencyState)]) -> Event {
    let states = states.iter().map(|(id, state)| ((*id).to_owned(), state.clone())).collect();
    Event::Registered(Registered { states, cycle: None })
}

fn told(id: &str, outcome: DependencyState) -> Event {
    Event::PredecessorEnded(DependencyOutcome { ticket_id: id.to_owned(), outcome })
}

fn code_of(machine: &Machine) -> Option<&str> {
    machine.verdict().and_then(Verdict::failure).map(|failed| failed.code.as_str())
}

fn failed_for_good() -> Event {
    failed(FailureClass::Permanent)
}

/// A machine of each state, by name.
fn machine_in(state: &str) -> Machine {
    use DependencyState::{Completed, Open};
    let cancelled = || Event::CancelRequested("first".to_owned());
    let alone = vec![Event::Admitted];
    let waits = vec![Event::Admitted, registered(&[("a", Open), ("b", Open)])];
    let (dependencies, events) = match state {
        "received" => ("[\"a\",\"b\"]", vec![]),
        "registering" => ("[\"a\",\"b\"]", vec![Event::Admitted]),
        "parked" => ("[\"a\",\"b\"]", waits),
        "collecting" => ("[\"a\",\"b\"]", [waits, vec![told("a", Completed), told("b", Completed)]].concat()),
        "executing" => ("[]", alone),
        "stopping" => ("[]", [alone, vec![cancelled()]].concat()),
        "retry_wait" => ("[]", [alone, vec![failed(RETRY)]].concat()),
        "paused" => ("[]", [alone, vec![failed(RETRY), ordered(Verb::Pause)]].concat()),
        "reporting" => ("[]", [alone, vec![completed()]].concat()),
        "reporting_cancelled" => ("[]", [alone, vec![failed(RETRY), cancelled()]].concat()),
        "closed" => ("[]", [alone, vec![failed_for_good(), Event::Published]].concat()),
        other => panic!("{other}"),
    };
    let mut machine = Machine::new(&ticket(&sla(), dependencies), &TicketPolicy::default());
    run(&mut machine, events.into_iter().map(|event| (10, event)));
    machine
}

const STATES: [&str; 11] = [
    "received",
    "registering",
    "parked",
    "collecting",
    "executing",
    "stopping",
    "retry_wait",
    "paused",
    "reporting",
    "reporting_cancelled",
    "closed",
];

/// `+` it changes something, `=` it is so already, `-` it is refused.
fn weighed(verb: &Verb) -> String {
    let one = |state: &&str| {
        let mut machine = machine_in(state);
        let order = order(verb.clone());
        let refused = machine.refuses(T0 + 20, &order);
        let answer = machine.answer(T0 + 20, &order);
        assert_eq!(answer.done, refused.is_none(), "{state}: {answer:?}");
        let (before, orders) = (machine.clone(), machine.orders().len());
        let command = machine.apply(T0 + 20, Event::Ordered(order), || 0.0);
        if machine.orders().len() > orders {
            return '+';
        }
        assert_eq!(command, Command::Ignore, "{state}");
        assert_eq!((machine.state(), machine.verdict()), (before.state(), before.verdict()), "{state}");
        if refused.is_none() { '=' } else { '-' }
    };
    STATES.iter().map(one).collect()
}

#[test]
fn every_verb_in_every_state() {
    for (verb, expected) in [
        (cancel(), "+++++=++-=-"),
        (Verb::Pause, "+++++-+=---"),
        (Verb::Resume, "=======+---"),
        (Verb::RetryNow, "------+----"),
        (extend(0), "========---"),
        (extend(60_000), "++++++++---"),
        (extend(-1), "-----------"),
        (skip("a"), "+++=-------"),
        (skip("x"), "-----------"),
        (Verb::ResumeCompensation, "-----------"),
        (Verb::SkipCompensation, "-----------"),
    ] {
        assert_eq!(weighed(&verb), expected, "{verb:?} in {STATES:?}");
    }
}

#[test]
fn a_refusal_says_what_the_ticket_does() {
    let refusal = |state: &str, verb| machine_in(state).refuses(T0 + 20, &order(verb)).expect("refused");
    for (state, verb, words) in [
        ("reporting", cancel(), "ended as COMPLETED"),
        ("closed", Verb::Pause, "ended as FAILED (execution_failed)"),
        ("executing", Verb::RetryNow, "executing attempt 1"),
        ("paused", Verb::RetryNow, "resume it first"),
        ("stopping", Verb::Pause, "being cancelled"),
        ("parked", skip("x"), "does not depend on x; it waits for a, b"),
        ("executing", skip("x"), "does not wait for any other"),
        ("parked", extend(-1), "later time"),
    ] {
        let refusal = refusal(state, verb);
        assert!(refusal.contains(words), "{refusal}");
    }
    let nobody = Order { verb: Verb::Pause, by: " ".to_owned(), why: "x".to_owned() };
    assert!(machine_in("executing").refuses(T0, &nobody).is_some());
    let late = DEADLINE + 120_000;
    let mark = TicketPolicy { deadline: DeadlinePolicy::Mark, ..TicketPolicy::default() };
    let mut passed = Machine::new(&ticket(&sla(), "[]"), &mark);
    run(&mut passed, [(0, Event::Admitted)]);
    assert!(passed.refuses(late, &order(extend(60_000))).is_some_and(|refusal| refusal.contains("passed already")));
    assert!(machine("null").refuses(T0, &order(extend(1))).is_some_and(|refusal| refusal.contains("no sla.deadline")));
    let in_nanoseconds = Verb::ExtendDeadline { deadline_ms: DEADLINE * 1_000_000 };
    assert!(machine_in("executing").refuses(T0, &order(in_nanoseconds)).is_some());
}

#[test]
fn inc_11_a_cancel_order_says_who_preempted_and_keeps_the_first_reason() {
    let first = Verb::Cancel { preempted_by: Some("t-9".to_owned()), grace_ms: Some(5_000) };
    let again = Order { verb: cancel(), by: "bo".to_owned(), why: "other".to_owned() };
    let mut stopped = Failed::permanent(code::CANCELLED, "stopped");
    stopped.external_state = Some(ExternalState::ConfirmedStopped);
    stopped.report.metadata.insert("kept".to_owned(), true.into());
    let mut machine = machine(&sla());
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (5, ordered(first)),
            (6, Event::Ordered(again.clone())),
            (9, response(stopped.into())),
            (10, Event::Ordered(again)),
        ],
    );
    assert_eq!(commands[1..], [Command::Stop, Command::Ignore, Command::Publish, Command::Ignore]);
    assert_eq!(machine.grace_ms(), Some(5_000));
    let Some(Verdict::Cancelled(failed)) = machine.verdict() else { panic!("{:?}", machine.verdict()) };
    let metadata = &failed.report.metadata;
    assert_eq!((&metadata["cancel_reason"], &metadata["preempted_by"]), (&"because".into(), &"t-9".into()));
    assert_eq!(metadata["kept"], true);
    assert_eq!(failed.external_state, Some(ExternalState::ConfirmedStopped));
    assert_eq!(machine.orders().len(), 1);
}

#[test]
fn a_grace_that_passes_leaves_the_fate_of_the_work_unknown_and_work_that_never_began_has_none() {
    for (end, state) in [(Event::GraceOver, Some(ExternalState::Unknown)), (Event::Unbegun, None)] {
        let mut machine = machine(&sla());
        let commands = run(&mut machine, [(0, Event::Admitted), (5, ordered(cancel())), (9, end)]);
        assert_eq!(commands[2], Command::Publish);
        let Some(Verdict::Cancelled(failed)) = machine.verdict() else { panic!("{:?}", machine.verdict()) };
        assert_eq!(failed.external_state, state);
    }
}

#[test]
fn a_paused_ticket_begins_no_attempt_and_goes_on_where_it_was() {
    // The running attempt goes on; the retry after it waits, and after it the rest of the back-off.
    let mut machine = machine(&sla());
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (1, ordered(Verb::Pause)),
            (10, failed(RETRY)),
            (1_010, ordered(Verb::Resume)),
            (1_020, ordered(Verb::Pause)),
            (5_000, ordered(Verb::Resume)),
        ],
    );
    let hold = || Command::Hold { until_ms: Some(DEADLINE) };
    let attempt = |attempt| Command::Execute { attempt, timeout_ms: 1_500 };
    let expected = [attempt(1), Command::Ignore, hold(), Command::Wait { for_ms: 1_000 }, hold(), attempt(2)];
    assert_eq!(commands, expected);
    assert!(!machine.is_paused());
}

#[test]
fn a_ticket_that_is_paused_while_it_waits_for_others_hears_them_and_does_not_begin() {
    let mut machine = machine_in("parked");
    let commands = run(
        &mut machine,
        [
            (20, ordered(Verb::Pause)),
            (30, told("a", DependencyState::Completed)),
            (40, told("b", DependencyState::Completed)),
            (50, Event::Collected { filled_bytes: None }),
            (60, ordered(Verb::Resume)),
        ],
    );
    assert_eq!(commands[0], Command::Ignore);
    assert_eq!(commands[2..4], [Command::Collect, Command::Hold { until_ms: Some(DEADLINE) }]);
    assert_eq!(commands[4], Command::Execute { attempt: 1, timeout_ms: 1_500 });
    let mut failing = machine_in("parked");
    let failure = DependencyState::Failed { code: "timeout".to_owned() };
    assert_eq!(run(&mut failing, [(20, ordered(Verb::Pause)), (30, told("a", failure))])[1], Command::Publish);
}

#[test]
fn inc_43_a_deadline_that_passes_ends_a_paused_ticket_unless_it_was_extended() {
    let mut machine = machine_in("paused");
    assert_eq!(run(&mut machine, [(600_000, Event::WaitOver)]), [Command::Publish]);
    assert_eq!(code_of(&machine), Some(code::DEADLINE_EXCEEDED));

    let mut extended = machine_in("paused");
    let later = Command::Hold { until_ms: Some(DEADLINE + 60_000) };
    let commands = run(&mut extended, [(20, ordered(extend(60_000))), (600_000, Event::WaitOver)]);
    assert_eq!(commands, [later.clone(), later]);

    let patient = crate::policy::DependencyPolicy { unknown_timeout_ms: 3_600_000, ..Default::default() };
    let strict =
        TicketPolicy { deadline: DeadlinePolicy::Strict, dependencies: Some(patient), ..TicketPolicy::default() };
    let mut parked = Machine::new(&ticket(&sla(), r#"["a"]"#), &strict);
    let open = registered(&[("a", DependencyState::Open)]);
    let events = [(0, Event::Admitted), (1, open), (2, ordered(Verb::Pause)), (3, ordered(extend(60_000)))];
    let commands = run(&mut parked, events);
    assert_eq!(commands[1], Command::Park { until_ms: DEADLINE });
    assert_eq!(commands[3], Command::Park { until_ms: DEADLINE + 60_000 });
    assert_eq!(run(&mut parked, [(660_000, Event::WaitOver)]), [Command::Publish]);
    assert_eq!(code_of(&parked), Some(code::DEADLINE_EXCEEDED));

    let mark = TicketPolicy { deadline: DeadlinePolicy::Mark, ..TicketPolicy::default() };
    let mut marked = Machine::new(&ticket(&sla(), "[]"), &mark);
    let commands = run(&mut marked, [(0, Event::Admitted), (1, ordered(Verb::Pause)), (2, failed(RETRY))]);
    assert_eq!(commands[2], Command::Hold { until_ms: None });
}

#[test]
fn an_extended_deadline_is_seen_by_the_retry_decision_and_by_later_attempts() {
    let sla = format!(r#"{{"deadline":{},"timeout_ms":600000,"max_retries":3}}"#, T0 + 1_000);
    let mut machine = machine(&sla);
    let later = Verb::ExtendDeadline { deadline_ms: T0 + 60_000 };
    let events = [(0, Event::Admitted), (100, ordered(later)), (500, failed(RETRY)), (2_500, Event::WaitOver)];
    let commands = run(&mut machine, events);
    assert_eq!(commands[1..3], [Command::Ignore, Command::Wait { for_ms: 2_000 }]);
    assert_eq!(commands[3], Command::Execute { attempt: 2, timeout_ms: 57_500 });
}

#[test]
fn a_retry_that_is_wanted_now_begins_at_once() {
    let mut machine = machine_in("retry_wait");
    assert_eq!(
        run(&mut machine, [(20, ordered(Verb::RetryNow))]),
        [Command::Execute { attempt: 2, timeout_ms: 1_500 }]
    );
}

#[test]
fn a_skipped_dependency_counts_as_completed_whatever_it_tells() {
    let failure = || DependencyState::Failed { code: "timeout".to_owned() };
    let mut parked = machine_in("parked");
    let events = [(20, ordered(skip("a"))), (30, told("a", failure())), (40, ordered(skip("b")))];
    let commands = run(&mut parked, events);
    assert!(commands[..2].iter().all(|command| matches!(command, Command::Park { .. })), "{commands:?}");
    assert_eq!(commands[2], Command::Collect);

    let mut registering = machine_in("registering");
    let path = ["t-1", "a", "t-1"].map(str::to_owned).to_vec();
    let states = [("a".to_owned(), failure()), ("b".to_owned(), DependencyState::Completed)].into();
    let answer = Event::Registered(Registered { states, cycle: Some(path) });
    assert_eq!(run(&mut registering, [(20, ordered(skip("a"))), (30, answer)]), [Command::Ignore, Command::Collect]);
}

#[test]
fn the_last_orders_are_kept_and_shown() {
    let mut machine = machine_in("executing");
    for n in 0..15 {
        run(&mut machine, [(20 + n, ordered(Verb::Pause)), (20 + n, ordered(Verb::Resume))]);
    }
    assert_eq!(machine.orders().len(), 20);
    let last = machine.orders().last().expect("an order");
    assert_eq!((&last.order.verb, last.at_ms), (&Verb::Resume, T0 + 34));
    let status = crate::status::TicketStatus::of("t-1", &machine);
    assert_eq!(status.orders.len(), 20);
    let details = crate::details::current_details(&machine);
    assert!(details.contains("Last order: resume, by `ana`"), "{details}");
}

#[test]
fn a_result_that_an_order_of_the_same_task_is_part_of_goes_through_the_history_first() {
    for (order_at, recorded) in [(100, true), (500, false)] {
        let mut machine = machine(&sla());
        run(&mut machine, [(0, Event::Admitted), (order_at, ordered(Verb::Pause)), (500, completed())]);
        assert_eq!(machine.concluded().map(|concluded| concluded.recorded), Some(recorded));
    }
}

#[test]
fn orders_that_come_before_the_first_attempt_begins_hold_for_it() {
    let mut machine = machine(FOREVER);
    let commands = run(&mut machine, [(0, Event::Admitted), (0, ordered(Verb::Pause)), (0, Event::Unbegun)]);
    assert_eq!(commands[1..], [Command::Ignore, Command::Hold { until_ms: None }]);
    assert!(matches!(machine.state(), State::Paused { attempt: 1, .. }));

    let mut extended = Machine::new(&ticket(&sla(), "[]"), &TicketPolicy::default());
    let commands =
        run(&mut extended, [(599_500, Event::Admitted), (599_500, ordered(extend(60_000))), (599_500, Event::Unbegun)]);
    assert_eq!(commands[0], Command::Execute { attempt: 1, timeout_ms: 500 });
    assert_eq!(commands[2], Command::Execute { attempt: 1, timeout_ms: 1_500 });
}
