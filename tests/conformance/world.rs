//! One provider, its fake, and workers that run attempts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ticket_activities::external::{EndpointLimits, Patience};
use ticket_activities::logs::{Logged, Logs};
use ticket_activities::{Completed, Failed, Job, LogName, Outcome, Progress};
use ticket_schemas::decode_json_ticket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use worker_agents::logs::{FileSink, Folder, LogReader};

use crate::candidate::{Candidate, Driver, Peer};
use crate::server::Server;

/// For everything that must happen; machines are slow.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longer than a call may take, see [`patience`].
pub(crate) const TOO_SLOW: Duration = Duration::from_millis(900);

/// The protocol's times, short.
pub(crate) fn patience() -> Patience {
    Patience {
        call: Duration::from_millis(500),
        watch: Duration::from_secs(2),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(100),
        stop: Duration::from_secs(5),
        last_words: Duration::from_secs(2),
    }
}

pub(crate) struct World {
    pub(crate) candidate: Arc<dyn Candidate>,
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) server: Server,
}

/// An attempt that runs on a worker of its own. Dropped, that worker is lost.
pub(crate) struct Attempt {
    pub(crate) job: Job,
    running: AbortOnDropHandle<Outcome>,
}

impl World {
    pub(crate) async fn new(candidate: &Arc<dyn Candidate>) -> Self {
        let peer = candidate.peer();
        let server = Server::start(Arc::clone(&peer)).await;
        Self { candidate: Arc::clone(candidate), peer, server }
    }

    /// A first attempt.
    pub(crate) fn job(&self) -> Job {
        self.job_of("ac36f7e1-5276-5dd7-8937-0b54fce5af5b")
    }

    /// A first attempt at the ticket of this id.
    pub(crate) fn job_of(&self, ticket_id: &str) -> Job {
        let ticket = json!({
            "ticket_id": ticket_id, "task_id": "a",
            "task_type": self.candidate.task_type().as_str(), "status": "PENDING", "dependencies": [],
            "parameters": self.candidate.parameters(),
        });
        Job {
            ticket: Arc::new(decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket")),
            run_id: "a7f1c7b4-0000-4000-8000-000000000000".to_owned(),
            attempt: 1,
            lost_workers: 0,
            time_left: DEADLINE,
            recorded: Value::Null,
            stop: CancellationToken::new(),
            detach: CancellationToken::new(),
            progress: Progress::default(),
        }
    }

    /// A worker's driver, at an endpoint with these limits.
    pub(crate) fn driver(&self, limits: EndpointLimits) -> Driver {
        self.candidate.driver(&self.server.address.to_string(), patience(), limits)
    }

    /// A worker of its own begins an attempt.
    pub(crate) fn begin(&self, job: Job) -> Attempt {
        Attempt::begin(&self.driver(EndpointLimits::default()), job)
    }

    /// The next worker runs the attempt to its end, whose work ends with 0. `told`: it reads what the last heartbeat said.
    pub(crate) async fn finish_elsewhere(&self, lost: &Job, told: bool) -> Outcome {
        let job = Job {
            lost_workers: lost.lost_workers + 1,
            recorded: if told { lost.progress.get() } else { Value::Null },
            progress: Progress::default(),
            stop: CancellationToken::new(),
            detach: CancellationToken::new(),
            ..lost.clone()
        };
        self.peer.end_all(0);
        self.begin(job).outcome("the next worker's attempt").await
    }

    /// Each key's work was created once and begun once.
    #[track_caller]
    pub(crate) fn was_done_once(&self, what: &str) {
        let (creates, begins) = (self.peer.creates(), self.peer.begins());
        assert!(creates.len() == 1 && creates.values().all(|count| *count == 1), "{what}: creates {creates:?}");
        assert!(begins.len() == 1 && begins.values().all(|count| *count == 1), "{what}: begins {begins:?}");
    }
}

impl Attempt {
    /// The worker of this driver begins an attempt.
    pub(crate) fn begin(driver: &Driver, job: Job) -> Self {
        let running = driver(job.clone());
        Self { job, running: AbortOnDropHandle::new(tokio::spawn(running)) }
    }

    pub(crate) async fn outcome(self, what: &str) -> Outcome {
        let ended = tokio::time::timeout(DEADLINE, self.running).await;
        ended.unwrap_or_else(|_| panic!("{what} does not end")).expect("no panic")
    }
}

/// Waits until `probe` says yes.
pub(crate) async fn eventually(what: &str, probe: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !probe() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[track_caller]
pub(crate) fn completed(outcome: Outcome, what: &str) -> Completed {
    match outcome {
        Outcome::Completed(completed) => completed,
        Outcome::Failed(failed) => panic!("{what}: {failed:?}"),
    }
}

#[track_caller]
pub(crate) fn failed(outcome: Outcome, what: &str) -> Failed {
    match outcome {
        Outcome::Completed(completed) => panic!("{what}: {completed:?}"),
        Outcome::Failed(failed) => failed,
    }
}

/// A job whose log goes on where a heartbeat left it.
pub(crate) fn logged(job: Job, folder: &Path, recorded: Option<Logged>) -> Job {
    let logs =
        Logs { sink: Some(Arc::new(FileSink::new(folder.to_owned(), 1 << 20).expect("a thread"))), secrets: None };
    let name = LogName { ticket_id: "t".to_owned(), run_id: "r".to_owned(), attempt: job.attempt };
    Job { progress: Progress::of(logs.begin(name, recorded)), ..job }
}

/// The lines of its log that are kept: number, stream and text.
pub(crate) fn kept_lines(folder: &Path) -> Vec<String> {
    let mut reader = LogReader::open(&Folder::of(folder, "t").file("r", 1)).expect("the log");
    std::iter::from_fn(|| reader.line().expect("readable"))
        .map(|line| format!("{} {} {}", line.seq, line.stream.as_str(), line.text))
        .collect()
}
