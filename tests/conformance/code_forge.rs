//! Code Forge: the client and the runtime, and the stand-in as a fake of its API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use ticket_activities::Recognition;
use ticket_activities::execute::code_forge::{CodeForgeRuntime, GenerationTimes};
use ticket_activities::external::{EndpointLimits, Patience};
use ticket_schemas::TaskType;
use worker_agents::code_forge::CodeForgeClient;
use worker_agents::config::{CodeForgeConfig, PeerAccess};
use worker_agents::metrics::Metrics;
use worker_agents::spans::Spans;

use crate::candidate::{Candidate, Driver, Peer, Step, driver};
use crate::code_forge_stand_in::{CodeForgeStandIn, Ending};
use crate::server::{Answer, Request};

/// A time of the samples.
const SAMPLE_TIME: &str = "2026-03-16T09:32:10Z";

pub(crate) struct CodeForgeCandidate;

impl Candidate for CodeForgeCandidate {
    fn task_type(&self) -> TaskType {
        TaskType::Execute
    }

    fn provider(&self) -> &'static str {
        "code_forge"
    }

    fn recognition(&self) -> Recognition {
        Recognition::None
    }

    fn hears_retry_after(&self) -> bool {
        true
    }

    fn ends_work(&self) -> bool {
        false
    }

    fn steps(&self) -> &'static [Step] {
        &[Step::Create, Step::Watch]
    }

    fn parameters(&self) -> Value {
        json!({ "template_id": "fastapi-microservice", "language": "python" })
    }

    fn peer(&self) -> Arc<dyn Peer> {
        Arc::new(FakeForge::default())
    }

    fn driver(&self, address: &str, patience: Patience, limits: EndpointLimits) -> Driver {
        let config = CodeForgeConfig {
            url: format!("http://{address}"),
            peer: PeerAccess::default(),
            generation_timeout: Duration::from_secs(600),
            poll_interval: Duration::from_millis(20),
        };
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let client = CodeForgeClient::new(&config, metrics, Spans::default()).expect("a client");
        let times = GenerationTimes {
            limit: config.generation_timeout,
            poll: config.poll_interval,
            unknown_for: Duration::ZERO,
        };
        driver(CodeForgeRuntime::new(Arc::new(client), times), patience, limits)
    }
}

/// A Code Forge whose clock may be wrong.
#[derive(Default)]
struct FakeForge {
    forge: CodeForgeStandIn,
    clock_ahead: AtomicI64,
}

impl Peer for FakeForge {
    fn step(&self, request: &Request) -> Option<Step> {
        match request.method.as_str() {
            "POST" if request.path == "/api/v1/generate" => Some(Step::Create),
            "GET" if request.path.starts_with("/api/v1/generate/") => Some(Step::Watch),
            _ => None,
        }
    }

    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        let (status, body) = match self.step(&request) {
            Some(Step::Create) => self.forge.generate(&request.body),
            Some(_) => self.forge.generation(request.path.rsplit('/').next().unwrap_or_default()),
            None => (404, json!({ "detail": "Not Found" }).to_string()),
        };
        let now_ms = ticket_activities::now_ms() + self.clock_ahead.load(Ordering::Relaxed) * 1000;
        let now = chrono::DateTime::from_timestamp_millis(now_ms).expect("a time").to_rfc3339();
        let body = body.replace(SAMPLE_TIME, &now).into_bytes();
        Box::pin(async move { Answer { status, content_type: "application/json", headers: Vec::new(), body } })
    }

    /// By ticket: the API takes no key.
    fn creates(&self) -> BTreeMap<String, usize> {
        self.forge.creates()
    }

    /// What is asked for begins by itself.
    fn begins(&self) -> BTreeMap<String, usize> {
        self.forge.creates()
    }

    fn running(&self) -> usize {
        self.forge.running().len()
    }

    /// Nobody can ask for that.
    fn stops(&self) -> usize {
        0
    }

    fn end_all(&self, exit_code: i32) {
        self.forge.end_all(if exit_code == 0 { Ending::Completed } else { Ending::Failed });
    }

    fn vanish(&self) {
        self.forge.forget_all();
    }

    fn set_clock(&self, ahead: i64) {
        self.clock_ahead.store(ahead, Ordering::Relaxed);
    }
}
