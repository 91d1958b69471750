//! Configuration: one struct per subject, read from the environment, all errors at once, secrets never printed.
//!
//! Names are those of the platform (`contracts/settings.md`); what this product adds says so in its help text.

mod authorities;
mod bridge;
mod code_forge;
mod dead_letters;
mod docker;
mod endpoints;
mod http;
mod http_api;
mod identity;
mod kafka;
mod kafka_security;
mod known;
mod kubernetes;
mod lambda;
mod local;
mod logs;
mod near;
mod outgoing;
mod reader;
mod runtimes;
mod s3;
mod sandbox;
mod schema_registry;
mod secrets;
mod service_registry;
mod source;
mod spiffe;
mod temporal;
mod ticket_service;
mod tracing;
mod vault;

pub use bridge::BridgeConfig;
pub use code_forge::CodeForgeConfig;
pub use dead_letters::DeadLetterConfig;
pub use docker::{DockerRuntimeConfig, RegistryAccount};
pub use endpoints::EndpointsConfig;
pub use http::{HttpConfig, LogFormat};
pub use http_api::{ApiTokens, DEVELOPMENT, HttpApiConfig};
pub use identity::IdentityConfig;
pub use kafka::{KafkaConfig, ResultEncoding};
pub use kafka_security::{KafkaSecurity, Sasl, TokenEndpoint, TokenSource};
pub use kubernetes::{KubernetesRuntimeConfig, RequestAndLimit};
pub use lambda::{AccessKeys, LambdaRuntimeConfig};
pub use local::LocalRuntimeConfig;
pub use logs::{LogPlace, LogsConfig};
pub use outgoing::{ClientCertificate, OutgoingConfig, PeerAccess, ProxyConfig};
pub use reader::{ConfigErrors, Setting};
pub use runtimes::{RuntimesConfig, SIMULATION, SimulationFallback};
pub use s3::{S3Config, S3Keys, S3Login};
pub(crate) use sandbox::overlap;
pub use schema_registry::{RegistryAccess, RegistryLogin};
pub use secrets::{REDACTED, Secret, SecretSource};
pub use service_registry::{MtlsFiles, PodFacts, ServiceRegistryConfig};
pub use source::{MapSource, Origin, Source};
pub use spiffe::SpiffeConfig;
pub use temporal::TemporalConfig;
pub use ticket_service::TicketServiceConfig;
pub use tracing::{CollectorConfig, Headers, Sampling, TracingConfig, header_pairs};
pub use vault::{VaultConfig, VaultLogin, VaultPath};

use std::sync::Arc;

use reader::{Gathered, Reader};

