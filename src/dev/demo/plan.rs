//! The demo's plan: what is published, and what must come of it.

use serde_json::{Value, json};
use ticket_schemas::Ticket;
use uuid::Uuid;

use crate::cli::{Encoding, UsageError, complete};

/// Something published to the tickets topic.
pub(super) enum Publication {
    Ticket(Box<Ticket>, Encoding),
    Raw(Option<Vec<u8>>),
}

/// What must come of a case.
pub(super) enum Expected {
    /// COMPLETED, with this in its standard output.
    Completed(&'static str),
    /// FAILED with this code, and this in its message.
    Failed(&'static str, &'static str),
    /// A dead letter with this code.
    DeadLetter(&'static str),
}

/// One story of the demo.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) publications: Vec<Publication>,
    pub(super) expected: Vec<Expected>,
}

impl Case {
    pub(super) fn ticket_id(&self) -> Option<&str> {
        self.publications.iter().find_map(|publication| match publication {
            Publication::Ticket(ticket, _) => Some(ticket.ticket_id.as_str()),
            Publication::Raw(_) => None,
        })
    }

    pub(super) fn raw_values(&self) -> impl Iterator<Item = &[u8]> {
        self.publications.iter().filter_map(|publication| match publication {
            Publication::Raw(value) => value.as_deref(),
            Publication::Ticket(..) => None,
        })
    }

    pub(super) fn expects_result(&self) -> bool {
        self.expected.iter().any(|expected| !matches!(expected, Expected::DeadLetter(_)))
    }

    pub(super) fn expects_dead_letter(&self) -> bool {
        self.expected.iter().any(|expected| matches!(expected, Expected::DeadLetter(_)))
    }
}

/// Builds tickets of one plan.
struct Builder {
    now_ms: i64,
    count: usize,
}

impl Builder {
    fn ticket(&mut self, task_type: &str, task_id: &str, parameters: Value) -> Result<Ticket, UsageError> {
        self.count += 1;
        // As an orchestrator's tickets, each names the span that it was published in.
        let (trace_id, span_id) = (Uuid::new_v4().simple().to_string(), format!("{:016x}", fastrand::u64(1..)));
        let Value::Object(typed) = json!({
            "task_type": task_type,
            "task_id": task_id,
            "plan_id": "demo-plan",
            "intent_id": "demo-intent",
            "description": task_id,
            "trace_id": trace_id,
            "span_id": span_id,
            "parameters": parameters,
            "sla": { "timeout_ms": 30_000, "max_retries": 0 },
        }) else {
            return Err(UsageError("a ticket is an object".to_owned()));
        };
        complete(typed, self.count, self.now_ms)
    }

