//! Each command of workflow code, as the event that the server makes of it.
//!
//! Structs are written out field by field, without `..`: a field that a later SDK adds does not compile until somebody has
//! decided about it.

use std::collections::HashMap;

use temporalio_common::protos::coresdk::workflow_commands::signal_external_workflow_execution::Target;
use temporalio_common::protos::coresdk::workflow_commands::update_response::Response;
use temporalio_common::protos::coresdk::workflow_commands::workflow_command::Variant;
use temporalio_common::protos::coresdk::workflow_commands::{
    CancelTimer, CancelWorkflowExecution, CompleteWorkflowExecution, ContinueAsNewWorkflowExecution,
    FailWorkflowExecution, ModifyWorkflowProperties, RequestCancelActivity, RequestCancelLocalActivity,
    ScheduleActivity, ScheduleLocalActivity, SetPatchMarker, SignalExternalWorkflowExecution, StartTimer,
    UpdateResponse, UpsertWorkflowSearchAttributes,
};
use temporalio_common::protos::temporal::api::common::v1::{
    ActivityType, Header, Memo, Payload, Payloads, WorkflowExecution, WorkflowType,
};
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueKind;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_common::protos::temporal::api::history::v1::{
    ActivityTaskScheduledEventAttributes, SignalExternalWorkflowExecutionInitiatedEventAttributes,
    TimerStartedEventAttributes, UpsertWorkflowSearchAttributesEventAttributes,
    WorkflowExecutionCanceledEventAttributes, WorkflowExecutionCompletedEventAttributes,
    WorkflowExecutionContinuedAsNewEventAttributes, WorkflowExecutionFailedEventAttributes,
    WorkflowExecutionUpdateCompletedEventAttributes, WorkflowPropertiesModifiedEventAttributes,
};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::update::v1::{Outcome, outcome};

use crate::asked::{Heard, Key};
use crate::comparison::local_activity;
use crate::server;

impl Heard {
    fn activity(&self, seq: u32) -> Key {
        format!("activity {}", self.activity_ids.get(&seq).cloned().unwrap_or_else(|| seq.to_string()))
    }

