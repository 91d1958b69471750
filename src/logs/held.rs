//! What the server holds of a ticket's log: the last lines in the heartbeat of an attempt that runs, and both ends of the output in
//! the answer of one that has ended.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::history::v1::HistoryEvent;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::workflowservice::v1::GetWorkflowExecutionHistoryReverseRequest;
use ticket_activities::logs::Logged;
use ticket_workflows::payload::decoded;
use ticket_workflows::{ExecuteRequest, ExecuteResponse, ExecutionReport, Outcome};
use tonic::Status;

use crate::explain::server::{CALL_TIMEOUT, Run, bounded, execution};

/// The activity that runs an attempt.
const EXECUTE: &str = "execute";
/// Events of one page, and pages, from the end of a history on, in which an attempt is looked for.
const PAGE: i32 = 200;
const PAGES: usize = 50;

/// A heartbeat, as far as it is about the log.
#[derive(Deserialize)]
struct Heartbeat {
    #[serde(default)]
    log: Option<Logged>,
}

/// What an attempt answered.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The attempt, as the workflow counts it.
    pub(crate) attempt: u32,
    pub(crate) report: ExecutionReport,
}

impl Answered {
    /// Why lines up to number `last` are not the whole log; `None`: they are, as far as the result says.
    pub(crate) fn missing_after(&self, last: u64) -> Option<String> {
        let text = |key: &str| self.report.metadata.get(key).and_then(Value::as_str);
        if let Some(error) = text("log_error") {
            return Some(error.to_owned());
        }
        let number = |key: &str| self.report.metadata.get(key).and_then(Value::as_u64);
        if let Some(left_out) = number("log_lines_left_out") {
            return Some(format!("{left_out} lines were left out, as EXECUTION_LOG_MAX_MB allows no more"));
        }
        let lines = number("log_lines").filter(|lines| *lines > last)?;
        let address = text("log").unwrap_or("nowhere");
        Some(format!("its last line is number {lines}, and the last one here {last}; the whole log is at {address}"))
    }
}

/// What the attempt that runs has told; `None`: none runs, or it has written nothing.
pub(crate) fn told(run: &Run) -> Option<Logged> {
    let pending = run.pending.iter().find(|pending| pending.activity == EXECUTE)?;
    decoded::<Heartbeat>(pending.heartbeat.as_ref()?)?.log.filter(|log| !log.lines.is_empty())
}

/// What an attempt of the run answered, the newest one unless one is named; `None`: the history holds no such answer.
///
/// # Errors
/// When the server does not give the history.
pub(crate) async fn answered(
    client: &Client,
    ticket_id: &str,
    run_id: &str,
    attempt: Option<u32>,
) -> Result<Option<Answered>, Status> {
    // By the number of the event that scheduled the attempt, which comes later: the newest events come first.
    let mut answers = BTreeMap::new();
    let mut next_page_token = Vec::new();
    for _ in 0..PAGES {
        let request = GetWorkflowExecutionHistoryReverseRequest {
            namespace: client.namespace(),
            execution: Some(execution(ticket_id, run_id.to_owned())),
            maximum_page_size: PAGE,
            next_page_token,
        };
        let mut service = client.connection().workflow_service();
        let page = service.get_workflow_execution_history_reverse(bounded(request, CALL_TIMEOUT)).await?.into_inner();
        for event in page.history.map(|history| history.events).unwrap_or_default() {
            if let Some(found) = match_up(&mut answers, event).filter(|it| attempt.is_none_or(|one| it.attempt == one))
            {
                return Ok(Some(found));
            }
        }
        if page.next_page_token.is_empty() {
            break;
        }
        next_page_token = page.next_page_token;
    }
    Ok(None)
}

