//! `worker-agents doctor`: each line says what, why it matters, and how to fix it.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::cli::settings;
use crate::config::Config;
use crate::kafka::{self, TopicState};
use crate::registry::RegistryClient;
use crate::temporal;

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Create what can be created: search attributes
    #[arg(long)]
    fix: bool,
}

/// One line of the report.
struct Finding {
    ok: bool,
    what: String,
    advice: String,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { ok: true, what: what.into(), advice: String::new() }
    }

    fn bad(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { ok: false, what: what.into(), advice: advice.into() }
    }
}

pub(super) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = settings()?;
    let mut findings = vec![Finding::ok("settings are valid")];
    findings.extend(config.warnings.iter().map(|warning| Finding::ok(format!("settings: {warning}"))));
    findings.extend(check_kafka(&config).await?);
    findings.push(check_registry(&config).await);
    findings.extend(check_temporal(&config, args.fix).await);
    findings.push(check_local(&config));
    let failed = findings.iter().filter(|finding| !finding.ok).count();
    for finding in &findings {
        println!("{} {}", if finding.ok { "ok  " } else { "FAIL" }, finding.what);
        if !finding.advice.is_empty() {
            println!("     {}", finding.advice);
        }
    }
    println!("{} checks, {failed} failed", findings.len());
    Ok(ExitCode::from(u8::from(failed > 0)))
}

async fn check_kafka(config: &Config) -> anyhow::Result<Vec<Finding>> {
    let kafka = config.kafka.clone();
    Ok(tokio::task::spawn_blocking(move || {
        let topics = [kafka.tickets_topic.as_str(), kafka.results_topic.as_str(), kafka.dlq_topic.as_str()];
        match kafka::describe_topics(&kafka, &topics) {
            Err(error) => vec![Finding::bad("Kafka is reachable", error.to_string())],
            Ok(states) => states
                .into_iter()
                .map(|(topic, state)| match state {
                    TopicState::Partitions(n) => {
                        Finding::ok(format!("Kafka topic {topic} exists with {n} partition(s)"))
                    }
                    TopicState::Missing => Finding::bad(
                        format!("Kafka topic {topic} exists"),
                        "the worker does not start without it; create it (names are dotted, not hyphenated)",
                    ),
                })
                .collect(),
        }
    })
    .await?)
}

async fn check_registry(config: &Config) -> Finding {
    let Some(url) = &config.kafka.schema_registry_url else {
        return Finding::ok("no schema registry: JSON only, framed Avro goes to the DLQ");
    };
    let what = format!("schema registry answers at {url}");
    let asked = async {
        let client = RegistryClient::of(&config.kafka)?.context("no URL")?;
        anyhow::Ok(client.check().await?)
    };
    match asked.await {
        Ok(()) => Finding::ok(what),
        Err(error) => Finding::bad(
            what,
            format!(
                "Avro tickets wait until it answers ({error:#}); check KAFKA_SCHEMA_REGISTRY_URL, the platform's Apicurio needs /apis/ccompat/v6"
            ),
        ),
    }
}

async fn check_temporal(config: &Config, fix: bool) -> Vec<Finding> {
    let client = match temporal::connect(config).await {
        Ok(client) => client,
        Err(error) => return vec![Finding::bad("Temporal is reachable", error.to_string())],
    };
    let mut findings = vec![Finding::ok("Temporal is reachable")];
    let what = "the namespace has the search attributes of tickets";
    let missing = match temporal::missing_search_attributes(&client).await {
        Ok(missing) => missing,
        Err(error) => {
            findings.push(Finding::bad(what, error.to_string()));
            return findings;
        }
    };
    if missing.is_empty() {
        findings.push(Finding::ok(what));
        return findings;
    }
    let names = missing.iter().map(|attribute| attribute.name).collect::<Vec<_>>().join(", ");
    if !fix {
        findings
            .push(Finding::bad(what, format!("no ticket can start without {names}; run `worker-agents doctor --fix`")));
        return findings;
    }
    findings.push(match temporal::create_search_attributes(&client, &missing).await {
        Ok(()) => Finding::ok(format!("created search attributes {names}")),
        Err(error) => {
            Finding::bad(what, format!("{names} could not be created ({error}); ask an administrator of the namespace"))
        }
    });
    findings
}

fn check_local(config: &Config) -> Finding {
    if !config.local.enabled {
        return Finding::ok("the local runtime is off");
    }
    let root = &config.local.working_dir;
    let what = format!("local commands can work in {}", root.display());
    match std::fs::create_dir_all(root) {
        Ok(()) => Finding::ok(what),
        Err(error) => {
            Finding::bad(what, format!("{error}; set LOCAL_RUNTIME_WORKING_DIR to a folder this worker may write"))
        }
    }
}
