//! What a Job and its pod say together: whether the command waits, runs or has ended, and how.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod, PodCondition, PodStatus};
use ticket_workflows::code;

use super::job::CONTAINER;
use crate::external::{Fault, said};

/// Waiting reasons of an image that will never be there.
const NEVER_AN_IMAGE: [&str; 3] = ["InvalidImageName", "ErrImageNeverPull", "ImageInspectError"];
/// Waiting reasons of an image that cannot be had now.
const NO_IMAGE_NOW: [&str; 3] = ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"];
/// The waiting reason of a container that this cluster cannot make as it was asked for.
const NEVER_A_CONTAINER: &str = "CreateContainerConfigError";
/// What registries say of an image that is not there, or not for this cluster.
const NOT_TO_BE_HAD: [&str; 8] = [
    "not found",
    "manifest unknown",
    "does not exist",
    "no match for platform",
    "unauthorized",
    "denied",
    "authentication required",
    "repository name not known",
];

/// How a Job stands.
#[derive(Debug, PartialEq)]
pub(super) enum Standing {
    /// Nothing of it runs yet, and why.
    Waiting(String),
    /// The command runs, or is being ended.
    Running,
    /// Nothing of it will run any more.
    Ended(Ended),
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub(super) how: How,
    /// Whether the cluster says that nothing of it runs any more.
    pub(super) is_stopped: bool,
}

/// What ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// The command, with this code, or what kept it from running.
    Exited { code: i32, reason: String, message: String },
    /// The command, and its pod is gone: the Job counts it as done.
    Done,
    /// `activeDeadlineSeconds`.
    OutOfTime,
    /// It used more of its disk than it may.
    OverLimit(String),
    /// The cluster, for reasons of its own: eviction, a lost node.
    Disrupted(String),
    /// The Job failed, and no pod says why.
    Failed(String),
}

/// A look at a Job.
pub(super) struct Sight {
    pub(super) job: Job,
    /// Its pods. One, unless somebody else made more.
    pub(super) pods: Vec<Pod>,
    /// From where on a watch of pods tells more.
    pub(super) pods_version: String,
}

impl Sight {
    /// How the Job stands.
    ///
    /// # Errors
    /// [`Fault::TicketRefused`] for what will never run; [`Fault::Vanished`] for a Job that somebody removes or has stopped.
    pub(super) fn standing(&self) -> Result<Standing, Fault> {
        let ended = |how| Ok(Standing::Ended(Ended { how, is_stopped: self.nothing_runs() }));
        let pod = self.pod();
        let status = pod.and_then(|pod| pod.status.as_ref());
        if let Some(how) = status.and_then(end_of_pod) {
            return ended(how);
        }
        if self.has("SuccessCriteriaMet") || self.has("Complete") {
            return ended(How::Done);
        }
        if let Some((reason, message)) = self.failure() {
            // Those that can be told are to be read to their last word.
            if self.is_being_ended() && pod.is_some_and(|pod| !is_cut_off(pod)) {
                return Ok(Standing::Running);
            }
            return ended(match (reason.as_str(), status.and_then(disruption)) {
                ("DeadlineExceeded", _) => How::OutOfTime,
                (_, Some(why)) => How::Disrupted(why),
                _ => How::Failed(format!("{reason}: {message}")),
            });
        }
        if self.job.metadata.deletion_timestamp.is_some() {
            return Err(Fault::Vanished { cause: "somebody is removing the Job".to_owned() });
        }
        if self.is_suspended() {
            return Err(Fault::Vanished { cause: "the Job is suspended: it was stopped".to_owned() });
        }
        match status {
            None => Ok(Standing::Waiting("the Job has no pod yet; its events say why".to_owned())),
            Some(status) => begin_of_pod(status),
        }
    }

    /// The Job's pod: the one that has ended, if there are more.
    pub(super) fn pod(&self) -> Option<&Pod> {
        let ended = |pod: &&Pod| pod.status.as_ref().is_some_and(|status| terminated(status).is_some());
        self.pods.iter().find(ended).or_else(|| self.pods.first())
    }

    /// The pod's name, once its container has begun.
    pub(super) fn begun(&self) -> Option<&str> {
        let pod = self.pod()?;
        let state = container_state(pod.status.as_ref()?)?;
        (state.running.is_some() || state.terminated.is_some()).then_some(pod.metadata.name.as_deref())?
    }