    /// One EXECUTE ticket that runs `script` in a shell, as argv.
    fn case(
        &mut self,
        name: &'static str,
        encoding: Encoding,
        parameters: Value,
        expected: Expected,
    ) -> Result<Case, UsageError> {
        let ticket = self.ticket("EXECUTE", name, parameters)?;
        Ok(Case { name, publications: vec![Publication::Ticket(Box::new(ticket), encoding)], expected: vec![expected] })
    }
}

fn sh(script: &str) -> Value {
    json!({ "command": "sh", "args": ["-c", script] })
}

/// Every case of the demo.
pub(super) fn cases(now_ms: i64) -> Result<Vec<Case>, UsageError> {
    use Encoding::{Avro, Json};
    let mut b = Builder { now_ms, count: 0 };
    let mut cases = vec![
        b.case(
            "says hello",
            Avro,
            sh("echo hello from a real process"),
            Expected::Completed("hello from a real process"),
        )?,
        b.case(
            "counts, with variables of its own",
            Json,
            json!({ "command": "sh", "args": ["-c", "echo $((FROM + 1))"], "env_vars": { "FROM": 41 } }),
            Expected::Completed("42"),
        )?,
        b.case(
            "speaks the planner's Python literals",
            Avro,
            json!({ "command": "sh", "args": "['-c', 'echo literal']", "working_dir": "None" }),
            Expected::Completed("literal"),
        )?,
        b.case(
            "exits with 3",
            Avro,
            sh("echo it broke >&2; exit 3"),
            Expected::Failed("execution_failed", "exit code 3: it broke"),
        )?,
        b.case(
            "outlives its time-out",
            Json,
            json!({ "command": "sh", "args": ["-c", "echo started; sleep 60"], "timeout_seconds": 1 }),
            Expected::Failed("timeout", "time-out of 1.0 s"),
        )?,
        b.case(
            "writes 5 MB",
            Avro,
            sh("head -c 5000000 /dev/zero | tr '\\0' x; echo the end"),
            Expected::Completed("the end"),
        )?,
        b.case("writes what is not UTF-8", Json, sh("printf 'a\\377b'"), Expected::Completed("a\u{FFFD}b"))?,
        b.case("leaves a daemon behind", Json, sh("sleep 300 & echo gone"), Expected::Completed("gone"))?,
        b.case(
            "names a command that is not allowed",
            Json,
            json!({ "command": "reboot" }),
            Expected::Failed("command_not_allowed", "reboot"),
        )?,
    ];
    let twice = b.ticket("EXECUTE", "is published twice", sh("echo once"))?;
    cases.push(Case {
        name: "is published twice, in two encodings",
        publications: vec![
            Publication::Ticket(Box::new(twice.clone()), Avro),
            Publication::Ticket(Box::new(twice), Json),
        ],
        expected: vec![Expected::Completed("once")],
    });
    let first = b.ticket("EXECUTE", "comes first under its id", sh("echo the first"))?;
    let mut second = first.clone();
    second.parameters.insert("args".to_owned(), json!(["-c", "echo the second"]));
    cases.push(Case {
        name: "collides with another under its id",
        publications: vec![Publication::Ticket(Box::new(first), Json), Publication::Ticket(Box::new(second), Avro)],
        // Both are on their way at once: whichever comes first runs, and the other is the dead letter.
        expected: vec![Expected::Completed("the "), Expected::DeadLetter("ticket_id_collision")],
    });
    let source = b.ticket("EXECUTE", "comes second and is waited for", sh("printf 41"))?;
    let reference = format!("answer ${{dependencies.{}.output.stdout}}", source.ticket_id);
    let mut waiting = b.ticket(
        "EXECUTE",
        "waits for one",
        json!({ "command": "sh", "args": ["-c", "echo \"$1\"", "sh", reference] }),
    )?;
    waiting.dependencies = vec![source.ticket_id.clone()];
    let broken = b.ticket("EXECUTE", "breaks, and another depends on it", sh("exit 4"))?;
    let mut hopeless = b.ticket("EXECUTE", "depends on what breaks", sh("echo never"))?;
    hopeless.dependencies = vec![broken.ticket_id.clone(), source.ticket_id.clone()];
    for (name, ticket, encoding, expected) in [
        ("waits for one that is published later", waiting, Avro, Expected::Completed("answer 41")),
        ("comes second and is waited for", source, Json, Expected::Completed("41")),
        ("depends on what breaks", hopeless, Json, Expected::Failed("dependency_failed", "execution_failed")),
        ("breaks, and another depends on it", broken, Avro, Expected::Failed("execution_failed", "exit code 4")),
    ] {
        let publications = vec![Publication::Ticket(Box::new(ticket), encoding)];
        cases.push(Case { name, publications, expected: vec![expected] });
    }
    let build = b.ticket("BUILD", "needs an executor of a later version", json!({ "artifact_id": "demo" }))?;
    cases.push(Case {
        name: "needs an executor of a later version",
        publications: vec![Publication::Ticket(Box::new(build), Json)],
        expected: vec![Expected::Failed("executor_not_available", "BUILD")],
    });
    let mut unknown = b.ticket("EXECUTE", "has an unknown type", json!({}))?.to_json();
    unknown["task_type"] = json!("create");
    cases.push(Case {
        name: "has an unknown task type",
        publications: vec![Publication::Raw(Some(unknown.to_string().into_bytes()))],
        expected: vec![Expected::DeadLetter("unknown_task_type")],
    });
    cases.push(Case {
        name: "is no ticket at all",
        publications: vec![Publication::Raw(Some(b"\x01\x02 not a ticket".to_vec()))],
        expected: vec![Expected::DeadLetter("invalid_json")],
    });
    Ok(cases)
}
