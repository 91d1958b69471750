//! A small language for what happens to tickets over hours and days: `world().ticket("b").depends_on("a").run().await`.
//!
//! The workflow, the activities, the start protocol and the server are the real ones; the server skips time whenever
//! nothing runs. Only the executor is scripted, and results are kept instead of published.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use temporalio_client::Client;
use temporalio_common::protos::temporal::api::testservice::v1::{SleepRequest, UnlockTimeSkippingRequest};
use ticket_activities::logs::Logs;
use ticket_activities::{Activities, ActivityParts, Drain, ExecutorRegistry, TicketSink};
use ticket_schemas::{ExecutionStatus, TaskType, decode_json_ticket};
use ticket_workflows::{DependencyState, Failed, FailureClass, RecordPosition, Report, TraceContext, Verb};
use tonic::Request;
use worker_agents::bridge::decision::Decision;
use worker_agents::bridge::{Provenance, Starter};
use worker_agents::config::{Config, MapSource, Origin};
use worker_agents::temporal;

use crate::attendance::Attendance;
use crate::calls::{cancel, closed, fail_attempt, is_in, order, tell, terminate_list};
use crate::scripted::{Answer, Kept, Nobody, Script, Scripted, Topic, undo_of};
use crate::server::Server;

/// Real time that a scenario may take. Machines are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Until an order that nobody takes yet has reached the server.
const ON_ITS_WAY: Duration = Duration::from_millis(300);
/// An hour.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A scenario without tickets.
pub(crate) fn world() -> Scenario {
    Scenario { settings: Vec::new(), steps: Vec::new(), in_real_time: false }
}

/// What happens, in order.
pub(crate) struct Scenario {
    settings: Vec<(&'static str, &'static str)>,
    steps: Vec<Step>,
    in_real_time: bool,
}

