//! `worker-agents demo`: a plan of real tickets through the embedded stack, every outcome checked.

mod agents;
mod plan;
mod table;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::Message as _;
use ticket_activities::now_ms;
use ticket_schemas::{DlqRecord, ExecutionStatus};

use super::args::DemoArgs;
use super::stack::{DevStack, Ports};
use crate::cli::{Followed, ResultFollower, TicketPublisher, TopicFollower, shutdown_signal};
use crate::config::{Config, KafkaConfig, LogFormat, MapSource, TemporalConfig};
use crate::logging;
use crate::worker::{self, WorkerOptions};
use plan::{Case, Expected, Publication};
use table::Row;

/// How long the plan may take. It takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    logging::install("warn", LogFormat::Text)?;
    eprintln!("starting Kafka, Schema Registry, Temporal and the worker …");
    let ports = Ports::default();
    let stack = DevStack::start(&ports).await?;
    let base = MapSource::process().context(".env cannot be read")?;
    let config = Config::read(&stack.source(base, &ports))?;
    let settings = config.clone();
    let worker = worker::start(config, WorkerOptions { noop_runtime: true }).await?;
    let health = worker.health.clone();
    let http = worker.http;

    let mut passed = None;
    let plan = async {
        health.wait_ready().await;
        let result = async {
            let played = play(&settings.kafka, &settings.temporal).await?;
            Ok::<_, anyhow::Error>(agents::show(&settings).await? && played)
        };
        let result = result.await;
        match &result {
            Ok(ok) if args.keep => {
                let peers = stack.peers();
                eprintln!(
                    "\nthe stack stays up until Ctrl-C ({})\n  Temporal UI  {}\n  Kafka        {}\n  Registry     {}\n  Worker       http://{http}/ready",
                    if *ok { "every outcome was the expected one" } else { "NOT every outcome was the expected one" },
                    peers.temporal_ui_url,
                    peers.kafka_bootstrap,
                    peers.schema_registry_url,
                );
                passed = Some(result);
                std::future::pending::<()>().await;
            }
            _ => passed = Some(result),
        }
    };
    let shutdown = async {
        tokio::select! {
            () = plan => {}
            () = shutdown_signal() => {}
        }
    };
    let ended = worker.run_until(shutdown).await;
    stack.stop().await;
    ended?;
    match passed {
        Some(result) => Ok(ExitCode::from(u8::from(!result?))),
        None => anyhow::bail!("interrupted before the plan was done"),
    }
}

/// Publishes the plan, follows results and dead letters, prints the table; whether every outcome was the expected one.
async fn play(kafka: &KafkaConfig, temporal: &TemporalConfig) -> anyhow::Result<bool> {
    let results = ResultFollower::from_now(kafka).await?;
    let dead_letters = TopicFollower::from_now(kafka, &kafka.dlq_topic).await?;
    let publisher = TicketPublisher::new(kafka)?;
    let cases = plan::cases(now_ms())?;
    for case in &cases {
        for publication in &case.publications {
            match publication {
                Publication::Ticket(ticket, encoding) => publisher.publish(ticket, *encoding).await.map(drop)?,
                Publication::Raw(value) => publisher.publish_raw(None, value.as_deref()).await.map(drop)?,
            }
        }
    }
    let records: usize = cases.iter().map(|case| case.publications.len()).sum();
    eprintln!("published {records} records of {} cases", cases.len());

    let mut outcomes = Outcomes::default();
    let followed = tokio::time::timeout(PATIENCE, outcomes.follow(&cases, &results, &dead_letters)).await;
    if let Ok(result) = followed {
        result?;
    } else {
        eprintln!("not every outcome came within {} s", PATIENCE.as_secs());
    }
    let rows: Vec<Row> = cases.iter().map(|case| outcomes.row(case)).collect();
    table::print(&rows, temporal, &outcomes.dead_letters);
    Ok(rows.iter().all(|row| row.expected) && outcomes.surplus.is_empty())
}

