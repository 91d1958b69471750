//! What a Job and its pod say together: whether the command waits, runs or has ended, and how.

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::job;
use super::pod::{
    self, Begun, begin_of_pod, ended_from_outside, has_ended, interventions, is_out_of_reach, moment, terminated, text,
};
use super::verdict::{Ended, How};
use crate::external::Fault;

/// What the Job controller says of a Job at its `activeDeadlineSeconds`.
const DEADLINE: &str = "DeadlineExceeded";

/// How a Job stands.
#[derive(Debug, PartialEq)]
pub(super) enum Standing {
    /// Nothing of it runs yet, and why.
    Waiting(String),
    /// The command runs, or is being ended.
    Running,
    /// Somebody has the Job ended whose command has begun: others, who may have it run again, or a worker, for good.
    Preempted,
    /// Nothing of it will run any more.
    Ended(Ended),
}

/// A look at a Job.
pub(super) struct Sight {
    pub(super) job: Job,
    /// From where on a watch of Jobs tells more.
    pub(super) job_version: String,
    /// Its pods. One, unless somebody else made more.
    pub(super) pods: Vec<Pod>,
    /// From where on a watch of pods tells more.
    pub(super) pods_version: String,
    /// How its pod ended, as this or an earlier look has shown: a pod that is gone does not say.
    pub(super) seen: Option<How>,
    /// Whether its command has begun, or may have before this attempt looked.
    pub(super) may_have_begun: bool,
}

impl Sight {
    /// How the Job stands. The exit code is the command's word only where nobody had begun to end the pod before: a command
    /// that answers TERM with 0 has not done its work.
    ///
    /// # Errors
    /// [`Fault::TicketRefused`] for what will never run; [`Fault::Vanished`] for a Job that somebody removes.
    pub(super) fn standing(&self) -> Result<Standing, Fault> {
        let ended = |how| Ok(Standing::Ended(Ended { how, is_stopped: self.nothing_runs() }));
        if let Some(exited) = self.seen.clone().filter(How::is_own) {
            return ended(exited);
        }
        if self.job.metadata.deletion_timestamp.is_some() {
            return Err(Fault::Vanished { cause: "somebody is removing the Job".to_owned() });
        }
        if self.is_stopped() {
            return Ok(Standing::Preempted);
        }
        if self.has("SuccessCriteriaMet") || self.has("Complete") {
            // It counts an answer to TERM as well, and keeps the pod of a command that ended by itself as long as itself.
            let untold = || How::Disrupted("its pod was removed before anybody saw how it ended".to_owned());
            return ended(self.seen.clone().unwrap_or_else(untold));
        }
        let pod = self.pod();
        if let Some(failure) = self.failure() {
            // Those that can be told are to be read to their last word.
            let tells_its_end = self.pods.iter().any(|pod| !has_ended(pod)) && !pod.is_some_and(is_out_of_reach);
            if tells_its_end && !self.has("Failed") {
                return Ok(Standing::Running);
            }
            return ended(self.how_it_failed(failure));
        }
        if self.is_suspended() {
            let queued = "somebody has suspended the Job, such as a queue, and has not resumed it";
            return Ok(if self.may_have_begun { Standing::Preempted } else { Standing::Waiting(queued.to_owned()) });
        }
        match pod.and_then(|pod| pod.status.as_ref()) {
            None => Ok(Standing::Waiting("the Job has no pod yet; its events say why".to_owned())),
            Some(status) => begin_of_pod(status),
        }
    }

    /// The end of a Job of which nothing runs any more, unless others brought it about.
    pub(super) fn end_of_command(&self) -> Option<Ended> {
        match self.standing() {
            Ok(Standing::Ended(ended)) => Some(ended).filter(Ended::is_of_command),
            Ok(Standing::Waiting(_) | Standing::Running | Standing::Preempted) | Err(_) => None,
        }
    }

    fn how_it_failed(&self, failure: &JobCondition) -> How {
        let status = self.pod().and_then(|pod| pod.status.as_ref());
        let reason = text(failure.reason.as_ref());
        if reason == DEADLINE {
            return How::OutOfTime;
        }
        if let Some(how) = &self.seen {
            return how.clone();
        }
        let of_pod = status.map(|status| text(status.message.as_ref().or(status.reason.as_ref()))).unwrap_or_default();
        let said = if of_pod.is_empty() { text(failure.message.as_ref()) } else { of_pod };
        How::Failed(format!("{reason}: {said}"))
    }

