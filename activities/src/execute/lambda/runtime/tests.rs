//! The runtime on a Lambda that answers what a test says.

use std::sync::Mutex;

use serde_json::Value;
use ticket_schemas::decode_json_ticket;
use ticket_workflows::{Completed, Outcome};

use super::*;
use crate::Executor as _;
use crate::external::External;
use crate::logs::Logs;
use crate::logs::tests::{MemorySink, Then};
use crate::ports::LogName;

const REQUEST: &str = "471d6d5b-4b4e-5fdb-bc09-be992c618ef2";
const TAIL: &str = "START RequestId: 1\nREPORT RequestId: 1\tDuration: 123.45 ms\tBilled Duration: 124 ms\tMemory Size: 128 MB\t\
                    Max Memory Used: 64 MB\t\n";

pub(in crate::execute::lambda) fn config() -> LambdaConfig {
    let allowed = ["neural-hive-executor", "own*", "123456789012:function:shared"];
    LambdaConfig {
        function: FunctionName::try_from("neural-hive-executor".to_owned()).expect("a name"),
        allowed: allowed.map(|text| FunctionPattern::try_from(text.to_owned()).expect("a pattern")).to_vec(),
        region: "us-east-1".to_owned(),
        timeout: Duration::from_secs(900),
        soon: Duration::from_secs(5),
        output_limit: 100,
    }
}

/// Answers each invocation with the next of these, after its time.
struct Scripted {
    answers: Mutex<Vec<(Duration, Result<Reply, Fault>)>>,
    invocations: Mutex<Vec<Invocation>>,
}

impl Lambda for Scripted {
    fn invoke<'a>(&'a self, invocation: &'a Invocation) -> BoxFuture<'a, Result<Reply, Fault>> {
        self.invocations.lock().expect("no panic").push(invocation.clone());
        let (after, answer) = self.answers.lock().expect("no panic").remove(0);
        Box::pin(async move {
            tokio::time::sleep(after).await;
            answer
        })
    }
}

fn scripted(answers: Vec<(u64, Result<Reply, Fault>)>) -> Arc<Scripted> {
    let answers = answers.into_iter().map(|(seconds, answer)| (Duration::from_secs(seconds), answer)).collect();
    Arc::new(Scripted { answers: Mutex::new(answers), invocations: Mutex::default() })
}

fn executor(lambda: &Arc<Scripted>) -> External<LambdaRuntime> {
    let lambda: Arc<dyn Lambda> = Arc::clone(lambda) as _;
    External::new(Arc::new(LambdaRuntime::new(lambda, config())))
}

fn reply(payload: &Value) -> Reply {
    Reply {
        request_id: REQUEST.to_owned(),
        status: 200,
        function_error: None,
        payload: payload.to_string().into_bytes(),
        tail: TAIL.to_owned(),
    }
}

fn job() -> Job {
    let sample = include_bytes!("../../../../../schemas/tests/samples/tickets/execute-lambda.json");
    Job::first(decode_json_ticket(sample).expect("a ticket"))
}

async fn run(lambda: &Arc<Scripted>, job: Job) -> Outcome {
    let params = ticket_schemas::ParameterView::new(&job.ticket.parameters).deserialize().expect("parameters");
    executor(lambda).execute(params, job).await
}

fn completed(outcome: Outcome) -> Completed {
    match outcome {
        Outcome::Completed(completed) => completed,
        Outcome::Failed(failed) => panic!("{failed:?}"),
    }
}

fn failed(outcome: Outcome) -> Failed {
    match outcome {
        Outcome::Completed(completed) => panic!("{completed:?}"),
        Outcome::Failed(failed) => failed,
    }
}

