//! A world with a stand-in of AWS, and what all its tests look at.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use crate::instance::Instance;
use crate::world::{Worker, World, eventually};

/// The function of tickets that name none, which a worker asks for when it starts.
pub(crate) const DEFAULT: &str = "neural-hive-executor";

/// The stand-in that the tests share, each with a function of its own.
pub(crate) struct Aws {
    /// `http://127.0.0.1:1234`
    pub(crate) url: String,
    log: PathBuf,
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a setting of the test run, not of the product")]
    std::env::var(name).ok()
}

/// `scripts/test-lambda` says where it is, and ends it.
pub(crate) fn aws() -> &'static Aws {
    static AWS: OnceLock<Aws> = OnceLock::new();
    AWS.get_or_init(|| {
        let folder =
            PathBuf::from(variable("REAL_LAMBDA_DIR").expect("REAL_LAMBDA_DIR, as scripts/test-lambda sets it"));
        let started = Instance::start("lambda", &folder, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        let url = started.address("LAMBDA_ENDPOINT_URL").expect("an address").to_owned();
        // Statics are not dropped.
        std::mem::forget(started);
        Aws { url, log: folder.join("moto/log") }
    })
}

impl Aws {
    /// `127.0.0.1:1234`
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// The next invocation is answered with this, whatever it asks.
    pub(crate) async fn answer_next(&self, answer: &Value) {
        let body = json!({ "results": [answer.to_string()], "region": "us-east-1" });
        self.tell("static/lambda-simple/response", &body).await;
    }

    /// Whether functions are those that exist, of which there is one, `broken`; otherwise any name is a function that answers.
    pub(crate) async fn set_strict(&self, is_strict: bool) {
        self.tell("config", &json!({ "lambda": { "use_docker": is_strict } })).await;
    }

    async fn tell(&self, what: &str, body: &Value) {
        let client = worker_agents::net::client(Duration::from_secs(10)).expect("a client");
        let told = client.post(format!("{}/moto-api/{what}", self.url)).json(body).send().await;
        let told = told.expect("the stand-in answers");
        assert!(told.status().is_success(), "{told:?}");
    }

    /// How often a function was invoked, as the stand-in's own log tells.
    pub(crate) fn invocations(&self, function: &str) -> usize {
        let asked = format!("POST /2015-03-31/functions/{function}/invocations ");
        std::fs::read_to_string(&self.log).expect("a log").lines().filter(|line| line.contains(&asked)).count()
    }

    /// Waits until a function was invoked so often.
    pub(crate) async fn invoked(&self, function: &str, times: usize) {
        eventually("the function is invoked", || (self.invocations(function) == times).then_some(())).await;
    }
}

/// Settings of a worker that finds Lambda at `url`.
pub(crate) fn settings(url: &str) -> [(&str, &str); 4] {
    [
        ("LAMBDA_ENABLED", "true"),
        ("LAMBDA_ENDPOINT_URL", url),
        ("LAMBDA_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("LAMBDA_SECRET_KEY", "of-the-stand-in"),
    ]
}

pub(crate) async fn world() -> World {
    tokio::task::spawn_blocking(aws).await.expect("a stand-in");
    World::new().await
}

/// A worker that finds Lambda at `url`. It has asked whether it may invoke its function, which costs the stand-in an answer.
pub(crate) async fn started(world: &World, url: &str) -> Worker {
    let before = aws().invocations(DEFAULT);
    let worker = world.worker(&settings(url)).await;
    aws().invoked(DEFAULT, before + 1).await;
    worker
}

/// A ticket that asks `function` to say hello, and may be tried again twice.
pub(crate) fn ticket(world: &World, name: &str, function: &str) -> Value {
    let mut ticket = world.ticket(name, "");
    ticket["sla"]["max_retries"] = json!(2);
    ticket["parameters"] =
        json!({ "runtime": "lambda", "command": "echo", "args": ["hello"], "function_name": function });
    ticket
}
