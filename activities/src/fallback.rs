//! Work that another provider does than the one that was asked for: only by configuration, never silently. Each change is
//! counted and named in the result, and the server knows of it before the other provider begins.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use temporalio_client::NamespacedClient as _;
use temporalio_common::protos::temporal::api::common::v1::Payloads;
use temporalio_common::protos::temporal::api::workflowservice::v1::RecordActivityTaskHeartbeatRequest;
use temporalio_sdk::activities::ActivityContext;
use ticket_workflows::{ExecutionReport, ExternalState, Failed, FailureClass, Outcome, code, payload};

use crate::border::border;
use crate::executor::Progress;
use crate::logs::Logged;
use crate::registry::{Choice, Choices};

/// One change of provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fallback {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) reason: String,
}

/// What heartbeats tell the server of an attempt, and so the next worker if this one is lost.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The provider that is at work.
    #[serde(default)]
    pub(crate) provider: String,
    /// Those that were passed over, up to here.
    #[serde(default)]
    pub(crate) fallbacks: Vec<Fallback>,
    /// What the provider told last.
    #[serde(default)]
    progress: Value,
    /// What the work has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<Logged>,
}

impl Told {
    /// Nothing but whose turn it is.
    pub(crate) fn at(provider: &str) -> Self {
        Self { provider: provider.to_owned(), ..Self::default() }
    }

    /// What the lost worker told last; that it was at `wanted` where it told nothing, or nothing that can be read.
    pub(crate) fn before(ctx: &ActivityContext, wanted: &str) -> Self {
        let told = ctx.heartbeat_details().deserialize();
        told.unwrap_or_else(|error| {
            tracing::warn!(%error, "what the lost worker recorded cannot be read");
            None
        })
        .filter(|told: &Self| !told.provider.is_empty())
        .unwrap_or_else(|| Self::at(wanted))
    }

    /// What the provider told last, for the one that goes on.
    pub(crate) fn take_progress(&mut self) -> Value {
        std::mem::take(&mut self.progress)
    }

    /// What the lost worker's log had come to, for the one that goes on.
    pub(crate) fn take_log(&mut self) -> Option<Logged> {
        self.log.take()
    }

    pub(crate) async fn beat(&self, ctx: &ActivityContext, progress: &Progress) {
        let told = Self { progress: progress.get(), log: progress.log().told(), ..self.clone() };
        if let Err(error) = ctx.record_heartbeat(told).await {
            tracing::warn!(%error, "a heartbeat could not be encoded");
        }
    }

    /// Tells the server by a call of its own, and whether it knows: a heartbeat waits for its turn, and what a worker has
    /// begun meanwhile would be begun again by the next one elsewhere.
    pub(crate) async fn is_known(&self, ctx: &ActivityContext) -> bool {
        self.beat(ctx, &Progress::default()).await;
        let Ok(details) = payload::encoded(self) else { return false };
        let client = ctx.client();
        let request = RecordActivityTaskHeartbeatRequest {
            task_token: ctx.info().task_token.clone(),
            details: Some(Payloads { payloads: vec![details] }),
            identity: client.identity(),
            namespace: ctx.info().namespace.clone(),
            ..RecordActivityTaskHeartbeatRequest::default()
        };
        let mut service = client.connection().workflow_service();
        let request = tonic::Request::new(request);
        match border("temporal.provider_changed", service.record_activity_task_heartbeat(request)).await {
            Ok(_) => true,
            Err(status) => {
                tracing::warn!(%status, "the server does not know of another provider, so none takes over");
                false
            }
        }
    }
}

/// Whose turn it is: the candidates in their order, or the one that a lost worker was at and no other. It may have begun
/// there, whatever it looks like from here.
pub(crate) fn turn<'a, 'b>(
    choices: &'b Choices<'a>,
    provider: &str,
    lost_workers: u32,
) -> Result<&'b [Choice<'a>], Failed> {
    if lost_workers == 0 {
        return Ok(&choices.candidates);
    }
    let at = choices.candidates.iter().position(|candidate| candidate.provider == provider);
    at.map(|at| &choices.candidates[at..=at]).ok_or_else(|| {
        let mut failed = Failed::permanent(
            code::PROVIDER_NOT_AVAILABLE,
            format!(
                "a worker was lost while the work ran on {provider:?}, which is not available on this worker; nobody can say how \
                 far it came. look at what the work changed before you publish it under a new ticket_id"
            ),
        );
        failed.external_state = Some(ExternalState::Unknown);
        failed
    })
}

/// Why another provider may do the work instead: this one could not begin it, for no fault of the ticket. What has begun, or
/// may have, is never done again elsewhere, and a command's own failure is an answer.
pub(crate) fn cause(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed(failed)
            if matches!(failed.class, FailureClass::Unavailable { .. })
                && failed.evidence.is_none()
                && failed.external_state.is_none() =>
        {
            Some(&failed.message)
        }
        _ => None,
    }
}

/// Names the changes in the result.
pub(crate) fn note(report: &mut ExecutionReport, fallbacks: &[Fallback]) {
    if fallbacks.is_empty() {
        return;
    }
    report.metadata.insert("runtime_fallbacks".to_owned(), serde_json::json!(fallbacks));
    for Fallback { from, to, reason } in fallbacks {
        report.logs.push(format!("{to} in the place of {from:?}: {reason}"));
    }
}

#[cfg(test)]
mod tests {
    use ticket_workflows::{Completed, Evidence};

    use super::*;

    #[test]
    fn inc_54_only_what_could_not_begin_is_done_elsewhere() {
        let unavailable =
            || Failed::new(code::INFRASTRUCTURE, FailureClass::Unavailable { after_ms: None }, "the engine is away");
        let evidence = Evidence::new("container c", "exit code 1").expect("evidence");
        assert_eq!(cause(&unavailable().into()), Some("the engine is away"));
        let begun = [
            Failed { evidence: Some(evidence.clone()), ..unavailable() },
            Failed { external_state: Some(ExternalState::Unknown), ..unavailable() },
            Failed::permanent(code::EXECUTION_FAILED, "the command ended with exit code 1"),
            Failed::permanent(code::INVALID_PARAMETERS, "no command"),
            Failed::new(code::TIMEOUT, FailureClass::Retry { after_ms: None }, "it outlived its time-out"),
        ];
        for failed in begun {
            assert_eq!(cause(&failed.clone().into()), None, "{failed:?}");
        }
        let done = Completed { evidence, report: ExecutionReport::default() };
        assert_eq!(cause(&Outcome::Completed(done)), None);
    }
}
