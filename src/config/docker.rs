//! The Docker runtime of EXECUTE.

use std::time::Duration;

use ticket_activities::execute::PullPolicy;
use ticket_activities::execute::quantity::{LEAST_CORES, MOST_CORES, memory_bytes};

use super::reader::Reader;
use super::secrets::{SecretNames, SecretSource, Shown, secret_names};

/// What the server adds to an attempt's time-out must hold the grace, the stop's confirmation and the last output.
const MOST_GRACE: Duration = Duration::from_secs(15);
/// The modes of a network that are no name of one.
const MODES: [&str; 3] = ["none", "bridge", "host"];

/// Settings of the Docker runtime.
#[derive(Debug, Clone)]
pub struct DockerRuntimeConfig {
    /// `DOCKER_BASE_URL`: where the engine is, `unix://…` or `tcp://…`.
    pub address: String,
    /// `DOCKER_TIMEOUT_SECONDS`: time of a container whose ticket names none.
    pub timeout: Duration,
    /// `DOCKER_DEFAULT_CPU_LIMIT`, in cores.
    pub cpu_limit: f64,
    /// `DOCKER_DEFAULT_MEMORY_LIMIT`, in bytes.
    pub memory_limit: i64,
    /// `DOCKER_NETWORK_MODE`: of tickets that name none. `bridge` in `contracts/settings.md`, from where a container reaches
    /// every listener of its host.
    pub network_mode: String,
    /// `DOCKER_ALLOWED_NETWORK_MODES`: what tickets may name.
    pub allowed_networks: Vec<String>,
    /// `DOCKER_USER`: of containers whose ticket names none.
    pub user: String,
    /// `DOCKER_PIDS_LIMIT`.
    pub pids_limit: u64,
    /// `DOCKER_SCRATCH_SIZE`: bytes of `/tmp` in a container.
    pub scratch_bytes: i64,
    /// `DOCKER_PULL_POLICY`: `if_not_present`, `always` or `never`.
    pub pull: PullPolicy,
    /// `DOCKER_REGISTRY_SERVER`, `DOCKER_REGISTRY_USERNAME`, `DOCKER_REGISTRY_PASSWORD`.
    pub registry: Option<RegistryAccount>,
    /// `DOCKER_STOP_GRACE_SECONDS`: between TERM and KILL, in whole seconds.
    pub grace: Duration,
    /// `DOCKER_CLEANUP_CONTAINERS`.
    pub clean_up: bool,
    /// `DOCKER_SWEEP_INTERVAL_SECONDS`: how often containers of ended tickets are looked for.
    pub sweep_interval: Duration,
}

/// An account at one registry.
#[derive(Debug, Clone)]
pub struct RegistryAccount {
    /// The registry, as images name it: `registry.example.org:5000`, or `docker.io`.
    pub server: String,
    /// Its user.
    pub username: String,
    /// The user's password or token.
    pub password: SecretSource,
}

