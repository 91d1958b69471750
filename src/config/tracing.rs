//! Traces: to which collector spans go, of which tickets, and what they say of this worker.

use std::time::Duration;

use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};

use super::authorities::authorities;
use super::near::is_near_or_private;
use super::outgoing::PeerAccess;
use super::reader::Reader;
use super::secrets::{SecretSource, Shown, secret_names};

/// Settings of tracing.
#[derive(Debug, Clone)]
pub struct TracingConfig {
    /// Where spans go; `None`: nowhere, and none are made.
    pub collector: Option<CollectorConfig>,
    /// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`: of which tickets spans are made.
    pub sampling: Sampling,
    /// `OTEL_BSP_MAX_QUEUE_SIZE`: most spans that wait for the collector; more are dropped and counted.
    pub queue: usize,
    /// `OTEL_BSP_SCHEDULE_DELAY`: longest time that a span waits for others to be sent together.
    pub delay: Duration,
    /// What every span says of this worker, beside what the product knows itself; the last of several with one key counts.
    pub resource: Vec<(String, String)>,
}

/// The collector of spans, reached with OTLP over gRPC.
#[derive(Debug, Clone)]
pub struct CollectorConfig {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, else `OTEL_EXPORTER_ENDPOINT`.
    pub url: String,
    /// `OTEL_CA_BUNDLE`, and what all peers share. gRPC goes through no proxy.
    pub peer: PeerAccess,
    /// `OTEL_EXPORTER_OTLP_HEADERS`, its file, or Vault: see [`header_pairs`].
    pub headers: Option<SecretSource>,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`: longest call, connecting included.
    pub timeout: Duration,
}

/// Of which tickets spans are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whether the producer's decision counts, where it made one.
    pub parent_based: bool,
    /// The part of the other tickets, between 0 and 1, chosen by trace id.
    pub ratio: f64,
}

/// What the settings of OpenTelemetry count times in.
const MILLIS: &str = "a whole number of milliseconds of at least 1";

impl TracingConfig {
    pub(super) fn read(reader: &mut Reader<'_>, environment: &str) -> Self {
        let collector = collector(reader, environment);
        Self {
            collector,
            sampling: sampling(reader),
            queue: queue(reader),
            delay: millis(reader, "OTEL_BSP_SCHEDULE_DELAY", 5_000, "longest time that a span waits to be sent"),
            resource: resource(reader, environment),
        }
    }
}

/// Most spans that may wait: their places are made at the start.
const MOST_QUEUE: u64 = 1_000_000;

fn queue(reader: &mut Reader<'_>) -> usize {
    const NAME: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
    let queue = reader.number(NAME, 2048, 1, "most spans that wait for the collector; more are dropped and counted");
    if queue > MOST_QUEUE {
        reader.error(format!("{NAME}={queue}: expected at most {MOST_QUEUE}"));
    }
    usize::try_from(queue.min(MOST_QUEUE)).unwrap_or(usize::MAX)
}

fn collector(reader: &mut Reader<'_>, environment: &str) -> Option<CollectorConfig> {
    const STANDARD: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const PLATFORM: &str = "OTEL_EXPORTER_ENDPOINT";
    let standard = reader.url(STANDARD, "OTLP/gRPC endpoint of the trace collector; unset: no spans are exported");
    let platform = reader.url(PLATFORM, "the same by the platform's name; OTEL_EXPORTER_OTLP_ENDPOINT wins");
    let (name, url) = standard.map(|url| (STANDARD, url)).or_else(|| platform.map(|url| (PLATFORM, url))).unzip();
    let protocol = reader.text("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "grpc, the only one that is spoken");
    if protocol != "grpc" {
        reader.error(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL={protocol:?}: only grpc is spoken; name the collector's gRPC port (4317) in {STANDARD}"
        ));
    }
    let ca_bundle = authorities(
        reader,
        ("OTEL_CA_BUNDLE", "PEM file with the authorities of the collector's certificate"),
        "OTEL_TLS_VERIFY",
        "the collector's",
    );
    let headers = headers(reader);
    let timeout = millis(reader, "OTEL_EXPORTER_OTLP_TIMEOUT", 10_000, "longest call to the collector");
    let disabled = reader.boolean("OTEL_SDK_DISABLED", false, "whether no spans are exported, whatever the endpoint");
    let url = url.filter(|_| !disabled)?;
    check(reader, name?, &url, environment);
    Some(CollectorConfig { url, peer: reader.peer_access(ca_bundle), headers, timeout })
}

/// gRPC has no base path. Plaintext stays within the cluster (INC-87).
fn check(reader: &mut Reader<'_>, name: &str, text: &str, environment: &str) {
    // One that cannot be parsed has been reported.
    let Ok(url) = reqwest::Url::parse(text) else { return };
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        reader.error(format!("{name}={text:?}: expected scheme, host and port alone; OTLP over gRPC has no path"));
    }
    if url.scheme() == "http" && !url.host_str().is_some_and(is_near_or_private) {
        let plain = format!("{name}={text:?} is plaintext to a host beyond this machine and the cluster; use https");
        match environment {
            "production" | "prod" | "staging" => {
                reader.error(format!("{plain}, which ENVIRONMENT={environment:?} demands"));
            }
            _ => reader.warn(plain),
        }
    }
}

fn sampling(reader: &mut Reader<'_>) -> Sampling {
    /// Whether the parent's decision counts, and the part of the others where it is not the argument.
    const SAMPLERS: &[(&str, (bool, Option<f64>))] = &[
        ("always_on", (false, Some(1.0))),
        ("always_off", (false, Some(0.0))),
        ("traceidratio", (false, None)),
        ("parentbased_always_on", (true, Some(1.0))),
        ("parentbased_always_off", (true, Some(0.0))),
        ("parentbased_traceidratio", (true, None)),
    ];
    let sampler = reader.one_of(
        "OTEL_TRACES_SAMPLER",
        SAMPLERS,
        "parentbased_always_on",
        "of which tickets spans are exported; parentbased: as the producer decided, where it did",
    );
    let ratio = reader.fraction("OTEL_TRACES_SAMPLER_ARG", 1.0, "the part of tickets of a traceidratio sampler");
    let (parent_based, fixed) = sampler.unwrap_or((true, None));
    Sampling { parent_based, ratio: fixed.unwrap_or(ratio) }
}

/// Those of the settings, whose names win over those of the product.
fn resource(reader: &mut Reader<'_>, environment: &str) -> Vec<(String, String)> {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let mut resource = vec![("deployment.environment".to_owned(), environment.to_owned())];
    let service = reader.text("SERVICE_NAME", "worker-agents", "name of the service in traces");
    resource.push(("service.name".to_owned(), service));
    let text = reader.text(NAME, "", "key=value pairs, comma separated, that every span says of this worker");
    match pairs(&text, |key, value| (!key.is_empty()).then(|| (key.to_owned(), value))) {
        Ok(pairs) => resource.extend(pairs),
        Err(at) => reader.error(format!("{NAME}: entry {at} is no key=value pair")),
    }
    if let Some(name) = reader.optional("OTEL_SERVICE_NAME", "the same by OpenTelemetry's name; wins over SERVICE_NAME")
    {
        resource.push(("service.name".to_owned(), name));
    }
    resource
}

/// The key=value pairs of OpenTelemetry's lists, values percent-decoded, as `of` takes them; else the number of the first entry
/// that is none. The entry may be a secret.
fn pairs<T>(text: &str, of: impl Fn(&str, String) -> Option<T>) -> Result<Vec<T>, usize> {
    let entries = text.split(',').map(str::trim).enumerate().filter(|(_, entry)| !entry.is_empty());
    let pair = |entry: &str| {
        let (key, value) = entry.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        of(key.trim(), value.into_owned())
    };
    entries.map(|(at, entry)| pair(entry).ok_or(at + 1)).collect()
}

/// The headers of a call to the collector.
pub type Headers = Vec<(AsciiMetadataKey, AsciiMetadataValue)>;

/// The headers that a text such as `authorization=Bearer%20abc,x-tenant=a` stands for.
///
/// # Errors
/// The number of the first entry that is no header, which may be a secret and is not quoted.
pub fn header_pairs(text: &str) -> Result<Headers, String> {
    let header = |name: &str, value: String| {
        let name = AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).ok();
        name.zip(AsciiMetadataValue::try_from(value).ok())
    };
    pairs(text, header).map_err(|at| format!("entry {at} is no header as name=value"))
}

fn headers(reader: &mut Reader<'_>) -> Option<SecretSource> {
    let source = reader.secret(
        &secret_names!("OTEL_EXPORTER_OTLP_HEADERS", "headers of calls to the collector, name=value, comma separated"),
        Shown::Hidden,
    )?;
    if let Ok(Err(error)) = source.read().map(|text| header_pairs(text.expose())) {
        reader.error(format!("{}: {error}", source.setting()));
    }
    Some(source)
}

fn millis(reader: &mut Reader<'_>, name: &'static str, default: u64, help: &'static str) -> Duration {
    let millis = reader.parsed(name, default, MILLIS, help);
    if millis == 0 {
        reader.error(format!("{name}=0: expected {MILLIS}"));
    }
    Duration::from_millis(millis)
}
