//! The Kubernetes runtime of EXECUTE.

use std::path::PathBuf;
use std::time::Duration;

use ticket_activities::execute::PullPolicy;
use ticket_activities::execute::quantity::{kubernetes_bytes, kubernetes_cores};

use super::reader::Reader;

/// The 20 s in which a stop must be confirmed must hold the grace, what the node and the cluster take to say so, and the last output.
const MOST_GRACE: Duration = Duration::from_secs(12);
/// Upstream's. A worker that is lost has to be followed by the next one within this time, or a Job that has ended is run again.
const LEAST_TTL: Duration = Duration::from_secs(300);
/// Longest name of a namespace.
const MAX_NAMESPACE: usize = 63;
/// Longest name of anything else.
const MAX_NAME: usize = 253;

/// Settings of the Kubernetes runtime.
#[derive(Debug, Clone)]
pub struct KubernetesRuntimeConfig {
    /// `K8S_JOBS_NAMESPACE`: where the Jobs are; no ticket chooses another.
    pub namespace: String,
    /// `K8S_JOBS_KUBECONFIG_PATH`; `None`: the service account of this worker's pod.
    pub kubeconfig: Option<PathBuf>,
    /// `K8S_JOBS_TIMEOUT_SECONDS`: time of a Job whose ticket names none.
    pub timeout: Duration,
    /// `K8S_JOBS_DEFAULT_CPU_REQUEST`, `K8S_JOBS_DEFAULT_CPU_LIMIT`.
    pub cpu: RequestAndLimit,
    /// `K8S_JOBS_DEFAULT_MEMORY_REQUEST`, `K8S_JOBS_DEFAULT_MEMORY_LIMIT`.
    pub memory: RequestAndLimit,
    /// `K8S_JOBS_SERVICE_ACCOUNT`: of tickets that name none.
    pub service_account: String,
    /// `K8S_JOBS_ALLOWED_SERVICE_ACCOUNTS`: which others tickets may name.
    pub allowed_service_accounts: Vec<String>,
    /// `K8S_JOBS_SCRATCH_SIZE`: size of `/tmp` in a pod, a quantity of Kubernetes.
    pub scratch: String,
    /// `K8S_JOBS_IMAGE_PULL_POLICY`: `if_not_present`, `always` or `never`.
    pub pull: PullPolicy,
    /// `K8S_JOBS_IMAGE_PULL_SECRET`: a Secret of the namespace.
    pub pull_secret: Option<String>,
    /// `K8S_JOBS_TRIAL`: whether the cluster judges a pod before its Job is created.
    pub trial: bool,
    /// `K8S_JOBS_TTL_SECONDS`: how long the cluster keeps a Job that has ended. Longer than any time without a worker: a Job
    /// that is gone is run again.
    pub ttl: Duration,
    /// `K8S_JOBS_STOP_GRACE_SECONDS`: between TERM and KILL, in whole seconds.
    pub grace: Duration,
    /// `K8S_JOBS_CLEANUP`: whether Jobs that have ended by themselves are removed with their tickets.
    pub clean_up: bool,
    /// `K8S_JOBS_POLL_INTERVAL_SECONDS`: before a Job is looked at again whose watch has ended without news.
    pub poll_interval: Duration,
    /// `K8S_JOBS_SWEEP_INTERVAL_SECONDS`: how often Jobs of ended tickets are looked for.
    pub sweep_interval: Duration,
}

/// What is set aside, and what is never gone over, as quantities of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAndLimit {
    /// What is set aside.
    pub request: String,
    /// What is never gone over.
    pub limit: String,
}

/// One resource's two settings.
struct Resource {
    request: (&'static str, &'static str),
    limit: (&'static str, &'static str),
    read: fn(&str) -> Result<f64, String>,
}

const CPU: Resource = Resource {
    request: ("K8S_JOBS_DEFAULT_CPU_REQUEST", "100m"),
    limit: ("K8S_JOBS_DEFAULT_CPU_LIMIT", "1000m"),
    read: kubernetes_cores,
};
const MEMORY: Resource = Resource {
    request: ("K8S_JOBS_DEFAULT_MEMORY_REQUEST", "128Mi"),
    limit: ("K8S_JOBS_DEFAULT_MEMORY_LIMIT", "512Mi"),
    read: kubernetes_bytes,
};