#[tokio::test(start_paused = true)]
async fn the_contracts_ticket_has_the_contracts_output_however_long_the_function_takes() {
    for seconds in [0, 3, 50] {
        let answer = json!({ "exit_code": 0, "stdout": "hello world\n", "stderr": "" });
        let lambda = scripted(vec![(seconds, Ok(reply(&answer)))]);
        let done = completed(run(&lambda, job()).await);
        let expected = include_str!("../../../../../schemas/tests/samples/results/execute-lambda-completed.json");
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        for (key, value) in expected["result"]["output"].as_object().expect("an object") {
            let found = &done.report.output[key];
            let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            assert_eq!(json!(text), *value, "{key}");
        }
        let metadata = &done.report.metadata;
        assert_eq!((&metadata["billed_duration_ms"], &metadata["memory_used_mb"]), (&json!(124), &json!(64)));
        assert_eq!((&metadata["runtime"], &metadata["executor"]), (&json!("lambda"), &json!("ExecuteExecutor")));
        assert_eq!(
            (&metadata["invocation_type"], &metadata["memory_size_mb"]),
            (&json!("RequestResponse"), &json!(128))
        );
        assert_eq!(done.report.logs, ["function returned 200"]);
        let evidence = format!("function neural-hive-executor, request {REQUEST} answered exit code 0");
        assert_eq!(done.evidence.to_string(), evidence);
        assert_eq!(lambda.invocations.lock().expect("no panic").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_asynchronous_invocation_is_complete_when_lambda_has_accepted_it_and_claims_no_output() {
    let mut accepted = reply(&Value::Null);
    (accepted.status, accepted.payload, accepted.tail) = (202, Vec::new(), String::new());
    let lambda = scripted(vec![(0, Ok(accepted))]);
    let mut job = job();
    let ticket = Arc::make_mut(&mut job.ticket);
    ticket.parameters.insert("invocation_type".to_owned(), json!("Event"));
    let done = completed(run(&lambda, job).await);
    assert!(done.evidence.to_string().ends_with("answered 202, accepted for an asynchronous invocation"));
    for absent in ["exit_code", "stdout", "stderr"] {
        assert_eq!(done.report.output[absent], Value::Null, "{absent}");
    }
    assert_eq!(done.report.metadata["external_state"], "unknown", "it may still run, or run twice");
    assert_eq!(
        (&done.report.output["request_id"], done.report.logs),
        (&json!(REQUEST), vec!["function returned 202".to_owned()])
    );
    assert_eq!(lambda.invocations.lock().expect("no panic")[0].invocation_type, InvocationType::Event);
}

#[tokio::test(start_paused = true)]
async fn inc_54_what_the_function_says_went_wrong_is_a_failure_with_its_words() {
    let unhandled = |payload: Value| Reply { function_error: Some("Unhandled".to_owned()), ..reply(&payload) };
    for (answer, code, class, words) in [
        (
            reply(&json!({ "exit_code": 3, "stderr": "first\nno such file\n" })),
            code::EXECUTION_FAILED,
            FailureClass::Permanent,
            "exit code 3: no such file",
        ),
        (
            reply(&json!({ "exit_code": "many" })),
            code::EXECUTION_FAILED,
            FailureClass::Permanent,
            "no number: \"many\"",
        ),
        (
            unhandled(json!({ "errorType": "KeyError", "errorMessage": "'x'" })),
            code::EXECUTION_FAILED,
            FailureClass::Permanent,
            "the function failed (Unhandled): KeyError: 'x'",
        ),
        (
            unhandled(json!("boom\n")),
            code::EXECUTION_FAILED,
            FailureClass::Permanent,
            "the function failed (Unhandled): boom",
        ),
        (
            unhandled(json!({ "errorMessage": "2026-03-16T09:30:03Z 1 Task timed out after 3.00 seconds" })),
            code::TIMEOUT,
            FailureClass::Retry { after_ms: None },
            "own time-out",
        ),
        (
            unhandled(
                json!({ "errorType": "Runtime.ExitError", "errorMessage": "Runtime exited with error: signal: killed" }),
            ),
            code::OUT_OF_MEMORY,
            FailureClass::Permanent,
            "memory",
        ),
        (
            unhandled(json!({ "errorType": "Runtime.OutOfMemory", "errorMessage": "x" })),
            code::OUT_OF_MEMORY,
            FailureClass::Permanent,
            "memory",
        ),
    ] {
        let failed = failed(run(&scripted(vec![(0, Ok(answer.clone()))]), job()).await);
        assert_eq!((failed.code.as_str(), failed.class), (code, class), "{answer:?}");
        assert!(failed.message.contains(words), "{}", failed.message);
        assert!(failed.evidence.is_some() && failed.external_state.is_none(), "{failed:?}");
        assert_eq!(failed.report.output["request_id"], REQUEST);
        assert_eq!(failed.report.metadata["billed_duration_ms"], 124);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_has_one_meaning_whether_it_comes_at_once_or_late() {
    let cause = || "the cause".to_owned();
    let after = Some(Duration::from_secs(7));
    let unavailable = |after_ms| FailureClass::Unavailable { after_ms };
    let unknown = (code::PROVIDER_UNAVAILABLE, FailureClass::Permanent, Some(ExternalState::Unknown));
    for (fault, (code, class, state)) in [
        (Fault::Deferred { cause: cause(), after }, (code::PROVIDER_UNAVAILABLE, unavailable(Some(7000)), None)),
        (Fault::Unavailable { cause: cause(), after: None }, (code::PROVIDER_UNAVAILABLE, unavailable(None), None)),
        (Fault::SetupRefused { cause: cause() }, (code::PROVIDER_REFUSED, unavailable(None), None)),
        (
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause: cause() },
            (code::INVALID_PARAMETERS, FailureClass::Permanent, None),
        ),
        (Fault::Lost { cause: cause() }, unknown),
        (Fault::Errored { cause: cause() }, unknown),
        (Fault::Malformed { cause: cause() }, unknown),
    ] {
        for seconds in [0, 30] {
            let lambda = scripted(vec![(seconds, Err(fault.clone()))]);
            let failed = failed(run(&lambda, job()).await);
            assert_eq!(
                (failed.code.as_str(), failed.class, failed.external_state),
                (code, class, state),
                "{seconds} s: {fault:?}"
            );
            assert!(failed.evidence.is_none() && failed.message.contains("the cause"), "{failed:?}");
            assert_eq!(lambda.invocations.lock().expect("no panic").len(), 1, "it is not repeated within the attempt");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn inc_44_a_function_that_outlives_its_time_is_unknown_and_not_invoked_again_beside_itself() {
    let lambda = scripted(vec![(100, Ok(reply(&json!({ "exit_code": 0 }))))]);
    let failed = failed(run(&lambda, job()).await);
    assert_eq!((failed.code.as_str(), failed.class), (code::TIMEOUT, FailureClass::Permanent), "{failed:?}");
    assert_eq!(failed.external_state, Some(ExternalState::Unknown));
    assert!(failed.message.contains("no call that ends an invocation"), "{}", failed.message);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_keeps_to_the_time_that_it_was_told_has_answered_in_time() {
    let late = json!({ "exit_code": 124, "stdout": "so far", "stderr": "timed out" });
    let lambda = Arc::new(Scripted {
        answers: Mutex::new(vec![(Duration::from_millis(60_500), Ok(reply(&late)))]),
        invocations: Mutex::default(),
    });
    let failed = failed(run(&lambda, Job { time_left: Duration::from_secs(120), ..job() }).await);
    assert_eq!((failed.code.as_str(), failed.external_state), (code::EXECUTION_FAILED, None), "{failed:?}");
    assert_eq!(failed.report.output["stdout"], "so far");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_is_a_failure_that_nobody_repeats() {
    let torn = Reply { payload: b"{\"exit_code\":1,\"stdout\":\"\\udcff\"}".to_vec(), ..reply(&json!({})) };
    let failed = failed(run(&scripted(vec![(0, Ok(torn))]), job()).await);
    assert_eq!((failed.code.as_str(), failed.class), (code::EXECUTION_FAILED, FailureClass::Permanent), "{failed:?}");
    assert!(failed.evidence.is_some() && failed.message.contains("cannot be read"), "{failed:?}");
    assert_eq!(failed.report.output["exit_code"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_while_the_worker_goes_away_is_kept_and_a_later_one_is_the_next_workers() {
    for (seconds, kept) in [(3, true), (8, false)] {
        let lambda = scripted(vec![(seconds, Ok(reply(&json!({ "exit_code": 0 }))))]);
        let job = job();
        let drain = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            job.detach.cancel();
            job.stop.cancel();
        };
        let (outcome, ()) = tokio::join!(run(&lambda, job.clone()), drain);
        assert_eq!(matches!(outcome, Outcome::Completed(_)), kept, "{seconds} s: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_hand_is_kept_by_a_worker_that_goes_away() {
    let lambda = scripted(vec![(20, Ok(reply(&json!({ "exit_code": 0, "stdout": "x\n" }))))]);
    let mut job = job();
    let sink = MemorySink { answers: Some(0), then: Then::Hangs, ..MemorySink::default() };
    let hanging = Logs { sink: Some(Arc::new(sink)), ..Logs::default() };
    job.progress = crate::Progress::of(hanging.begin(LogName::default(), None));
    let drain = async {
        tokio::time::sleep(Duration::from_secs(21)).await;
        job.detach.cancel();
        job.stop.cancel();
    };
    let (outcome, ()) = tokio::join!(run(&lambda, job.clone()), drain);
    completed(outcome);
    assert_eq!(lambda.invocations.lock().expect("no panic").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_workers_invocation_is_in_no_heartbeat_and_the_function_is_told_that_it_is_a_repetition() {
    let lambda = scripted(vec![(30, Ok(reply(&json!({})))), (0, Ok(reply(&json!({ "exit_code": 0 }))))]);
    let first = job();
    let lost = tokio::time::timeout(Duration::from_secs(10), run(&lambda, first.clone())).await;
    assert!(lost.is_err(), "it runs");
    let recorded = first.progress.get();
    assert_eq!((&recorded["phase"], recorded.get("handle")), (&json!("watching"), None));
    let next = Job { lost_workers: 1, recorded, ..first };
    completed(run(&lambda, next).await);
    let invocations = lambda.invocations.lock().expect("no panic");
    let keys: Vec<Value> = invocations
        .iter()
        .map(|invocation| serde_json::from_slice::<Value>(&invocation.payload).expect("JSON")["ticket"].clone())
        .collect();
    assert_eq!((keys.len(), &keys[0]), (2, &keys[1]));
}

#[tokio::test(start_paused = true)]
async fn the_log_has_the_functions_own_log_and_what_it_answered_line_by_line() {
    let lambda = scripted(vec![(20, Ok(reply(&json!({ "stdout": "a\nb", "stderr": "c\n", "exit_code": 0 }))))]);
    let mut job = job();
    job.progress = crate::Progress::of(Logs::default().begin(LogName::default(), None));
    completed(run(&lambda, job.clone()).await);
    let told = job.progress.log().told().expect("lines");
    assert_eq!(told.seq, 5, "two of the tail, two of standard output, one of standard error: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn long_output_keeps_both_ends_and_says_so() {
    let answer = json!({ "exit_code": 0, "stdout": "x".repeat(1_000_000) });
    let done = completed(run(&scripted(vec![(0, Ok(reply(&answer)))]), job()).await);
    assert!(done.report.output["stdout"].as_str().expect("text").len() < 200);
    let metadata = &done.report.metadata;
    assert_eq!((&metadata["stdout_truncated"], &metadata["stdout_bytes"]), (&json!(true), &json!(1_000_000)));
}
