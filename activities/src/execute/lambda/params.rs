//! What a ticket asks a function for, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use ticket_schemas::DeliveryMode;
use ticket_workflows::Failed;

use super::LambdaConfig;
use super::api::{Invocation, InvocationType};
use super::function::FunctionName;
use super::payload::{Asked, Payload};
use crate::execute::command::{given, invalid, time_limit};
use crate::executor::Job;
use crate::external::said;

/// What an attempt waits for longer than the function is told it has: for its start, and for the answer of one that has kept to its
/// time.
const MARGIN: Duration = Duration::from_secs(10);

/// Parameters of an invocation (`contracts/executors.md`, EXECUTE, Lambda). `command` and `args` are lists, or texts that are split
/// into words without a shell. What `command`, `env_vars` and `working_dir` may be is the function's to say: nothing here runs them.
#[derive(Debug, Deserialize)]
pub struct LambdaParams {
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    working_dir: Option<String>,
    timeout_seconds: Option<f64>,
    function_name: Option<String>,
    invocation_type: Option<InvocationType>,
}

impl LambdaParams {
    /// The invocation, and the time that it may take.
    pub(super) fn check(self, config: &LambdaConfig, job: &Job) -> Result<(Invocation, Duration), Failed> {
        let named = given(self.function_name);
        let mut words = self.command;
        words.extend(self.args);
        match words.first() {
            // A function of its own may need no command.
            None if named.is_none() => {
                return Err(invalid(
                    "parameter \"command\" is missing; name the program that the function is to run, or a function that runs \
                     one by itself in \"function_name\"",
                ));
            }
            Some(program) if program.trim().is_empty() => {
                return Err(invalid("the first word of the command is blank; name the program to run"));
            }
            _ => {}
        }
        let limit = time_limit(self.timeout_seconds, config.timeout)?.saturating_add(MARGIN);
        let named_by_ticket = named.is_some();
        let function = named.map_or_else(|| Ok(config.function.clone()), |name| allowed(name, config))?;
        let invocation_type = self.invocation_type.unwrap_or_default();
        let once = job.ticket.qos.as_ref().is_some_and(|qos| qos.delivery_mode == DeliveryMode::AtMostOnce);
        if once && invocation_type == InvocationType::Event {
            return Err(invalid(
                "parameter \"invocation_type\" is \"Event\", and qos.delivery_mode AT_MOST_ONCE: Lambda may run what it has accepted \
                 more than once; use RequestResponse",
            ));
        }
        let asked = Asked {
            words: &words,
            environment: &self.env_vars,
            working_dir: self.working_dir.as_deref(),
            timeout_seconds: self.timeout_seconds,
        };
        let payload = serde_json::to_vec(&Payload::of(asked, job))
            .map_err(|error| invalid(format!("the ticket's parameters are no JSON: {error}")))?;
        let most = invocation_type.max_payload_bytes();
        if payload.len() > most {
            return Err(invalid(format!(
                "the payload has {} bytes, and Lambda takes at most {most} for an invocation of the type {}; pass data by its \
                 address",
                payload.len(),
                invocation_type.as_str()
            )));
        }
        Ok((Invocation { function, named_by_ticket, invocation_type, payload }, limit))
    }
}

