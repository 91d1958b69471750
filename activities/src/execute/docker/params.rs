//! What a ticket asks of a container, checked against what it may have.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use ticket_schemas::Ticket;
use ticket_workflows::Failed;

use super::DockerConfig;
use crate::execute::command::{given, invalid, time_limit};
use crate::execute::container::{check_environment, check_path, image_and_command, refuse_what_opens};
use crate::execute::quantity::{LEAST_CORES, MOST_CORES, memory_bytes};
use crate::external::said;

/// Parameters that would open the container. No ticket may use one: a worker that left it out would run something else
/// than was asked for.
const REFUSED: &[&str] = &[
    "privileged",
    "cap_add",
    "capabilities",
    "devices",
    "volumes",
    "volumes_from",
    "binds",
    "mounts",
    "pid_mode",
    "ipc_mode",
    "uts_mode",
    "userns_mode",
    "cgroup_parent",
    "security_opt",
    "sysctls",
    "ports",
    "port_bindings",
];

/// Parameters of a container (`contracts/executors.md`, EXECUTE, Docker). `command` and `args` are lists, or texts that are
/// split into words without a shell.
#[derive(Debug, Deserialize)]
pub struct DockerParams {
    image: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    working_dir: Option<String>,
    timeout_seconds: Option<f64>,
    cpu_limit: Option<f64>,
    cpu_request: Option<f64>,
    memory_limit: Option<String>,
    memory_request: Option<String>,
    network_mode: Option<String>,
    user: Option<String>,
}

/// A container that may be created.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) image: String,
    /// Empty: what the image runs by itself.
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) working_dir: Option<String>,
    pub(super) cpu_limit: f64,
    pub(super) cpu_request: Option<f64>,
    pub(super) memory_limit: i64,
    pub(super) memory_request: Option<i64>,
    pub(super) network_mode: String,
    pub(super) user: String,
}

impl DockerParams {
    /// The container, and the time that its command may take.
    pub(super) fn check(self, config: &DockerConfig, ticket: &Ticket) -> Result<(Wanted, Duration), Failed> {
        refuse_what_opens(ticket, REFUSED)?;
        let (image, command) = image_and_command(self.image, self.command, self.args)?;
        check_environment(&self.env_vars)?;
        let memory_limit = match &self.memory_limit {
            None => config.memory_limit,
            Some(text) => memory("memory_limit", text)?,
        };
        let memory_request = self.memory_request.as_deref().map(|text| memory("memory_request", text)).transpose()?;
        let cpu_limit = self.cpu_limit.map_or(Ok(config.cpu_limit), |cores| check_cores("cpu_limit", cores))?;
        let cpu_request = self.cpu_request.map(|cores| check_cores("cpu_request", cores)).transpose()?;
        if memory_request.is_some_and(|request| request > memory_limit)
            || cpu_request.is_some_and(|request| request > cpu_limit)
        {
            return Err(invalid(
                "a request is above its limit; lower `cpu_request` or `memory_request`, or raise the limit",
            ));
        }
        let wanted = Wanted {
            image,
            command,
            environment: self.env_vars,
            working_dir: self.working_dir.map(check_path).transpose()?,
            cpu_limit,
            cpu_request,
            memory_limit,
            memory_request,
            network_mode: check_network(self.network_mode, config)?,
            user: self.user.map_or_else(|| Ok(config.user.clone()), check_user)?,
        };
        Ok((wanted, time_limit(self.timeout_seconds, config.default_timeout)?))
    }
}

fn memory(name: &str, text: &str) -> Result<i64, Failed> {
    memory_bytes(text).map_err(|error| invalid(format!("parameter {name:?}: {}", said(&error))))
}

fn check_cores(name: &str, cores: f64) -> Result<f64, Failed> {
    if (LEAST_CORES..=MOST_CORES).contains(&cores) {
        return Ok(cores);
    }
    Err(invalid(format!(
        "parameter {name:?} is {cores}; expected a number of cores from {LEAST_CORES} to {MOST_CORES}"
    )))
}

/// INC-74: only the modes that settings allow, and never another one instead.
fn check_network(asked: Option<String>, config: &DockerConfig) -> Result<String, Failed> {
    let Some(mode) = given(asked) else {
        return Ok(config.network_mode.clone());
    };
    if mode == config.network_mode || config.allowed_networks.contains(&mode) {
        return Ok(mode);
    }
    let allowed = config.allowed_networks.join(", ");
    Err(invalid(format!(
        "network_mode {:?} is not allowed (allowed: {allowed}); use one of these, or have it added to \
         DOCKER_ALLOWED_NETWORK_MODES",
        said(&mode)
    )))
}

