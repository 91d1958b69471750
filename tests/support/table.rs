//! The transition table of a ticket, found by trying: every kind of event in every situation that events can lead to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ticket_schemas::{Ticket, decode_json_ticket};
use ticket_workflows::{
    CompensationPolicy, Completed, DependencyOutcome, DependencyPolicy, DependencyState, Event, Evidence,
    ExecuteResponse, ExecutionReport, Failed, FailureClass, Machine, Order, Outcome, Owed, Registered, Row,
    TicketPolicy, Verb, code,
};

const T0: i64 = 1_773_653_400_000;
/// Past the deadline.
const LATE_MS: i64 = 3_600_000;
/// Longest story tried. Rows that need a longer one would be missing, and the test of real tickets would find them.
const MOST_EVENTS: usize = 7;

/// All rows.
pub(crate) fn rows() -> BTreeSet<Row> {
    let undoes = TicketPolicy {
        compensation: Some(CompensationPolicy { appear_timeout_ms: 60_000 }),
        dependencies: Some(DependencyPolicy::default()),
        ..TicketPolicy::default()
    };
    let mut rows = BTreeSet::new();
    let leaves = TicketPolicy { compensation: None, ..undoes.clone() };
    for (dependencies, policy) in [("[]", &undoes), ("[]", &leaves), (r#"["a","b"]"#, &leaves), (r#"["t"]"#, &leaves)] {
        explore(&ticket(dependencies), policy, &mut rows);
    }
    rows
}

fn ticket(dependencies: &str) -> Ticket {
    let text = format!(
        r#"{{"ticket_id":"t","plan_id":"p","intent_id":"i","task_id":"t","task_type":"EXECUTE","status":"PENDING",
            "dependencies":{dependencies},"parameters":{{}},
            "sla":{{"timeout_ms":1000,"max_retries":1,"deadline":{}}}}}"#,
        T0 + LATE_MS / 2,
    );
    decode_json_ticket(text.as_bytes()).expect("a ticket")
}

fn explore(ticket: &Ticket, policy: &TicketPolicy, rows: &mut BTreeSet<Row>) {
    let first = Machine::new(ticket, policy).of_run("run");
    let mut seen = BTreeSet::from([situation(&first)]);
    let mut next = VecDeque::from([(first, 0, T0)]);
    while let Some((machine, events, now)) = next.pop_front() {
        for event in events_in(&machine) {
            for now in [now + 1_000, now + LATE_MS] {
                let (mut after, name) = (machine.clone(), event.name());
                // Only what passes the validator becomes an event.
                if let Event::Ordered(order) = &event
                    && machine.refuses(now, order).is_some()
                {
                    continue;
                }
                let command = after.apply(now, event.clone(), || 0.5);
                rows.extend(Row::of(machine.state().name(), name, &command, after.state()));
                if events < MOST_EVENTS && after.orders().len() < 3 && seen.insert(situation(&after)) {
                    next.push_back((after, events + 1, now));
                }
            }
        }
    }
}

/// What tells machines apart: everything but times and sizes, which are the numbers of more than two digits.
fn situation(machine: &Machine) -> String {
    let text = format!("{machine:?}");
    let mut kept = String::with_capacity(text.len());
    let mut digits = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        kept.push_str(if digits.len() > 2 { "#" } else { &digits });
        kept.push(c);
        digits.clear();
    }
    kept
}

/// One event of each kind, more where kinds lead on in different ways.
fn events_in(machine: &Machine) -> Vec<Event> {
    use DependencyState::{Completed as Done, Open, Unknown};
    let failed_with = |code: &str| DependencyState::Failed { code: code.to_owned() };
    let answer = |outcome| {
        Event::Answered(Box::new(ExecuteResponse {
            outcome,
            agent_id: "w".to_owned(),
            started_at_ms: T0 + 1_000,
            ended_at_ms: T0 + 2_000,
            lost_workers: 0,
        }))
    };
    let failed = |class| answer(Outcome::Failed(Failed::new(code::EXECUTION_FAILED, class, "it broke")));
    let evidence = Evidence::new("true", "exit code 0").expect("evidence");
    let stand = |a: &DependencyState, b: &DependencyState| {
        let states = BTreeMap::from([("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())]);
        Event::Registered(Registered { states, cycle: None })
    };
    let told = |id: &str, outcome| Event::PredecessorEnded(DependencyOutcome { ticket_id: id.to_owned(), outcome });
    let order = |verb| Event::Ordered(Order { verb, by: "ana".to_owned(), why: "because".to_owned() });
    let mut events = vec![
        Event::Admitted,
        stand(&Open, &Open),
        stand(&Done, &Open),
        stand(&Done, &Done),
        stand(&failed_with("timeout"), &Open),
        stand(&Unknown, &Unknown),
        Event::Registered(Registered {
            states: BTreeMap::new(),
            cycle: Some(vec!["t".to_owned(), "a".to_owned(), "t".to_owned()]),
        }),
        told("a", Done),
        told("b", Done),
        told("a", failed_with("timeout")),
        Event::Collected { filled_bytes: None },
        Event::NotCollected("there is no such output".to_owned()),
        answer(Outcome::Completed(Completed { evidence, report: ExecutionReport::default() })),
        failed(FailureClass::Retry { after_ms: Some(60_000) }),
        failed(FailureClass::Permanent),
        Event::TimedOut,
        Event::Stopped,
        Event::Broken("it broke".to_owned()),
        Event::WaitOver,
        Event::CancelRequested("not needed".to_owned()),
        order(Verb::Cancel { preempted_by: None, grace_ms: None }),
        order(Verb::Pause),
        order(Verb::Resume),
        order(Verb::RetryNow),
        order(Verb::ExtendDeadline { deadline_ms: T0 + LATE_MS * 2 }),
        order(Verb::SkipDependency { ticket_id: "a".to_owned() }),
        order(Verb::SkipDependency { ticket_id: "b".to_owned() }),
        order(Verb::ResumeCompensation),
        order(Verb::SkipCompensation),
        Event::Unbegun,
        Event::GraceOver,
        Event::ReportOverdue([Owed::Results].into()),
        Event::Published,
        Event::CompensationCreated,
        Event::CompensationStands(Done),
        Event::CompensationStands(failed_with("timeout")),
        Event::CompensationStands(Open),
        Event::CompensationStands(Unknown),
        Event::CompensationSettled,
    ];
    if let Some(compensation) = machine.compensation() {
        events.push(told(&compensation.ticket_id, Done));
        events.push(told(&compensation.ticket_id, failed_with("timeout")));
    }
    events
}