/// An answer, once the event that says whose it is has come.
fn match_up(answers: &mut BTreeMap<i64, ExecuteResponse>, event: HistoryEvent) -> Option<Answered> {
    match event.attributes? {
        Attributes::ActivityTaskCompletedEventAttributes(completed) => {
            let answer = completed.result.as_ref().and_then(|result| decoded(result.payloads.first()?));
            answers.extend(answer.map(|answer| (completed.scheduled_event_id, answer)));
            None
        }
        Attributes::ActivityTaskScheduledEventAttributes(scheduled) => {
            let answer = answers.remove(&event.event_id)?;
            let request: ExecuteRequest = decoded(scheduled.input?.payloads.first()?)?;
            let report = match answer.outcome {
                Outcome::Completed(completed) => completed.report,
                Outcome::Failed(failed) => failed.report,
            };
            Some(Answered { attempt: request.attempt, report })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use temporalio_common::protos::temporal::api::common::v1::Payloads;
    use temporalio_common::protos::temporal::api::history::v1::{
        ActivityTaskCompletedEventAttributes, ActivityTaskScheduledEventAttributes,
    };
    use ticket_workflows::payload::encoded;

    use super::*;
    use crate::explain::server::Pending;

    fn payloads(value: &serde_json::Value) -> Option<Payloads> {
        Some(Payloads { payloads: vec![encoded(value).expect("JSON")] })
    }

    #[test]
    fn the_heartbeat_of_the_attempt_is_read_and_no_other() {
        let lines = json!([{ "seq": 7, "at_ms": 1, "stream": "stdout", "text": "hello" }]);
        let heartbeat = json!({ "provider": "local", "progress": { "pid": 1 },
                                "log": { "attempt": 2, "seq": 7, "lines": lines } });
        let pending = |activity: &str, heartbeat: &serde_json::Value| Pending {
            activity: activity.to_owned(),
            heartbeat: payloads(heartbeat).and_then(|details| details.payloads.into_iter().next()),
            ..Pending::default()
        };
        let run = |pending| Run { pending: vec![pending], ..Run::default() };
        let found = told(&run(pending("execute", &heartbeat))).expect("lines");
        assert_eq!((found.attempt, found.seq, found.lines[0].text.as_str()), (2, 7, "hello"));
        assert_eq!(told(&run(pending("report", &heartbeat))), None);
        // Of a worker of an older version.
        assert_eq!(told(&run(pending("execute", &json!({ "provider": "local", "progress": {} })))), None);
        assert_eq!(told(&Run::default()), None);
    }

    #[test]
    fn a_result_says_what_is_missing_in_a_file() {
        for (metadata, last, expected) in [
            (json!({ "log": "file://one/log", "log_lines": 5 }), 5, None),
            (json!({ "log": "file://one/log", "log_lines": 5 }), 4, Some("is at file://one/log")),
            (
                json!({ "log": "file://one/log", "log_lines": 5, "log_error": "no space left" }),
                5,
                Some("no space left"),
            ),
            (
                json!({ "log": "file://one/log", "log_lines": 5, "log_lines_left_out": 2 }),
                5,
                Some("2 lines were left out"),
            ),
            (json!({}), 0, None),
        ] {
            let metadata = serde_json::from_value(metadata).expect("an object");
            let answer = Answered { attempt: 1, report: ExecutionReport { metadata, ..ExecutionReport::default() } };
            let missing = answer.missing_after(last);
            assert_eq!(missing.is_some(), expected.is_some(), "{missing:?}");
            assert!(missing.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn an_answer_is_matched_with_the_attempt_that_it_is_of() {
        let ticket = json!({ "ticket_id": "t", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING",
                             "dependencies": [], "parameters": {} });
        let ticket = ticket_schemas::decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let request =
            ExecuteRequest { ticket, attempt: 3, timeout_ms: 1000, deadline_ms: None, status_unknown_after_ms: None };
        let mut report = ExecutionReport::default();
        report.output.insert("stdout".to_owned(), json!("hello"));
        let failed = ticket_workflows::Failed {
            report: report.clone(),
            ..ticket_workflows::Failed::permanent(ticket_workflows::code::EXECUTION_FAILED, "exit code 1")
        };
        let response = ExecuteResponse {
            outcome: failed.into(),
            agent_id: "a".to_owned(),
            started_at_ms: 1,
            ended_at_ms: 2,
            lost_workers: 0,
        };
        let completed =
            |scheduled_event_id, result| HistoryEvent {
                event_id: scheduled_event_id + 2,
                attributes: Some(Attributes::ActivityTaskCompletedEventAttributes(
                    ActivityTaskCompletedEventAttributes { scheduled_event_id, result, ..Default::default() },
                )),
                ..HistoryEvent::default()
            };
        let scheduled = |event_id, input| HistoryEvent {
            event_id,
            attributes: Some(Attributes::ActivityTaskScheduledEventAttributes(ActivityTaskScheduledEventAttributes {
                input,
                ..Default::default()
            })),
            ..HistoryEvent::default()
        };
        let mut answers = BTreeMap::new();
        let other = completed(20, payloads(&json!({ "published": true })));
        let answer = completed(10, payloads(&serde_json::to_value(&response).expect("JSON")));
        let events = [other, scheduled(20, payloads(&json!("a report"))), answer];
        assert!(events.into_iter().all(|event| match_up(&mut answers, event).is_none()));
        let request = payloads(&serde_json::to_value(&request).expect("JSON"));
        let found = match_up(&mut answers, scheduled(10, request)).expect("an answer");
        assert_eq!((found.attempt, found.report), (3, report));
    }
}
