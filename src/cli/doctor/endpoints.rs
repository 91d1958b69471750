//! What spares the endpoints of providers, and how their circuits are in the worker of this machine. Its metrics say so: a circuit
//! is a worker's own, and this process has called nobody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ticket_activities::external::EndpointLimits;

use crate::config::{Config, HttpConfig};
use crate::metrics::CIRCUIT_STATE;
use crate::net;
use crate::startup::{Check, Finding};

/// For the worker's answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest page of metrics that is read, in bytes.
const MOST: usize = 8 << 20;

/// A line for each provider of external work.
pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let providers = config.external_providers();
    if providers.is_empty() {
        return Vec::new();
    }
    let worker = worker(&config.http);
    let metrics = metrics(worker).await.map_err(|error| format!("{error:#}"));
    let finding = |provider: &str| {
        let circuit = match &metrics {
            Ok(page) => circuit(page, provider).ok_or("it says nothing of this one"),
            Err(error) => Err(error.as_str()),
        };
        judge(provider, config.endpoints.of(provider), worker, circuit)
    };
    providers.into_iter().map(finding).collect()
}

/// Where the worker of this machine has its metrics, if it has these settings.
fn worker(http: &HttpConfig) -> SocketAddr {
    let own = match http.bind {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(own, http.metrics_port)
}

async fn metrics(worker: SocketAddr) -> anyhow::Result<String> {
    let answer = net::client(TIMEOUT)?.get(format!("http://{worker}/metrics")).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let answer = answer.map_err(|error| anyhow::anyhow!(net::describe(&error)))?;
    Ok(String::from_utf8_lossy(&net::body(answer, MOST).await?).into_owned())
}

/// The number of the state of this provider's circuit.
fn circuit<'a>(page: &'a str, provider: &str) -> Option<&'a str> {
    let series = format!("{CIRCUIT_STATE}{{provider=\"{provider}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&series))
}

fn judge(provider: &str, limits: EndpointLimits, worker: SocketAddr, circuit: Result<&str, &str>) -> Finding {
    let rate = limits.rate.map_or("no bound on calls".to_owned(), |rate| format!("at most {rate} calls a second"));
    let opening = limits.faults_to_open.map_or("its circuit never opens".to_owned(), |faults| {
        format!(
            "{faults} tickets in a row that fail by its fault open its circuit for {} s",
            limits.pause.as_secs_f64()
        )
    });
    let spared = format!("endpoint of {provider}: {rate}; {opening}; in the worker at {worker} it");
    match circuit {
        Ok("0") => Finding::ok(Check::Endpoints, format!("{spared} is closed")),
        Ok("1") => Finding::ok(
            Check::Endpoints,
            format!("{spared} is half-open: it was open, and the next attempt finds out whether it is well"),
        ),
        Ok("2") => Finding::failed(
            Check::Endpoints,
            format!("{spared} is open: its last calls have failed, and no attempt begins"),
            "the worker's log (circuit_opened) has the last fault; look at the provider",
        ),
        Ok(other) => unknown(&spared, &format!("{other:?} is no state")),
        Err(error) => unknown(&spared, error),
    }
}

fn unknown(spared: &str, why: &str) -> Finding {
    Finding::unknown(
        Check::Endpoints,
        format!("{spared} is not known ({why})"),
        "run this where the worker runs, with its HTTP_BIND and PROMETHEUS_PORT",
    )
}

#[cfg(test)]
mod tests {
    use ticket_activities::external::{CircuitState, EndpointEvent};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::config::MapSource;
    use crate::metrics::Metrics;
    use crate::startup::State;

    const WORKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

    #[test]
    fn the_settings_are_told_and_an_open_circuit_is_a_failure() {
        let metrics = Metrics::new().expect("metrics");
        for (state, expected, words) in [
            (CircuitState::Closed, State::Ok, "is closed"),
            (CircuitState::HalfOpen, State::Ok, "is half-open"),
            (CircuitState::Open, State::Failed, "is open"),
        ] {
            metrics.endpoints.note("docker", EndpointEvent::Circuit(state));
            let page = metrics.render();
            let told = circuit(&page, "docker").expect("the worker has this circuit");
            let finding = judge("docker", EndpointLimits::default(), WORKER, Ok(told));
            assert_eq!(finding.state, expected, "{finding:?}");
            for part in ["endpoint of docker", "50 calls a second", "5 tickets", "30 s", "127.0.0.1:9090", words] {
                assert!(finding.what.contains(part), "{part}: {finding:?}");
            }
            assert_eq!(circuit(&page, "dock"), None, "a name is compared as a whole");
        }
    }

    #[test]
    fn what_is_off_is_told_and_what_is_not_known_is_neither_a_pass_nor_a_failure() {
        let limits = EndpointLimits { faults_to_open: None, rate: None, ..EndpointLimits::default() };
        for (circuit, words) in [(Err("connection refused"), "connection refused"), (Ok("3"), "no state")] {
            let finding = judge("docker", limits, WORKER, circuit);
            assert_eq!(finding.state, State::Unknown, "{finding:?}");
            for part in ["no bound", "never opens", "is not known", words] {
                assert!(finding.what.contains(part), "{part}: {finding:?}");
            }
            assert!(finding.fix.contains("PROMETHEUS_PORT"), "{finding:?}");
        }
    }

    /// What is found where a worker has its metrics at this port.
    async fn found(port: u16) -> Vec<Finding> {
        let port = port.to_string();
        let settings = MapSource::from([
            ("CODE_FORGE_URL", "http://127.0.0.1:1"),
            ("HTTP_BIND", "127.0.0.1"),
            ("PROMETHEUS_PORT", port.as_str()),
        ]);
        look(&Config::read(&settings).expect("settings")).await
    }

    #[tokio::test]
    async fn the_worker_that_listens_is_asked_and_its_circuit_told() {
        let metrics = Metrics::new().expect("metrics");
        metrics.endpoints.note("code_forge", EndpointEvent::Circuit(CircuitState::Open));
        for (status, page, state) in [
            ("200 OK", metrics.render(), State::Failed),
            ("200 OK", "# somebody else's\n".to_owned(), State::Unknown),
            ("503 Service Unavailable", metrics.render(), State::Unknown),
        ] {
            let worker = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = worker.local_addr().expect("an address").port();
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}", page.len());
            let answering = async {
                let (mut stream, _) = worker.accept().await.expect("a connection");
                let mut request = [0; 4096];
                let read = stream.read(&mut request).await.expect("a request");
                stream.write_all(answer.as_bytes()).await.expect("it is heard");
                assert!(request[..read].starts_with(b"GET /metrics "));
            };
            let (findings, ()) = tokio::join!(found(port), answering);
            assert_eq!(findings.iter().map(|finding| finding.state).collect::<Vec<_>>(), [state], "{findings:?}");
        }
    }

    #[tokio::test]
    async fn a_machine_without_a_worker_gets_its_lines_all_the_same() {
        // Nobody listens there.
        let findings = found(1).await;
        assert_eq!((findings.len(), findings[0].state), (1, State::Unknown), "{findings:?}");
        assert!(findings[0].what.contains("127.0.0.1:1 it is not known ("), "{findings:?}");
        let off = Config::read(&MapSource::default()).expect("defaults");
        assert!(look(&off).await.is_empty(), "there is no endpoint");
    }
}