    /// Hears one command.
    pub(crate) fn hear(&mut self, command: Option<Variant>) {
        match command {
            Some(Variant::StartTimer(StartTimer { seq, start_to_fire_timeout })) => self.ask(
                format!("timer {seq}"),
                Attributes::TimerStartedEventAttributes(TimerStartedEventAttributes {
                    timer_id: seq.to_string(),
                    start_to_fire_timeout,
                    workflow_task_completed_event_id: 0,
                }),
            ),
            Some(Variant::CancelTimer(CancelTimer { seq })) => self.undo(&format!("timer {seq}")),
            Some(Variant::ScheduleActivity(activity)) => self.hear_activity(activity),
            Some(Variant::RequestCancelActivity(RequestCancelActivity { seq })) => {
                let activity = self.activity(seq);
                self.undo(&activity);
            }
            Some(Variant::ScheduleLocalActivity(activity)) => self.hear_local_activity(activity),
            Some(Variant::RequestCancelLocalActivity(RequestCancelLocalActivity { seq })) => {
                self.undo(&format!("local activity {seq}"));
            }
            Some(Variant::SignalExternalWorkflowExecution(signal)) => self.hear_signal(signal),
            Some(Variant::UpsertWorkflowSearchAttributes(UpsertWorkflowSearchAttributes { search_attributes })) => {
                let key = self.numbers.next("search attributes");
                self.ask(
                    key,
                    Attributes::UpsertWorkflowSearchAttributesEventAttributes(
                        UpsertWorkflowSearchAttributesEventAttributes {
                            workflow_task_completed_event_id: 0,
                            search_attributes,
                        },
                    ),
                );
            }
            Some(Variant::ModifyWorkflowProperties(ModifyWorkflowProperties { upserted_memo })) => {
                let key = self.numbers.next("memo");
                self.ask(
                    key,
                    Attributes::WorkflowPropertiesModifiedEventAttributes(WorkflowPropertiesModifiedEventAttributes {
                        workflow_task_completed_event_id: 0,
                        upserted_memo,
                    }),
                );
            }
            Some(Variant::SetPatchMarker(SetPatchMarker { patch_id, deprecated: _ })) => {
                self.push(format!("patch {patch_id}"), None, false);
            }
            Some(Variant::UpdateResponse(response)) => self.hear_answer(response),
            // An answer to a query leaves no event.
            Some(Variant::RespondToQuery(_)) => {}
            Some(Variant::CompleteWorkflowExecution(CompleteWorkflowExecution { result })) => {
                self.end(Attributes::WorkflowExecutionCompletedEventAttributes(
                    WorkflowExecutionCompletedEventAttributes {
                        result: result.map(|result| Payloads { payloads: vec![result] }),
                        workflow_task_completed_event_id: 0,
                        new_execution_run_id: String::new(),
                    },
                ));
            }
            Some(Variant::FailWorkflowExecution(FailWorkflowExecution { failure })) => {
                self.end(Attributes::WorkflowExecutionFailedEventAttributes(WorkflowExecutionFailedEventAttributes {
                    failure,
                    retry_state: 0,
                    workflow_task_completed_event_id: 0,
                    new_execution_run_id: String::new(),
                }));
            }
            Some(Variant::CancelWorkflowExecution(CancelWorkflowExecution { details })) => {
                self.end(Attributes::WorkflowExecutionCanceledEventAttributes(
                    WorkflowExecutionCanceledEventAttributes { workflow_task_completed_event_id: 0, details },
                ));
            }
            Some(Variant::ContinueAsNewWorkflowExecution(next)) => self.hear_next_run(next),
            Some(
                Variant::StartChildWorkflowExecution(_)
                | Variant::CancelChildWorkflowExecution(_)
                | Variant::RequestCancelExternalWorkflowExecution(_)
                | Variant::CancelSignalWorkflow(_)
                | Variant::ScheduleNexusOperation(_)
                | Variant::RequestCancelNexusOperation(_),
            )
            | None => {
                self.break_with(format!("the gate cannot compare {command:?} yet: teach tests/replay/commands.rs"))
            }
        }
    }

    fn hear_activity(&mut self, activity: ScheduleActivity) {
        let ScheduleActivity {
            seq,
            activity_id,
            activity_type,
            task_queue,
            headers,
            arguments,
            schedule_to_close_timeout,
            schedule_to_start_timeout,
            start_to_close_timeout,
            heartbeat_timeout,
            retry_policy,
            // Not recorded.
            cancellation_type: _,
            do_not_eagerly_execute: _,
            versioning_intent: _,
            priority,
        } = activity;
        self.activity_ids.insert(seq, activity_id.clone());
        #[expect(deprecated, reason = "every field is named")]
        let mut attributes = ActivityTaskScheduledEventAttributes {
            activity_id: activity_id.clone(),
            activity_type: Some(ActivityType { name: activity_type }),
            task_queue: Some(queue(task_queue)),
            header: header(headers),
            input: payloads(arguments),
            schedule_to_close_timeout,
            schedule_to_start_timeout,
            start_to_close_timeout,
            heartbeat_timeout,
            workflow_task_completed_event_id: 0,
            retry_policy,
            use_workflow_build_id: false,
            priority,
        };
        server::complete(&mut attributes);
        self.ask(format!("activity {activity_id}"), Attributes::ActivityTaskScheduledEventAttributes(attributes));
    }

    fn hear_local_activity(&mut self, activity: ScheduleLocalActivity) {
        let ScheduleLocalActivity {
            seq,
            activity_id,
            activity_type,
            // Not recorded, or (the attempt, the first schedule time) told to the code by the history.
            attempt: _,
            original_schedule_time: _,
            headers: _,
            arguments,
            schedule_to_close_timeout: _,
            schedule_to_start_timeout: _,
            start_to_close_timeout: _,
            retry_policy: _,
            local_retry_threshold: _,
            cancellation_type: _,
            include_arguments_in_marker,
        } = activity;
        let input = include_arguments_in_marker.then_some(Payloads { payloads: arguments });
        let event = local_activity(&activity_id, &activity_type, input.as_ref());
        self.push(format!("local activity {seq}"), Some(event), false);
    }