    /// Whether the Job starts no pod any more.
    pub(super) fn is_suspended(&self) -> bool {
        self.job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default()
    }

    /// Whether the Job has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        self.has("Complete") || self.has("Failed")
    }

    /// Whether the cluster says that nothing of the Job runs or will run.
    pub(super) fn nothing_runs(&self) -> bool {
        (self.is_over() || (self.is_suspended() && self.has("Suspended")) || self.pods.iter().any(has_ended))
            && self.pods.iter().all(has_ended)
    }

    fn is_being_ended(&self) -> bool {
        !self.has("Failed") && !self.pods.iter().all(has_ended)
    }

    fn has(&self, condition: &str) -> bool {
        self.condition(condition).is_some()
    }

    fn failure(&self) -> Option<(String, String)> {
        self.condition("Failed").or_else(|| self.condition("FailureTarget"))
    }

    /// Reason and message of a condition that holds.
    fn condition(&self, kind: &str) -> Option<(String, String)> {
        let conditions = self.job.status.as_ref()?.conditions.as_ref()?;
        let found = conditions.iter().find(|it| it.type_ == kind && it.status == "True")?;
        let text = |text: &Option<String>| said(text.as_deref().unwrap_or_default());
        Some((text(&found.reason), text(&found.message)))
    }
}

/// Whether the pod's end will not be told: it is deleted because its node does not answer.
fn is_cut_off(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is = |kind: &str, status: &str| conditions.iter().find(|it| it.type_ == kind && it.status == status);
    let by_node = |it: &PodCondition| matches!(it.reason.as_deref(), Some("DeletionByTaintManager" | "DeletionByPodGC"));
    pod.metadata.deletion_timestamp.is_some()
        && is("DisruptionTarget", "True").is_some_and(by_node)
        && is("Ready", "True").is_none()
}

/// Whether nothing of the pod runs or will run: its only container is not started again.
fn has_ended(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| {
        matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) || terminated(status).is_some()
    })
}

fn container_state(status: &PodStatus) -> Option<&ContainerState> {
    let containers = status.container_statuses.as_ref()?;
    containers.iter().find(|container| container.name == CONTAINER)?.state.as_ref()
}

fn terminated(status: &PodStatus) -> Option<&ContainerStateTerminated> {
    container_state(status)?.terminated.as_ref()
}

/// What the pod's end was. An eviction comes before the exit code that it caused.
fn end_of_pod(status: &PodStatus) -> Option<How> {
    let ended = terminated(status);
    let is_failed = status.phase.as_deref() == Some("Failed");
    if is_failed && status.reason.as_deref() == Some("Evicted") {
        let message = said(status.message.as_deref().unwrap_or_default());
        // The kubelet says of nodes that they were low on something, and of pods that they used too much.
        let of_node = message.contains("node was low") || disruption(status).is_some();
        return Some(if of_node { How::Disrupted(message) } else { How::OverLimit(message) });
    }
    if (is_failed || ended.is_some_and(|ended| ended.exit_code != 0))
        && let Some(why) = disruption(status)
    {
        return Some(How::Disrupted(why));
    }
    let text = |text: Option<&String>| said(text.map_or("", String::as_str));
    match ended {
        Some(ended) => Some(How::Exited {
            code: ended.exit_code,
            reason: text(ended.reason.as_ref()),
            message: text(ended.message.as_ref()),
        }),
        None if is_failed => Some(How::Failed(text(status.message.as_ref().or(status.reason.as_ref())))),
        None => None,
    }
}

/// Why the cluster ends the pod, if it is not for what the pod did.
fn disruption(status: &PodStatus) -> Option<String> {
    let conditions = status.conditions.as_ref()?;
    let found = conditions.iter().find(|it| it.type_ == "DisruptionTarget" && it.status == "True")?;
    let text = |text: &Option<String>| said(text.as_deref().unwrap_or_default());
    Some(format!("{}: {}", text(&found.reason), text(&found.message)))
}

