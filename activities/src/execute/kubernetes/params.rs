//! What a ticket asks of a Job, checked against what it may have.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use ticket_schemas::Ticket;
use ticket_workflows::Failed;

use super::runtime::KubernetesConfig;
use crate::execute::command::{given, invalid, time_limit};
use crate::execute::container::{check_environment, check_path, image_and_command, refuse_what_opens};
use crate::execute::quantity::{kubernetes_bytes, kubernetes_cores};
use crate::external::said;

/// Parameters that would open the pod, or put it elsewhere. No ticket may use one: a worker that left it out would run
/// something else than was asked for.
const REFUSED: &[&str] = &[
    "privileged",
    "security_context",
    "run_as_user",
    "user",
    "cap_add",
    "capabilities",
    "devices",
    "volumes",
    "mounts",
    "host_network",
    "network_mode",
    "host_pid",
    "host_ipc",
    "host_path",
    "namespace",
    "node_name",
    "node_selector",
    "tolerations",
    "sysctls",
    "ports",
];

/// Parameters of a Job (`contracts/executors.md`, EXECUTE, Kubernetes Jobs). `command` and `args` are lists, or texts that are
/// split into words without a shell.
#[derive(Debug, Deserialize)]
pub struct KubernetesParams {
    image: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    working_dir: Option<String>,
    timeout_seconds: Option<f64>,
    cpu_request: Option<String>,
    cpu_limit: Option<String>,
    memory_request: Option<String>,
    memory_limit: Option<String>,
    service_account: Option<String>,
}

/// What a pod is given of one resource, as quantities of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amounts {
    /// What is set aside for it.
    pub request: String,
    /// What it never goes over.
    pub limit: String,
}

/// A Job that may be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) image: String,
    /// In the place of the image's entry point; empty: that is kept.
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) working_dir: Option<String>,
    pub(super) cpu: Amounts,
    pub(super) memory: Amounts,
    pub(super) service_account: String,
}

/// A resource, by its parameters.
struct Resource {
    request: &'static str,
    limit: &'static str,
    read: fn(&str) -> Result<f64, String>,
}

const CPU: Resource = Resource { request: "cpu_request", limit: "cpu_limit", read: kubernetes_cores };
const MEMORY: Resource = Resource { request: "memory_request", limit: "memory_limit", read: kubernetes_bytes };

impl KubernetesParams {
    /// The Job, and the time that its command may take.
    pub(super) fn check(self, config: &KubernetesConfig, ticket: &Ticket) -> Result<(Wanted, Duration), Failed> {
        refuse_what_opens(ticket, REFUSED)?;
        let words_of_command = self.command.len();
        let (image, mut command) = image_and_command(self.image, self.command, self.args)?;
        let args = command.split_off(words_of_command);
        check_environment(&self.env_vars)?;
        let wanted = Wanted {
            image,
            command,
            args,
            environment: self.env_vars,
            working_dir: self.working_dir.map(check_path).transpose()?,
            cpu: CPU.amounts(self.cpu_request, self.cpu_limit, &config.cpu)?,
            memory: MEMORY.amounts(self.memory_request, self.memory_limit, &config.memory)?,
            service_account: check_service_account(self.service_account, config)?,
        };
        Ok((wanted, time_limit(self.timeout_seconds, config.default_timeout)?))
    }
}

impl Resource {
    /// What a ticket asks for, or the default. A default request is lowered to a limit that the ticket names.
    fn amounts(&self, request: Option<String>, limit: Option<String>, default: &Amounts) -> Result<Amounts, Failed> {
        let (request, limit) = (given(request), given(limit));
        let limit = limit.unwrap_or_else(|| default.limit.clone());
        let most = self.read(self.limit, &limit)?;
        let request = match request {
            Some(request) => request,
            None if self.read(self.request, &default.request)? > most => limit.clone(),
            None => default.request.clone(),
        };
        if self.read(self.request, &request)? > most {
            return Err(invalid(format!(
                "parameter {:?} is {}, above the limit of {}; lower it, or raise {:?}",
                self.request, request, limit, self.limit
            )));
        }
        Ok(Amounts { request, limit })
    }

    fn read(&self, name: &str, text: &str) -> Result<f64, Failed> {
        (self.read)(text).map_err(|error| invalid(format!("parameter {name:?}: {}", said(&error))))
    }
}

