//! The worker as a whole: what it is made of, in which order it starts, and how it ends.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::{BoxFuture, LocalBoxFuture};
use ticket_activities::execute::local::{LocalConfig, LocalRuntime};
use ticket_activities::execute::{Noop, Simulation};
use ticket_activities::external::Runs;
use ticket_activities::logs::Logs;
use ticket_activities::supervisor::SupervisorCommand;
use ticket_activities::{
    Activities, ActivityParts, Drain, ExecutorRegistry, LogSink, Observer, PublishError, ResultSink, TicketService,
    border_call, compensate,
};
use ticket_schemas::TaskType;
use ticket_workflows::Report;
use tokio_util::sync::CancellationToken;

use crate::bridge::{self, BridgeParts, Gate, SETUP_CHECK};
use crate::compensation::KafkaTicketSink;
use crate::config::{Config, SIMULATION};
use crate::dead_letters::Alerting;
use crate::external::{ExternalRuntimes, TemporalRuns};
use crate::health::Health;
use crate::http::{self, Api, Surface};
use crate::kafka::{self, Clients, Producer};
use crate::logs::{HeldSecrets, Sink};
use crate::metrics::Metrics;
use crate::registry::RegistryClient;
use crate::rejections::Rejections;
use crate::results::KafkaResultSink;
use crate::sdk_metrics::SdkMetrics;
use crate::service_registry::{Registrar, ServiceRegistryClient};
use crate::spans::Spans;
use crate::spiffe::WorkloadIdentity;
use crate::startup::{Checks, Watch};
use crate::temporal;
use crate::ticket_service::TicketServiceClient;
use crate::vault::Vault;

/// The liveness entry of the bridge.
const BRIDGE_LOOP: &str = "bridge";
/// The readiness check that a shutdown takes away.
const DRAIN_CHECK: &str = "not_draining";
/// Bytes kept of each output stream of a command, of its two ends together.
pub(crate) const OUTPUT_LIMIT: usize = 64 * 1024;
/// How long unsent results get at shutdown; the tickets they belong to stay open otherwise.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What the caller decides beside the settings.
#[derive(Debug, Clone, Default)]
pub struct WorkerOptions {
    /// Registers the no-op runtime: development stack and benches only.
    pub noop_runtime: bool,
}

/// A worker that runs.
pub struct RunningWorker {
    /// Where `/health`, `/ready`, `/metrics` and the API are.
    pub http: SocketAddr,
    /// Where `/metrics` is, again.
    pub metrics: SocketAddr,
    /// Liveness and readiness.
    pub health: Health,
    stop: CancellationToken,
    drain: Drain,
    main: LocalBoxFuture<'static, anyhow::Result<()>>,
}

impl RunningWorker {
    /// Runs until `shutdown` resolves, then drains: consumption stops and commits, running work gets
    /// `SHUTDOWN_GRACE_SECONDS` and is handed back after that, results are flushed.
    ///
    /// # Errors
    /// When a part that cannot be restarted breaks.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut main = self.main;
        tokio::select! {
            result = &mut main => return result,
            () = shutdown => {}
        }
        tracing::info!("shutdown_started");
        self.drain.begin();
        self.health.not_ready(DRAIN_CHECK, "the worker is shutting down");
        self.stop.cancel();
        let result = main.await;
        tracing::info!("shutdown_finished");
        result
    }
}

/// Starts the worker: checks what it needs, then polls and consumes.
///
/// # Errors
/// One sentence that says what is missing and what to do.
pub async fn start(config: Config, options: WorkerOptions) -> anyhow::Result<RunningWorker> {
    let mut vault = None;
    let started = assemble(config, options, &mut vault).await;
    if started.is_err()
        && let Some(vault) = vault
    {
        vault.end().await;
    }
    started
}

