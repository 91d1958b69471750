//! Versions of workers, as the server sees them: where it sends the tickets of a task queue, and in which state a
//! version is.

use temporalio_client::{Client, NamespacedClient as _};
use temporalio_common::protos::temporal::api::deployment::v1::WorkerDeploymentVersion as VersionMessage;
use temporalio_common::protos::temporal::api::enums::v1::{
    VersioningBehavior, WorkerDeploymentVersionStatus, WorkerVersioningMode,
};
use temporalio_common::protos::temporal::api::taskqueue::v1::{PollerInfo, TaskQueueVersioningInfo};
use temporalio_common::protos::temporal::api::workflow::v1::WorkflowExecutionVersioningInfo;
use temporalio_common::protos::temporal::api::workflow::v1::versioning_override::Override;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DescribeTaskQueueResponse, DescribeWorkerDeploymentVersionRequest,
};
use temporalio_common::worker::WorkerDeploymentVersion;
use tonic::{Code, Request, Status};

use super::CALL_TIMEOUT;

/// Where the server sends the tickets of a task queue, except those that are pinned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routing {
    /// The current version. `None`: workers without a version.
    pub current: Option<WorkerDeploymentVersion>,
    /// Where a share of them goes instead.
    pub ramp: Option<Ramp>,
}

/// A share of the tickets.
#[derive(Debug, Clone, PartialEq)]
pub struct Ramp {
    /// The version that gets it. `None`: workers without a version.
    pub to: Option<WorkerDeploymentVersion>,
    /// Above 0, at most 100.
    pub percent: f32,
}

impl Routing {
    /// Where the tickets of a task queue go, as the server describes it.
    #[must_use]
    pub fn of(queue: &DescribeTaskQueueResponse) -> Self {
        queue.versioning_info.clone().map(Into::into).unwrap_or_default()
    }
}

impl From<TaskQueueVersioningInfo> for Routing {
    fn from(info: TaskQueueVersioningInfo) -> Self {
        let percent = info.ramping_version_percentage;
        let ramp = Ramp { to: info.ramping_deployment_version.map(Into::into), percent };
        Self {
            current: info.current_deployment_version.map(Into::into),
            ramp: Some(ramp).filter(|ramp| ramp.percent > 0.0),
        }
    }
}

/// In which state a version is. `None`: the server does not know it, because no worker of it has polled.
///
/// # Errors
/// When the server cannot be asked.
pub async fn version_status(
    client: &Client,
    version: &WorkerDeploymentVersion,
) -> Result<Option<WorkerDeploymentVersionStatus>, Status> {
    let mut request = Request::new(DescribeWorkerDeploymentVersionRequest {
        namespace: client.namespace(),
        deployment_version: Some(VersionMessage {
            deployment_name: version.deployment_name.clone(),
            build_id: version.build_id.clone(),
        }),
        ..DescribeWorkerDeploymentVersionRequest::default()
    });
    request.set_timeout(CALL_TIMEOUT);
    match client.connection().workflow_service().describe_worker_deployment_version(request).await {
        Ok(answer) => Ok(answer.into_inner().worker_deployment_version_info.map(|info| info.status())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// The version that a run is pinned to, by an operator or by the worker that took its first step.
#[must_use]
pub fn pinned_to(info: WorkflowExecutionVersioningInfo) -> Option<WorkerDeploymentVersion> {
    let behavior = info.behavior();
    let version = match info.versioning_override.and_then(|given| given.r#override) {
        Some(Override::Pinned(given)) => given.version.or(info.deployment_version),
        Some(_) => None,
        None => info.deployment_version.filter(|_| behavior == VersioningBehavior::Pinned),
    };
    version.map(Into::into)
}

/// Whether somebody polls for tasks of the version.
pub(super) fn polls_for(poller: &PollerInfo, version: &WorkerDeploymentVersion) -> bool {
    poller.deployment_options.as_ref().is_some_and(|options| {
        options.worker_versioning_mode() == WorkerVersioningMode::Versioned
            && options.deployment_name == version.deployment_name
            && options.build_id == version.build_id
    })
}

/// A version as it is told.
#[must_use]
pub fn named(version: &WorkerDeploymentVersion) -> String {
    format!("build {:?} of deployment {:?}", version.build_id, version.deployment_name)
}

#[cfg(test)]
mod tests {
    use temporalio_common::protos::temporal::api::workflow::v1::VersioningOverride;
    use temporalio_common::protos::temporal::api::workflow::v1::versioning_override::PinnedOverride;

    use super::*;

    fn version(build_id: &str) -> VersionMessage {
        VersionMessage { deployment_name: "agents".to_owned(), build_id: build_id.to_owned() }
    }

    #[test]
    fn a_share_of_nothing_is_no_ramp() {
        for (percent, ramps) in [(0.0, false), (0.5, true), (100.0, true)] {
            let info = TaskQueueVersioningInfo {
                current_deployment_version: Some(version("one")),
                ramping_deployment_version: Some(version("two")),
                ramping_version_percentage: percent,
                ..TaskQueueVersioningInfo::default()
            };
            let routing = Routing::from(info);
            assert_eq!(routing.current, Some(version("one").into()));
            assert_eq!(routing.ramp, ramps.then(|| Ramp { to: Some(version("two").into()), percent }));
        }
    }

    #[test]
    fn an_operators_word_about_a_run_is_above_its_workers() {
        let pinned = |version| Override::Pinned(PinnedOverride { version, ..PinnedOverride::default() });
        for (behavior, given, expected) in [
            (VersioningBehavior::Pinned, None, Some("one")),
            (VersioningBehavior::AutoUpgrade, None, None),
            (VersioningBehavior::Unspecified, None, None),
            (VersioningBehavior::Pinned, Some(Override::AutoUpgrade(true)), None),
            (VersioningBehavior::AutoUpgrade, Some(pinned(Some(version("two")))), Some("two")),
            (VersioningBehavior::AutoUpgrade, Some(pinned(None)), Some("one")),
        ] {
            let info = WorkflowExecutionVersioningInfo {
                behavior: behavior.into(),
                deployment_version: Some(version("one")),
                versioning_override: given
                    .clone()
                    .map(|given| VersioningOverride { r#override: Some(given), ..VersioningOverride::default() }),
                ..WorkflowExecutionVersioningInfo::default()
            };
            let found = pinned_to(info);
            assert_eq!(found, expected.map(|build_id| version(build_id).into()), "{behavior:?} {given:?}");
        }
    }
}