    /// The Job's pod: the one that has ended, if there are more.
    fn pod(&self) -> Option<&Pod> {
        self.pods.iter().find(|pod| terminated(pod).is_some()).or_else(|| self.pods.first())
    }

    /// Where and when the command began, once it has.
    pub(super) fn begun(&self) -> Option<Begun> {
        pod::begun(self.pod()?)
    }

    /// Once the command has ended, whoever brought that about: whether its pod is being removed.
    pub(super) fn over(&self) -> Option<bool> {
        let pod = self.pod().filter(|pod| terminated(pod).is_some())?;
        Some(pod.metadata.deletion_timestamp.is_some())
    }

    /// How the pod ended or is ending, if it is there and that is told.
    pub(super) fn end_of_pod(&self) -> Option<How> {
        self.own_end().or_else(|| self.pod().and_then(ended_from_outside))
    }

    /// How the command ended, if it did so before anybody began to end it. What happened in the same second is taken for the
    /// consequence.
    fn own_end(&self) -> Option<How> {
        let pod = self.pod()?;
        let ended = terminated(pod)?;
        let is_before = |at: Option<Timestamp>| {
            ended.finished_at.as_ref().is_some_and(|Time(finished)| at.is_some_and(|at| *finished < at))
        };
        let deadline = self.failure().filter(|failure| failure.reason.as_deref() == Some(DEADLINE));
        let deadline = deadline.map(|it| moment(it.last_transition_time.as_ref()));
        interventions(pod).into_iter().chain(deadline).all(is_before).then(|| How::Exited {
            code: ended.exit_code,
            reason: text(ended.reason.as_ref()),
            message: text(ended.message.as_ref()),
        })
    }

    /// Whether the Job starts no pod for now.
    pub(super) fn is_suspended(&self) -> bool {
        self.job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default()
    }

    /// Whether a worker has stopped the Job.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_suspended() && job::is_stopped(&self.job)
    }

    /// Whether the cluster says that nothing of the Job runs or will run.
    pub(super) fn nothing_runs(&self) -> bool {
        // The first two say what the Job will come to, and no pod is started after that.
        let has_decided = self.has("SuccessCriteriaMet") || self.failure().is_some() || is_over(&self.job);
        // What somebody else has suspended may be resumed.
        let is_stopped = self.is_stopped() && self.has("Suspended");
        let starts_none = has_decided || is_stopped || self.seen.as_ref().is_some_and(How::is_own);
        starts_none && self.pods.iter().all(has_ended)
    }

    fn has(&self, kind: &str) -> bool {
        condition(&self.job, kind).is_some()
    }

    fn failure(&self) -> Option<&JobCondition> {
        condition(&self.job, "Failed").or_else(|| condition(&self.job, "FailureTarget"))
    }
}

/// Whether the Job has ended by itself; one that was stopped never does.
pub(super) fn is_over(job: &Job) -> bool {
    ["Complete", "Failed"].into_iter().any(|kind| condition(job, kind).is_some())
}

