//! The bridge's guarantee, checked in every order in which things can happen: deliver, start, commit, crash, redeliver.
//! Three tickets in six records of one partition: an original and its duplicate, two different tickets under one id, and a
//! ticket that fails and is re-driven. Two consumers: one owns the partition and takes, asks and commits; what an earlier
//! owner had asked for goes on beside it, at any time or never, whether that one crashed or lost the partition in a
//! rebalance. What may be committed and what an answer means are the bridge's own values; Kafka and Temporal are models of
//! what they promise.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use ticket_workflows::RecordPosition;
use worker_agents::bridge::decision::{
    Answer, Claim, Decision, Existing, Judgement, Reading, RunState, judge, read, read_again, request_id,
};
use worker_agents::bridge::window::Window;

/// Records in flight of the owner.
const IN_FLIGHT: usize = 2;
/// Crashes and rebalances in one life; each starts redelivery.
const DISTURBANCES: u8 = 2;

/// Ticket, digest and header of a record.
type Content = (usize, &'static str, bool);

/// What stands in the partition, in offset order. All of it, disturbed once, and the parts that have to do with each other,
/// disturbed twice: everything twice is more than a test has time for.
const ALL: &[Content] =
    &[(0, "aa", false), (1, "bb", false), (2, "cc", false), (0, "aa", false), (1, "dd", false), (2, "cc", true)];
const DUPLICATE_AND_REDRIVE: &[Content] = &[(0, "aa", false), (2, "cc", false), (0, "aa", false), (2, "cc", true)];
const COLLISION_AND_REDRIVE: &[Content] = &[(1, "bb", false), (2, "cc", false), (1, "dd", false), (2, "cc", true)];
const DUPLICATE_AND_COLLISION: &[Content] = &[(0, "aa", false), (1, "bb", false), (0, "aa", false), (1, "dd", false)];

/// The ticket of which two records carry different work: whichever comes first runs.
const COLLIDING: usize = 1;
/// The ticket whose first run fails.
const FAILING: usize = 2;

/// The rules under test, and weakened ones that must not pass.
#[derive(Clone, Copy, PartialEq)]
enum Rules {
    AsBuilt,
    /// Commits up to the latest record that is done.
    CommitsTheLatest,
    /// Another request id in each life of the consumer; within one a record is taken once.
    RandomRequestIds,
    /// A request id that does not hold the digest.
    RequestIdsWithoutDigest,
}

/// Stands for a request id: the record, and the life that made it where that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Request {
    record: usize,
    life: u8,
}

/// Where handling a record stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    /// The first start is on its way.
    Ask,
    /// The server said that there is a run.
    LookUp,
    /// The second start is on its way, after a run of this record and of those before it.
    Again { previous: Request, earlier: Vec<Request> },
    /// Decided, and the consumer does not know it yet.
    Decided,
}