/// Numbers only: what a name stands for is decided by the image.
fn check_user(user: String) -> Result<String, Failed> {
    let mut ids = user.split(':').map(|id| id.parse::<u32>().ok().filter(|id| *id > 0));
    let good = matches!((ids.next(), ids.next(), ids.next()), (Some(Some(_)), None | Some(Some(_)), None));
    if good {
        return Ok(user);
    }
    Err(invalid(format!(
        "parameter \"user\" is {:?}; expected numbers above zero, as in 1000:1000: containers do not run as root",
        said(&user)
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use ticket_schemas::{ParameterView, decode_json_ticket};
    use ticket_workflows::code;

    use super::super::runtime::tests::config;
    use super::*;
    use crate::execute::command::MAX_BYTES;

    fn wanted(parameters: &Value) -> Result<(Wanted, Duration), Failed> {
        let ticket = json!({
            "ticket_id": "t", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let params: DockerParams =
            ParameterView::new(&ticket.parameters).deserialize().map_err(|error| invalid(error.to_string()))?;
        params.check(&config(), &ticket)
    }

    #[track_caller]
    fn refused(parameters: Value, words: &str) {
        let failed = wanted(&parameters).expect_err("refused");
        assert_eq!(failed.code, code::INVALID_PARAMETERS, "{parameters}");
        assert!(failed.message.contains(words), "{parameters}: {}", failed.message);
    }

    #[test]
    fn the_contracts_ticket_is_understood_as_avro_carries_it() {
        let (wanted, limit) = wanted(&json!({
            "runtime": "docker", "command": "[\"node\", \"script.js\"]", "image": "node:18-alpine", "cpu_limit": "2.0",
            "memory_limit": "1g", "network_mode": "bridge", "working_dir": "/srv/app",
            "env_vars": "{\"NODE_ENV\": \"production\"}", "timeout_seconds": "300",
        }))
        .expect("allowed");
        assert_eq!(wanted.command, ["node", "script.js"]);
        assert_eq!(wanted.environment, BTreeMap::from([("NODE_ENV".to_owned(), "production".to_owned())]));
        assert_eq!((wanted.cpu_limit, wanted.memory_limit), (2.0, 1 << 30));
        assert_eq!((wanted.network_mode.as_str(), wanted.user.as_str()), ("bridge", "65534:65534"));
        assert_eq!(limit, Duration::from_secs(300));
    }

    #[test]
    fn what_a_ticket_does_not_name_comes_from_settings() {
        let (wanted, limit) = wanted(&json!({ "command": "echo 'a b' c; rm" })).expect("allowed");
        assert_eq!(wanted.command, ["echo", "a b", "c;", "rm"], "words, never a shell");
        assert_eq!(wanted.image, "python:3.11-slim");
        assert_eq!((wanted.cpu_limit, wanted.memory_limit), (1.0, 512 << 20));
        assert_eq!((wanted.network_mode.as_str(), wanted.user.as_str()), ("none", "65534:65534"));
        assert_eq!(limit, Duration::from_secs(600));
    }

    #[test]
    fn inc_74_host_network_root_and_whatever_opens_a_container_are_refused_with_the_reason() {
        for mode in ["host", "container:abc", "HOST", "other", "bridge;host"] {
            refused(json!({ "command": "x", "network_mode": mode }), "is not allowed (allowed: none, bridge)");
        }
        for user in ["root", "0", "0:0", "1000:0", "0:1000", "-1", "1000:", "1000:1000:1", "nobody", ""] {
            refused(json!({ "command": "x", "user": user.to_owned() + " " }), "containers do not run as root");
        }
        for (name, value) in [
            ("privileged", json!(true)),
            ("privileged", json!("True")),
            ("cap_add", json!(["SYS_ADMIN"])),
            ("volumes", json!({ "/": "/host" })),
            ("volumes", json!("/:/host")),
            ("devices", json!("[\"/dev/sda\"]")),
            ("pid_mode", json!("host")),
            ("security_opt", json!(["seccomp=unconfined"])),
        ] {
            refused(json!({ "command": "x", name: value }), name);
        }
        assert!(wanted(&json!({ "command": "x", "privileged": false, "volumes": [], "user": "1000:1000" })).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        refused(json!({}), "\"command\" is missing");
        refused(json!({ "command": "" }), "\"command\" is missing");
        refused(json!({ "command": [" ", "x"] }), "blank");
        refused(json!({ "command": ["a\0b"] }), "NUL");
        refused(json!({ "command": ["x", "y".repeat(MAX_BYTES)] }), "longer than");
        refused(json!({ "command": "x", "image": "../etc" }), "no image reference");
        refused(json!({ "command": "x", "working_dir": "relative" }), "no absolute path");
        refused(json!({ "command": "x", "memory_limit": "lots" }), "memory_limit");
        refused(json!({ "command": "x", "memory_limit": "1m" }), "memory_limit");
        refused(json!({ "command": "x", "cpu_limit": 0 }), "cpu_limit");
        refused(json!({ "command": "x", "cpu_limit": 1e9 }), "cpu_limit");
        refused(json!({ "command": "x", "memory_limit": "64m", "memory_request": "65m" }), "above its limit");
        refused(json!({ "command": "x", "cpu_limit": 1, "cpu_request": 2 }), "above its limit");
        refused(json!({ "command": "x", "env_vars": { "A=B": "c" } }), "not a variable name");
        refused(json!({ "command": "x", "env_vars": { "A": "b\0" } }), "NUL");
        refused(json!({ "command": "x", "env_vars": { "A": "b".repeat(MAX_BYTES) } }), "more than");
        refused(json!({ "command": "x", "timeout_seconds": 0 }), "timeout_seconds");
        refused(json!({ "command": "x", "cpu_limit": "many" }), "cpu_limit");
    }

    #[test]
    fn an_image_runs_by_itself_when_no_command_is_named() {
        let (wanted, _) = wanted(&json!({ "image": "hello-world" })).expect("allowed");
        assert_eq!(wanted.command, [""; 0]);
    }
}