    fn hear_signal(&mut self, signal: SignalExternalWorkflowExecution) {
        let SignalExternalWorkflowExecution { seq: _, signal_name, args, headers, target } = signal;
        let (workflow_id, run_id, child_workflow_only) = match target {
            Some(Target::WorkflowExecution(target)) => (target.workflow_id, target.run_id, false),
            Some(Target::ChildWorkflowId(child)) => (child, String::new(), true),
            None => (String::new(), String::new(), false),
        };
        let key = self.numbers.next("signal");
        #[expect(deprecated, reason = "every field is named")]
        let attributes = SignalExternalWorkflowExecutionInitiatedEventAttributes {
            workflow_task_completed_event_id: 0,
            namespace: String::new(),
            namespace_id: String::new(),
            workflow_execution: Some(WorkflowExecution { workflow_id, run_id }),
            signal_name,
            input: payloads(args),
            control: String::new(),
            child_workflow_only,
            header: header(headers),
        };
        self.ask(key, Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(attributes));
    }

    fn hear_answer(&mut self, response: UpdateResponse) {
        let UpdateResponse { protocol_instance_id: id, response } = response;
        let value = match response {
            Some(Response::Accepted(())) => {
                return self.push(format!("acceptance of update {id}"), None, false);
            }
            Some(Response::Completed(answer)) => outcome::Value::Success(Payloads { payloads: vec![answer] }),
            Some(Response::Rejected(failure)) => outcome::Value::Failure(failure),
            None => return self.break_with(format!("update {id} got an answer that says nothing")),
        };
        let attributes = WorkflowExecutionUpdateCompletedEventAttributes {
            meta: None,
            accepted_event_id: 0,
            outcome: Some(Outcome { value: Some(value) }),
        };
        self.ask(
            format!("answer to update {id}"),
            Attributes::WorkflowExecutionUpdateCompletedEventAttributes(attributes),
        );
    }

    fn hear_next_run(&mut self, next: ContinueAsNewWorkflowExecution) {
        let ContinueAsNewWorkflowExecution {
            workflow_type,
            task_queue,
            arguments,
            workflow_run_timeout,
            workflow_task_timeout,
            memo,
            headers,
            search_attributes,
            // Not recorded.
            retry_policy: _,
            versioning_intent: _,
            initial_versioning_behavior,
            backoff_start_interval,
        } = next;
        #[expect(deprecated, reason = "every field is named")]
        let attributes = WorkflowExecutionContinuedAsNewEventAttributes {
            new_execution_run_id: String::new(),
            workflow_type: Some(WorkflowType { name: workflow_type }),
            task_queue: (!task_queue.is_empty()).then(|| queue(task_queue)),
            input: payloads(arguments),
            workflow_run_timeout,
            workflow_task_timeout,
            workflow_task_completed_event_id: 0,
            backoff_start_interval,
            initiator: 0,
            failure: None,
            last_completion_result: None,
            header: header(headers),
            memo: (!memo.is_empty()).then_some(Memo { fields: memo }),
            search_attributes,
            inherit_build_id: false,
            initial_versioning_behavior,
        };
        self.end(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(attributes));
    }
}

fn queue(name: String) -> TaskQueue {
    TaskQueue { name, kind: TaskQueueKind::Normal.into(), normal_name: String::new() }
}

fn header(fields: HashMap<String, Payload>) -> Option<Header> {
    (!fields.is_empty()).then_some(Header { fields })
}

fn payloads(payloads: Vec<Payload>) -> Option<Payloads> {
    (!payloads.is_empty()).then_some(Payloads { payloads })
}