/// `vault` holds the client of Vault until the worker has taken it over.
async fn assemble(config: Config, options: WorkerOptions, vault: &mut Option<Vault>) -> anyhow::Result<RunningWorker> {
    let metrics = Arc::new(Metrics::new()?);
    metrics.startup.inc();
    let health = Health::default();
    let stop = CancellationToken::new();
    let drain = Drain::default();

    let sdk_metrics = Arc::new(SdkMetrics::start()?);
    let listener = http::bind(SocketAddr::new(config.http.bind, config.http.port), "HTTP_PORT").await?;
    let metrics_listener =
        http::bind(SocketAddr::new(config.http.bind, config.http.metrics_port), "PROMETHEUS_PORT").await?;
    let (http, metrics_address) = (listener.local_addr()?, metrics_listener.local_addr()?);
    let surface =
        Surface { health: health.clone(), metrics: Arc::clone(&metrics), sdk_metrics: Arc::clone(&sdk_metrics) };
    // The surface outlives the drain: probes and scrapes see it happen.
    let surface_stop = CancellationToken::new();
    let identity = WorkloadIdentity::of(config.spiffe.as_ref(), Arc::clone(&metrics));
    let api = Api::new(&config, surface, identity.clone());
    let identified = tokio::spawn(identified(identity.clone(), surface_stop.clone()));
    let tls_identity = identity.clone().filter(|identity| identity.settings().x509);
    let serving = tokio::spawn(http::serve(listener, http::router(&api), tls_identity, surface_stop.clone()));
    let serving_metrics =
        tokio::spawn(http::serve(metrics_listener, http::metrics_router(&api), None, surface_stop.clone()));

    ask_vault(&config, &metrics, &health, vault).await?;
    health.expect(SETUP_CHECK);
    health.expect(temporal::WORKER_LOOP);
    Checks::demand_topics(&config).await?;
    let runtime = temporal::runtime(Some(&sdk_metrics))?;
    let client = temporal::connect(&config).await?;
    Checks::demand_namespace(&config, &client).await?;
    let described = temporal::describe_namespace(&client).await.context("the namespace cannot be described")?;
    health.ready(SETUP_CHECK);
    api.connected(client.clone());

    let registry = registry(&config)?;
    let kafka = Clients::of_worker(&config.kafka, Arc::clone(&metrics), health.clone())?;
    let producer = kafka.producer()?;
    let watch = Watch::new(config.http.strict_startup_checks, health.clone(), Arc::clone(&metrics));
    let agents = ServiceRegistryClient::of(&config, identity.clone(), Arc::clone(&metrics)).map(Arc::new);
    let registrar = Registrar::of(&config, agents.clone(), http, &metrics, &health);
    let logs = Sink::of(&config.logs)?;
    let secrets = HeldSecrets::new([config.secrets.clone(), temporal::sdk_secrets()?].concat())?;
    let checks = Checks::new(config.clone(), Some(client.clone()), registry.clone(), agents, identity, logs.clone());
    let gate = Gate::new(&config.bridge, Arc::clone(&metrics));
    let spans = Spans::of(&config, &metrics)?;
    let runs: Arc<dyn Runs> = Arc::new(TemporalRuns::new(client.clone()));
    let (executors, external) =
        ExternalRuntimes::add_to(executors(&config, &options), &config, &metrics, &spans, &runs)?;
    for (task_type, count) in executors.counts() {
        metrics.executors_registered.with_label_values(&[task_type.as_str()]).inc_by(count);
    }
    let activities = Activities::new(ActivityParts {
        registry: executors,
        results: Arc::new(CountedSink {
            sink: KafkaResultSink::new(
                producer.clone(),
                &config.kafka,
                registry.clone(),
                Arc::clone(&metrics),
                spans.clone(),
            ),
            gate: gate.clone(),
        }),
        ticket_service: ticket_service(&config, &metrics, &spans)?,
        report_stuck_after: config.ticket_service.stuck_after,
        tickets: Arc::new(KafkaTicketSink::new(producer.clone(), &config.kafka, registry.clone())),
        observer: Arc::clone(&metrics) as Arc<dyn Observer>,
        tracer: Arc::new(spans.clone()),
        drain: drain.clone(),
        agent_id: config.identity.agent_id.clone(),
        registrations: Arc::new(registrar.as_ref().map(Registrar::known_as).unwrap_or_default()),
        logs: Logs { sink: logs.map(|sink| sink as Arc<dyn LogSink>), secrets: Some(Arc::new(secrets)) },
    });
    let alerting = Alerting::new(&config, kafka.clone(), producer.clone(), Arc::clone(&metrics), health.clone());
    let parts = BridgeParts {
        client: client.clone(),
        retention: described.retention,
        kafka: kafka.clone(),
        producer: producer.clone(),
        registry,
        gate,
        spans: spans.clone(),
        metrics: Arc::clone(&metrics),
        health: health.clone(),
    };
    let rejections = Rejections::of(&config.kafka, &kafka, &client, &metrics, &health);
    let vault = vault.take();
    let main = {
        let (health, stop) = (health.clone(), stop.clone());
        async move {
            let credentials_stop = CancellationToken::new();
            let following = tokio::spawn(producer.clone().follow_credentials(credentials_stop.clone()));
            let watching =
                tokio::spawn(kafka::Watch::new(kafka).run(Arc::clone(&parts.metrics), credentials_stop.clone()));
            let keying = tokio::spawn(temporal::follow_api_key(
                config.temporal.api_key.clone(),
                client.clone(),
                credentials_stop.clone(),
            ));
            // Whoever still works may need a secret: it ends last.
            let vault_stop = CancellationToken::new();
            let keeping = tokio::spawn(kept(vault, vault_stop.clone()));
            // Consumption ends first; the worker goes on meanwhile, so that what was taken can finish.
            let worker_stop = CancellationToken::new();
            let sweeping = tokio::spawn(external.sweep(worker_stop.clone()));
            // Also when the bridge ends by itself.
            let alerts_stop = stop.child_token();
            let worker = {
                let (config, health, stop) = (config.clone(), health.clone(), worker_stop.clone());
                temporal::run_supervised(
                    move || temporal::worker(&runtime, &client, &config, &activities),
                    health,
                    stop,
                )
            };
            let (allowed, findable) = (watch.passed(), watch.passed());
            // Ends with the bridge, whyever that ends.
            let beside = stop.child_token();
            let checking = watch.run(|| checks.make(false), beside.clone());
            let registering = registered(registrar, findable, beside.clone());
            let bridge = async {
                health.alive(BRIDGE_LOOP);
                // With strict start-up checks nothing is taken before they have passed.
                let result = match stop.run_until_cancelled(allowed).await {
                    Some(()) => {
                        let following = tokio::spawn(rejected(rejections, beside.clone()));
                        let result = run_bridge(&config, parts, &stop).await;
                        beside.cancel();
                        worker_stop.cancel();
                        alerts_stop.cancel();
                        if let Err(error) = following.await {
                            tracing::error!(%error, "following rejections broke");
                        }
                        result
                    }
                    None => Ok(()),
                };
                beside.cancel();
                if let Err(error) = &result {
                    health.dead(BRIDGE_LOOP, error.to_string());
                }
                worker_stop.cancel();
                alerts_stop.cancel();
                result
            };
            let alerts = async {
                if let Some(alerting) = alerting {
                    alerting.run(alerts_stop.clone()).await;
                }
            };
            let (bridged, worked, (), (), ()) = tokio::join!(bridge, worker, alerts, checking, registering);
            credentials_stop.cancel();
            flush(&producer);
            vault_stop.cancel();
            for ended in [watching.await, following.await, keying.await, keeping.await] {
                if let Err(error) = ended {
                    tracing::error!(%error, "watching credentials broke");
                }
            }
            if let Err(error) = sweeping.await {
                tracing::error!(%error, "removing what ended tickets leave behind broke");
            }
            spans.finish().await;
            surface_stop.cancel();
            serving.await?;
            serving_metrics.await?;
            identified.await?;
            bridged.context("the bridge ended")?;
            worked.context("the Temporal worker ended")
        }
    };
    Ok(RunningWorker { http, metrics: metrics_address, health, stop, drain, main: Box::pin(main) })
}