impl DockerRuntimeConfig {
    /// `None`: `DOCKER_ENABLED` is false.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let enabled = reader.boolean("DOCKER_ENABLED", false, "whether tickets may run in containers");
        let address =
            reader.text("DOCKER_BASE_URL", "unix:///var/run/docker.sock", "the Docker engine: unix:// or tcp://");
        if !["unix:///", "tcp://", "http://"].iter().any(|scheme| address.starts_with(scheme)) {
            reader.error(format!(
                "DOCKER_BASE_URL={address:?}: expected unix:///path or tcp://host:port; TLS to an engine is not supported, put a \
                 proxy beside the worker"
            ));
        }
        let pull = reader.one_of(
            "DOCKER_PULL_POLICY",
            &[
                ("if_not_present", PullPolicy::IfNotPresent),
                ("always", PullPolicy::Always),
                ("never", PullPolicy::Never),
            ],
            "if_not_present",
            "when images are pulled; added by this product",
        );
        let config = Self {
            address,
            timeout: reader.seconds("DOCKER_TIMEOUT_SECONDS", 600.0, "time of a container whose ticket names none"),
            cpu_limit: cores(reader),
            memory_limit: memory(
                reader,
                "DOCKER_DEFAULT_MEMORY_LIMIT",
                "512m",
                "memory of a container whose ticket names none",
            ),
            network_mode: reader.text("DOCKER_NETWORK_MODE", "none", "network of containers whose ticket names none"),
            allowed_networks: reader.list(
                "DOCKER_ALLOWED_NETWORK_MODES",
                "none,bridge",
                "networks that tickets may name; added by this product",
            ),
            user: reader.text(
                "DOCKER_USER",
                "65534:65534",
                "user of containers whose ticket names none; added by this product",
            ),
            pids_limit: reader.number("DOCKER_PIDS_LIMIT", 256, 1, "processes of a container; added by this product"),
            scratch_bytes: memory(
                reader,
                "DOCKER_SCRATCH_SIZE",
                "64m",
                "size of /tmp in a container; added by this product",
            ),
            pull: pull.unwrap_or(PullPolicy::IfNotPresent),
            registry: account(reader),
            grace: reader.seconds("DOCKER_STOP_GRACE_SECONDS", 10.0, "between TERM and KILL; added by this product"),
            clean_up: reader.boolean(
                "DOCKER_CLEANUP_CONTAINERS",
                true,
                "whether containers of ended tickets are removed",
            ),
            sweep_interval: reader.seconds(
                "DOCKER_SWEEP_INTERVAL_SECONDS",
                300.0,
                "how often containers of ended tickets are looked for; added by this product",
            ),
        };
        config.check(reader);
        enabled.then_some(config)
    }

    fn check(&self, reader: &mut Reader<'_>) {
        if self.grace > MOST_GRACE {
            reader.error(format!(
                "DOCKER_STOP_GRACE_SECONDS={}: expected at most {}, or a stop is not confirmed before the server gives the \
                 attempt up",
                self.grace.as_secs_f64(),
                MOST_GRACE.as_secs()
            ));
        }
        for mode in self.allowed_networks.iter().chain([&self.network_mode]) {
            if mode == "host" {
                reader.warn(
                    "DOCKER_NETWORK_MODE or DOCKER_ALLOWED_NETWORK_MODES has host: containers see every network of the engine's \
                     machine"
                        .to_owned(),
                );
            } else if mode.starts_with("container:") || mode.contains(char::is_whitespace) {
                reader.error(format!(
                    "{mode:?} is no network mode for tickets; expected {} or the name of a network",
                    MODES.join(", ")
                ));
            }
        }
        if self.user.is_empty() || self.user == "root" || self.user.split(':').any(|id| id == "0") {
            reader.warn(format!("DOCKER_USER={:?}: containers run as root", self.user));
        }
    }
}

fn cores(reader: &mut Reader<'_>) -> f64 {
    let expected = "a number of cores above zero";
    let cores =
        reader.parsed("DOCKER_DEFAULT_CPU_LIMIT", 1.0, expected, "cores of a container whose ticket names none");
    if !(LEAST_CORES..=MOST_CORES).contains(&cores) {
        reader.error(format!("DOCKER_DEFAULT_CPU_LIMIT={cores}: expected {expected}"));
    }
    cores
}

fn memory(reader: &mut Reader<'_>, name: &'static str, default: &str, help: &'static str) -> i64 {
    let text = reader.text(name, default, help);
    memory_bytes(&text).unwrap_or_else(|error| {
        reader.error(format!("{name}: {error}"));
        0
    })
}

fn account(reader: &mut Reader<'_>) -> Option<RegistryAccount> {
    const PASSWORD: SecretNames =
        secret_names!("DOCKER_REGISTRY_PASSWORD", "password of that user", "; added by this product");
    let server = reader.text(
        "DOCKER_REGISTRY_SERVER",
        "docker.io",
        "registry that DOCKER_REGISTRY_USERNAME is for, as images name it; added by this product",
    );
    let username = reader.optional("DOCKER_REGISTRY_USERNAME", "user at that registry; added by this product");
    let password = reader.secret(&PASSWORD, Shown::Hidden);
    match (username, password) {
        (Some(username), Some(password)) => Some(RegistryAccount { server, username, password }),
        (None, None) => None,
        _ => {
            reader.error("DOCKER_REGISTRY_USERNAME and DOCKER_REGISTRY_PASSWORD: set both or none".to_owned());
            None
        }
    }
}
