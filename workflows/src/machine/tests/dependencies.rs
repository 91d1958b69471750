//! Every row of the table that has to do with other tickets.

use super::*;
use crate::policy::DependencyPolicy;

fn waiting_machine(sla: &str, dependencies: &str, policy: TicketPolicy) -> Machine {
    Machine::new(&ticket(sla, dependencies), &policy)
}

fn registered(states: &[(&str, DependencyState)]) -> Event {
    let states = states.iter().map(|(id, state)| ((*id).to_owned(), state.clone())).collect();
    Event::Registered(Registered { states, cycle: None })
}

fn told(id: &str, outcome: DependencyState) -> Event {
    Event::PredecessorEnded(DependencyOutcome { ticket_id: id.to_owned(), outcome })
}

fn failed_with(code: &str) -> DependencyState {
    DependencyState::Failed { code: code.to_owned() }
}

fn code_of(machine: &Machine) -> Option<&str> {
    machine.verdict().and_then(Verdict::failure).map(|failed| failed.code.as_str())
}

use DependencyState::{Completed, Open, Unknown};

#[test]
fn inc_42_a_ticket_waits_for_all_it_depends_on_and_then_runs() {
    let mut machine = waiting_machine(FOREVER, r#"["a","b","a"]"#, TicketPolicy::default());
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (5, registered(&[("a", Open), ("b", Completed)])),
            (9_000, told("a", Completed)),
            (9_001, Event::Collected { filled_bytes: None }),
            (9_005, completed()),
            (9_006, Event::Published),
        ],
    );
    assert_eq!(
        commands,
        [
            Command::Register { dependencies: vec!["a".to_owned(), "b".to_owned()] },
            Command::Park { until_ms: T0 + 5 + 300_000 },
            Command::Collect,
            Command::Execute { attempt: 1, timeout_ms: 1_500 },
            Command::Publish,
            Command::Close,
        ]
    );
    assert_eq!(machine.released_ms(), Some(T0 + 9_000));
    assert_eq!(machine.outcome(), Some(Completed));
}

#[test]
fn what_is_told_before_the_registration_answers_counts() {
    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, TicketPolicy::default());
    let events = [(0, Event::Admitted), (1, told("a", Completed)), (5, registered(&[("a", Open)]))];
    assert_eq!(run(&mut machine, events)[2], Command::Collect);
}

#[test]
fn the_first_that_does_not_complete_ends_the_wait() {
    for (answer, ending) in [
        (registered(&[("a", failed_with("timeout")), ("b", Open)]), None),
        (registered(&[("a", Open), ("b", Open)]), Some(told("b", failed_with("cancelled")))),
    ] {
        let mut machine = waiting_machine(FOREVER, r#"["a","b"]"#, TicketPolicy::default());
        let events = [Some(Event::Admitted), Some(answer), ending].into_iter().flatten();
        let commands = run(&mut machine, events.map(|event| (5, event)));
        assert_eq!(commands.last(), Some(&Command::Publish));
        assert_eq!(code_of(&machine), Some(code::DEPENDENCY_FAILED));
        assert_eq!(machine.outcome(), Some(failed_with(code::DEPENDENCY_FAILED)));
        assert_eq!(machine.ledger().count, 0, "nothing ran");
    }
}

#[test]
fn an_unheard_of_predecessor_is_asked_about_once_more_and_then_given_up() {
    let mut machine = waiting_machine(FOREVER, r#"["a","b"]"#, TicketPolicy::default());
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (5, registered(&[("a", Unknown), ("b", Open)])),
            (300_000, Event::WaitOver),
            (300_005, registered(&[("a", Unknown)])),
        ],
    );
    assert_eq!(commands[1], Command::Park { until_ms: T0 + 300_000 });
    assert_eq!(commands[2], Command::Register { dependencies: vec!["a".to_owned(), "b".to_owned()] });
    assert_eq!(commands[3], Command::Publish);
    assert_eq!(code_of(&machine), Some(code::DEPENDENCY_UNKNOWN));
}

#[test]
fn one_that_turned_up_meanwhile_is_waited_for() {
    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, TicketPolicy::default());
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (5, registered(&[("a", Unknown)])),
            (300_000, Event::WaitOver),
            (300_005, registered(&[("a", Open)])),
            (9_000_000, told("a", Completed)),
        ],
    );
    assert_eq!(commands[3], Command::Park { until_ms: T0 + 300_005 + 600_000 });
    assert_eq!(commands[4], Command::Collect);
}

#[test]
fn a_predecessor_that_does_not_tell_is_looked_at_less_and_less_often() {
    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, TicketPolicy::default());
    run(&mut machine, [(0, Event::Admitted)]);
    let (mut now, mut intervals) = (0, Vec::new());
    for _ in 0..6 {
        let parked = run(&mut machine, [(now, registered(&[("a", Open)]))]);
        let [Command::Park { until_ms }] = parked[..] else { panic!("{parked:?}") };
        intervals.push((until_ms - T0 - now) / 1000);
        now = until_ms - T0;
        assert!(matches!(run(&mut machine, [(now, Event::WaitOver)])[..], [Command::Register { .. }]));
    }
    assert_eq!(intervals, [300, 600, 1200, 2400, 3600, 3600]);
    // It was terminated: nothing ever told.
    run(&mut machine, [(now, registered(&[("a", failed_with("terminated"))]))]);
    assert_eq!(code_of(&machine), Some(code::DEPENDENCY_FAILED));
}