/// Everything the worker is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who this worker is and what it takes.
    pub identity: IdentityConfig,
    /// Kafka and the Schema Registry.
    pub kafka: KafkaConfig,
    /// What is done about dead letters.
    pub dead_letters: DeadLetterConfig,
    /// How tickets are taken from Kafka.
    pub bridge: BridgeConfig,
    /// The Execution Ticket Service.
    pub ticket_service: TicketServiceConfig,
    /// Where this worker's SPIFFE identity comes from; `None`: it has none.
    pub spiffe: Option<SpiffeConfig>,
    /// The Service Registry, and how this worker introduces itself there.
    pub service_registry: ServiceRegistryConfig,
    /// The engine.
    pub temporal: TemporalConfig,
    /// Which runtime an EXECUTE ticket gets.
    pub runtimes: RuntimesConfig,
    /// The local runtime of EXECUTE.
    pub local: LocalRuntimeConfig,
    /// The Docker runtime of EXECUTE; `None`: there is none.
    pub docker: Option<DockerRuntimeConfig>,
    /// Code Forge; `None`: it is not used.
    pub code_forge: Option<CodeForgeConfig>,
    /// The Lambda runtime of EXECUTE; `None`: there is none.
    pub lambda: Option<LambdaRuntimeConfig>,
    /// How the endpoints of providers are spared.
    pub endpoints: EndpointsConfig,
    /// Where logs of attempts are kept.
    pub logs: LogsConfig,
    /// The Kubernetes runtime of EXECUTE; `None`: there is none.
    pub kubernetes: Option<KubernetesRuntimeConfig>,
    /// Ports, logs, shutdown.
    pub http: HttpConfig,
    /// Callers of the HTTP API.
    pub http_api: HttpApiConfig,
    /// How HTTP peers are reached.
    pub outgoing: Arc<OutgoingConfig>,
    /// Vault; `None`: secrets do not come from it.
    pub vault: Option<VaultConfig>,
    /// The export of spans.
    pub tracing: TracingConfig,
    /// Every setting as it is in force, for `worker-agents config`.
    pub settings: Vec<Setting>,
    /// What is odd but not wrong.
    pub warnings: Vec<String>,
    /// Where all secrets are, which must not be in logs.
    pub secrets: Vec<SecretSource>,
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// Every wrong setting, at once.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(source);
        let identity = IdentityConfig::read(&mut reader);
        // Before every HTTP peer; and Vault before every secret.
        let outgoing = OutgoingConfig::read(&mut reader);
        let vault = VaultConfig::read(&mut reader, &identity.environment);
        let kafka = KafkaConfig::read(&mut reader);
        let dead_letters = DeadLetterConfig::read(&mut reader, &kafka);
        let mut bridge = BridgeConfig::read(&mut reader);
        let ticket_service = TicketServiceConfig::read(&mut reader);
        bridge.policy.reporting = Some(ticket_service.policy());
        let spiffe = SpiffeConfig::read(&mut reader, &identity.environment);
        let service_registry = ServiceRegistryConfig::read(&mut reader, spiffe.as_ref(), &identity.environment);
        let temporal = TemporalConfig::read(&mut reader);
        let runtimes = RuntimesConfig::read(&mut reader, &identity.environment);
        let local = LocalRuntimeConfig::read(&mut reader);
        let docker = DockerRuntimeConfig::read(&mut reader);
        let code_forge = CodeForgeConfig::read(&mut reader);
        let lambda = LambdaRuntimeConfig::read(&mut reader);
        let endpoints = EndpointsConfig::read(&mut reader);
        let logs = LogsConfig::read(&mut reader, &local.working_dir);
        let kubernetes = KubernetesRuntimeConfig::read(&mut reader);
        let http = HttpConfig::read(&mut reader);
        let http_api = HttpApiConfig::read(&mut reader, &identity.environment);
        let tracing = TracingConfig::read(&mut reader, &identity.environment);
        let Gathered { settings, warnings, secrets } = reader.finish()?;
        Ok(Self {
            identity,
            kafka,
            dead_letters,
            bridge,
            ticket_service,
            spiffe,
            service_registry,
            temporal,
            runtimes,
            local,
            docker,
            code_forge,
            lambda,
            endpoints,
            logs,
            kubernetes,
            http,
            http_api,
            outgoing,
            vault,
            tracing,
            settings,
            warnings,
            secrets,
        })
    }
}

impl Config {
    /// Providers of external work that this build has and settings switch on, by the names that they are registered with.
    #[must_use]
    pub fn external_providers(&self) -> Vec<&'static str> {
        let all = [
            ("docker", cfg!(feature = "docker") && self.docker.is_some()),
            ("k8s", cfg!(feature = "kubernetes") && self.kubernetes.is_some()),
            ("code_forge", self.code_forge.is_some()),
            ("lambda", cfg!(feature = "lambda") && self.lambda.is_some()),
        ];
        all.into_iter().filter_map(|(provider, on)| on.then_some(provider)).collect()
    }

    /// How the Service Registry is called, in words.
    #[must_use]
    pub fn registry_connection(&self) -> &'static str {
        let x509 = self.spiffe.as_ref().is_some_and(|spiffe| spiffe.x509);
        match (&self.service_registry.address, x509, &self.service_registry.mtls) {
            (None, ..) => "not called",
            (Some(_), true, _) => "mutual TLS with an X.509-SVID",
            (Some(_), false, Some(_)) => "mutual TLS with certificates from files",
            (Some(_), false, None) => "plaintext",
        }
    }
}

#[cfg(test)]
mod tests;
