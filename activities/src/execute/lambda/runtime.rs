//! AWS Lambda as a provider of external work.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use ticket_workflows::{Evidence, ExecutionReport, ExternalState, Failed, FailureClass, code};

use super::answer::Reported;
use super::api::{Invocation, InvocationType, Lambda, Reply};
use super::function::{FunctionName, FunctionPattern};
use super::params::LambdaParams;
use super::usage::Usage;
use crate::execute::output::{Capture, last_line};
use crate::executor::{Job, Recognition};
use crate::external::{Fault, Key, Plan, Provider, said};
use crate::logs::{Log, Redactor, Stream};

/// What Lambda says of a function that outlived its own time-out.
const TIMED_OUT: &str = "Task timed out after ";
/// What it says of one that was ended for using more than its memory: now, and before that.
const OUT_OF_MEMORY: [&str; 2] = ["Runtime.OutOfMemory", "signal: killed"];

/// Settings of the Lambda runtime.
#[derive(Debug, Clone)]
pub struct LambdaConfig {
    /// `LAMBDA_FUNCTION_NAME`: of tickets that name none.
    pub function: FunctionName,
    /// `LAMBDA_ALLOWED_FUNCTIONS`: what tickets may name.
    pub allowed: Vec<FunctionPattern>,
    /// `LAMBDA_REGION`.
    pub region: String,
    /// `LAMBDA_TIMEOUT_SECONDS`: time of an invocation whose ticket names none.
    pub timeout: Duration,
    /// How long an answer is waited for before the invocation counts as running: what Lambda refuses, and whom nobody can connect
    /// to, is known by then. Less than the protocol waits for a create ([`crate::external::Patience::call`]).
    pub soon: Duration,
    /// Bytes kept of each output stream, of its two ends.
    pub output_limit: usize,
}

/// Has commands run by functions.
pub struct LambdaRuntime {
    lambda: Arc<dyn Lambda>,
    config: LambdaConfig,
}

/// What an invocation came to.
type End = Arc<Result<Reply, Fault>>;

/// An invocation that is under way. Its answer comes to whoever has made the call, and dropped it is given up: there is nothing that
/// another worker could read, so a heartbeat tells only that something was begun.
pub struct Running {
    function: FunctionName,
    invocation_type: InvocationType,
    answer: Shared<BoxFuture<'static, End>>,
    /// The answer, once the watch has seen it.
    seen: OnceLock<End>,
}

impl Serialize for Running {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Running {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("an invocation is known only to the worker that made it"))
    }
}

impl Running {
    fn see(&self, end: End) -> End {
        Arc::clone(self.seen.get_or_init(|| end))
    }
}

impl LambdaRuntime {
    /// Calls `lambda`.
    #[must_use]
    pub fn new(lambda: Arc<dyn Lambda>, config: LambdaConfig) -> Self {
        Self { lambda, config }
    }

    fn call(&self, invocation: Invocation) -> Shared<BoxFuture<'static, End>> {
        let lambda = Arc::clone(&self.lambda);
        async move { Arc::new(lambda.invoke(&invocation).await) }.boxed().shared()
    }
}

impl Provider for LambdaRuntime {
    type Params = LambdaParams;
    type Spec = Invocation;
    type Handle = Running;
    type End = End;
    /// What a function leaves is its answer.
    type Output = ();

    const NAME: &'static str = "lambda";
    /// An invocation takes no key and is found by nobody.
    const RECOGNITION: Recognition = Recognition::None;
    const ONE_CALL: bool = true;

    fn plan(&self, params: LambdaParams, job: &Job) -> Result<Plan<Invocation>, Failed> {
        let (spec, limit) = params.check(&self.config, job)?;
        Ok(Plan { spec, limit })
    }

    async fn look_up(&self, _: &Key, _: &Invocation) -> Result<Option<Running>, Fault> {
        Err(Fault::Unsupported { cause: "Lambda has no call that finds an invocation".to_owned() })
    }

    /// Invokes the function. An answer that has not come soon is waited for by the watch.
    async fn create(&self, _: &Key, invocation: &Invocation) -> Result<Running, Fault> {
        let answer = self.call(invocation.clone());
        if let Ok(end) = tokio::time::timeout(self.config.soon, answer.clone()).await
            && let Err(fault) = &*end
        {
            return Err(fault.clone());
        }
        Ok(Running {
            function: invocation.function.clone(),
            invocation_type: invocation.invocation_type,
            answer,
            seen: OnceLock::new(),
        })
    }

    fn has_answered(&self, running: &Running) -> bool {
        running.answer.peek().is_some()
    }

    /// Whatever the invocation comes to is its end: a call whose answer is lost cannot be asked about again.
    async fn watch(&self, running: &Running) -> Result<End, Fault> {
        Ok(running.see(running.answer.clone().await))
    }

    /// What the function has answered, and the end of its own log. Nothing is told before its end.
    async fn follow(&self, running: &Running, log: &Log) -> Result<(), Fault> {
        let Some(Ok(reply)) = running.seen.get().map(|end| &**end) else { return Ok(()) };
        let Reported { stdout, stderr, .. } = Reported::of(reply);
        for (stream, text) in [(Stream::Stderr, &reply.tail), (Stream::Stdout, &stdout), (Stream::Stderr, &stderr)] {
            log.write(stream, text.as_bytes()).await;
            if !text.is_empty() && !text.ends_with('\n') {
                log.write(stream, b"\n").await;
            }
        }
        Ok(())
    }