/// What came back.
#[derive(Default)]
struct Outcomes {
    results: BTreeMap<String, Followed>,
    dead_letters: Vec<DeadLetter>,
    /// A second, different result of a ticket: never expected.
    surplus: Vec<String>,
}

/// A record of the DLQ.
pub(super) struct DeadLetter {
    pub(super) ticket_id: String,
    pub(super) code: String,
    pub(super) error: String,
    original: Option<Vec<u8>>,
}

impl Outcomes {
    async fn follow(
        &mut self,
        cases: &[Case],
        results: &ResultFollower,
        dead_letters: &TopicFollower,
    ) -> anyhow::Result<()> {
        let wanted_results = cases.iter().filter(|case| case.expects_result()).count();
        let wanted_letters = cases.iter().filter(|case| case.expects_dead_letter()).count();
        while self.results.len() < wanted_results || self.dead_letters.len() < wanted_letters {
            tokio::select! {
                record = results.receive() => {
                    if let Some(followed) = results.read(&record?, |_| false).await? {
                        self.note_result(followed);
                    }
                }
                message = dead_letters.next() => self.note_dead_letter(message?.payload()),
            }
            if std::io::stderr().is_terminal() {
                eprint!(
                    "\r{}/{wanted_results} results, {}/{wanted_letters} dead letters ",
                    self.results.len(),
                    self.dead_letters.len()
                );
            }
        }
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(())
    }

    fn note_result(&mut self, followed: Followed) {
        let ticket_id = followed.result.ticket_id.as_str().to_owned();
        if let Some(first) = self.results.get(&ticket_id) {
            if first.result_id != followed.result_id {
                self.surplus.push(ticket_id);
            }
            return;
        }
        self.results.insert(ticket_id, followed);
    }

    fn note_dead_letter(&mut self, value: Option<&[u8]>) {
        let letter = value.and_then(|value| DlqRecord::parse(value).ok()).map(|record| DeadLetter {
            ticket_id: record.ticket_id().to_owned(),
            code: record.error_code().unwrap_or_default().to_owned(),
            error: record.error().unwrap_or_default().to_owned(),
            original: record.original_value().ok().flatten(),
        });
        self.dead_letters.extend(letter);
    }

    fn row(&self, case: &Case) -> Row {
        let result = case.ticket_id().and_then(|ticket_id| self.results.get(ticket_id));
        let letter = self.dead_letters.iter().find(|letter| {
            letter.original.is_some() && case.raw_values().any(|raw| letter.original.as_deref() == Some(raw))
                || case.expects_dead_letter() && case.ticket_id() == Some(letter.ticket_id.as_str())
        });
        let code = result.and_then(|followed| followed.metadata("error_code"));
        let matches = |expected: &Expected| match expected {
            Expected::Completed(needle) => result.is_some_and(|followed| {
                let output =
                    followed.result.result.output.get("stdout").and_then(|value| value.as_str()).unwrap_or_default();
                followed.result.status == ExecutionStatus::Completed && output.contains(needle)
            }),
            Expected::Failed(wanted, needle) => {
                code.as_deref() == Some(*wanted)
                    && result.is_some_and(|followed| {
                        followed.result.error_message.as_deref().unwrap_or_default().contains(needle)
                    })
            }
            Expected::DeadLetter(wanted) => letter.is_some_and(|letter| letter.code == *wanted),
        };
        Row {
            name: case.name,
            ticket_id: case.ticket_id().map(str::to_owned),
            status: match (result, letter) {
                (Some(followed), _) => followed.result.status.as_str().to_owned(),
                (None, Some(_)) => "DLQ".to_owned(),
                (None, None) => "nothing came".to_owned(),
            },
            duration_ms: result.and_then(|followed| followed.result.actual_duration_ms),
            evidence: result
                .map(|followed| table::evidence(followed, code.as_deref()))
                .or_else(|| letter.map(|letter| letter.code.clone()))
                .unwrap_or_default(),
            expected: case.expected.iter().all(matches),
        }
    }
}
