//! The bridge's guarantee, checked in every order in which things can happen: deliver, start, commit, crash, redeliver.
//! Two consumers, three tickets, six records of one partition: an original and its duplicate, two different tickets under
//! one id, and a ticket that fails and is re-driven. What may be committed and what an answer means are the bridge's own
//! values; Kafka and Temporal are models of what they promise. Calls of a consumer that crashed or lost its partition may
//! still reach the server.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ticket_workflows::RecordPosition;
use worker_agents::bridge::decision::{
    Answer, Claim, Decision, Existing, Judgement, Reading, RunState, judge, read, read_again, request_id,
};
use worker_agents::bridge::window::Window;

/// Records in flight of one consumer.
const IN_FLIGHT: usize = 2;
/// Crashes and rebalances in one life; each starts redelivery.
const DISTURBANCES: u8 = 2;

/// Ticket, digest and header of each record, in offset order.
const RECORDS: [(u8, &str, bool); 6] =
    [(1, "aa", false), (2, "bb", false), (3, "cc", false), (1, "aa", false), (2, "dd", false), (3, "cc", true)];
/// The two tickets that share an id: whichever comes first runs.
const COLLIDING: [usize; 2] = [1, 4];
/// The ticket whose first run fails.
const FAILING: u8 = 3;

/// The rules under test, and weakened ones that must not pass.
#[derive(Clone, Copy, PartialEq)]
enum Rules {
    AsBuilt,
    /// Commits up to the latest record that is done.
    CommitsTheLatest,
    /// Another request id for each try.
    RandomRequestIds,
    /// A request id that does not hold the digest.
    RequestIdsWithoutDigest,
}