/// Waits until Vault has given the secrets that settings name, or `VAULT_FAIL_OPEN` lets the worker start without.
async fn ask_vault(
    config: &Config,
    metrics: &Arc<Metrics>,
    health: &Health,
    vault: &mut Option<Vault>,
) -> anyhow::Result<()> {
    let Some(settings) = &config.vault else { return Ok(()) };
    vault.insert(Vault::new(settings.clone(), Arc::clone(metrics), health.clone())?).begin().await
}

async fn kept(vault: Option<Vault>, stop: CancellationToken) {
    if let Some(vault) = vault {
        vault.run(stop).await;
    }
}

/// The supervisor of local processes: this very binary, also when its file has been replaced or removed meanwhile.
#[must_use]
pub fn supervisor() -> SupervisorCommand {
    SupervisorCommand { program: PathBuf::from("/proc/self/exe"), arguments: vec![OsString::from("supervise-process")] }
}

/// The executors whose work runs on this machine.
#[must_use]
pub fn executors(config: &Config, options: &WorkerOptions) -> ExecutorRegistry {
    let mut registry = ExecutorRegistry::new();
    if config.local.enabled {
        let local = Arc::new(LocalRuntime::new(LocalConfig {
            allow_list: config.local.allow_list,
            sandbox: config.local.sandbox.clone(),
            allowed_commands: config.local.allowed_commands.clone(),
            working_dir: PathBuf::from(&config.local.working_dir),
            default_timeout: config.local.timeout,
            grace: config.local.grace,
            output_limit: OUTPUT_LIMIT,
            search_path: OsString::from(&config.local.search_path),
            supervisor: supervisor(),
        }));
        registry = registry.register(TaskType::Execute, "local", Arc::clone(&local));
        registry = compensate::add_to(registry, &local);
    }
    if options.noop_runtime {
        registry = registry.register(TaskType::Execute, "noop", Noop);
    }
    let any = registry.has(TaskType::Execute);
    if config.runtimes.simulates(any) {
        tracing::warn!(any_runtime = any, "EXECUTE tickets may be simulated: their results say so, and nothing runs");
        registry = registry.register(TaskType::Execute, SIMULATION, Simulation);
    }
    registry
        .default_provider(TaskType::Execute, &config.runtimes.default)
        .fall_back_to(TaskType::Execute, &config.runtimes.fallbacks(any))
}