#[test]
fn waits_that_can_have_no_end_are_refused() {
    let mut machine = waiting_machine(FOREVER, r#"["b","t-1"]"#, TicketPolicy::default());
    assert_eq!(run(&mut machine, [(0, Event::Admitted)]), [Command::Publish]);
    assert_eq!(code_of(&machine), Some(code::DEPENDENCY_CYCLE));

    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, TicketPolicy::default());
    let cycle = Some(["t-1", "a", "b", "t-1"].map(str::to_owned).to_vec());
    let answer = Event::Registered(Registered { states: [("a".to_owned(), Open)].into(), cycle });
    assert_eq!(run(&mut machine, [(0, Event::Admitted), (5, answer)])[1], Command::Publish);
    assert_eq!(code_of(&machine), Some(code::DEPENDENCY_CYCLE));
    let message = &machine.verdict().and_then(Verdict::failure).expect("failed").message;
    assert!(message.contains("t-1 → a → b → t-1"), "{message}");

    let many: Vec<_> = (0..=DependencyPolicy::MOST).map(|n| format!("\"d{n}\"")).collect();
    let mut machine = waiting_machine(FOREVER, &format!("[{}]", many.join(",")), TicketPolicy::default());
    assert_eq!(run(&mut machine, [(0, Event::Admitted)]), [Command::Publish]);
    assert_eq!(code_of(&machine), Some(code::INVALID_DEPENDENCIES));
}

#[test]
fn a_wait_with_a_limit_ends_at_it() {
    let dependencies = Some(DependencyPolicy { wait_limit_ms: Some(60_000), ..DependencyPolicy::default() });
    let policy = TicketPolicy { dependencies, ..TicketPolicy::default() };
    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, policy);
    let events = [(0, Event::Admitted), (5, registered(&[("a", Open)])), (60_000, Event::WaitOver)];
    let commands = run(&mut machine, events);
    assert_eq!(commands[1], Command::Park { until_ms: T0 + 60_000 });
    assert_eq!((&commands[2], code_of(&machine)), (&Command::Publish, Some(code::DEPENDENCY_TIMEOUT)));
}

#[test]
fn inc_43_the_deadline_of_a_ticket_that_waited_allows_for_its_work() {
    let sla = format!(r#"{{"deadline":{},"timeout_ms":1000,"max_retries":1}}"#, T0 + 1_000);
    let events = || [(0, Event::Admitted), (5, registered(&[("a", Open)])), (60_000, told("a", Completed))];

    let mut enforced = waiting_machine(&sla, r#"["a"]"#, TicketPolicy::default());
    assert_eq!(run(&mut enforced, events())[2], Command::Collect);
    assert_eq!(enforced.enforced_deadline_ms(), Some(T0 + 60_000 + 3_000), "two attempts of 1.5 s from the release on");

    let policy = TicketPolicy { deadline: DeadlinePolicy::Strict, ..TicketPolicy::default() };
    let mut strict = waiting_machine(&sla, r#"["a"]"#, policy.clone());
    let commands = run(&mut strict, [(0, Event::Admitted), (5, registered(&[("a", Open)])), (1_000, Event::WaitOver)]);
    assert_eq!(commands[1], Command::Park { until_ms: T0 + 1_000 });
    assert_eq!((&commands[2], code_of(&strict)), (&Command::Publish, Some(code::DEADLINE_EXCEEDED)));

    for policy in [TicketPolicy::default(), policy] {
        let mut expired = waiting_machine(&sla, r#"["a"]"#, policy);
        assert_eq!(run(&mut expired, [(1_000, Event::Admitted)]), [Command::Publish]);
        assert_eq!(code_of(&expired), Some(code::DEADLINE_EXCEEDED), "late before anything was asked");
    }
}

#[test]
fn a_waiting_ticket_can_be_cancelled_and_listens_to_predecessors_only() {
    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, TicketPolicy::default());
    let commands = run(
        &mut machine,
        [
            (0, Event::Admitted),
            (5, registered(&[("a", Open), ("x", Completed)])),
            (6, told("x", failed_with("timeout"))),
            (7, told("a", Open)),
            (8, Event::CancelRequested("no more".to_owned())),
        ],
    );
    assert!(commands[1..4].iter().all(|command| *command == Command::Park { until_ms: T0 + 300_005 }), "{commands:?}");
    assert_eq!((&commands[4], code_of(&machine)), (&Command::Publish, Some(code::CANCELLED)));
}

#[test]
fn outputs_that_were_filled_in_count_in_the_history() {
    let mut machine = waiting_machine(r#"{"timeout_ms":1000,"max_retries":1000}"#, r#"["a"]"#, TicketPolicy::default());
    let filled = Event::Collected { filled_bytes: Some(1_000_000) };
    run(&mut machine, [(0, Event::Admitted), (5, registered(&[("a", Completed)])), (6, filled)]);
    let attempts = attempts_until_full(&mut machine);
    assert!(attempts > 20, "{attempts}");
}

#[test]
fn parameters_that_cannot_be_completed_fail_the_ticket() {
    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, TicketPolicy::default());
    let reason = Event::NotCollected("missing output x".to_owned());
    let commands = run(&mut machine, [(0, Event::Admitted), (5, registered(&[("a", Completed)])), (6, reason)]);
    assert_eq!((&commands[2], code_of(&machine)), (&Command::Publish, Some(code::INVALID_REFERENCE)));
}

#[test]
fn tickets_of_a_version_that_did_not_wait_are_refused_as_they_were() {
    let policy = TicketPolicy { dependencies: None, ..TicketPolicy::default() };
    let mut machine = waiting_machine(FOREVER, r#"["a"]"#, policy);
    assert_eq!(run(&mut machine, [(0, Event::Admitted)]), [Command::Publish]);
    assert_eq!(code_of(&machine), Some(code::DEPENDENCIES_NOT_SUPPORTED));
}
