//! Every row of the transition table, as (state, event) → (command, state).

use super::*;
use crate::dependencies::{DependencyOutcome, Registered};
use crate::outcome::{Completed, Evidence, ExecutionReport};

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

#[test]
fn attempts_never_fill_the_history_until_the_server_ends_the_workflow() {
    let mut large = ticket(r#"{"timeout_ms":1000,"max_retries":1000}"#, "[]");
    large.parameters.insert("data".to_owned(), "x".repeat(1_000_000).into());
    let mut machine = Machine::new(&large, &TicketPolicy::default());
    run(&mut machine, [(0, Event::Admitted)]);
    let mut attempts = 0;
    while machine.verdict().is_none() {
        attempts += 1;
        assert!(attempts < 50, "50 MiB are full");
        run(&mut machine, [(attempts, failed(RETRY)), (attempts, Event::WaitOver)]);
    }
    assert!(attempts > 20, "{attempts}");
    let failure = machine.verdict().and_then(Verdict::failure).expect("failed");
    assert_eq!(failure.code, code::EXECUTION_FAILED);
    assert!(failure.message.contains("history"), "{}", failure.message);
}

mod dependencies {
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
        assert_eq!(
            enforced.enforced_deadline_ms(),
            Some(T0 + 60_000 + 3_000),
            "two attempts of 1.5 s from the release on"
        );

        let policy = TicketPolicy { deadline: DeadlinePolicy::Strict, ..TicketPolicy::default() };
        let mut strict = waiting_machine(&sla, r#"["a"]"#, policy.clone());
        let commands =
            run(&mut strict, [(0, Event::Admitted), (5, registered(&[("a", Open)])), (1_000, Event::WaitOver)]);
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
        assert!(
            commands[1..4].iter().all(|command| *command == Command::Park { until_ms: T0 + 300_005 }),
            "{commands:?}"
        );
        assert_eq!((&commands[4], code_of(&machine)), (&Command::Publish, Some(code::CANCELLED)));
    }

    #[test]
    fn outputs_that_were_filled_in_count_in_the_history() {
        let mut machine =
            waiting_machine(r#"{"timeout_ms":1000,"max_retries":1000}"#, r#"["a"]"#, TicketPolicy::default());
        let filled = Event::Collected { filled_bytes: Some(1_000_000) };
        run(&mut machine, [(0, Event::Admitted), (5, registered(&[("a", Completed)])), (6, filled)]);
        let mut attempts = 0;
        while machine.verdict().is_none() {
            attempts += 1;
            assert!(attempts < 50, "50 MiB are full");
            run(&mut machine, [(attempts, failed(RETRY)), (attempts, Event::WaitOver)]);
        }
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
}
