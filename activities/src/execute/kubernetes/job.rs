//! The Job of a ticket, as the cluster is asked for it, and how it is known again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job as KubernetesJob, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, LocalObjectReference, Pod, PodSecurityContext, PodSpec,
    PodTemplateSpec, ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::log::PodLog;
use super::params::Wanted;
use super::runtime::KubernetesConfig;
use super::verdict::How;
use crate::execute::PullPolicy;
use crate::executor::Job;
use crate::external::{Key, Leftover};

/// Labels of every Job of this product (`contracts/executors.md`).
const LABELS: [(&str, &str); 3] = [
    ("app.kubernetes.io/name", "neural-hive-executor"),
    ("app.kubernetes.io/component", "job"),
    ("app.kubernetes.io/managed-by", "worker-agents"),
];
/// The name of the Job, which is the key of its attempt.
const JOB_ID: &str = "neural-hive.io/job-id";
/// The label for people; the annotation of this name holds ids that are no label values, too.
const TICKET_ID: &str = "neural-hive.io/ticket-id";
const RUN_ID: &str = "neural-hive.io/run-id";
const ATTEMPT: &str = "neural-hive.io/attempt";
/// The annotation of a Job that a worker has stopped: others suspend Jobs, too.
pub(super) const STOPPED: &str = "neural-hive.io/stopped";
const CREATED_BY: &str = "neural-hive.io/created-by";
/// The cluster's own label of a pod: the identity of its Job, also when that is gone.
const CONTROLLER: &str = "batch.kubernetes.io/controller-uid";
/// Longest label value.
const MAX_LABEL: usize = 63;

/// The only container of the pod.
pub(super) const CONTAINER: &str = "executor";
/// User and group: upstream's.
const NOBODY: i64 = 1000;
/// How much later than the attempt's time-out the cluster ends a Job whose workers are all lost: the attempt's own stop comes
/// first.
const AFTER_TIMEOUT: Duration = Duration::from_secs(60);

/// A Job that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    key: Key,
    pub(super) wanted: Wanted,
    /// Time of the command, in this attempt.
    pub(super) limit: Duration,
    ticket_id: String,
    run_id: String,
    attempt: u32,
}

impl Spec {
    pub(super) fn of(wanted: Wanted, limit: Duration, job: &Job) -> Self {
        let ticket_id = job.ticket.ticket_id.as_str().to_owned();
        let (limit, run_id) = (limit.min(job.time_left), job.run_id.clone());
        Self { key: Key::of(job), wanted, limit, ticket_id, run_id, attempt: job.attempt }
    }

    /// Whether `found` is the Job of this very attempt.
    pub(super) fn is_of(&self, found: &KubernetesJob) -> bool {
        let note = |name: &str| annotation(found, name);
        (note(TICKET_ID), note(RUN_ID), note(ATTEMPT))
            == (Some(&self.ticket_id), Some(&self.run_id), Some(&self.attempt.to_string()))
    }
}

/// A Job that is there.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobHandle {
    pub(super) name: String,
    /// Another Job of the same name has another one.
    pub(super) uid: String,
    /// What this attempt has read of its log.
    #[serde(skip)]
    pub(super) log: PodLog,
    /// How its pod ended, once somebody has seen that.
    #[serde(default)]
    seen: Mutex<Option<How>>,
}

impl JobHandle {
    /// A Job that the cluster described; `None`: it has no name or no identity.
    pub(super) fn of(job: &KubernetesJob) -> Option<Self> {
        let name = job.metadata.name.clone().filter(|name| is_name(name))?;
        Some(Self { name, uid: job.metadata.uid.clone()?, log: PodLog::default(), seen: Mutex::default() })
    }

