//! Every row of the transition table, taken by tickets on a server: `docs/ticket-states.md` against what they did.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use ticket_workflows::{DependencyState, Row, Verb};

use crate::table;
use crate::world::{HOUR, Scenario, world};

const SECOND: Duration = Duration::from_secs(1);
/// Four of them wait for half a minute; beside those one at a time, for machines are small and the server that skips time
/// does not wait for them.
const AT_ONCE: usize = 5;
/// When an undo of which both records are lost has become the operator's affair, and its waiting list is still there.
const LATE: Duration = Duration::from_secs(700);
/// Longer than the server gives an attempt of a second: one and a half, and thirty to stop.
const IGNORES: Duration = Duration::from_secs(34);

/// Long enough for a worker to leave, and longer, where nobody may wait for more than a minute.
const SHORT: Duration = Duration::from_secs(6);
const LONG: Duration = Duration::from_secs(8);

static SEEN: Mutex<BTreeSet<Row>> = Mutex::new(BTreeSet::new());

/// State, event and command of a row.
type Known = (&'static str, &'static str, &'static str);

/// Rows that no ticket takes unless something happens at one certain moment, and that moment.
const OUT_OF_REACH: [(&str, &[Known]); 5] = [
    (
        "while the server does not answer a question that it answers within the workflow task",
        &[
            ("registering", "order: cancel", "report"),
            ("registering", "workflow cancelled", "report"),
            ("collecting", "order: cancel", "report"),
            ("collecting", "workflow cancelled", "report"),
            ("registering", "activity broken", "report"),
            ("collecting", "activity broken", "report"),
        ],
    ),
    (
        "a stop of an attempt that nobody asked for, which the server takes from nobody",
        &[("executing", "attempt stopped", "report")],
    ),
    (
        "a deadline that passes within the one task in which an attempt is begun and an order is heard",
        &[("executing", "attempt had not begun", "report")],
    ),
    (
        "a timer that fires in the one task in which its time is put off",
        &[("parked", "wait over", "wait for predecessors"), ("paused", "wait over", "wait to be resumed")],
    ),
    (
        "orders are heard once the ticket has been admitted",
        &[("received", "admitted", "wait to be resumed"), ("received", "order: cancel", "report")],
    ),
];

fn cancel() -> Verb {
    Verb::Cancel { preempted_by: None, grace_ms: None }
}

fn skip(name: &str) -> Verb {
    Verb::SkipDependency { ticket_id: name.to_owned() }
}

fn extend(to: Duration) -> Verb {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now");
    Verb::ExtendDeadline { deadline_ms: i64::try_from((now + to).as_millis()).expect("a time") }
}

/// `b` depends on `a`, and waits for it for long.
fn b_after_a() -> Scenario {
    world().setting("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "864000").ticket("b").depends_on("a")
}

fn parked() -> Scenario {
    b_after_a().ticket("a").never_comes()
}

/// `b` waits for two.
fn b_after_both() -> Scenario {
    b_after_a().depends_on("c")
}

/// `b` waits for these. What it has not heard of is looked for after [`SHORT`].
fn soon_asked(predecessors: &[&'static str]) -> Scenario {
    let asking = world().in_real_time().setting("DEPENDENCY_UNKNOWN_TIMEOUT_SECONDS", "6").ticket("b");
    predecessors.iter().fold(asking, |asking, name| asking.depends_on(name)).once("b", "parked")
}

fn undone() -> Scenario {
    world().setting("COMPENSATION_ENABLED", "true").ticket("a").fails_with("execution_failed")
}

/// Nobody has heard of the undo of `a`, whose records are lost, and nobody will say how it ends.
fn given_up(scenario: Scenario) -> Scenario {
    scenario.undos_lost(2).time(LATE).once("a", "compensation_failed").undo_forgotten("a")
}

fn waiting_to_retry() -> Scenario {
    world().ticket("a").retries(1).stumbles("execution_failed", Some(4 * HOUR))
}

/// The retry comes a little before the deadline.
fn late_retry() -> Scenario {
    let ticket = world().in_real_time().ticket("a").deadline_in(SHORT + SECOND).retries(1);
    ticket.stumbles("execution_failed", Some(SHORT)).once("a", "retry_wait")
}

fn hanging() -> Scenario {
    world().ticket("a").hangs()
}

fn scenarios() -> Vec<(&'static str, Scenario)> {
    let resume = || Verb::ResumeCompensation;
    let leave = || Verb::SkipCompensation;
    vec![
        // Slow ones, in which nothing happens for long, come first.
        (
            "paused and timed out",
            world()
                .in_real_time()
                .ticket("a")
                .attempt_timeout(SECOND)
                .retries(1)
                .takes(IGNORES)
                .order(SECOND, "a", Verb::Pause)
                .once("a", "paused")
                .order(SECOND, "a", Verb::Resume),
        ),
        ("timed out", world().in_real_time().ticket("a").attempt_timeout(SECOND).takes(IGNORES)),
        (
            "timed out and repeated",
            world().in_real_time().ticket("a").attempt_timeout(SECOND).retries(1).takes(IGNORES),
        ),
        (
            "timed out while it was stopped",
            world().in_real_time().ticket("a").attempt_timeout(SECOND).takes(IGNORES).cancel(SECOND, "a"),
        ),
        // Received.
        ("cancelled before it is seen", world().worker_leaves().ticket("a").cancel(Duration::ZERO, "a")),
        (
            "ordered to pause before it is seen",
            world().worker_leaves().ticket("a").order(Duration::ZERO, "a", Verb::Pause),
        ),
        (
            "ordered to end before it is seen",
            world().in_real_time().worker_leaves().ticket("a").order(Duration::ZERO, "a", cancel()),
        ),
        (
            "given time before it is seen",
            world().worker_leaves().ticket("a").order(Duration::ZERO, "a", extend(20_000 * HOUR)),
        ),
        ("expired", world().ticket("a").deadline_in(Duration::ZERO)),
        // Parked.
        (
            "released",
            b_after_a().in_real_time().parameter("${dependencies.a.output.made_by}").ticket("a").after(SECOND),
        ),
        (
            "asked for what is not there",
            b_after_a().in_real_time().parameter("${dependencies.a.output.nothing}").ticket("a").after(SECOND),
        ),
        ("released at once", world().ticket("a").ticket("b").after(HOUR).depends_on("a")),
        ("released by the second", b_after_both().in_real_time().ticket("a").after(SECOND).ticket("c").after(SECOND)),
        ("failed by one", b_after_a().in_real_time().ticket("a").after(SECOND).fails_with("execution_failed")),
        ("depends on itself", world().ticket("a").depends_on("a")),
        ("never heard of", world().ticket("b").depends_on("a").ticket("a").never_comes()),
        ("known and slow", b_after_a().ticket("a").retries(1).stumbles("execution_failed", Some(300 * HOUR))),
        ("parked and cancelled", parked().in_real_time().cancel(SECOND, "b")),
        ("parked and ordered to end", parked().in_real_time().order(SECOND, "b", cancel())),
        (
            "parked and given time",
            b_after_a()
                .deadline_in(HOUR)
                .setting("DEADLINE_POLICY", "strict")
                .ticket("a")
                .never_comes()
                .order(HOUR / 2, "b", extend(4 * HOUR))
                .cancel(HOUR, "b"),
        ),
        ("parked and skipped", parked().in_real_time().order(SECOND, "b", skip("a"))),
        (
            "one of two skipped, which fails",
            b_after_both()
                .in_real_time()
                .order(SECOND, "b", skip("a"))
                .ticket("a")
                .fails_with("execution_failed")
                .ticket("c")
                .after(SECOND),
        ),
        (
            "paused while parked",
            b_after_a().in_real_time().order(SECOND, "b", Verb::Pause).ticket("a").after(SECOND).order(
                SECOND,
                "b",
                Verb::Resume,
            ),
        ),
        // Parked, and nobody is there when it happens: it comes in one task with a look that is due.
        (
            "given time when a look is due",
            soon_asked(&["a"]).worker_leaves().ticket("a").order(LONG, "b", extend(20_000 * HOUR)),
        ),
        (
            "one of two skipped when a look is due",
            soon_asked(&["a", "c"]).worker_leaves().ticket("c").order(LONG, "b", skip("a")),
        ),
        (
            "told of one of two when a look is due",
            soon_asked(&["a", "c"]).worker_leaves().ticket("c").told(LONG, "b", "a", DependencyState::Completed),
        ),
        (
            "told of the failure of one that is skipped when a look is due",
            soon_asked(&["a", "c"]).order(Duration::ZERO, "b", skip("a")).worker_leaves().ticket("c").told(
                LONG,
                "b",
                "a",
                DependencyState::Failed { code: "execution_failed".to_owned() },
            ),
        ),
        (
            "skipped too late",
            b_after_a()
                .in_real_time()
                .setting("DEADLINE_POLICY", "strict")
                .deadline_in(SHORT)
                .once("b", "parked")
                .worker_leaves()
                .order(LONG, "b", skip("a")),
        ),
        // Executing.
        ("failed by hand", hanging().failed_by_hand(SECOND, "a")),
        (
            "failed by hand when it was to stop",
            world().ticket("a").takes(5 * SECOND).cancel(SECOND, "a").failed_by_hand(SECOND, "a"),
        ),
        ("failed", world().ticket("a").fails_with("execution_failed")),
        ("failed too often", world().ticket("a").stumbles("execution_failed", None)),
        (
            "failed after a pause",
            world()
                .in_real_time()
                .ticket("a")
                .retries(1)
                .takes_and_stumbles(2 * SECOND, "execution_failed")
                .order(SECOND, "a", Verb::Pause)
                .once("a", "paused")
                .order(SECOND, "a", Verb::Resume),
        ),
        ("stopped by a cancel", hanging().cancel(SECOND, "a")),
        ("stopped by an order", hanging().in_real_time().order(SECOND, "a", cancel())),
        ("completed in spite of a cancel", world().ticket("a").takes(2 * SECOND).cancel(SECOND, "a")),
        (
            "failed when it was stopped",
            world().ticket("a").takes_and_stumbles(2 * SECOND, "execution_failed").cancel(SECOND, "a"),
        ),
        (
            "not stopped within the grace",
            world().in_real_time().ticket("a").takes(4 * SECOND).order(
                SECOND,
                "a",
                Verb::Cancel { preempted_by: None, grace_ms: Some(1_000) },
            ),
        ),
        (
            "stopped before a worker took it",
            hanging()
                .setting("MAX_CONCURRENT_TASKS", "1")
                .ticket("b")
                .after(SECOND)
                .cancel(SECOND, "b")
                .cancel(SECOND, "a"),
        ),
        // A retry, and a pause.
        ("retried", waiting_to_retry()),
        ("retried at once", waiting_to_retry().in_real_time().order(SECOND, "a", Verb::RetryNow)),
        ("cancelled before the retry", waiting_to_retry().in_real_time().cancel(SECOND, "a")),
        ("ordered to end before the retry", waiting_to_retry().in_real_time().order(SECOND, "a", cancel())),
        ("paused before the retry", waiting_to_retry().order(HOUR, "a", Verb::Pause).order(HOUR, "a", Verb::Resume)),
        (
            "resumed after the retry was due",
            waiting_to_retry().order(HOUR, "a", Verb::Pause).order(9 * HOUR, "a", Verb::Resume),
        ),
        (
            "cancelled while paused",
            waiting_to_retry().in_real_time().order(SECOND, "a", Verb::Pause).cancel(SECOND, "a"),
        ),
        (
            "ordered to end while paused",
            waiting_to_retry().in_real_time().order(SECOND, "a", Verb::Pause).order(SECOND, "a", cancel()),
        ),
        ("expired while paused", waiting_to_retry().deadline_in(24 * HOUR).order(HOUR, "a", Verb::Pause)),
        (
            "given time while paused",
            waiting_to_retry().deadline_in(24 * HOUR).order(HOUR, "a", Verb::Pause).order(HOUR, "a", extend(48 * HOUR)),
        ),
        // Nobody is there when the deadline passes.
        ("repeated too late", late_retry().worker_leaves().time(LONG)),
        ("ordered to repeat too late", late_retry().worker_leaves().order(LONG, "a", Verb::RetryNow)),
        (
            "resumed too late",
            late_retry().order(Duration::ZERO, "a", Verb::Pause).worker_leaves().order(LONG, "a", Verb::Resume),
        ),
        // The report.
        (
            "reported late",
            world()
                .setting("REPORT_STUCK_AFTER_SECONDS", "60")
                .results_away(Duration::ZERO)
                .ticket("a")
                .results_back(HOUR),
        ),
        (
            "reported late and undone",
            world()
                .setting("COMPENSATION_ENABLED", "true")
                .setting("REPORT_STUCK_AFTER_SECONDS", "60")
                .results_away(Duration::ZERO)
                .ticket("a")
                .fails_with("execution_failed")
                .results_back(HOUR),
        ),
        // Its compensation.
        ("undone", undone()),
        ("undone slowly", undone().undo_takes(3 * SECOND)),
        ("not undone, then undone", undone().undo_fails_with("execution_failed").order(HOUR, "a", resume())),
        ("not undone, and left", undone().undo_fails_with("execution_failed").order(HOUR, "a", leave())),
        ("left while it is undone", undone().undo_takes(5 * SECOND).order(SECOND, "a", leave())),
        ("undone late, by the second record", undone().undos_lost(1)),
        ("undone by none, then by the third record", undone().undos_lost(2).order(HOUR, "a", resume())),
        (
            "undone by none, then by the first record",
            undone().undos_lost(2).time(LATE).once("a", "compensation_failed").undo_comes(100 * SECOND, "a"),
        ),
        (
            "undone by none, then not by the first record",
            undone()
                .undos_lost(2)
                .undo_fails_with("execution_failed")
                .time(LATE)
                .once("a", "compensation_failed")
                .undo_comes(100 * SECOND, "a")
                .time(LATE)
                .order(HOUR, "a", leave()),
        ),
        // Its undo runs, and nobody tells.
        ("found undone", undone().undos_lost(1).once("a", "compensating").undo_forgotten("a").undo_comes(SECOND, "a")),
        (
            "found not undone",
            undone()
                .undos_lost(1)
                .undo_fails_with("execution_failed")
                .once("a", "compensating")
                .undo_forgotten("a")
                .undo_comes(SECOND, "a")
                .time(LATE)
                .once("a", "compensation_failed")
                .order(HOUR, "a", leave()),
        ),
        ("found undone after all", given_up(undone()).undo_comes(SECOND, "a")),
        (
            "found not undone after all",
            given_up(undone().undo_fails_with("execution_failed")).undo_comes(SECOND, "a").time(LATE).order(
                HOUR,
                "a",
                leave(),
            ),
        ),
        (
            "found while it is undone after all",
            given_up(undone().undo_stumbles("execution_failed", Some(HOUR / 3))).undo_comes(SECOND, "a"),
        ),
        ("left before its undo is published", undone().undos_refused().order(HOUR, "a", leave())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_table_is_taken_by_tickets_on_a_server() {
    Row::watch(|row| {
        SEEN.lock().expect("no panic").insert(row);
    });
    // All of them, whatever becomes of one: what is missing at the end says more than the first failure. The server that
    // skips time loses a workflow task now and then on a busy machine, so a scenario gets another chance.
    let runs = scenarios().into_iter().zip(scenarios()).map(|((name, scenario), (_, again))| async move {
        for scenario in [scenario, again] {
            let begun = Instant::now();
            let ended = AssertUnwindSafe(scenario.run()).catch_unwind().await.is_ok();
            eprintln!("{name}: {} after {:?}", if ended { "ended" } else { "broken" }, begun.elapsed());
            if ended {
                return None;
            }
        }
        Some(name)
    });
    let broken: Vec<_> = futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    let broken: Vec<_> = broken.into_iter().flatten().collect();
    let table = table::rows();
    let seen = SEEN.lock().expect("no panic").clone();
    let reachable = |row: &&Row| {
        let mut out = OUT_OF_REACH.iter().flat_map(|(_, rows)| *rows);
        !out.any(|it| *it == (row.state, row.event, row.command))
    };
    let unseen: Vec<_> = table.difference(&seen).filter(reachable).collect();
    let unknown: Vec<_> = seen.difference(&table).collect();
    eprintln!("{} of {} rows seen", table.intersection(&seen).count(), table.len());
    assert!(unknown.is_empty(), "rows that docs/ticket-states.md lacks: {unknown:#?}");
    assert!(unseen.is_empty(), "rows that no scenario takes: {unseen:#?}");
    assert!(broken.is_empty(), "scenarios that did not end: {broken:?}");
}