fn registry(config: &Config) -> anyhow::Result<Option<Arc<RegistryClient>>> {
    let registry = RegistryClient::of(&config.kafka)?;
    if registry.is_none() {
        tracing::info!("no schema registry is configured: JSON only, framed Avro goes to the DLQ");
    }
    Ok(registry.map(Arc::new))
}

fn ticket_service(
    config: &Config,
    metrics: &Arc<Metrics>,
    spans: &Spans,
) -> anyhow::Result<Option<Arc<dyn TicketService>>> {
    let client = TicketServiceClient::of(&config.ticket_service, Arc::clone(metrics), spans.clone())?;
    if client.is_none() {
        tracing::info!(
            "no Execution Ticket Service is configured: it hears of no ticket, and tickets that ran elsewhere are unknown; \
             EXECUTION_TICKET_SERVICE_URL names one"
        );
    }
    Ok(client.map(|client| Arc::new(client) as Arc<dyn TicketService>))
}

/// Runs the bridge with what the namespace remembers by now: strict start-up checks may have waited for a change of it.
async fn run_bridge(config: &Config, mut parts: BridgeParts, stop: &CancellationToken) -> anyhow::Result<()> {
    if config.http.strict_startup_checks {
        match temporal::describe_namespace(&parts.client).await {
            Ok(described) => parts.retention = described.retention,
            Err(status) => tracing::warn!(%status, "the namespace's retention is taken as it was at the start"),
        }
    }
    bridge::run(config, parts, stop.clone()).await
}

/// Follows rejections, when that is wanted.
async fn rejected(rejections: Option<Rejections>, stop: CancellationToken) {
    if let Some(rejections) = rejections {
        rejections.run(stop).await;
    }
}

/// Follows who this worker is, when SPIFFE says it.
async fn identified(identity: Option<Arc<WorkloadIdentity>>, stop: CancellationToken) {
    if let Some(identity) = identity {
        identity.follow(stop).await;
    }
}

/// Keeps the worker in the Service Registry, when there is one, from when it may take tickets.
async fn registered(registrar: Option<Registrar>, allowed: impl Future<Output = ()>, stop: CancellationToken) {
    if let Some(registrar) = registrar
        && stop.run_until_cancelled(allowed).await.is_some()
    {
        registrar.run(stop).await;
    }
}

fn flush(producer: &Producer) {
    if let Err(error) = border_call("kafka.flush", || producer.flush(FLUSH_TIMEOUT)) {
        tracing::warn!(%error, "results were not flushed; their tickets stay open and are reported after the restart");
    }
}

/// Tells the gate about tickets that are done.
struct CountedSink {
    sink: KafkaResultSink,
    gate: Gate,
}

impl ResultSink for CountedSink {
    fn publish<'a>(&'a self, report: &'a Report) -> BoxFuture<'a, Result<(), PublishError>> {
        Box::pin(async move {
            self.sink.publish(report).await?;
            // One that waited for others to its end never had a place.
            if report.dependencies.as_ref().is_some_and(|wait| !wait.satisfied) {
                return Ok(());
            }
            let waited_ms = report.dependencies.as_ref().map_or(0, |wait| wait.waited_ms);
            let age = Duration::from_millis(u64::try_from(report.duration_ms - waited_ms).unwrap_or_default());
            self.gate.finished(report.result.ticket_id.as_str(), age);
            Ok(())
        })
    }
}