impl KubernetesRuntimeConfig {
    /// `None`: `K8S_JOBS_ENABLED` is false.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let enabled = reader.boolean("K8S_JOBS_ENABLED", false, "whether tickets may run as Kubernetes Jobs");
        let kubeconfig = reader.optional(
            "K8S_JOBS_KUBECONFIG_PATH",
            "kubeconfig of the cluster; absent: the service account of this worker's pod",
        );
        let pull = reader.one_of(
            "K8S_JOBS_IMAGE_PULL_POLICY",
            &[
                ("if_not_present", PullPolicy::IfNotPresent),
                ("always", PullPolicy::Always),
                ("never", PullPolicy::Never),
            ],
            "if_not_present",
            "when nodes pull images; added by this product",
        );
        let retries = reader.number(
            "K8S_JOBS_BACKOFF_LIMIT",
            0,
            0,
            "retries by the cluster: none whatever it says, attempts are the workflow's (MAX_RETRIES_PER_TICKET)",
        );
        if retries > 0 {
            reader.warn(format!(
                "K8S_JOBS_BACKOFF_LIMIT={retries}: 0 is in force, attempts are the workflow's; set MAX_RETRIES_PER_TICKET"
            ));
        }
        let config = Self {
            namespace: reader.text("K8S_JOBS_NAMESPACE", "neural-hive-execution", "namespace of the Jobs"),
            kubeconfig: kubeconfig.map(PathBuf::from),
            timeout: reader.seconds("K8S_JOBS_TIMEOUT_SECONDS", 600.0, "time of a Job whose ticket names none"),
            cpu: CPU.read(reader, "cores that are set aside for a pod", "cores of a pod whose ticket names none"),
            memory: MEMORY.read(
                reader,
                "memory that is set aside for a pod",
                "memory of a pod whose ticket names none",
            ),
            service_account: reader.text(
                "K8S_JOBS_SERVICE_ACCOUNT",
                "worker-agent-executor",
                "service account of pods whose ticket names none; they get no token of it",
            ),
            allowed_service_accounts: reader.list(
                "K8S_JOBS_ALLOWED_SERVICE_ACCOUNTS",
                "",
                "other service accounts that tickets may name; added by this product",
            ),
            scratch: reader.text("K8S_JOBS_SCRATCH_SIZE", "64Mi", "size of /tmp in a pod; added by this product"),
            pull: pull.unwrap_or(PullPolicy::IfNotPresent),
            pull_secret: reader.optional(
                "K8S_JOBS_IMAGE_PULL_SECRET",
                "Secret of the namespace with the registry's credentials; added by this product",
            ),
            trial: reader.boolean(
                "K8S_JOBS_TRIAL",
                true,
                "whether the cluster judges a pod, as a dry run, before its Job is created; added by this product",
            ),
            ttl: reader.seconds(
                "K8S_JOBS_TTL_SECONDS",
                86_400.0,
                "how long the cluster keeps a Job that has ended, if no worker removes it; added by this product",
            ),
            grace: reader.seconds("K8S_JOBS_STOP_GRACE_SECONDS", 10.0, "between TERM and KILL; added by this product"),
            clean_up: reader.boolean(
                "K8S_JOBS_CLEANUP",
                true,
                "whether Jobs that have ended are removed with their tickets",
            ),
            poll_interval: reader.seconds(
                "K8S_JOBS_POLL_INTERVAL_SECONDS",
                5.0,
                "before a Job is looked at again whose watch has ended without news",
            ),
            sweep_interval: reader.seconds(
                "K8S_JOBS_SWEEP_INTERVAL_SECONDS",
                300.0,
                "how often Jobs of ended tickets are looked for; added by this product",
            ),
        };
        config.check(reader);
        enabled.then_some(config)
    }

    fn check(&self, reader: &mut Reader<'_>) {
        if self.grace > MOST_GRACE {
            reader.error(format!(
                "K8S_JOBS_STOP_GRACE_SECONDS={}: expected at most {}, or a stop is not confirmed before the server gives the \
                 attempt up",
                self.grace.as_secs_f64(),
                MOST_GRACE.as_secs()
            ));
        }
        if self.ttl < LEAST_TTL {
            reader.error(format!(
                "K8S_JOBS_TTL_SECONDS={}: expected at least {}, or the cluster removes Jobs before a worker has seen their end",
                self.ttl.as_secs_f64(),
                LEAST_TTL.as_secs()
            ));
        }
        if let Err(error) = kubernetes_bytes(&self.scratch) {
            reader.error(format!("K8S_JOBS_SCRATCH_SIZE: {error}"));
        }
        if !is_name(&self.namespace, MAX_NAMESPACE) || self.namespace.contains('.') {
            reader.error(format!("K8S_JOBS_NAMESPACE={:?}: expected the name of a namespace", self.namespace));
        }
        let accounts = self.allowed_service_accounts.iter().chain([&self.service_account]).chain(&self.pull_secret);
        for name in accounts.filter(|name| !is_name(name, MAX_NAME)) {
            reader.error(format!(
                "K8S_JOBS_SERVICE_ACCOUNT, K8S_JOBS_ALLOWED_SERVICE_ACCOUNTS or K8S_JOBS_IMAGE_PULL_SECRET: {name:?} is no name of \
                 an object; expected a-z, 0-9, - and ."
            ));
        }
    }
}

impl Resource {
    fn read(&self, reader: &mut Reader<'_>, of_request: &'static str, of_limit: &'static str) -> RequestAndLimit {
        let request = reader.text(self.request.0, self.request.1, of_request);
        let limit = reader.text(self.limit.0, self.limit.1, of_limit);
        let mut amount = |name: &str, text: &str| {
            (self.read)(text).unwrap_or_else(|error| {
                reader.error(format!("{name}: {error}"));
                f64::NAN
            })
        };
        if amount(self.request.0, &request) > amount(self.limit.0, &limit) {
            reader.error(format!("{}={request} is above {}={limit}", self.request.0, self.limit.0));
        }
        RequestAndLimit { request, limit }
    }
}

/// Names become parts of URLs.
fn is_name(text: &str, longest: usize) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    text.len() <= longest
        && text.bytes().next().is_some_and(inner)
        && text.bytes().next_back().is_some_and(inner)
        && text.bytes().all(|b| inner(b) || matches!(b, b'-' | b'.'))
}
