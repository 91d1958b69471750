//! What a pod says of itself: whether its command waits, runs or has ended, and who brought that about.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use ticket_workflows::code;

use super::job::CONTAINER;
use super::standing::Standing;
use super::verdict::How;
use crate::execute::image::{NOT_FOR_EVERYBODY, NOT_THERE};
use crate::external::{Fault, said};

/// Waiting reasons of an image that will never be there.
const NEVER_AN_IMAGE: [&str; 2] = ["InvalidImageName", "ErrImageNeverPull"];
/// Waiting reasons of an image that cannot be had now.
const NO_IMAGE_NOW: [&str; 3] = ["ErrImagePull", "ImagePullBackOff", "RegistryUnavailable"];
/// Reasons of a container that its node has lost, the kubelet's and containerd's: the exit code is made up.
const LOST_CONTAINER: [&str; 2] = ["ContainerStatusUnknown", "Unknown"];
/// How the kubelet's messages begin and go on that evict a pod for what it used itself.
const OVER_LIMIT: [(&str, &str); 3] = [
    ("Usage of EmptyDir volume ", " exceeds the limit "),
    ("Pod ephemeral local storage usage ", "exceeds the total limit of containers "),
    ("Container ", " exceeded its local ephemeral storage limit "),
];

/// When and where the command began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) pod: String,
    /// In whole seconds; `None`: the cluster does not say.
    pub(super) at: Option<Timestamp>,
}

/// Where and when the pod's command began, once it has.
pub(super) fn begun(pod: &Pod) -> Option<Begun> {
    let state = container_state(pod.status.as_ref()?)?;
    let running = state.running.as_ref().map(|running| running.started_at.as_ref());
    let at = running.or_else(|| state.terminated.as_ref().map(|ended| ended.started_at.as_ref()))?;
    Some(Begun { pod: pod.metadata.name.clone()?, at: moment(at) })
}

/// Whether nothing of the pod runs or will run: its only container is not started again.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || terminated(pod).is_some()
}

/// When others began to end the pod, each as far as it is told.
pub(super) fn interventions(pod: &Pod) -> Vec<Option<Timestamp>> {
    let mut all = Vec::new();
    if let Some(Time(gone_by)) = &pod.metadata.deletion_timestamp {
        // The pod has its grace until then.
        let grace = SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or_default());
        all.push(gone_by.checked_sub(grace).ok());
    }
    if let Some(status) = &pod.status {
        all.extend(disruption_target(status).map(|it| moment(it.last_transition_time.as_ref())));
        all.extend(eviction(status).map(|_| None));
    }
    all.extend(lost_container(pod).map(|_| None));
    all
}

/// What the node says of a container that it has lost, so that nobody knows how it ended.
fn lost_container(pod: &Pod) -> Option<String> {
    let ended = terminated(pod)?;
    let reason = ended.reason.as_deref().filter(|reason| LOST_CONTAINER.contains(reason))?;
    Some(format!("its node has lost the container, {reason}: {}", text(ended.message.as_ref())))
}

/// Why the pod ended or is being ended, unless its command did that by itself.
pub(super) fn ended_from_outside(pod: &Pod) -> Option<How> {
    if interventions(pod).is_empty() {
        return None;
    }
    let status = pod.status.as_ref();
    status.and_then(eviction).or_else(|| {
        let why = lost_container(pod).or_else(|| status.and_then(disruption));
        Some(How::Disrupted(why.unwrap_or_else(|| "its pod was deleted".to_owned())))
    })
}

pub(super) fn moment(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|Time(at)| *at)
}

pub(super) fn text(words: Option<&String>) -> String {
    said(words.map_or("", String::as_str))
}

/// Whether the pod's end will not be told: it is deleted because its node does not answer.
pub(super) fn is_out_of_reach(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let by_node =
        |it: &PodCondition| matches!(it.reason.as_deref(), Some("DeletionByTaintManager" | "DeletionByPodGC"));
    let is_ready = status.conditions.iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
    pod.metadata.deletion_timestamp.is_some() && disruption_target(status).is_some_and(by_node) && !is_ready
}

fn container_state(status: &PodStatus) -> Option<&ContainerState> {
    let containers = status.container_statuses.as_ref()?;
    containers.iter().find(|container| container.name == CONTAINER)?.state.as_ref()
}

pub(super) fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    container_state(pod.status.as_ref()?)?.terminated.as_ref()
}