    /// Keeps what a look has shown of its pod's end, and says what is known of it. That it ended by itself stays true.
    pub(super) fn seen(&self, now: Option<How>) -> Option<How> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if now.is_some() && !seen.as_ref().is_some_and(How::is_own) {
            *seen = now;
        }
        seen.clone()
    }

    /// Whether the pod is the Job's, or was before the Job was removed without it.
    pub(super) fn owns(&self, pod: &Pod) -> bool {
        let controller = pod.metadata.labels.as_ref().and_then(|labels| labels.get(CONTROLLER));
        let mut owners = pod.metadata.owner_references.iter().flatten();
        controller == Some(&self.uid) || owners.any(|owner| owner.uid == self.uid)
    }

    /// A Job that the cluster described, with the ticket it belongs to.
    pub(super) fn leftover(job: &KubernetesJob) -> Option<Leftover<Self>> {
        let (ticket_id, run_id) = (annotation(job, TICKET_ID)?.clone(), annotation(job, RUN_ID)?.clone());
        Some(Leftover { ticket_id, run_id, handle: Self::of(job)? })
    }
}

/// Whether a worker has asked for the end of the Job.
pub(super) fn is_stopped(job: &KubernetesJob) -> bool {
    annotation(job, STOPPED).is_some()
}

/// Selects the Jobs of this product.
pub(super) fn of_all() -> String {
    LABELS.map(|(name, value)| format!("{name}={value}")).join(",")
}

/// Selects the Job of one attempt.
pub(super) fn of_key(key: &Key) -> String {
    format!("{JOB_ID}={key}")
}