/// A condition that holds.
fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|it| it.type_ == kind && it.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::job::STOPPED;
    use super::*;

    const BEFORE: &str = "2026-01-01T00:00:10Z";
    const THEN: &str = "2026-01-01T00:00:20Z";
    const AFTER: &str = "2026-01-01T00:00:30Z";

    fn sight(job_status: Value, pods: Value) -> Sight {
        let job = json!({ "metadata": { "name": "j", "uid": "u" }, "spec": { "template": {} }, "status": job_status });
        let mut sight = Sight {
            job: serde_json::from_value(job).expect("a Job"),
            job_version: String::new(),
            pods: serde_json::from_value(pods).expect("pods"),
            pods_version: String::new(),
            seen: None,
            may_have_begun: false,
        };
        sight.seen = sight.end_of_pod();
        sight
    }

    /// By a worker.
    fn suspended(job_status: Value, pods: Value) -> Sight {
        let mut sight = queued(job_status, pods);
        sight.job.metadata.annotations = Some([(STOPPED.to_owned(), "true".to_owned())].into());
        sight
    }

    /// By somebody else.
    fn queued(job_status: Value, pods: Value) -> Sight {
        let mut sight = sight(job_status, pods);
        sight.job.spec.as_mut().expect("spec").suspend = Some(true);
        sight
    }

    fn pod(phase: &str, state: Value) -> Value {
        json!({ "metadata": { "name": "p" }, "status": {
            "phase": phase,
            "containerStatuses": [{
                "name": "executor", "state": state, "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            }],
        } })
    }

    /// It finished at `finished`, after it had been deleted with ten seconds of grace, at [`THEN`].
    fn deleted(code: i32, finished: &str) -> Value {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let mut pod = pod(phase, exited_at(code, "Error", finished));
        pod["metadata"]["deletionTimestamp"] = json!(AFTER);
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(10);
        pod
    }

    fn exited(code: i32, reason: &str) -> Value {
        json!({ "terminated": { "exitCode": code, "reason": reason, "message": "m" } })
    }

    fn exited_at(code: i32, reason: &str, finished: &str) -> Value {
        json!({ "terminated": { "exitCode": code, "reason": reason, "message": "m", "finishedAt": finished } })
    }

    fn conditions(kind: &str, reason: &str) -> Value {
        json!([{ "type": kind, "status": "True", "reason": reason, "message": "why", "lastTransitionTime": THEN }])
    }

    fn failed() -> Value {
        json!({ "conditions": conditions("Failed", "BackoffLimitExceeded") })
    }

    fn complete() -> Value {
        json!({ "conditions": conditions("Complete", "CompletionsReached") })
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
        for (phase, code, reason) in
            [("Succeeded", 0, "Completed"), ("Failed", 3, "Error"), ("Succeeded", 0, "OOMKilled")]
        {
            let sight = sight(json!({}), json!([pod(phase, exited(code, reason))]));
            let expected = How::Exited { code, reason: reason.to_owned(), message: "m".to_owned() };
            assert_eq!(how(&sight), expected, "{reason}");
            assert!(sight.nothing_runs() && sight.begun().is_some_and(|begun| begun.pod == "p"));
        }
    }

    #[test]
    fn a_complete_job_whose_pod_is_gone_proves_nothing_unless_its_end_was_seen() {
        for job in [complete(), json!({ "conditions": conditions("SuccessCriteriaMet", "CompletionsReached") })] {
            let gone = sight(job.clone(), json!([]));
            assert!(matches!(how(&gone), How::Disrupted(why) if why.contains("before anybody saw")), "{job}");
            assert_eq!(gone.end_of_command(), None, "{job}");
            let seen = sight(job.clone(), json!([pod("Succeeded", exited(0, "Completed"))])).seen;
            let later = Sight { seen, ..sight(job, json!([])) };
            assert!(matches!(how(&later), How::Exited { code: 0, .. }) && later.nothing_runs());
        }
    }

    #[test]
    fn a_command_that_was_ended_from_outside_is_not_judged_by_its_exit_code() {
        for code in [0, 143] {
            let by_itself = |sight: &Sight| matches!(how(sight), How::Exited { code: it, .. } if it == code);
            // At its deadline, whether or not the pod says that it was deleted.
            let deadline = || json!({ "conditions": conditions("Failed", DEADLINE) });
            for pod in [deleted(code, AFTER), deleted(code, THEN), pod("Failed", exited_at(code, "Error", AFTER))] {
                assert_eq!(how(&sight(deadline(), json!([pod]))), How::OutOfTime, "{code}");
            }
            assert!(
                by_itself(&sight(deadline(), json!([deleted(code, BEFORE)]))),
                "it was over when the deadline came"
            );
            // Evicted; the Job counts an exit code of 0 as done.
            let job = if code == 0 { complete() } else { failed() };
            for finished in [AFTER, BEFORE] {
                let mut evicted = pod("Failed", exited_at(code, "Error", finished));
                evicted["status"]["conditions"] = conditions("DisruptionTarget", "EvictionByEvictionAPI");
                let sight = sight(job.clone(), json!([evicted]));
                assert_eq!(by_itself(&sight), finished == BEFORE, "{code}: {finished}");
                assert_eq!(matches!(how(&sight), How::Disrupted(_)), finished == AFTER, "{code}: {finished}");
            }
            let untold = sight(job.clone(), json!([deleted(code, AFTER)]));
            assert!(matches!(how(&untold), How::Disrupted(why) if why.contains("deleted")), "{code}");
            // The Job says in a moment what that comes to.
            let early = sight(json!({}), json!([deleted(code, AFTER)]));
            assert_eq!(early.standing(), Ok(Standing::Running), "{code}");
            assert!(!early.nothing_runs(), "{code}: the Job may start another");
            // The pod has gone since.
            let gone = Sight { seen: untold.seen.clone(), ..sight(job, json!([])) };
            assert!(matches!(how(&gone), How::Disrupted(_)), "{code}");
            // Stopped: not done, although the Job counts it so.
            let stopped = suspended(complete(), json!([deleted(code, AFTER)]));
            assert!(matches!(stopped.standing(), Ok(Standing::Preempted)) && stopped.nothing_runs(), "{code}");
            let faster = suspended(json!({}), json!([deleted(code, BEFORE)]));
            assert!(by_itself(&faster), "{code}: it was over when it was stopped");
            // Whoever stops it is told of an end only where it is the command's own.
            assert_eq!((stopped.end_of_command(), gone.end_of_command()), (None, None), "{code}");
            assert!(faster.end_of_command().is_some_and(|ended| ended.is_stopped), "{code}");
        }
    }

    #[test]
    fn eviction_and_a_lost_node_are_the_clusters_and_an_overfull_folder_is_the_commands() {
        let evicted = |message: &str| {
            let mut pod = pod("Failed", exited_at(137, "Error", BEFORE));
            pod["status"]["reason"] = json!("Evicted");
            pod["status"]["message"] = json!(message);
            sight(failed(), json!([pod]))
        };
        // The kubelet's messages, with what it says of the containers of a node that is low on something.
        for overfull in [
            "Usage of EmptyDir volume \"scratch\" exceeds the limit \"64Mi\". ",
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            "Container executor exceeded its local ephemeral storage limit \"1Gi\". ",
        ] {
            assert!(matches!(how(&evicted(overfull)), How::OverLimit(why) if why == overfull.trim()), "{overfull}");
        }
        for of_node in [
            "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 1Mi. ",
            "The node was low on resource: memory. Container executor was using 2Mi, request is 1Mi, has larger consumption of memory. ",
            "The node had condition: [DiskPressure]. ",
            "Pod was rejected: The node had condition: [DiskPressure]. ",
            "",
        ] {
            assert!(matches!(how(&evicted(of_node)), How::Disrupted(_)), "{of_node}");
        }
        for reason in
            ["TerminationByKubelet", "PreemptionByScheduler", "EvictionByEvictionAPI", "DeletionByTaintManager"]
        {
            let mut pod = pod("Failed", exited_at(143, "Error", AFTER));
            pod["status"]["conditions"] = conditions("DisruptionTarget", reason);
            assert!(
                matches!(how(&sight(failed(), json!([pod]))), How::Disrupted(why) if why.contains(reason)),
                "{reason}"
            );
        }
        // A node that is away tells no end, and nobody knows whether the command runs on.
        let mut lost = pod("Running", json!({ "running": {} }));
        lost["metadata"]["deletionTimestamp"] = json!(THEN);
        lost["status"]["conditions"] = conditions("DisruptionTarget", "DeletionByTaintManager");
        let lost = sight(json!({ "conditions": conditions("FailureTarget", "BackoffLimitExceeded") }), json!([lost]));
        match lost.standing() {
            Ok(Standing::Ended(Ended { how: How::Disrupted(_), is_stopped: false })) => {}
            other => panic!("{other:?}"),
        }
        // What the node did not take.
        let mut refused = json!({ "metadata": { "name": "p" }, "status": { "phase": "Failed" } });
        refused["status"]["message"] = json!("Pod was rejected: Node didn't have enough resource: cpu");
        assert!(matches!(how(&sight(failed(), json!([refused]))), How::Failed(why) if why.contains("enough resource")));
    }

    #[test]
    fn a_container_that_its_node_has_lost_has_no_exit_code() {
        for (code, reason, message) in [
            (137, "ContainerStatusUnknown", "The container could not be located when the pod was terminated"),
            (
                137,
                "ContainerStatusUnknown",
                "The container could not be located when the pod was deleted.  The container used to be Running",
            ),
            (255, "Unknown", ""),
        ] {
            let state = json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } });
            let lost = |job: Value| sight(job, json!([pod("Failed", state.clone())]));
            assert!(matches!(how(&lost(failed())), How::Disrupted(why) if why.contains(reason)), "{reason}");
            assert_eq!(lost(failed()).end_of_command(), None, "{reason}");
            assert_eq!(lost(json!({})).standing(), Ok(Standing::Running), "{reason}: the Job says so in a moment");
        }
    }

    #[test]
    fn a_job_that_somebody_else_has_suspended_waits_or_is_preempted_and_may_run_again() {
        let told = || json!({ "conditions": conditions("Suspended", "JobSuspended") });
        let waits = queued(told(), json!([]));
        assert!(matches!(waits.standing(), Ok(Standing::Waiting(why)) if why.contains("suspended")));
        let preempted = Sight { may_have_begun: true, ..queued(told(), json!([])) };
        assert_eq!(preempted.standing(), Ok(Standing::Preempted));
        for sight in [waits, preempted] {
            assert!(!sight.nothing_runs(), "it may be resumed");
            assert_eq!(sight.end_of_command(), None);
        }
        let faster = queued(told(), json!([pod("Succeeded", exited(0, "Completed"))]));
        assert!(matches!(how(&faster), How::Exited { code: 0, .. }));
    }

    #[test]
    fn a_pod_that_waits_for_a_node_may_run_later() {
        let unscheduled = json!({ "metadata": { "name": "p" }, "status": { "phase": "Pending" } });
        let sight = sight(json!({}), json!([unscheduled]));
        assert!(matches!(sight.standing(), Ok(Standing::Waiting(_))) && !sight.nothing_runs());
    }

    #[test]
    fn a_job_out_of_time_runs_until_its_pod_has_ended() {
        let target = json!({ "conditions": conditions("FailureTarget", DEADLINE) });
        let ending = sight(target, json!([pod("Running", json!({ "running": {} }))]));
        assert_eq!(ending.standing(), Ok(Standing::Running));
        let over = sight(json!({ "conditions": conditions("Failed", DEADLINE) }), json!([]));
        assert_eq!(over.standing(), Ok(Standing::Ended(Ended { how: How::OutOfTime, is_stopped: true })));
        // What the Job comes to is said before its end is.
        for pods in [json!([]), json!([deleted(0, AFTER)])] {
            let decided = sight(json!({ "conditions": conditions("FailureTarget", DEADLINE) }), pods);
            assert_eq!(decided.standing(), Ok(Standing::Ended(Ended { how: How::OutOfTime, is_stopped: true })));
        }
        let odd = sight(json!({ "conditions": conditions("Failed", "PodFailurePolicy") }), json!([]));
        assert!(matches!(how(&odd), How::Failed(why) if why == "PodFailurePolicy: why"));
    }

    #[test]
    fn a_stop_that_was_begun_is_confirmed_by_what_the_cluster_says_and_a_job_that_is_being_removed_has_vanished() {
        let stopped = suspended(json!({}), json!([]));
        assert_eq!(stopped.standing(), Ok(Standing::Preempted), "whoever looks next goes on with the stop");
        assert!(!stopped.nothing_runs(), "nobody has said so yet");
        let told = || json!({ "conditions": conditions("Suspended", "JobSuspended") });
        assert!(suspended(told(), json!([])).nothing_runs());
        let terminating = suspended(told(), json!([pod("Running", json!({ "running": {} }))]));
        assert!(!terminating.nothing_runs(), "the pod has its grace");
        let job = json!({ "metadata": { "deletionTimestamp": THEN }, "spec": { "template": {} } });
        let removed = Sight { job: serde_json::from_value(job).expect("a Job"), ..sight(json!({}), json!([])) };
        assert!(matches!(removed.standing(), Err(Fault::Vanished { .. })));
    }
}