/// Only those that settings allow: an account may carry credentials of other systems with it.
fn check_service_account(asked: Option<String>, config: &KubernetesConfig) -> Result<String, Failed> {
    let Some(account) = given(asked) else {
        return Ok(config.service_account.clone());
    };
    if account == config.service_account || config.allowed_service_accounts.contains(&account) {
        return Ok(account);
    }
    Err(invalid(format!(
        "service_account {:?} is not allowed; use {:?}, or have it added to K8S_JOBS_ALLOWED_SERVICE_ACCOUNTS",
        said(&account),
        config.service_account
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use ticket_schemas::{ParameterView, decode_json_ticket};
    use ticket_workflows::code;

    use super::super::runtime::tests::config;
    use super::*;

    fn wanted(parameters: &Value) -> Result<(Wanted, Duration), Failed> {
        let ticket = json!({
            "ticket_id": "t", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let params: KubernetesParams =
            ParameterView::new(&ticket.parameters).deserialize().map_err(|error| invalid(error.to_string()))?;
        params.check(&config(), &ticket)
    }

    #[track_caller]
    fn refused(parameters: Value, words: &str) {
        let failed = wanted(&parameters).expect_err("refused");
        assert_eq!(failed.code, code::INVALID_PARAMETERS, "{parameters}");
        assert!(failed.message.contains(words), "{parameters}: {}", failed.message);
    }

    fn amounts(request: &str, limit: &str) -> Amounts {
        Amounts { request: request.to_owned(), limit: limit.to_owned() }
    }

    #[test]
    fn a_ticket_is_understood_as_avro_carries_it() {
        let (wanted, limit) = wanted(&json!({
            "runtime": "k8s", "command": "[\"python\", \"-c\", \"print(1)\"]", "image": "python:3.11-slim",
            "cpu_request": "200m", "cpu_limit": "2", "memory_request": "256Mi", "memory_limit": "1Gi",
            "env_vars": "{\"A\": \"b\"}", "timeout_seconds": "300",
        }))
        .expect("allowed");
        assert_eq!(wanted.command, ["python", "-c", "print(1)"]);
        assert_eq!((wanted.cpu, wanted.memory), (amounts("200m", "2"), amounts("256Mi", "1Gi")));
        assert_eq!(wanted.environment, BTreeMap::from([("A".to_owned(), "b".to_owned())]));
        assert_eq!((wanted.service_account.as_str(), limit), ("worker-agent-executor", Duration::from_secs(300)));
    }

    #[test]
    fn what_a_ticket_does_not_name_comes_from_settings_and_a_request_never_goes_over_its_limit() {
        let (all, limit) = wanted(&json!({ "command": "echo 'a b' c; rm" })).expect("allowed");
        assert_eq!(all.command, ["echo", "a b", "c;", "rm"], "words, never a shell");
        assert_eq!((all.cpu, all.memory), (amounts("100m", "1000m"), amounts("128Mi", "512Mi")));
        assert_eq!(limit, Duration::from_secs(600));
        let (small, _) =
            wanted(&json!({ "command": "x", "memory_limit": "64Mi", "cpu_limit": "0.05" })).expect("allowed");
        assert_eq!((small.cpu, small.memory), (amounts("0.05", "0.05"), amounts("64Mi", "64Mi")));
        let (number, _) = wanted(&json!({ "command": "x", "cpu_limit": 2 })).expect("allowed");
        assert_eq!(number.cpu, amounts("100m", "2"));
    }

    #[test]
    fn inc_72_inc_74_whatever_opens_a_pod_is_refused_with_the_reason() {
        for (name, value) in [
            ("privileged", json!(true)),
            ("security_context", json!({ "runAsUser": 0 })),
            ("host_network", json!("true")),
            ("volumes", json!(["/:/host"])),
            ("namespace", json!("kube-system")),
            ("node_selector", json!({ "a": "b" })),
            ("user", json!("0:0")),
        ] {
            refused(json!({ "command": "x", name: value }), name);
        }
        refused(json!({ "command": "x", "service_account": "cluster-admin" }), "K8S_JOBS_ALLOWED_SERVICE_ACCOUNTS");
        let (allowed, _) = wanted(&json!({ "command": "x", "service_account": "reader" })).expect("allowed");
        assert_eq!(allowed.service_account, "reader");
        assert!(wanted(&json!({ "command": "x", "privileged": false, "volumes": [] })).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        refused(json!({}), "\"command\" is missing");
        refused(json!({ "command": "x", "image": "../etc" }), "no image reference");
        refused(json!({ "command": "x", "working_dir": "relative" }), "no absolute path");
        refused(json!({ "command": "x", "memory_limit": "512m" }), "memory_limit");
        refused(json!({ "command": "x", "memory_request": "lots" }), "memory_request");
        refused(json!({ "command": "x", "cpu_limit": "0" }), "cpu_limit");
        refused(json!({ "command": "x", "cpu_request": "2" }), "above the limit of 1000m");
        refused(json!({ "command": "x", "memory_limit": "64Mi", "memory_request": "65Mi" }), "above the limit of 64Mi");
        refused(json!({ "command": "x", "timeout_seconds": 0 }), "timeout_seconds");
        refused(json!({ "command": "x", "env_vars": { "A=B": "c" } }), "not a variable name");
    }
}