/// What is asked for: one pod, once, for a limited time.
pub(super) fn job(config: &KubernetesConfig, spec: &Spec) -> KubernetesJob {
    KubernetesJob {
        metadata: ObjectMeta { name: Some(spec.key.to_string()), ..metadata(spec) },
        spec: Some(JobSpec {
            // Attempts are the workflow's.
            backoff_limit: Some(0),
            active_deadline_seconds: Some(whole_seconds(spec.limit.saturating_add(AFTER_TIMEOUT))),
            ttl_seconds_after_finished: Some(i32::try_from(config.ttl.as_secs()).unwrap_or(i32::MAX)),
            template: PodTemplateSpec { metadata: Some(metadata(spec)), spec: Some(pod_spec(config, spec)) },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// The pod that the Job will have, for a trial.
pub(super) fn pod(config: &KubernetesConfig, spec: &Spec) -> Pod {
    Pod {
        metadata: ObjectMeta { generate_name: Some(format!("{}-", spec.key)), ..metadata(spec) },
        spec: Some(pod_spec(config, spec)),
        status: None,
    }
}

fn metadata(spec: &Spec) -> ObjectMeta {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut labels: BTreeMap<String, String> = LABELS.map(owned).into();
    labels.extend([owned((JOB_ID, spec.key.as_str()))]);
    labels.extend(is_label(&spec.ticket_id).then(|| owned((TICKET_ID, &spec.ticket_id))));
    let annotations = [
        owned((CREATED_BY, "execute-executor")),
        owned((TICKET_ID, &spec.ticket_id)),
        owned((RUN_ID, &spec.run_id)),
        owned((ATTEMPT, &spec.attempt.to_string())),
    ];
    ObjectMeta { labels: Some(labels), annotations: Some(annotations.into()), ..ObjectMeta::default() }
}

/// INC-73: the `restricted` Pod Security Standard, a root that cannot be written and a scratch folder that can, no token of the
/// service account, no restart.
fn pod_spec(config: &KubernetesConfig, spec: &Spec) -> PodSpec {
    let wanted = &spec.wanted;
    let scratch = Volume {
        name: "scratch".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(Quantity(config.scratch.clone())), medium: None }),
        ..Volume::default()
    };
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(wanted.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(whole_seconds(config.grace)),
        image_pull_secrets: config.pull_secret.as_ref().map(|name| vec![LocalObjectReference { name: name.clone() }]),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            fs_group: Some(NOBODY),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(vec![scratch]),
        containers: vec![container(config, wanted)],
        ..PodSpec::default()
    }
}

fn container(config: &KubernetesConfig, wanted: &Wanted) -> Container {
    let amounts = |cpu: &str, memory: &str| {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ])
    };
    let variable =
        |name: &str, value: &str| EnvVar { name: name.to_owned(), value: Some(literal(value)), ..EnvVar::default() };
    let mut env: Vec<_> = wanted.environment.iter().map(|(name, value)| variable(name, value)).collect();
    if !wanted.environment.contains_key("HOME") {
        // That of the user may not exist, and cannot be written.
        env.push(variable("HOME", "/tmp"));
    }
    Container {
        name: CONTAINER.to_owned(),
        image: Some(wanted.image.clone()),
        image_pull_policy: Some(pull_policy(config.pull).to_owned()),
        command: words(&wanted.command),
        args: words(&wanted.args),
        env: Some(env),
        working_dir: wanted.working_dir.clone(),
        resources: Some(ResourceRequirements {
            requests: Some(amounts(&wanted.cpu.request, &wanted.memory.request)),
            limits: Some(amounts(&wanted.cpu.limit, &wanted.memory.limit)),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            run_as_non_root: Some(true),
            privileged: Some(false),
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: "scratch".to_owned(),
            mount_path: "/tmp".to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// A part of a second counts as one.
fn whole_seconds(time: Duration) -> i64 {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Absent rather than empty: then the image's own words are kept.
fn words(words: &[String]) -> Option<Vec<String>> {
    (!words.is_empty()).then(|| words.iter().map(|word| literal(word)).collect())
}

/// `$(NAME)` would be replaced, and `$$` be one; a ticket's text is what it says.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Always => "Always",
        PullPolicy::Never => "Never",
    }
}

fn annotation<'a>(job: &'a KubernetesJob, name: &str) -> Option<&'a String> {
    job.metadata.annotations.as_ref()?.get(name)
}

fn is_label(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= MAX_LABEL
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Names become parts of URLs.
pub(super) fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};
    use ticket_schemas::{ParameterView, decode_json_ticket};

    use super::super::params::KubernetesParams;
    use super::super::runtime::tests::config;
    use super::*;

    /// What the second attempt at a ticket with these parameters asks for, which has 9.5 s.
    pub(in crate::execute::kubernetes) fn asked(ticket_id: &str, parameters: &Value) -> Spec {
        let ticket = json!({
            "ticket_id": ticket_id, "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let params: KubernetesParams = ParameterView::new(&ticket.parameters).deserialize().expect("parameters");
        let (wanted, limit) = params.check(&config(), &ticket).expect("allowed");
        let job = Job { attempt: 2, time_left: Duration::from_millis(9500), ..Job::first(ticket) };
        Spec::of(wanted, limit, &job)
    }

    fn described(ticket_id: &str, parameters: &Value) -> Value {
        let config = KubernetesConfig { grace: Duration::from_millis(500), ..config() };
        serde_json::to_value(job(&config, &asked(ticket_id, parameters))).expect("JSON")
    }

    #[test]
    fn inc_73_every_pod_is_restricted_and_has_scratch_and_an_end() {
        let job = described("t-1", &json!({ "command": "x" }));
        let spec = &job["spec"];
        assert_eq!((&spec["backoffLimit"], &spec["ttlSecondsAfterFinished"]), (&json!(0), &json!(86_400)));
        assert_eq!(spec["activeDeadlineSeconds"], json!(70), "the attempt's 9.5 s, and a minute");
        let pod = &spec["template"]["spec"];
        assert_eq!(
            pod["securityContext"],
            json!({ "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
                    "seccompProfile": { "type": "RuntimeDefault" } })
        );
        let container = &pod["containers"][0];
        assert_eq!(
            container["securityContext"],
            json!({ "runAsNonRoot": true, "privileged": false, "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } })
        );
        assert_eq!(pod["volumes"], json!([{ "name": "scratch", "emptyDir": { "sizeLimit": "64Mi" } }]));
        assert_eq!(container["volumeMounts"], json!([{ "name": "scratch", "mountPath": "/tmp" }]));
        assert_eq!((&pod["restartPolicy"], &pod["automountServiceAccountToken"]), (&json!("Never"), &json!(false)));
        assert_eq!(pod["terminationGracePeriodSeconds"], json!(1), "of half a second");
        for opening in ["hostNetwork", "hostPID", "hostIPC", "nodeName", "initContainers", "ephemeralContainers"] {
            assert_eq!(pod.get(opening), None, "{opening}");
        }
    }

    #[test]
    fn words_amounts_and_identity_are_the_tickets() {
        let job = described(
            "t-1",
            &json!({ "command": ["echo", "$(HOME) $x"], "args": "$$ b", "env_vars": { "A": "$(B)" },
                     "memory_limit": "64Mi", "working_dir": "/srv" }),
        );
        let (metadata, pod) = (&job["metadata"], &job["spec"]["template"]);
        let name = metadata["name"].as_str().expect("a name");
        assert!(name.starts_with("t-t-1-2-"), "{name}");
        for metadata in [metadata, &pod["metadata"]] {
            assert_eq!(metadata["labels"][JOB_ID], json!(name));
            assert_eq!(metadata["labels"]["app.kubernetes.io/name"], json!("neural-hive-executor"));
            assert_eq!(metadata["labels"][TICKET_ID], json!("t-1"));
            assert_eq!(metadata["annotations"][CREATED_BY], json!("execute-executor"));
        }
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["command"], json!(["echo", "$$(HOME) $$x"]), "nothing is expanded");
        assert_eq!(container["args"], json!(["$$$$", "b"]));
        assert_eq!(container["env"], json!([{ "name": "A", "value": "$$(B)" }, { "name": "HOME", "value": "/tmp" }]));
        assert_eq!(
            container["resources"],
            json!({ "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "cpu": "1000m", "memory": "64Mi" } })
        );
        assert_eq!(container["workingDir"], json!("/srv"));
        let own = described("t", &json!({ "image": "hello-world" }));
        let container = &own["spec"]["template"]["spec"]["containers"][0];
        assert_eq!((container.get("command"), container.get("args")), (None, None), "the image runs by itself");
    }

    #[test]
    fn a_job_is_known_again_by_ticket_run_and_attempt_whatever_the_ticket_is_called() {
        let odd = "plan:ticket";
        let spec = asked(odd, &json!({ "command": "x" }));
        let mut found = job(&config(), &spec);
        assert!(spec.is_of(&found));
        assert_eq!(found.metadata.labels.as_ref().expect("labels").get(TICKET_ID), None, "no label value");
        found.metadata.uid = Some("u".to_owned());
        let leftover = JobHandle::leftover(&found).expect("ours");
        assert_eq!((leftover.ticket_id.as_str(), leftover.run_id.as_str()), (odd, "run"));
        assert_eq!((leftover.handle.name.as_str(), leftover.handle.uid.as_str()), (spec.key.as_str(), "u"));
        found.metadata.annotations.as_mut().expect("annotations").insert(RUN_ID.to_owned(), "other".to_owned());
        assert!(!spec.is_of(&found), "another run's");
        assert!(!spec.is_of(&KubernetesJob::default()), "somebody else's");
        let handle = JobHandle::of(&found).expect("a Job");
        for (metadata, is_its) in [
            (
                json!({ "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u" }] }),
                true,
            ),
            (json!({ "labels": { CONTROLLER: "u" } }), true),
            (json!({ "labels": { CONTROLLER: "v" } }), false),
            (json!({}), false),
        ] {
            let pod = serde_json::from_value(json!({ "metadata": metadata })).expect("a pod");
            assert_eq!(handle.owns(&pod), is_its, "{metadata}");
        }
        // The next worker is told how its pod ended, and none of the command's words.
        let exited =
            |message: &str| How::Exited { code: 0, reason: "Completed".to_owned(), message: message.to_owned() };
        handle.seen(Some(How::Disrupted("deleted".to_owned())));
        handle.seen(Some(exited("hunter2")));
        assert_eq!(handle.seen(Some(How::Disrupted("deleted".to_owned()))), Some(exited("hunter2")));
        let recorded = serde_json::to_value(&handle).expect("JSON");
        let next: JobHandle = serde_json::from_value(recorded).expect("a handle");
        assert_eq!((next.uid.as_str(), next.seen(None)), ("u", Some(exited(""))));
        found.metadata.name = Some("../x".to_owned());
        assert!(JobHandle::of(&found).is_none());
    }
}