/// The function of this name, if tickets may name it here.
fn allowed(text: String, config: &LambdaConfig) -> Result<FunctionName, Failed> {
    let wrong = {
        let shown = said(&text);
        move |why: String| invalid(format!("parameter \"function_name\" is {shown:?}; {why}"))
    };
    let function = FunctionName::try_from(text).map_err(|error| wrong(error.to_string()))?;
    if let Some(region) = function.region().filter(|region| *region != config.region) {
        let own = &config.region;
        return Err(wrong(format!(
            "it is in region {region}, and this worker calls {own}; name a function of that region"
        )));
    }
    if !config.allowed.iter().any(|pattern| pattern.allows(&function)) {
        return Err(wrong(
            "tickets may not name it here; use another one, or have it added to LAMBDA_ALLOWED_FUNCTIONS".to_owned(),
        ));
    }
    Ok(function)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use ticket_schemas::{ParameterView, decode_json_ticket};
    use ticket_workflows::code;

    use super::super::runtime::tests::config;
    use super::*;

    fn asked(parameters: &Value) -> Result<(Invocation, Duration), Failed> {
        let ticket = json!({
            "ticket_id": "t-1", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let params: LambdaParams =
            ParameterView::new(&ticket.parameters).deserialize().map_err(|error| invalid(error.to_string()))?;
        params.check(&config(), &Job::first(ticket))
    }

    fn payload(invocation: &Invocation) -> Value {
        serde_json::from_slice(&invocation.payload).expect("JSON")
    }

    #[track_caller]
    fn refused(parameters: Value, words: &str) {
        let failed = asked(&parameters).expect_err("refused");
        assert_eq!(failed.code, code::INVALID_PARAMETERS, "{parameters}");
        assert!(failed.message.contains(words) && failed.message.len() < 1000, "{parameters}: {}", failed.message);
    }

    #[test]
    fn the_contracts_ticket_is_understood_as_avro_carries_it() {
        let sample = include_bytes!("../../../../schemas/tests/samples/tickets/execute-lambda.json");
        let ticket = decode_json_ticket(sample).expect("a ticket");
        let params: LambdaParams = ParameterView::new(&ticket.parameters).deserialize().expect("parameters");
        let (invocation, limit) = params.check(&config(), &Job::first(ticket)).expect("an invocation");
        assert_eq!((invocation.function.as_str(), invocation.named_by_ticket), ("neural-hive-executor", true));
        assert_eq!(
            (invocation.invocation_type, limit),
            (InvocationType::RequestResponse, Duration::from_secs(60) + MARGIN)
        );
        let payload = payload(&invocation);
        assert_eq!((&payload["command"], &payload["args"]), (&json!("echo hello world"), &json!(["hello", "world"])));
        assert_eq!(payload["timeout_seconds"], 60);
    }

    #[test]
    fn what_a_ticket_does_not_name_comes_from_settings() {
        let (invocation, limit) = asked(&json!({ "command": "echo 'a b'" })).expect("an invocation");
        assert_eq!((invocation.function.as_str(), invocation.named_by_ticket), ("neural-hive-executor", false));
        assert_eq!(limit, Duration::from_secs(900) + MARGIN);
        let told = payload(&invocation);
        assert_eq!((&told["command"], &told["args"]), (&json!("echo 'a b'"), &json!(["a b"])));
        for absent in ["env_vars", "working_dir", "timeout_seconds"] {
            assert_eq!(told.get(absent), None, "{absent}");
        }
        let (invocation, _) = asked(&json!({
            "function_name": "own:live", "invocation_type": "Event", "env_vars": { "A": "b" }, "working_dir": "/tmp",
        }))
        .expect("a function of its own needs no command");
        assert_eq!((invocation.function.as_str(), invocation.invocation_type), ("own:live", InvocationType::Event));
        let told = payload(&invocation);
        assert_eq!((&told["command"], &told["args"]), (&json!(""), &json!([])));
        assert_eq!((&told["env_vars"], &told["working_dir"]), (&json!({ "A": "b" }), &json!("/tmp")));
    }

    #[test]
    fn what_lambda_would_refuse_is_refused_before_the_call() {
        let ticket = json!({
            "ticket_id": "t-1", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": {},
        });
        let job = Job::first(decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket"));
        // A command is in it twice, so it may have more bytes than its ticket.
        let checked = |invocation_type, bytes| {
            let params = LambdaParams {
                command: vec!["x".to_owned()],
                args: Vec::new(),
                env_vars: BTreeMap::from([("A".to_owned(), "b".repeat(bytes))]),
                working_dir: None,
                timeout_seconds: None,
                function_name: None,
                invocation_type: Some(invocation_type),
            };
            params.check(&config(), &job)
        };
        for (invocation_type, words) in
            [(InvocationType::Event, "at most 1048576"), (InvocationType::RequestResponse, "at most 6291456")]
        {
            let most = invocation_type.max_payload_bytes();
            let failed = checked(invocation_type, most).expect_err("refused");
            assert_eq!(failed.code, code::INVALID_PARAMETERS);
            assert!(failed.message.contains(words) && failed.message.len() < 1000, "{}", failed.message);
            assert!(checked(invocation_type, most - 1000).expect("it has room").0.payload.len() <= most);
        }
    }

    #[test]
    fn inc_77_a_ticket_names_no_function_that_settings_do_not_allow() {
        for good in
            ["neural-hive-executor:7", "own", "own-2", "arn:aws:lambda:us-east-1:123456789012:function:shared:live"]
        {
            let (invocation, _) = asked(&json!({ "function_name": good })).expect("allowed");
            assert_eq!((invocation.function.as_str(), invocation.named_by_ticket), (good, true));
        }
        for other in [
            "deploy",
            "neural-hive-executor-2",
            "123456789012:function:own",
            "arn:aws:lambda:us-east-1:666666666666:function:neural-hive-executor",
        ] {
            refused(json!({ "function_name": other }), "LAMBDA_ALLOWED_FUNCTIONS");
        }
        refused(
            json!({ "function_name": "arn:aws:lambda:eu-central-1:123456789012:function:shared" }),
            "in region eu-central-1, and this worker calls us-east-1",
        );
    }

    #[test]
    fn what_may_run_once_is_not_left_to_lambdas_own_repetitions() {
        let mut ticket = json!({
            "ticket_id": "t-1", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "qos": { "delivery_mode": "AT_MOST_ONCE", "consistency": "EVENTUAL", "durability": "PERSISTENT" },
        });
        for (invocation_type, refused) in [("Event", true), ("RequestResponse", false)] {
            ticket["parameters"] = json!({ "command": "x", "invocation_type": invocation_type });
            let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
            let params: LambdaParams = ParameterView::new(&ticket.parameters).deserialize().expect("parameters");
            let checked = params.check(&config(), &Job::first(ticket));
            assert_eq!(checked.is_err(), refused, "{invocation_type}");
            if let Err(failed) = checked {
                assert_eq!(failed.code, code::INVALID_PARAMETERS);
                assert!(failed.message.contains("AT_MOST_ONCE"), "{}", failed.message);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        refused(json!({}), "\"command\" is missing");
        refused(json!({ "command": "", "function_name": " " }), "\"command\" is missing");
        refused(json!({ "command": [" ", "x"] }), "blank");
        refused(json!({ "command": "x", "function_name": "../../other" }), "expected a function's name");
        refused(json!({ "command": "x", "function_name": "x".repeat(1_000_000) }), "function_name");
        refused(json!({ "command": "x", "invocation_type": "DryRun" }), "invocation_type");
        refused(json!({ "command": "x", "timeout_seconds": 0 }), "timeout_seconds");
        refused(json!({ "command": "x", "timeout_seconds": "soon" }), "timeout_seconds");
        refused(json!({ "command": "x", "env_vars": ["A"] }), "env_vars");
    }
}