enum Step {
    Record(Planned),
    Order { after: Duration, name: &'static str, verb: Verb },
    Cancel { after: Duration, name: &'static str },
    Undo { after: Duration, name: &'static str },
    Await { name: &'static str, state: &'static str },
    Nothing { after: Duration },
    Results { after: Duration, away: bool },
    WorkerLeaves,
    Told { after: Duration, name: &'static str, of: &'static str, outcome: DependencyState },
    FailedByHand { after: Duration, name: &'static str },
    UndoForgotten { name: &'static str },
}

#[derive(Default)]
struct Planned {
    name: &'static str,
    after: Duration,
    dependencies: Vec<&'static str>,
    deadline: Option<Duration>,
    max_retries: u32,
    answers: VecDeque<Answer>,
    undo_answers: VecDeque<Answer>,
    undos_lost: u32,
    undos_refused: bool,
    attempt_timeout: Option<Duration>,
    parameter: Option<&'static str>,
    unheard: bool,
}

impl Scenario {
    /// A setting of the worker.
    pub(crate) fn setting(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    /// A ticket. What follows is about it.
    pub(crate) fn ticket(mut self, name: &'static str) -> Self {
        self.steps.push(Step::Record(Planned { name, ..Planned::default() }));
        self
    }

    /// Its record comes so long after the one before.
    pub(crate) fn after(self, time: Duration) -> Self {
        self.with(|ticket| ticket.after = time)
    }

    pub(crate) fn depends_on(self, name: &'static str) -> Self {
        self.with(|ticket| ticket.dependencies.push(name))
    }

    /// Its `sla.deadline`, from its creation on.
    pub(crate) fn deadline_in(self, time: Duration) -> Self {
        self.with(|ticket| ticket.deadline = Some(time))
    }

    pub(crate) fn retries(self, most: u32) -> Self {
        self.with(|ticket| ticket.max_retries = most)
    }

    /// The next attempt fails and is worth no other.
    pub(crate) fn fails_with(self, code: &str) -> Self {
        let failed = Failed::permanent(code, "as the scenario says");
        self.with(|ticket| ticket.answers.push_back(Answer::Ends(failed.into())))
    }

    /// The next attempt fails; another one is worth while, after `wait` when the provider said so.
    pub(crate) fn stumbles(self, code: &str, wait: Option<Duration>) -> Self {
        self.with(|ticket| ticket.answers.push_back(stumbled(code, wait)))
    }

    /// The next attempt goes on until it is told to stop.
    pub(crate) fn hangs(self) -> Self {
        self.with(|ticket| ticket.answers.push_back(Answer::Hangs))
    }

    /// The next attempt takes so long, in real time, and completes even when it is told to stop.
    pub(crate) fn takes(self, time: Duration) -> Self {
        self.with(|ticket| ticket.answers.push_back(Answer::Takes(time, None)))
    }

    /// The next attempt takes so long, in real time, even when it is told to stop, and then fails. Another one would be
    /// worth while.
    pub(crate) fn takes_and_stumbles(self, time: Duration, code: &str) -> Self {
        let failed = Failed::new(code, FailureClass::Retry { after_ms: None }, "as the scenario says");
        self.with(|ticket| ticket.answers.push_back(Answer::Takes(time, Some(failed.into()))))
    }

    /// `sla.timeout_ms`.
    pub(crate) fn attempt_timeout(self, time: Duration) -> Self {
        self.with(|ticket| ticket.attempt_timeout = Some(time))
    }

    /// The value of a parameter, which may refer to an output of another ticket.
    pub(crate) fn parameter(self, value: &'static str) -> Self {
        self.with(|ticket| ticket.parameter = Some(value))
    }

    /// The next ticket that undoes it fails.
    pub(crate) fn undo_fails_with(self, code: &str) -> Self {
        let failed = Failed::permanent(code, "as the scenario says");
        self.with(|ticket| ticket.undo_answers.push_back(Answer::Ends(failed.into())))
    }

    /// The next attempt to undo it fails; another one is worth while.
    pub(crate) fn undo_stumbles(self, code: &str, wait: Option<Duration>) -> Self {
        self.with(|ticket| ticket.undo_answers.push_back(stumbled(code, wait)))
    }

    /// The next ticket that undoes it takes so long, in real time.
    pub(crate) fn undo_takes(self, time: Duration) -> Self {
        self.with(|ticket| ticket.undo_answers.push_back(Answer::Takes(time, None)))
    }

    /// So many records of tickets that undo it are lost.
    pub(crate) fn undos_lost(self, count: u32) -> Self {
        self.with(|ticket| ticket.undos_lost = count)
    }

    /// Tickets that undo it cannot be published.
    pub(crate) fn undos_refused(self) -> Self {
        self.with(|ticket| ticket.undos_refused = true)
    }

    /// The last lost record of a ticket that undoes this one appears after all, so long after the step before.
    pub(crate) fn undo_comes(mut self, after: Duration, name: &'static str) -> Self {
        self.steps.push(Step::Undo { after, name });
        self
    }

    /// So much time passes.
    pub(crate) fn time(mut self, after: Duration) -> Self {
        self.steps.push(Step::Nothing { after });
        self
    }

    /// What follows waits until a worker says that the ticket is in this state.
    pub(crate) fn once(mut self, name: &'static str, state: &'static str) -> Self {
        self.steps.push(Step::Await { name, state });
        self
    }

    /// On the development server, which skips no time, and lacks nothing that tickets need: the other one fails to read
    /// histories backwards, does not let a workflow say that it was cancelled when nobody has asked its server for that, and
    /// gives attempts that run more time than they have.
    pub(crate) fn in_real_time(mut self) -> Self {
        self.in_real_time = true;
        self
    }

    /// The worker goes away, and comes back when all that follows has happened.
    pub(crate) fn worker_leaves(mut self) -> Self {
        self.steps.push(Step::WorkerLeaves);
        self
    }

    /// Another worker tells a ticket how one that it depends on ended, so long after the step before.
    pub(crate) fn told(
        mut self,
        after: Duration,
        name: &'static str,
        of: &'static str,
        outcome: DependencyState,
    ) -> Self {
        self.steps.push(Step::Told { after, name, of, outcome });
        self
    }

    /// Somebody fails the running attempt by hand, so long after the step before.
    pub(crate) fn failed_by_hand(mut self, after: Duration, name: &'static str) -> Self {
        self.steps.push(Step::FailedByHand { after, name });
        self
    }

    /// Nobody will be told how the ticket ends that undoes this one, and whose record is lost: somebody terminates its
    /// waiting list.
    pub(crate) fn undo_forgotten(mut self, name: &'static str) -> Self {
        self.steps.push(Step::UndoForgotten { name });
        self
    }

    /// It is named, and no record of it ever comes.
    pub(crate) fn never_comes(self) -> Self {
        self.with(|ticket| ticket.unheard = true)
    }

    /// An operator orders something of a ticket, so long after the step before.
    pub(crate) fn order(mut self, after: Duration, name: &'static str, verb: Verb) -> Self {
        self.steps.push(Step::Order { after, name, verb });
        self
    }

    /// Somebody cancels the workflow, so long after the step before.
    pub(crate) fn cancel(mut self, after: Duration, name: &'static str) -> Self {
        self.steps.push(Step::Cancel { after, name });
        self
    }

    /// Results cannot be published any more, so long after the step before.
    pub(crate) fn results_away(mut self, after: Duration) -> Self {
        self.steps.push(Step::Results { after, away: true });
        self
    }

    /// They can again, so long after the step before.
    pub(crate) fn results_back(mut self, after: Duration) -> Self {
        self.steps.push(Step::Results { after, away: false });
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Planned)) -> Self {
        match self.steps.last_mut() {
            Some(Step::Record(ticket)) => change(ticket),
            _ => panic!("a ticket comes first"),
        }
        self
    }

    fn tickets(&self) -> impl Iterator<Item = &Planned> {
        self.steps.iter().filter_map(|step| match step {
            Step::Record(ticket) => Some(ticket),
            _ => None,
        })
    }

    /// Runs all of it, to the last result.
    pub(crate) async fn run(self) -> Ended {
        let server = Server::start(self.in_real_time).await;
        let config = config(&server, &self.settings);
        let client = server.connect(&config).await;
        temporal::create_search_attributes(&client, &ticket_workflows::search_attributes()).await.expect("created");

        let kept = Kept::default();
        let scripted = Scripted::new(self.script());
        let starter = Arc::new(Starter::new(
            client.clone(),
            config.temporal.task_queue.clone(),
            config.identity.agent_id.clone(),
            config.bridge.policy.clone(),
        ));
        let lost = self.tickets().map(|ticket| (ticket.name.to_owned(), ticket.undos_lost)).collect();
        let refused = self.tickets().filter(|ticket| ticket.undos_refused).map(|ticket| ticket.name.to_owned());
        let topic = Arc::new(Topic::new(Arc::clone(&starter), lost, refused.collect()));
        let activities = Activities::new(ActivityParts {
            tracer: Arc::new(()),
            registry: ExecutorRegistry::new().register(TaskType::Execute, "local", scripted.clone()).register(
                TaskType::Compensate,
                "rollback_execution",
                scripted,
            ),
            results: Arc::new(kept.clone()),
            ticket_service: None,
            report_stuck_after: config.ticket_service.stuck_after,
            tickets: Arc::clone(&topic) as Arc<dyn TicketSink>,
            observer: Arc::new(Nobody),
            drain: Drain::default(),
            agent_id: "scenario".to_owned(),
            registrations: Arc::new(()),
            logs: Logs::default(),
        });
        let runtime = temporal::runtime(None).expect("runtime");
        let peers = Peers { client, starter, topic, kept, attendance: Attendance::new() };
        let story = async {
            let told = async {
                peers.attendance.call();
                self.tell(&peers).await;
                peers.attendance.call();
                self.end(&peers).await
            };
            let told = tokio::time::timeout(PATIENCE, told).await;
            peers.attendance.end();
            told.unwrap_or_else(|_| panic!("only these tickets ended: {:?}", peers.kept.names()))
        };
        let working = peers.attendance.work(&runtime, &peers.client, &config, &activities);
        let ((), ended) = tokio::join!(working, story);
        ended
    }

    fn script(&self) -> Script {
        let own = self.tickets().map(|ticket| (ticket.name.to_owned(), ticket.answers.clone()));
        let undos = self.tickets().map(|ticket| (undo_of(ticket.name), ticket.undo_answers.clone()));
        own.chain(undos).collect()
    }

    /// Step by step.
    async fn tell(&self, peers: &Peers) {
        let mut clock = peers.client.connection().test_service();
        for (offset, step) in self.steps.iter().enumerate() {
            let after = match step {
                Step::Record(ticket) => ticket.after,
                Step::Order { after, .. }
                | Step::Cancel { after, .. }
                | Step::Undo { after, .. }
                | Step::Results { after, .. }
                | Step::Told { after, .. }
                | Step::FailedByHand { after, .. }
                | Step::Nothing { after } => *after,
                Step::Await { .. } | Step::WorkerLeaves | Step::UndoForgotten { .. } => Duration::ZERO,
            };
            if self.in_real_time {
                tokio::time::sleep(after).await;
            } else if !after.is_zero() {
                let sleep = Request::new(SleepRequest { duration: after.try_into().ok() });
                clock.unlock_time_skipping_with_sleep(sleep).await.expect("time passes");
            }
            let now = if self.in_real_time {
                SystemTime::now()
            } else {
                let now = clock.get_current_time(Request::new(())).await.expect("time").into_inner();
                SystemTime::try_from(now.time.expect("time")).expect("a time")
            };
            let now = now.duration_since(SystemTime::UNIX_EPOCH).expect("now");
            match step {
                Step::Record(ticket) if ticket.unheard => {}
                Step::Record(ticket) => ticket.start(&peers.starter, offset, now).await,
                // A worker has to take it: it is on its way when the next one comes.
                Step::Order { name, verb, .. } if !peers.attendance.is_called() => {
                    let (client, name, verb) = (peers.client.clone(), *name, verb.clone());
                    tokio::spawn(async move { order(&client, name, verb).await });
                    tokio::time::sleep(ON_ITS_WAY).await;
                }
                Step::Order { name, verb, .. } => order(&peers.client, name, verb.clone()).await,
                Step::Cancel { name, .. } => cancel(&peers.client, name).await,
                Step::Undo { name, .. } => peers.topic.find(name).await,
                Step::Results { away, .. } => peers.kept.set_away(*away),
                Step::Nothing { .. } => {}
                Step::Await { name, state } => is_in(&peers.client, name, state).await,
                Step::WorkerLeaves => peers.attendance.send_away().await,
                Step::Told { name, of, outcome, .. } => tell(&peers.client, name, of, outcome.clone()).await,
                Step::FailedByHand { name, .. } => fail_attempt(&peers.client, name).await,
                Step::UndoForgotten { name } => terminate_list(&peers.client, &peers.topic.lost(name)).await,
            }
        }
    }

    /// To the last result and the end of the last ticket.
    async fn end(&self, peers: &Peers) -> Ended {
        let mut clock = peers.client.connection().test_service();
        if !self.in_real_time {
            clock.unlock_time_skipping(Request::new(UnlockTimeSkippingRequest {})).await.expect("unlocked");
        }
        let real = Instant::now();
        let heard = || self.tickets().filter(|ticket| !ticket.unheard);
        peers.kept.wait_for(heard().map(|ticket| ticket.name)).await;
        let real = real.elapsed();
        // The server that skips time lets no workflow end as cancelled that was not cancelled through it.
        let ordered = |step: &Step| matches!(step, Step::Order { verb: Verb::Cancel { .. }, .. });
        if self.in_real_time || !self.steps.iter().any(ordered) {
            for ticket in heard() {
                closed(&peers.client, ticket.name).await;
            }
        }
        Ended { reports: peers.kept.take(), real }
    }
}

/// What a scenario talks to.
struct Peers {
    client: Client,
    starter: Arc<Starter>,
    topic: Arc<Topic>,
    kept: Kept,
    attendance: Attendance,
}

fn stumbled(code: &str, wait: Option<Duration>) -> Answer {
    let after_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Answer::Ends(Failed::new(code, FailureClass::Retry { after_ms }, "as the scenario says").into())
}

impl Planned {
    /// Starts its workflow, as the bridge does.
    async fn start(&self, starter: &Starter, offset: usize, now: Duration) {
        let ticket = decode_json_ticket(self.json(now).to_string().as_bytes()).expect("a ticket");
        let offset = i64::try_from(offset).expect("few");
        let position = RecordPosition { topic: "execution.tickets".to_owned(), partition: 0, offset };
        let provenance = Provenance { position, written_at_ms: None, redrive: false, trace: TraceContext::default() };
        let decision = starter.start(&ticket, &provenance).await;
        assert!(matches!(decision, Decision::Started { .. }), "{decision:?}");
    }

    fn json(&self, now: Duration) -> Value {
        let ms = |time: Duration| i64::try_from(time.as_millis()).expect("a time");
        let timeout = self.attempt_timeout.unwrap_or(Duration::from_secs(60));
        let mut sla = json!({ "timeout_ms": ms(timeout), "max_retries": self.max_retries });
        // A deadline of its own, far away: the default one is no matter of most scenarios.
        sla["deadline"] = json!(ms(now + self.deadline.unwrap_or(10_000 * HOUR)));
        json!({
            "ticket_id": self.name, "plan_id": "plan", "intent_id": "intent", "decision_id": "decision",
            "task_id": self.name, "task_type": "EXECUTE", "description": self.name, "status": "PENDING",
            "dependencies": self.dependencies, "priority": "NORMAL", "risk_band": "low",
            "security_level": "INTERNAL", "sla": sla, "parameters": { "command": "true", "given": self.parameter }, "created_at": ms(now),
        })
    }
}

/// How a scenario went.
pub(crate) struct Ended {
    reports: BTreeMap<String, Report>,
    /// Real time from the last record to the last result.
    pub(crate) real: Duration,
}

impl Ended {
    /// What was reported of a ticket.
    pub(crate) fn report(&self, name: &str) -> &Report {
        self.reports.get(name).unwrap_or_else(|| panic!("{name} has no result"))
    }

    /// The ticket completed.
    pub(crate) fn completed(&self, name: &str) -> &Self {
        let report = self.report(name);
        assert_eq!(report.result.status, ExecutionStatus::Completed, "{name}: {:?}", report.result.error_message);
        self
    }

    /// The ticket failed, with this code.
    pub(crate) fn failed(&self, name: &str, code: &str) -> &Self {
        let report = self.report(name);
        assert_eq!(report.result.status, ExecutionStatus::Failed, "{name}");
        assert_eq!(report.error_code.as_deref(), Some(code), "{name}: {:?}", report.result.error_message);
        self
    }

    /// How long the ticket waited for others.
    pub(crate) fn parked(&self, name: &str) -> Duration {
        Duration::from_millis(self.report(name).sla.dependency_ms)
    }

    /// How long the ticket waited between attempts.
    pub(crate) fn between_attempts(&self, name: &str) -> Duration {
        Duration::from_millis(self.report(name).sla.times.retry_wait_ms)
    }

    /// Attempts of the ticket.
    pub(crate) fn attempts(&self, name: &str) -> u64 {
        self.report(name).result.result.metadata["attempt_count"].as_u64().expect("a count")
    }
}

fn config(server: &Server, settings: &[(&'static str, &'static str)]) -> Config {
    let address = server.address();
    let mut source = MapSource::from([
        ("ENVIRONMENT", "development"),
        ("TEMPORAL_ADDRESS", address.as_str()),
        ("TEMPORAL_NAMESPACE", "default"),
        ("SHUTDOWN_GRACE_SECONDS", "1"),
    ]);
    for (name, value) in settings {
        source.set(name, *value, Origin::Environment);
    }
    Config::read(&source).expect("settings")
}
