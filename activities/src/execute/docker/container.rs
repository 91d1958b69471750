//! The container of a ticket, as the engine is asked for it, and the labels it is found by.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, ContainerSummary, HostConfig, HostConfigLogConfig};

use super::DockerConfig;
use super::params::Wanted;
use crate::executor::Job;
use crate::external::{Key, Leftover};

/// Whose container it is.
const MANAGED_BY: &str = "neural-hive.io/managed-by";
const WORKER_AGENTS: &str = "worker-agents";
/// The key of its attempt.
const KEY: &str = "neural-hive.io/key";
const TICKET_ID: &str = "neural-hive.io/ticket-id";
const RUN_ID: &str = "neural-hive.io/run-id";
const ATTEMPT: &str = "neural-hive.io/attempt";
/// Whether the image was pulled for it; whoever attaches to it later cannot know otherwise.
const IMAGE_PULLED: &str = "neural-hive.io/image-pulled";

/// Microseconds in which a container may use its share of CPU time.
const CPU_PERIOD: i64 = 100_000;
/// CPU shares of one core.
const SHARES_OF_A_CORE: f64 = 1024.0;
/// What the engine keeps of a container's output on disk: two files of this size. A container that writes for ever fills no
/// disk, and what a stopped one said is read within the seconds that there are for it. With less, standard error that came
/// beside much standard output was gone.
const LOG_FILE: &str = "16m";

/// A container that is to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub(super) wanted: Wanted,
    ticket_id: String,
    run_id: String,
    attempt: u32,
    /// For the engine to say whether it has the image.
    pub(super) look_timeout: Duration,
    /// Whether the image was pulled for it.
    pub(super) image_pulled: bool,
    /// Folders for which the image wants a volume.
    pub(super) volumes: Vec<String>,
}

impl Spec {
    pub(super) fn of(wanted: Wanted, job: &Job, look_timeout: Duration) -> Self {
        let ticket_id = job.ticket.ticket_id.as_str().to_owned();
        let (run_id, attempt) = (job.run_id.clone(), job.attempt);
        Self { wanted, ticket_id, run_id, attempt, look_timeout, image_pulled: false, volumes: Vec::new() }
    }
}

/// A container that is there.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Container {
    pub(super) id: String,
    pub(super) image_pulled: bool,
    /// The engine that has it, by its own name; empty where it has none.
    pub(super) engine: String,
}

/// What the engine is asked for. No root, no capability, no new privileges, a root that cannot be written and a scratch
/// folder that can, no swap, no restart.
pub(super) fn body(config: &DockerConfig, key: &Key, spec: &Spec) -> ContainerCreateBody {
    let wanted = &spec.wanted;
    let labels = [
        (MANAGED_BY, WORKER_AGENTS.to_owned()),
        (KEY, key.to_string()),
        (TICKET_ID, spec.ticket_id.clone()),
        (RUN_ID, spec.run_id.clone()),
        (ATTEMPT, spec.attempt.to_string()),
        (IMAGE_PULLED, spec.image_pulled.to_string()),
    ];
    let mut environment: Vec<String> =
        wanted.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !wanted.environment.contains_key("HOME") {
        // That of the user may not exist, and cannot be written.
        environment.push("HOME=/tmp".to_owned());
    }
    ContainerCreateBody {
        image: Some(wanted.image.clone()),
        cmd: (!wanted.command.is_empty()).then(|| wanted.command.clone()),
        env: Some(environment),
        working_dir: wanted.working_dir.clone(),
        user: Some(wanted.user.clone()),
        tty: Some(false),
        open_stdin: Some(false),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        host_config: Some(HostConfig {
            memory: Some(wanted.memory_limit),
            memory_swap: Some(wanted.memory_limit),
            memory_reservation: wanted.memory_request,
            cpu_period: Some(CPU_PERIOD),
            cpu_quota: Some((wanted.cpu_limit * CPU_PERIOD as f64) as i64),
            cpu_shares: wanted.cpu_request.map(|cores| ((cores * SHARES_OF_A_CORE) as i64).max(2)),
            pids_limit: Some(config.pids_limit),
            network_mode: Some(wanted.network_mode.clone()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            privileged: Some(false),
            readonly_rootfs: Some(true),
            tmpfs: Some(scratch(config, spec)),
            shm_size: Some(config.scratch_bytes),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), LOG_FILE.to_owned()),
                    ("max-file".to_owned(), "2".to_owned()),
                ])),
            }),
            auto_remove: Some(false),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Folders in memory: `/tmp`, and one over each volume of the image, which would be a folder on the engine's disk that can be
/// filled without end.
fn scratch(config: &DockerConfig, spec: &Spec) -> HashMap<String, String> {
    let options = format!("rw,nosuid,nodev,mode=1777,size={}{}", config.scratch_bytes, owner(&spec.wanted.user));
    let folders = spec.volumes.iter().map(|volume| format!("/{}", volume.trim_matches('/')));
    folders.chain(["/tmp".to_owned()]).map(|folder| (folder, options.clone())).collect()
}

/// Whose a scratch folder is. Its mode is that of the image's own folder where there is one, which may be for root alone.
fn owner(user: &str) -> String {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    match (uid.parse::<u32>(), gid.parse::<u32>()) {
        (Ok(uid), Ok(gid)) => format!(",uid={uid},gid={gid}"),
        _ => String::new(),
    }
}

/// Labels of all containers of this product.
pub(super) fn of_all() -> Vec<String> {
    vec![format!("{MANAGED_BY}={WORKER_AGENTS}")]
}