/// Where handling a record stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    /// The first start is on its way.
    Ask { request: String },
    /// The server said that there is a run.
    LookUp { request: String, first: String },
    /// The second start is on its way.
    Again { request: String, existing: (String, Vec<String>) },
    /// Decided, and the consumer does not know it yet.
    Decided,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Consumer {
    next: usize,
    window: BTreeMap<usize, bool>,
    pending: BTreeMap<usize, Stage>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Run {
    request: String,
    earlier: Vec<String>,
    failed: bool,
    completed: bool,
    /// Records that ever started a run of the ticket, one entry for each run.
    started_by: Vec<usize>,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct World {
    consumers: [Consumer; 2],
    owner: Option<usize>,
    committed: usize,
    runs: BTreeMap<u8, Run>,
    dead_letters: BTreeSet<usize>,
    /// Records that were durable at some moment.
    durable: BTreeSet<usize>,
    /// Calls whose consumer is gone.
    orphans: BTreeSet<(usize, Stage)>,
    disturbances: u8,
    tries: u32,
}

impl World {
    fn request(&mut self, record: usize, rules: Rules) -> String {
        let (_, digest, _) = RECORDS[record];
        let position = RecordPosition { topic: "t".to_owned(), partition: 0, offset: record as i64 };
        match rules {
            Rules::RandomRequestIds => {
                self.tries += 1;
                format!("{}-{}", self.tries, request_id(&position, digest)).replacen(
                    &format!("{}-kafka:", self.tries),
                    &format!("kafka:{}-", self.tries),
                    1,
                )
            }
            Rules::RequestIdsWithoutDigest => format!("kafka:{position}"),
            _ => request_id(&position, digest),
        }
    }

    /// What the server does with a start.
    fn start(&mut self, record: usize, request: &str, again: Option<&(String, Vec<String>)>) -> Answer {
        let ticket = RECORDS[record].0;
        let started = Answer::Started { run_id: "r".to_owned() };
        match self.runs.get_mut(&ticket) {
            None => {
                let run = Run {
                    request: request.to_owned(),
                    earlier: Vec::new(),
                    failed: false,
                    completed: false,
                    started_by: vec![record],
                };
                self.runs.insert(ticket, run);
                started
            }
            Some(run) if run.request == request => started,
            Some(run) => match again {
                Some((previous, earlier)) if run.failed => {
                    run.earlier = [earlier.clone(), vec![previous.clone()]].concat();
                    request.clone_into(&mut run.request);
                    run.failed = false;
                    run.started_by.push(record);
                    started
                }
                _ => Answer::AlreadyExists { first: run.request.clone() },
            },
        }
    }

    /// One step of a call; `None` when it had none left to make without its consumer.
    fn step(&mut self, record: usize, stage: &Stage) -> Stage {
        let (ticket, digest, redrive) = RECORDS[record];
        let claim = |request: &str| Claim {
            request_id: request.to_owned(),
            digest: digest.to_owned(),
            written_at_ms: None,
            redrive,
        };
        match stage {
            Stage::Ask { request } => match read(self.start(record, request, None), &claim(request)) {
                Reading::Decided(decision) => self.decide(record, decision, request),
                Reading::LookUp { first } => Stage::LookUp { request: request.clone(), first },
            },
            Stage::LookUp { request, first } => {
                let run = &self.runs[&ticket];
                let state = match (run.failed, run.completed) {
                    (true, _) => RunState::Failed,
                    (_, true) => RunState::Completed,
                    _ => RunState::Open,
                };
                let existing = Existing {
                    run_id: "r".to_owned(),
                    state,
                    closed_at_ms: None,
                    request_id: run.request.clone(),
                    earlier: run.earlier.clone(),
                };
                let _ = first;
                match judge(&claim(request), &existing) {
                    Judgement::Decided(decision) => self.decide(record, decision, request),
                    Judgement::StartAgain => {
                        Stage::Again { request: request.clone(), existing: (existing.request_id, existing.earlier) }
                    }
                }
            }
            Stage::Again { request, existing } => {
                let answer = self.start(record, request, Some(existing));
                let previous = Existing {
                    run_id: "r".to_owned(),
                    state: RunState::Failed,
                    closed_at_ms: None,
                    request_id: existing.0.clone(),
                    earlier: existing.1.clone(),
                };
                let decision = read_again(answer, &previous);
                self.decide(record, decision, request)
            }
            Stage::Decided => Stage::Decided,
        }
    }

    fn decide(&mut self, record: usize, decision: Decision, request: &str) -> Stage {
        match decision {
            Decision::Started { .. } | Decision::Redriven { .. } | Decision::Duplicate { .. } => {}
            Decision::Refused(_) => {
                self.dead_letters.insert(record);
            }
            Decision::Unavailable { .. } | Decision::SetupFault { .. } => {
                return Stage::Ask { request: request.to_owned() };
            }
        }
        self.durable.insert(record);
        Stage::Decided
    }

    /// Every world that may come next.
    fn next(&self, rules: Rules) -> Vec<World> {
        let mut worlds = Vec::new();
        for c in 0..self.consumers.len() {
            let consumer = &self.consumers[c];
            let owner = self.owner == Some(c);
            if owner && consumer.next < RECORDS.len() && consumer.pending.len() < IN_FLIGHT {
                let mut world = self.clone();
                let record = consumer.next;
                let request = world.request(record, rules);
                let consumer = &mut world.consumers[c];
                consumer.next += 1;
                consumer.window.insert(record, false);
                consumer.pending.insert(record, Stage::Ask { request });
                worlds.push(world);
            }
            for (&record, stage) in &consumer.pending {
                let mut world = self.clone();
                if *stage == Stage::Decided {
                    world.consumers[c].pending.remove(&record);
                    world.consumers[c].window.insert(record, true);
                } else {
                    let stage = world.step(record, stage);
                    world.consumers[c].pending.insert(record, stage);
                }
                worlds.push(world);
            }
            if owner
                && let Some(position) = committable(&consumer.window, rules)
                && position != self.committed
            {
                worlds.push(World { committed: position, ..self.clone() });
            }
            if self.disturbances < DISTURBANCES {
                // A crash, noticed by the group: calls that are on their way may still arrive.
                let mut crashed = self.clone();
                crashed.disturbances += 1;
                let pending = std::mem::take(&mut crashed.consumers[c]).pending;
                let sent = |stage: &Stage| matches!(stage, Stage::Ask { .. } | Stage::Again { .. });
                crashed.orphans.extend(pending.into_iter().filter(|(_, stage)| sent(stage)));
                if owner {
                    crashed.owner = None;
                }
                worlds.push(crashed);
                if owner {
                    // A rebalance: the old owner's calls go on, it only may not commit any more.
                    let mut moved = self.clone();
                    moved.disturbances += 1;
                    moved.owner = None;
                    worlds.push(moved);
                }
            }
            if self.owner.is_none() {
                let mut world = self.clone();
                world.owner = Some(c);
                let old = std::mem::take(&mut world.consumers[c]);
                world.orphans.extend(old.pending.into_iter().filter(|(_, stage)| *stage != Stage::Decided));
                world.consumers[c].next = world.committed;
                worlds.push(world);
            }
        }
        for orphan @ (record, stage) in &self.orphans {
            let mut world = self.clone();
            world.orphans.remove(orphan);
            match world.step(*record, stage) {
                // A zombie goes on by itself.
                stage @ (Stage::LookUp { .. } | Stage::Again { .. }) => {
                    world.orphans.insert((*record, stage));
                }
                Stage::Ask { .. } | Stage::Decided => {}
            }
            worlds.push(world);
        }
        for (&ticket, run) in self.runs.iter().filter(|(_, run)| !run.failed && !run.completed) {
            let mut world = self.clone();
            let fails = ticket == FAILING && run.started_by.len() == 1;
            let run = world.runs.get_mut(&ticket).expect("it is there");
            (run.failed, run.completed) = (fails, !fails);
            worlds.push(world);
        }
        worlds
    }

    /// What must hold at every moment.
    fn broken_promise(&self) -> Option<String> {
        if let Some(lost) = (0..self.committed).find(|record| !self.durable.contains(record)) {
            return Some(format!("record {lost} is committed and nowhere durable"));
        }
        for (ticket, run) in &self.runs {
            let by: BTreeSet<usize> = run.started_by.iter().copied().collect();
            if by.len() < run.started_by.len() {
                return Some(format!("a record started ticket {ticket} twice: {:?}", run.started_by));
            }
            if run.started_by.len() > 1 && *ticket != FAILING {
                return Some(format!("ticket {ticket} was started twice: {:?}", run.started_by));
            }
        }
        if let Some(record) = self.dead_letters.iter().find(|record| !COLLIDING.contains(record)) {
            return Some(format!("record {record} is a dead letter and nothing is wrong with it"));
        }
        if COLLIDING.iter().all(|record| self.dead_letters.contains(record)) {
            return Some("both of two colliding tickets are dead letters".to_owned());
        }
        if self.committed == RECORDS.len() && (self.runs.len() < 3 || self.dead_letters.len() != 1) {
            return Some(format!("all is committed, with {} tickets started", self.runs.len()));
        }
        None
    }
}

/// The commit rule, by the bridge's window.
fn committable(taken: &BTreeMap<usize, bool>, rules: Rules) -> Option<usize> {
    if rules == Rules::CommitsTheLatest {
        return taken.iter().filter(|(_, done)| **done).map(|(record, _)| record + 1).next_back();
    }
    let mut window = Window::default();
    taken.keys().for_each(|record| window.take(*record as i64));
    taken.iter().filter(|(_, done)| **done).for_each(|(record, _)| window.done(*record as i64));
    window.committable().and_then(|position| usize::try_from(position).ok())
}

struct Explored {
    worlds: usize,
    complete: usize,
    broken: Option<String>,
}

/// Breadth first, until everything was seen or a promise is broken.
fn explore(rules: Rules) -> Explored {
    let seen_as = |world: &World| {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    };
    let first = World { owner: Some(0), ..World::default() };
    let mut seen = HashSet::from([seen_as(&first)]);
    let mut queue = VecDeque::from([first]);
    let mut complete = 0;
    while let Some(world) = queue.pop_front() {
        if let broken @ Some(_) = world.broken_promise() {
            return Explored { worlds: seen.len(), complete, broken };
        }
        complete += usize::from(world.committed == RECORDS.len());
        for next in world.next(rules) {
            if seen.insert(seen_as(&next)) {
                queue.push_back(next);
            }
        }
    }
    Explored { worlds: seen.len(), complete, broken: None }
}

#[test]
fn inc_15_inc_18_nothing_is_lost_or_doubled_in_any_order_of_events() {
    let explored = explore(Rules::AsBuilt);
    println!("{} worlds, {} of them with everything committed", explored.worlds, explored.complete);
    assert_eq!(explored.broken, None);
    assert!(explored.complete > 0, "the end is never reached: the model is empty");
}

#[test]
fn a_weaker_commit_rule_loses_records() {
    let broken = explore(Rules::CommitsTheLatest).broken.expect("the mutant passes");
    assert!(broken.contains("committed and nowhere durable"), "{broken}");
}

#[test]
fn a_request_id_of_each_try_starts_a_ticket_twice() {
    let broken = explore(Rules::RandomRequestIds).broken.expect("the mutant passes");
    assert!(broken.contains("started ticket 3 twice"), "{broken}");
}

#[test]
fn a_request_id_without_the_digest_condemns_duplicates() {
    let broken = explore(Rules::RequestIdsWithoutDigest).broken.expect("the mutant passes");
    assert!(broken.contains("nothing is wrong with it"), "{broken}");
}
