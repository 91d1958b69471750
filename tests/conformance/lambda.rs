//! AWS Lambda: the client and the runtime, and a fake of its API.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use ticket_activities::Recognition;
use ticket_activities::execute::lambda::{LambdaConfig, LambdaRuntime};
use ticket_activities::external::{EndpointLimits, Patience};
use ticket_schemas::TaskType;
use tokio::sync::watch;
use worker_agents::config::{Config, LambdaRuntimeConfig, MapSource, Origin};
use worker_agents::lambda::LambdaClient;
use worker_agents::metrics::Metrics;
use worker_agents::spans::Spans;

use crate::candidate::{Candidate, Driver, Peer, Step, driver};
use crate::server::{Answer, Request};

const REQUEST_ID: &str = "471d6d5b-4b4e-5fdb-bc09-be992c618ef2";
const REPORT: &str = "REPORT RequestId: 1\tBilled Duration: 124 ms\tMemory Size: 128 MB\tMax Memory Used: 64 MB\t\n";

pub(crate) struct LambdaCandidate;

impl Candidate for LambdaCandidate {
    fn task_type(&self) -> TaskType {
        TaskType::Execute
    }

    fn provider(&self) -> &'static str {
        "lambda"
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

    fn answers_at_the_end(&self) -> bool {
        true
    }

    fn steps(&self) -> &'static [Step] {
        &[Step::Create]
    }

    fn parameters(&self) -> Value {
        json!({ "runtime": "lambda", "command": "echo", "args": ["hello", "world"] })
    }

    fn peer(&self) -> Arc<dyn Peer> {
        Arc::new(FakeLambda::default())
    }

    fn driver(&self, address: &str, patience: Patience, limits: EndpointLimits) -> Driver {
        let settings = settings(address);
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let client = LambdaClient::new(&settings, metrics, Spans::default()).expect("a client");
        let config = LambdaConfig {
            function: settings.function,
            allowed: settings.allowed,
            region: settings.region,
            timeout: settings.timeout,
            soon: patience.call / 2,
            output_limit: 64 * 1024,
        };
        driver(LambdaRuntime::new(Arc::new(client), config), patience, limits)
    }
}

fn settings(address: &str) -> LambdaRuntimeConfig {
    let mut settings = MapSource::from([
        ("LAMBDA_ENABLED", "true"),
        ("LAMBDA_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("LAMBDA_SECRET_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ]);
    settings.set("LAMBDA_ENDPOINT_URL", format!("http://{address}"), Origin::Environment);
    Config::read(&settings).expect("settings").lambda.expect("on")
}

/// How invocations end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Code(i32),
    /// Whatever is in between gives up.
    Lost,
}

/// A Lambda with one function, which runs until a test ends it.
struct FakeLambda {
    invocations: Mutex<Invocations>,
    ending: watch::Sender<Option<Ending>>,
    clock_ahead: AtomicI64,
}

#[derive(Default)]
struct Invocations {
    /// By the key that the function is told.
    begun: BTreeMap<String, usize>,
    running: usize,
}

impl Default for FakeLambda {
    fn default() -> Self {
        Self { invocations: Mutex::default(), ending: watch::Sender::new(None), clock_ahead: AtomicI64::new(0) }
    }
}

impl FakeLambda {
    fn invocations(&self) -> MutexGuard<'_, Invocations> {
        self.invocations.lock().expect("no test panics with it")
    }

    async fn run(&self, payload: &Value) -> Answer {
        let key = payload["ticket"]["idempotency_key"].as_str().expect("a key").to_owned();
        {
            let mut invocations = self.invocations();
            *invocations.begun.entry(key).or_default() += 1;
            invocations.running += 1;
        }
        let mut ending = self.ending.subscribe();
        let ending = *ending.wait_for(Option::is_some).await.expect("the fake lives");
        self.invocations().running -= 1;
        match ending {
            Some(Ending::Code(code)) => {
                let stdout = format!("{}\n", payload["args"].as_array().expect("words").len());
                let mut answer = Answer::json(200, &json!({ "exit_code": code, "stdout": stdout, "stderr": "" }));
                answer.headers.push(("X-Amzn-RequestId", REQUEST_ID.to_owned()));
                answer.headers.push(("X-Amz-Log-Result", BASE64_STANDARD.encode(REPORT)));
                answer
            }
            _ => Answer { content_type: "text/html", body: b"<html>gone</html>".to_vec(), ..Answer::empty(504) },
        }
    }
}

impl Peer for FakeLambda {
    fn step(&self, request: &Request) -> Option<Step> {
        let path = "/2015-03-31/functions/neural-hive-executor/invocations";
        (request.method == "POST" && request.path == path).then_some(Step::Create)
    }

    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer> {
        Box::pin(async move {
            let payload = serde_json::from_slice(&request.body);
            let mut answer = match (self.step(&request), payload) {
                (Some(_), Ok(payload)) => self.run(&payload).await,
                (Some(_), Err(_)) => Answer::json(400, &json!({ "message": "Could not parse request body into json" })),
                (None, _) => Answer::json(404, &json!({ "message": "no such path" })),
            };
            let ahead = self.clock_ahead.load(Ordering::Relaxed);
            let offset = Duration::from_secs(ahead.unsigned_abs());
            let now = if ahead < 0 { SystemTime::now() - offset } else { SystemTime::now() + offset };
            answer.headers.push(("Date", httpdate::fmt_http_date(now)));
            answer
        })
    }

    /// Lambda's own errors have a type and the id of a request; a gateway's have not.
    fn error(&self, status: u16) -> Answer {
        let error_type = match status {
            400 => "InvalidParameterValueException",
            503 => "ServiceUnavailable",
            _ => "ServiceException",
        };
        let mut answer = Answer::json(status, &json!({ "message": "scripted" }));
        answer.headers.push(("X-Amzn-RequestId", REQUEST_ID.to_owned()));
        answer.headers.push(("X-Amzn-ErrorType", error_type.to_owned()));
        answer
    }

    fn creates(&self) -> BTreeMap<String, usize> {
        self.invocations().begun.clone()
    }

    /// What is invoked begins by itself.
    fn begins(&self) -> BTreeMap<String, usize> {
        self.creates()
    }

    fn running(&self) -> usize {
        self.invocations().running
    }

    /// Nobody can ask for that.
    fn stops(&self) -> usize {
        0
    }

    fn end_all(&self, exit_code: i32) {
        self.ending.send_replace(Some(Ending::Code(exit_code)));
    }

    fn vanish(&self) {
        self.ending.send_replace(Some(Ending::Lost));
    }

    fn set_clock(&self, ahead: i64) {
        self.clock_ahead.store(ahead, Ordering::Relaxed);
    }
}