    /// Only what has ended by itself is known to have stopped.
    async fn stop(&self, running: &Running) -> Result<Option<End>, Fault> {
        match running.answer.clone().now_or_never() {
            Some(end) => Ok(Some(running.see(end))),
            None => Err(Fault::Unsupported {
                cause: format!(
                    "Lambda has no call that ends an invocation, and function {} has not answered; its own time-out ends it",
                    running.function
                ),
            }),
        }
    }

    async fn collect(&self, _: &Running) -> Result<(), Fault> {
        Ok(())
    }

    fn verdict(&self, running: &Running, end: &End, _: Option<&()>) -> Result<Evidence, Failed> {
        let reply = match &**end {
            Ok(reply) => reply,
            Err(fault) => {
                let state = fault.is_ambiguous().then_some(ExternalState::Unknown);
                return Err(fault.clone().into_failed(Self::NAME, state));
            }
        };
        let ran = format!("function {}, request {}", running.function, reply.request_id);
        if running.invocation_type == InvocationType::Event {
            return evidence(ran, format!("{}, accepted for an asynchronous invocation", reply.status));
        }
        let reported = Reported::of(reply);
        let answered = reported.exit_code.as_ref().map_or_else(String::clone, |code| format!("exit code {code}"));
        let evidence = evidence(ran, answered.clone())?;
        if reported.exit_code == Ok(0) {
            return Ok(evidence);
        }
        Err(Failed { evidence: Some(evidence), ..failure(reply, &reported, &answered) })
    }

    fn report(&self, spec: &Invocation, _: &Running, end: Option<&End>, _: Option<()>) -> ExecutionReport {
        let mut report = ExecutionReport::default();
        let reply = end.and_then(|end| (**end).as_ref().ok());
        // What is accepted for later has no output yet, and nobody will have it.
        let answered = reply.filter(|_| spec.invocation_type == InvocationType::RequestResponse).map(Reported::of);
        let exit_code = answered.as_ref().and_then(|answered| answered.exit_code.as_ref().ok());
        report.output = BTreeMap::from([
            ("exit_code".to_owned(), json!(exit_code)),
            ("stdout".to_owned(), json!(null)),
            ("stderr".to_owned(), json!(null)),
            ("request_id".to_owned(), json!(reply.map(|reply| &reply.request_id))),
        ]);
        report.metadata = BTreeMap::from([
            ("executor".to_owned(), json!("ExecuteExecutor")),
            ("runtime".to_owned(), json!(Self::NAME)),
            ("function_name".to_owned(), json!(spec.function.as_str())),
            ("invocation_type".to_owned(), json!(spec.invocation_type.as_str())),
        ]);
        if let Some(answered) = answered {
            self.write(&mut report, "stdout", &answered.stdout);
            self.write(&mut report, "stderr", &answered.stderr);
        }
        let Some(reply) = reply else { return report };
        if spec.invocation_type == InvocationType::Event {
            // Lambda has not run it yet, and may run it more than once.
            report.metadata.insert("external_state".to_owned(), json!(ExternalState::Unknown.as_str()));
        }
        let Usage { billed_ms, memory_mb, memory_used_mb } = Usage::of(&reply.tail);
        let function_error = reply.function_error.as_deref().map(said);
        let told = [
            ("billed_duration_ms", billed_ms.map(|ms| json!(ms))),
            ("memory_size_mb", memory_mb.map(|mb| json!(mb))),
            ("memory_used_mb", memory_used_mb.map(|mb| json!(mb))),
            ("function_error", function_error.map(|error| json!(error))),
        ];
        report.metadata.extend(told.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        report.logs.push(format!("function returned {}", reply.status));
        report
    }
}

impl LambdaRuntime {
    /// Both ends of a stream, and what metadata says of it. Secrets are taken out of what comes of it.
    fn write(&self, report: &mut ExecutionReport, name: &str, text: &str) {
        let mut capture = Capture::new(self.config.output_limit, Redactor::default());
        capture.push(text.as_bytes());
        let captured = capture.finish();
        captured.describe(report, name);
        report.output.insert(name.to_owned(), json!(captured.text));
    }
}

fn evidence(ran: String, answered: String) -> Result<Evidence, Failed> {
    Evidence::new(ran, answered).map_err(|error| Failed::permanent(code::INTERNAL, error.to_string()))
}

/// Why the command of this answer did not go well.
fn failure(reply: &Reply, reported: &Reported, answered: &str) -> Failed {
    let Some(kind) = &reply.function_error else {
        let line = last_line(&reported.stderr);
        return Failed::permanent(code::EXECUTION_FAILED, format!("the function answered {answered}{line}"));
    };
    // A function may fail in its own words.
    let error = reported.error.clone().unwrap_or_else(|| said(&reported.stdout));
    let message = format!("the function failed ({}): {error}", said(kind));
    if error.contains(TIMED_OUT) {
        let message = format!("{message}; raise the function's own time-out");
        return Failed::new(code::TIMEOUT, FailureClass::Retry { after_ms: None }, message);
    }
    if OUT_OF_MEMORY.iter().any(|words| error.contains(words)) {
        return Failed::permanent(code::OUT_OF_MEMORY, format!("{message}; raise the function's memory"));
    }
    Failed::permanent(code::EXECUTION_FAILED, message)
}

#[cfg(test)]
pub(super) mod tests;