/// What the kubelet evicted the pod for: what it used, or the state of the node, which may have taken it in no more.
fn eviction(status: &PodStatus) -> Option<How> {
    if status.phase.as_deref() != Some("Failed") || status.reason.as_deref() != Some("Evicted") {
        return None;
    }
    let message = text(status.message.as_ref());
    let is_over = |(begin, rest): &(&str, &str)| message.strip_prefix(begin).is_some_and(|it| it.contains(rest));
    let of_pod = OVER_LIMIT.iter().any(is_over) && disruption_target(status).is_none();
    Some(if of_pod { How::OverLimit(message) } else { How::Disrupted(message) })
}

fn disruption_target(status: &PodStatus) -> Option<&PodCondition> {
    status.conditions.as_ref()?.iter().find(|it| it.type_ == "DisruptionTarget" && it.status == "True")
}

/// Why the cluster ends the pod, if it is not for what the pod did.
fn disruption(status: &PodStatus) -> Option<String> {
    let target = disruption_target(status)?;
    Some(format!("{}: {}", text(target.reason.as_ref()), text(target.message.as_ref())))
}

/// What a pod is at of whose end the Job has not spoken.
///
/// # Errors
/// [`Fault::TicketRefused`] for an image that will not be there.
pub(super) fn begin_of_pod(status: &PodStatus) -> Result<Standing, Fault> {
    let Some(state) = container_state(status) else {
        let conditions = status.conditions.iter().flatten();
        let why = conditions.filter(|it| it.status == "False").find_map(|it| it.message.as_deref());
        return Ok(Standing::Waiting(format!(
            "the pod waits for a node: {}",
            said(why.unwrap_or("not scheduled yet"))
        )));
    };
    let Some(waiting) = &state.waiting else { return Ok(Standing::Running) };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    let cause = format!("the pod waits, {}: {}", said(reason), said(message));
    if NEVER_AN_IMAGE.contains(&reason) || (NO_IMAGE_NOW.contains(&reason) && is_not_to_be_had(message)) {
        return Err(Fault::TicketRefused { code: code::IMAGE_NOT_AVAILABLE, cause });
    }
    Ok(Standing::Waiting(cause))
}

/// Whether a registry says that it will not give the image. Its name and addresses, in which such words can stand, are left out.
fn is_not_to_be_had(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    let words = lower.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()));
    let words = words.filter(|word| !word.contains(['/', ':', '@'])).collect::<Vec<_>>().join(" ");
    NOT_THERE.iter().chain(&NOT_FOR_EVERYBODY).any(|said| words.contains(said))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn standing(status: Value) -> Result<Standing, Fault> {
        begin_of_pod(&serde_json::from_value(status).expect("a status"))
    }

    #[test]
    fn images_that_are_not_to_be_had_are_told_from_registries_that_are_away_and_both_from_other_waits() {
        let waiting = |reason: &str, message: &str| {
            let state = json!({ "waiting": { "reason": reason, "message": message } });
            standing(json!({ "phase": "Pending", "containerStatuses": [{
                "name": CONTAINER, "state": state, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            }] }))
        };
        for (reason, message) in [
            ("InvalidImageName", "couldn't parse"),
            ("ErrImageNeverPull", "Container image \"x:1\" is not present with pull policy of Never"),
            ("ErrImagePull", "failed to resolve reference \"docker.io/library/x:1\": docker.io/library/x:1: not found"),
            ("ImagePullBackOff", "Back-off pulling image: pull access denied, repository does not exist"),
            ("ErrImagePull", "unexpected status from HEAD request to https://r/v2/x: 401 Unauthorized"),
        ] {
            let fault = waiting(reason, message).expect_err("refused");
            assert!(
                matches!(fault, Fault::TicketRefused { code: code::IMAGE_NOT_AVAILABLE, .. }),
                "{reason}: {fault:?}"
            );
            assert!(fault.to_string().contains(reason), "{fault}");
        }
        for (reason, message) in [
            ("ContainerCreating", ""),
            ("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout"),
            ("ImagePullBackOff", "toomanyrequests: You have reached your pull rate limit"),
            ("ImagePullBackOff", "Back-off pulling image \"r.example/denied/unauthorized:1\": i/o timeout"),
            // The kubelet tries both again: a Secret that comes late, a runtime that restarts.
            ("CreateContainerConfigError", "secret \"s\" not found"),
            ("ImageInspectError", "Failed to inspect image: rpc error: connection refused"),
        ] {
            assert!(matches!(waiting(reason, message), Ok(Standing::Waiting(why)) if why.contains(reason)), "{reason}");
        }
        let unscheduled = standing(json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available" },
        ] }));
        assert!(matches!(unscheduled, Ok(Standing::Waiting(why)) if why.contains("0/3 nodes")));
    }
}
