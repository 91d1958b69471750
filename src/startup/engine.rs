//! What Temporal says about the namespace.

use std::time::{Duration, SystemTime};

use temporalio_client::{Client, NamespacedClient as _};

use super::clock::Sight;
use super::finding::{Check, Finding};
use super::version;
use crate::config::TemporalConfig;
use crate::temporal::{self, Routing};

/// The namespace.
pub(super) struct Engine {
    pub(super) findings: Vec<Finding>,
    pub(super) namespace: String,
    pub(super) retention: Result<Option<Duration>, String>,
    pub(super) sights: Vec<Sight>,
}

impl Engine {
    /// Of a server that cannot be reached.
    pub(super) fn away(error: &str) -> Self {
        // The sentence of the connection says what to do.
        let (what, fix) = error.split_once("; ").unwrap_or((error, "check TEMPORAL_ADDRESS and the network"));
        Self {
            findings: vec![Finding::fatal(Check::Temporal, what, fix)],
            namespace: String::new(),
            retention: Err("Temporal did not answer".to_owned()),
            sights: Vec::new(),
        }
    }
}

/// Asks the server; creates missing search attributes when told to `fix`.
pub(super) async fn look(client: &Client, settings: &TemporalConfig, fix: bool) -> Engine {
    let namespace = client.namespace();
    let asked = SystemTime::now();
    let described = temporal::describe_namespace(client).await;
    let ours = (asked, SystemTime::now());
    let mut findings = Vec::new();
    let mut sights = Vec::new();
    let retention = match described {
        Ok(described) => {
            findings
                .push(Finding::ok(Check::Temporal, format!("Temporal answers, and has the namespace {namespace:?}")));
            sights.extend(described.date.map(|theirs| Sight::Tells { who: "Temporal", theirs, ours }));
            Ok(described.retention)
        }
        Err(status) if status.code() == tonic::Code::NotFound => {
            findings.push(Finding::fatal(
                Check::Temporal,
                format!("Temporal has no namespace {namespace:?}"),
                "create the namespace or correct TEMPORAL_NAMESPACE",
            ));
            Err("there is no such namespace".to_owned())
        }
        Err(status) => {
            findings.push(Finding::unknown(
                Check::Temporal,
                format!("the namespace {namespace:?} could not be described: {status}"),
                "look at the server, at TEMPORAL_NAMESPACE and at this worker's rights",
            ));
            Err(status.message().to_owned())
        }
    };
    findings.push(search_attributes(client, fix).await);
    let queue = temporal::describe_task_queue(client, &settings.task_queue).await;
    findings.push(worker_version(client, settings, &namespace, queue.as_ref().map(Routing::of)).await);
    if let Ok(Some(theirs)) = queue.map(|queue| temporal::newest_of(queue, None)) {
        sights.push(Sight::NotBefore { who: "Temporal", theirs, ours: SystemTime::now() });
    }
    Engine { findings, namespace, retention, sights }
}

async fn worker_version(
    client: &Client,
    settings: &TemporalConfig,
    namespace: &str,
    routing: Result<Routing, &tonic::Status>,
) -> Finding {
    let worker = version::Worker {
        version: settings.deployment.as_ref().map(|options| &options.version),
        task_queue: &settings.task_queue,
        namespace,
    };
    let routing = match routing {
        Ok(routing) => routing,
        Err(status) => return worker.unknown(&status.to_string()),
    };
    let status = match worker.version {
        Some(version) => temporal::version_status(client, version).await.map_err(|status| status.to_string()),
        None => Ok(None),
    };
    worker.judge(&routing, status)
}

async fn search_attributes(client: &Client, fix: bool) -> Finding {
    let check = Check::SearchAttributes;
    let found = match temporal::search_attribute_faults(client).await {
        Ok(found) => found,
        Err(status) if status.code() == tonic::Code::NotFound => {
            return Finding::fatal(
                check,
                format!("the search attributes of namespace {:?} cannot be read ({status})", client.namespace()),
                "create the namespace or correct TEMPORAL_NAMESPACE",
            );
        }
        Err(status) => {
            return Finding::unknown(
                check,
                format!("the search attributes of namespace {:?} cannot be read ({status})", client.namespace()),
                "look at the server, at TEMPORAL_NAMESPACE and at this worker's rights",
            );
        }
    };
    let names = |attributes: &[ticket_workflows::SearchAttribute]| {
        attributes
            .iter()
            .map(|attribute| format!("{} ({})", attribute.name, attribute.kind))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !found.mistyped.is_empty() {
        return Finding::fatal(
            check,
            format!("search attributes of the Temporal namespace have another type than {}", names(&found.mistyped)),
            "remove them (`temporal operator search-attribute remove`) and create them with `worker-agents doctor --fix`",
        );
    }
    if found.missing.is_empty() {
        return Finding::ok(check, "the namespace has the search attributes of tickets");
    }
    let missing = names(&found.missing);
    if !fix {
        return Finding::fatal(
            check,
            format!("the Temporal namespace lacks search attributes {missing}"),
            "create them with `worker-agents doctor --fix`",
        );
    }
    match temporal::create_search_attributes(client, &found.missing).await {
        Ok(()) => Finding::ok(check, format!("created search attributes {missing}")),
        Err(error) => Finding::fatal(
            check,
            format!("search attributes {missing} could not be created: {error}"),
            "ask an administrator of the namespace",
        ),
    }
}