/// Labels of the container of one attempt.
pub(super) fn of_key(key: &Key) -> Vec<String> {
    vec![format!("{MANAGED_BY}={WORKER_AGENTS}"), format!("{KEY}={key}")]
}

impl Container {
    /// A container that `engine` listed.
    pub(super) fn listed(summary: ContainerSummary, engine: &str) -> Option<Self> {
        let image_pulled =
            summary.labels.as_ref().and_then(|labels| labels.get(IMAGE_PULLED)).is_some_and(|it| it == "true");
        Some(Self { id: summary.id.filter(|id| is_id(id))?, image_pulled, engine: engine.to_owned() })
    }

    /// A container that `engine` listed, with the ticket it belongs to.
    pub(super) fn leftover(summary: ContainerSummary, engine: &str) -> Option<Leftover<Self>> {
        let label = |name| summary.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
        let (ticket_id, run_id) = (label(TICKET_ID)?, label(RUN_ID)?);
        Some(Leftover { ticket_id, run_id, handle: Self::listed(summary, engine)? })
    }

    /// As people know it.
    pub(super) fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// Ids become parts of URLs.
pub(super) fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::runtime::tests;
    use super::super::runtime::tests::config;
    use super::*;

    fn asked(parameters: &Value) -> Value {
        let (params, job) = tests::asked(parameters);
        let (wanted, _) = params.check(&config(), &job.ticket).expect("allowed");
        let volumes = vec!["/data/".to_owned(), "/tmp".to_owned()];
        let spec = Spec { volumes, ..Spec::of(wanted, &job, Duration::from_secs(5)) };
        serde_json::to_value(body(&config(), &Key::of(&job), &spec)).expect("JSON")
    }

    #[test]
    fn inc_74_every_container_is_closed_whatever_its_ticket_says() {
        for parameters in
            [json!({ "command": "x" }), json!({ "command": "x", "network_mode": "bridge", "user": "7:7" })]
        {
            let body = asked(&parameters);
            let host = &body["HostConfig"];
            assert_eq!(host["CapDrop"], json!(["ALL"]));
            assert_eq!(host["SecurityOpt"], json!(["no-new-privileges"]));
            assert_eq!((&host["Privileged"], &host["ReadonlyRootfs"]), (&json!(false), &json!(true)));
            assert_eq!((&host["PidsLimit"], &host["MemorySwap"]), (&json!(256), &host["Memory"]));
            let scratch = host["Tmpfs"]["/tmp"].as_str().expect("options");
            let id = if parameters.get("user").is_some() { "7" } else { "65534" };
            assert_eq!(scratch, format!("rw,nosuid,nodev,mode=1777,size=67108864,uid={id},gid={id}"));
            assert_eq!(host["Tmpfs"], json!({ "/tmp": scratch, "/data": scratch }), "no volume of the image is left");
            assert_eq!(host["ShmSize"], json!(64 << 20));
            for opening in ["CapAdd", "Binds", "Mounts", "Devices", "PidMode", "IpcMode", "UsernsMode", "PortBindings"]
            {
                assert_eq!(host.get(opening), None, "{opening}");
            }
            assert_ne!(body["User"], "0");
        }
        assert_eq!(asked(&json!({ "command": "x" }))["HostConfig"]["NetworkMode"], "none");
    }

    #[test]
    fn limits_requests_words_and_labels_are_the_tickets() {
        let body = asked(&json!({
            "command": ["echo", "a b"], "args": "c", "cpu_limit": 0.5, "cpu_request": 0.25, "memory_limit": "64m",
            "memory_request": "32m", "working_dir": "/srv", "env_vars": { "A": "b c" },
        }));
        let host = &body["HostConfig"];
        assert_eq!(
            (&host["CpuPeriod"], &host["CpuQuota"], &host["CpuShares"]),
            (&json!(100_000), &json!(50_000), &json!(256))
        );
        assert_eq!((&host["Memory"], &host["MemoryReservation"]), (&json!(64 << 20), &json!(32 << 20)));
        assert_eq!(body["Cmd"], json!(["echo", "a b", "c"]));
        assert_eq!((&body["WorkingDir"], &body["Env"]), (&json!("/srv"), &json!(["A=b c", "HOME=/tmp"])));
        let labels = &body["Labels"];
        assert_eq!(
            (&labels[TICKET_ID], &labels[RUN_ID], &labels[ATTEMPT]),
            (&json!("t-1"), &json!("run"), &json!("2"))
        );
        assert!(labels[KEY].as_str().expect("a key").starts_with("t-t-1-2-"));
    }

    #[test]
    fn a_listed_container_is_known_by_its_labels_and_an_odd_id_is_none() {
        let labels = [(TICKET_ID, "t"), (RUN_ID, "r"), (IMAGE_PULLED, "true")];
        let labels: HashMap<_, _> = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let summary = |id: &str| ContainerSummary {
            id: Some(id.to_owned()),
            labels: Some(labels.clone()),
            ..ContainerSummary::default()
        };
        let handle = Container { id: "0abc".to_owned(), image_pulled: true, engine: "e".to_owned() };
        let leftover = Leftover { ticket_id: "t".to_owned(), run_id: "r".to_owned(), handle };
        assert_eq!(Container::leftover(summary("0abc"), "e"), Some(leftover));
        for id in ["", "../x", "0abc?force=1"] {
            assert_eq!(Container::listed(summary(id), "e"), None, "{id}");
        }
    }
}