/// What a pod that has not ended is at.
fn begin_of_pod(status: &PodStatus) -> Result<Standing, Fault> {
    let Some(state) = container_state(status) else {
        let conditions = status.conditions.iter().flatten();
        let why = conditions.filter(|it| it.status == "False").find_map(|it| it.message.as_deref());
        return Ok(Standing::Waiting(format!("the pod waits for a node: {}", said(why.unwrap_or("not scheduled yet")))));
    };
    let Some(waiting) = &state.waiting else { return Ok(Standing::Running) };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = said(waiting.message.as_deref().unwrap_or_default());
    let cause = format!("the pod waits, {}: {message}", said(reason));
    let lower = message.to_ascii_lowercase();
    let refused = |code| Err(Fault::TicketRefused { code, cause: cause.clone() });
    if NEVER_AN_IMAGE.contains(&reason)
        || (NO_IMAGE_NOW.contains(&reason) && NOT_TO_BE_HAD.iter().any(|words| lower.contains(words)))
    {
        return refused(code::IMAGE_NOT_AVAILABLE);
    }
    if reason == NEVER_A_CONTAINER {
        return refused(code::PROVIDER_REFUSED);
    }
    Ok(Standing::Waiting(cause))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sight(job_status: Value, pods: Value) -> Sight {
        let job = json!({ "metadata": { "name": "j", "uid": "u" }, "spec": { "template": {} }, "status": job_status });
        Sight {
            job: serde_json::from_value(job).expect("a Job"),
            pods: serde_json::from_value(pods).expect("pods"),
            pods_version: String::new(),
        }
    }

    fn pod(phase: &str, state: Value) -> Value {
        json!({ "metadata": { "name": "p" }, "status": {
            "phase": phase,
            "containerStatuses": [{
                "name": "executor", "state": state, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            }],
        } })
    }

    fn exited(code: i32, reason: &str) -> Value {
        json!({ "terminated": { "exitCode": code, "reason": reason, "message": "m" } })
    }

    fn conditions(kind: &str, reason: &str) -> Value {
        json!([{ "type": kind, "status": "True", "reason": reason, "message": "why" }])
    }

    #[track_caller]
    fn how(sight: &Sight) -> How {
        match sight.standing() {
            Ok(Standing::Ended(ended)) => ended.how,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_exit_code_is_the_containers_whatever_the_reason_says() {
        for (phase, code, reason) in [("Succeeded", 0, "Completed"), ("Failed", 3, "Error"), ("Succeeded", 0, "OOMKilled")] {
            let sight = sight(json!({}), json!([pod(phase, exited(code, reason))]));
            let expected = How::Exited { code, reason: reason.to_owned(), message: "m".to_owned() };
            assert_eq!(how(&sight), expected, "{reason}");
            assert!(sight.nothing_runs() && sight.begun() == Some("p"));
        }
        let gone = sight(json!({ "conditions": conditions("Complete", "CompletionsReached") }), json!([]));
        assert_eq!(how(&gone), How::Done);
    }

    #[test]
    fn images_that_are_not_to_be_had_are_told_from_registries_that_are_away_and_both_from_other_waits() {
        let waiting = |reason: &str, message: &str| {
            let state = json!({ "waiting": { "reason": reason, "message": message } });
            sight(json!({}), json!([pod("Pending", state)])).standing()
        };
        for (reason, message) in [
            ("InvalidImageName", "couldn't parse"),
            ("ErrImageNeverPull", "Container image \"x:1\" is not present with pull policy of Never"),
            ("ErrImagePull", "failed to resolve reference \"x:1\": x:1: not found"),
            ("ImagePullBackOff", "Back-off pulling image: pull access denied, repository does not exist"),
        ] {
            let fault = waiting(reason, message).expect_err("refused");
            assert!(matches!(fault, Fault::TicketRefused { code: code::IMAGE_NOT_AVAILABLE, .. }), "{reason}: {fault:?}");
            assert!(fault.to_string().contains(reason), "{fault}");
        }
        let config = waiting("CreateContainerConfigError", "container has runAsNonRoot").expect_err("refused");
        assert!(matches!(config, Fault::TicketRefused { code: code::PROVIDER_REFUSED, .. }), "{config:?}");
        for (reason, message) in [
            ("ContainerCreating", ""),
            ("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout"),
            ("ImagePullBackOff", "toomanyrequests: You have reached your pull rate limit"),
        ] {
            assert!(matches!(waiting(reason, message), Ok(Standing::Waiting(why)) if why.contains(reason)), "{reason}");
        }
        let unscheduled = json!({ "metadata": { "name": "p" }, "status": { "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available" },
        ] } });
        let sight = sight(json!({}), json!([unscheduled]));
        assert!(matches!(sight.standing(), Ok(Standing::Waiting(why)) if why.contains("0/3 nodes")));
        assert!(!sight.nothing_runs(), "it may run later");
    }

    #[test]
    fn eviction_and_a_lost_node_are_the_clusters_and_an_overfull_folder_is_the_commands() {
        let evicted = |message: &str| {
            let mut pod = pod("Failed", exited(137, "Error"));
            pod["status"]["reason"] = json!("Evicted");
            pod["status"]["message"] = json!(message);
            pod
        };
        let overfull = sight(json!({}), json!([evicted("Usage of EmptyDir volume \"scratch\" exceeds the limit \"64Mi\".")]));
        assert!(matches!(how(&overfull), How::OverLimit(why) if why.contains("EmptyDir")));
        let pressure = sight(json!({}), json!([evicted("The node was low on resource: ephemeral-storage.")]));
        assert!(matches!(how(&pressure), How::Disrupted(_)));
        for reason in ["TerminationByKubelet", "PreemptionByScheduler", "EvictionByEvictionAPI", "DeletionByTaintManager"] {
            let mut pod = pod("Failed", exited(143, "Error"));
            pod["status"]["conditions"] = conditions("DisruptionTarget", reason);
            assert!(matches!(how(&sight(json!({}), json!([pod]))), How::Disrupted(why) if why.contains(reason)), "{reason}");
        }
        // It had done its work when its node was taken away.
        let mut done = pod("Succeeded", exited(0, "Completed"));
        done["status"]["conditions"] = conditions("DisruptionTarget", "EvictionByEvictionAPI");
        assert!(matches!(how(&sight(json!({}), json!([done]))), How::Exited { code: 0, .. }));
        // A node that is away tells no end, and nobody knows whether the command runs on.
        let mut lost = pod("Running", json!({ "running": {} }));
        lost["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        lost["status"]["conditions"] = conditions("DisruptionTarget", "DeletionByTaintManager");
        let lost = sight(json!({ "conditions": conditions("FailureTarget", "BackoffLimitExceeded") }), json!([lost]));
        match lost.standing() {
            Ok(Standing::Ended(Ended { how: How::Disrupted(_), is_stopped: false })) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_job_out_of_time_runs_until_its_pod_has_ended() {
        let target = json!({ "conditions": conditions("FailureTarget", "DeadlineExceeded") });
        let ending = sight(target, json!([pod("Running", json!({ "running": {} }))]));
        assert_eq!(ending.standing(), Ok(Standing::Running));
        let failed = json!({ "conditions": conditions("Failed", "DeadlineExceeded") });
        let over = sight(failed, json!([]));
        assert_eq!(over.standing(), Ok(Standing::Ended(Ended { how: How::OutOfTime, is_stopped: true })));
        let odd = sight(json!({ "conditions": conditions("Failed", "PodFailurePolicy") }), json!([]));
        assert!(matches!(how(&odd), How::Failed(why) if why == "PodFailurePolicy: why"));
    }

    #[test]
    fn a_job_that_was_stopped_or_is_being_removed_has_vanished_and_stopped_is_what_the_cluster_says() {
        let mut stopped = sight(json!({}), json!([]));
        stopped.job.spec.as_mut().expect("spec").suspend = Some(true);
        assert!(matches!(stopped.standing(), Err(Fault::Vanished { .. })));
        assert!(!stopped.nothing_runs(), "nobody has said so yet");
        let mut confirmed = sight(json!({ "conditions": conditions("Suspended", "JobSuspended") }), json!([]));
        confirmed.job.spec.as_mut().expect("spec").suspend = Some(true);
        assert!(confirmed.nothing_runs());
        let mut terminating = sight(
            json!({ "conditions": conditions("Suspended", "JobSuspended") }),
            json!([pod("Running", json!({ "running": {} }))]),
        );
        terminating.job.spec.as_mut().expect("spec").suspend = Some(true);
        assert!(!terminating.nothing_runs(), "the pod has its grace");
        let job = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" }, "spec": { "template": {} } });
        let removed = Sight { job: serde_json::from_value(job).expect("a Job"), ..sight(json!({}), json!([])) };
        assert!(matches!(removed.standing(), Err(Fault::Vanished { .. })));
    }
}