/// A call: for which request, and how far.
type Call = (Request, Stage);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Run {
    request: Request,
    earlier: Vec<Request>,
    failed: bool,
    /// Records that ever started a run of the ticket, one entry for each run.
    started_by: Vec<usize>,
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct World {
    /// The next record that the owner takes.
    next: usize,
    /// What the owner has in flight.
    pending: Vec<Call>,
    committed: usize,
    runs: [Option<Run>; 3],
    dead_letters: Records,
    /// Records that were durable at some moment, as far as they are not committed.
    durable: Records,
    /// A record that was committed and was nowhere durable then.
    lost: Option<usize>,
    /// Calls of earlier owners, sorted.
    orphans: Vec<Call>,
    disturbances: u8,
}

/// A set of records.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Records(u8);

impl Records {
    fn insert(&mut self, record: usize) {
        self.0 |= 1 << record;
    }

    fn contains(self, record: usize) -> bool {
        self.0 & (1 << record) != 0
    }

    /// Without those before `record`.
    fn from(self, record: usize) -> Self {
        Self(self.0 >> record << record)
    }
}

/// The model: what stands in the partition, and by which rules it is handled.
struct Model {
    records: &'static [Content],
    rules: Rules,
    disturbances: u8,
}

impl Model {
    /// The request id, as the bridge makes it.
    fn text(&self, request: Request) -> String {
        let Request { record, life } = request;
        let position = RecordPosition { topic: "t".to_owned(), partition: 0, offset: record as i64 };
        let id = request_id(&position, self.records[record].1);
        match self.rules {
            Rules::RandomRequestIds => id.replacen("kafka:", &format!("kafka:{life}-"), 1),
            Rules::RequestIdsWithoutDigest => format!("kafka:{position}"),
            Rules::AsBuilt | Rules::CommitsTheLatest => id,
        }
    }

    fn existing(&self, request: Request, earlier: &[Request], failed: bool) -> Existing {
        Existing {
            run_id: "r".to_owned(),
            // Whether another run is open or completed makes no difference to any decision.
            state: if failed { RunState::Failed } else { RunState::Open },
            closed_at_ms: None,
            request_id: self.text(request),
            earlier: earlier.iter().map(|request| self.text(*request)).collect(),
        }
    }

    /// What the server does with a start.
    fn start(&self, world: &mut World, request: Request, again: Option<(Request, &[Request])>) -> Answer {
        let started = Answer::Started { run_id: "r".to_owned() };
        let slot = &mut world.runs[self.records[request.record].0];
        match slot {
            None => {
                let started_by = vec![request.record];
                *slot = Some(Run { request, earlier: Vec::new(), failed: false, started_by });
                started
            }
            Some(run) if run.request == request => started,
            Some(run) => match again {
                Some((previous, earlier)) if run.failed => {
                    run.earlier = [earlier, &[previous]].concat();
                    run.request = request;
                    run.failed = false;
                    run.started_by.push(request.record);
                    started
                }
                _ => Answer::AlreadyExists { first: self.text(run.request) },
            },
        }
    }

    /// One step of a call.
    fn step(&self, world: &mut World, request: Request, stage: &Stage) -> Stage {
        let (ticket, digest, redrive) = self.records[request.record];
        let claim = Claim { request_id: self.text(request), digest: digest.to_owned(), written_at_ms: None, redrive };
        let decision = match stage {
            Stage::Ask => match read(self.start(world, request, None), &claim) {
                Reading::Decided(decision) => decision,
                Reading::LookUp { .. } => return Stage::LookUp,
            },
            Stage::LookUp => {
                let run = world.runs[ticket].as_ref().expect("the server said so");
                match judge(&claim, &self.existing(run.request, &run.earlier, run.failed)) {
                    Judgement::Decided(decision) => decision,
                    Judgement::StartAgain => {
                        return Stage::Again { previous: run.request, earlier: run.earlier.clone() };
                    }
                }
            }
            Stage::Again { previous, earlier } => {
                let answer = self.start(world, request, Some((*previous, earlier)));
                read_again(answer, &self.existing(*previous, earlier, true))
            }
            Stage::Decided => return Stage::Decided,
        };
        match decision {
            Decision::Started { .. } | Decision::Redriven { .. } | Decision::Duplicate { .. } => {}
            Decision::Refused(_) => world.dead_letters.insert(request.record),
            Decision::Unavailable { .. } | Decision::SetupFault { .. } => return Stage::Ask,
        }
        if request.record >= world.committed {
            world.durable.insert(request.record);
        }
        Stage::Decided
    }

    /// What the owner may commit of what it took since the last commit, by the bridge's window.
    fn committable(&self, world: &World) -> Option<usize> {
        let done = |record: &usize| !world.pending.iter().any(|(request, _)| request.record == *record);
        let mut taken = world.committed..world.next;
        if self.rules == Rules::CommitsTheLatest {
            return taken.rfind(done).map(|record| record + 1);
        }
        let mut window = Window::default();
        taken.clone().for_each(|record| window.take(record as i64));
        taken.filter(done).for_each(|record| window.done(record as i64));
        window.committable().and_then(|position| usize::try_from(position).ok())
    }

    /// Every world that may come next.
    fn next(&self, world: &World) -> Vec<World> {
        let mut worlds = Vec::new();
        let mut come = |change: &mut dyn FnMut(&mut World)| {
            let mut next = world.clone();
            change(&mut next);
            worlds.push(next);
        };
        if world.next < self.records.len() && world.pending.len() < IN_FLIGHT {
            come(&mut |world| {
                let life = if self.rules == Rules::RandomRequestIds { world.disturbances } else { 0 };
                world.pending.push((Request { record: world.next, life }, Stage::Ask));
                world.next += 1;
            });
        }
        for (number, (request, stage)) in world.pending.iter().enumerate() {
            come(&mut |world| {
                if *stage == Stage::Decided {
                    world.pending.remove(number);
                } else {
                    world.pending[number].1 = self.step(world, *request, stage);
                }
            });
        }
        if let Some(position) = self.committable(world).filter(|position| *position != world.committed) {
            come(&mut |world| {
                world.lost = (world.committed..position).find(|record| !world.durable.contains(*record));
                world.committed = position;
                world.durable = world.durable.from(position);
            });
        }
        if world.disturbances < self.disturbances {
            // The owner crashes or loses the partition. Its calls may still arrive; those of a living process go on.
            come(&mut |world| {
                world.disturbances += 1;
                world.next = world.committed;
                let pending = std::mem::take(&mut world.pending);
                world.orphans.extend(pending.into_iter().filter(|(_, stage)| *stage != Stage::Decided));
                world.orphans.sort();
                world.orphans.dedup();
            });
        }
        for (number, (request, stage)) in world.orphans.iter().enumerate() {
            come(&mut |world| {
                world.orphans.remove(number);
                let stage = self.step(world, *request, stage);
                if matches!(stage, Stage::LookUp | Stage::Again { .. }) {
                    world.orphans.push((*request, stage));
                    world.orphans.sort();
                    world.orphans.dedup();
                }
            });
        }
        if world.runs[FAILING].as_ref().is_some_and(|run| !run.failed && run.started_by.len() == 1) {
            come(&mut |world| {
                if let Some(run) = &mut world.runs[FAILING] {
                    run.failed = true;
                }
            });
        }
        worlds
    }

    /// What must hold at every moment, and does not.
    fn broken_promise(&self, world: &World) -> Option<String> {
        if let Some(lost) = world.lost {
            return Some(format!("record {lost} is committed and nowhere durable"));
        }
        for (ticket, run) in world.runs.iter().enumerate() {
            let Some(run) = run else { continue };
            let by: HashSet<usize> = run.started_by.iter().copied().collect();
            if by.len() < run.started_by.len() {
                return Some(format!("a record started ticket {ticket} twice: {:?}", run.started_by));
            }
            if run.started_by.len() > 1 && ticket != FAILING {
                return Some(format!("ticket {ticket} was started twice: {:?}", run.started_by));
            }
        }
        let dead = |record: &usize| world.dead_letters.contains(*record);
        let of_one_id = |record: &usize| self.records[*record].0 == COLLIDING;
        let all = 0..self.records.len();
        if let Some(record) = all.clone().filter(dead).find(|record| !of_one_id(record)) {
            return Some(format!("record {record} is a dead letter and nothing is wrong with it"));
        }
        let colliding = all.clone().filter(of_one_id).count();
        let dead = all.filter(dead).count();
        if colliding > 0 && dead == colliding {
            return Some("both of two colliding tickets are dead letters".to_owned());
        }
        if world.committed == self.records.len() {
            let tickets: HashSet<usize> = self.records.iter().map(|(ticket, ..)| *ticket).collect();
            let started = world.runs.iter().flatten().count();
            if started < tickets.len() || dead != colliding.saturating_sub(1) {
                return Some(format!("all is committed, with {started} tickets started and {dead} dead letters"));
            }
        }
        None
    }
}

struct Explored {
    worlds: usize,
    complete: usize,
    broken: Option<String>,
}

/// Breadth first, until everything was seen or a promise is broken.
fn explore(records: &'static [Content], disturbances: u8, rules: Rules) -> Explored {
    let model = Model { records, rules, disturbances };
    let seen_as = |world: &World| {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        hasher.finish()
    };
    let first = World::default();
    let mut seen = HashSet::from([seen_as(&first)]);
    let mut queue = VecDeque::from([first]);
    let mut complete = 0;
    while let Some(world) = queue.pop_front() {
        if let broken @ Some(_) = model.broken_promise(&world) {
            return Explored { worlds: seen.len(), complete, broken };
        }
        complete += usize::from(world.committed == records.len());
        for next in model.next(&world) {
            if seen.insert(seen_as(&next)) {
                queue.push_back(next);
            }
        }
    }
    Explored { worlds: seen.len(), complete, broken: None }
}

fn holds(records: &'static [Content], disturbances: u8) {
    let explored = explore(records, disturbances, Rules::AsBuilt);
    println!("{} worlds, {} of them with everything committed", explored.worlds, explored.complete);
    assert_eq!(explored.broken, None);
    assert!(explored.complete > 0, "the end is never reached: the model is empty");
}

#[test]
fn inc_15_inc_18_nothing_is_lost_or_doubled_in_any_order_of_events() {
    holds(ALL, 1);
}

#[test]
fn inc_15_inc_18_nothing_is_lost_or_doubled_when_it_is_redelivered_twice() {
    for records in [DUPLICATE_AND_REDRIVE, COLLISION_AND_REDRIVE, DUPLICATE_AND_COLLISION] {
        holds(records, DISTURBANCES);
    }
}

#[test]
fn a_weaker_commit_rule_loses_records() {
    let broken = explore(ALL, DISTURBANCES, Rules::CommitsTheLatest).broken.expect("the mutant passes");
    assert!(broken.contains("committed and nowhere durable"), "{broken}");
}

#[test]
fn a_request_id_of_each_try_starts_a_ticket_twice() {
    let broken = explore(ALL, 1, Rules::RandomRequestIds).broken.expect("the mutant passes");
    assert!(broken.contains("started ticket 2 twice"), "{broken}");
}

#[test]
fn a_request_id_without_the_digest_condemns_duplicates() {
    let broken = explore(ALL, DISTURBANCES, Rules::RequestIdsWithoutDigest).broken.expect("the mutant passes");
    assert!(broken.contains("nothing is wrong with it"), "{broken}");
}
