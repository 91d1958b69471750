//! How the endpoints of providers are spared: circuit breakers and rates.

use std::num::NonZeroU32;
use std::time::Duration;

use ticket_activities::external::EndpointLimits;

use super::reader::Reader;

/// Providers whose rate has a setting: the provider's name, the setting, its help line.
const RATES: [(&str, &str, &str); 4] = [
    (
        "docker",
        "DOCKER_RATE_PER_SECOND",
        "calls a second to the Docker engine, and as many at once after a pause; 0: no bound; added by this product",
    ),
    (
        "k8s",
        "K8S_JOBS_RATE_PER_SECOND",
        "calls a second to the API server of the Kubernetes cluster, and as many at once after a pause; 0: no bound; added by this \
         product",
    ),
    (
        "code_forge",
        "CODE_FORGE_RATE_PER_SECOND",
        "calls a second to Code Forge, and as many at once after a pause; 0: no bound; added by this product",
    ),
    (
        "lambda",
        "LAMBDA_RATE_PER_SECOND",
        "invocations a second, and as many at once after a pause; 0: no bound; added by this product",
    ),
];
/// More is no limit that anybody means.
const MOST: u64 = 100_000;
/// Longer is an outage that nobody has to have.
const MOST_PAUSE: Duration = Duration::from_secs(3600);

/// Settings of the endpoints of providers.
#[derive(Debug, Clone)]
pub struct EndpointsConfig {
    /// `CIRCUIT_BREAKER_FAULTS`; `None`: circuits stay closed.
    pub faults_to_open: Option<NonZeroU32>,
    /// `CIRCUIT_BREAKER_OPEN_SECONDS`: at most an hour.
    pub pause: Duration,
    /// Of each provider with a setting of its own, `<PROVIDER>_RATE_PER_SECOND`; `None`: no bound.
    rates: Vec<(&'static str, Option<NonZeroU32>)>,
}

impl EndpointsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let usual = EndpointLimits::default();
        let faults_to_open = count(
            reader,
            "CIRCUIT_BREAKER_FAULTS",
            usual.faults_to_open,
            "tickets in a row that a provider fails to begin, after which no new work goes to it for a while; 0: never; added by \
             this product",
        );
        let pause = reader.seconds(
            "CIRCUIT_BREAKER_OPEN_SECONDS",
            usual.pause.as_secs_f64(),
            "for how long; after that new work tries it again; added by this product",
        );
        if pause > MOST_PAUSE {
            reader.error(format!(
                "CIRCUIT_BREAKER_OPEN_SECONDS={}: expected at most {}",
                pause.as_secs_f64(),
                MOST_PAUSE.as_secs()
            ));
        }
        let rates = RATES.map(|(provider, setting, help)| (provider, count(reader, setting, usual.rate, help)));
        Self { faults_to_open, pause, rates: rates.to_vec() }
    }

    /// The limits of this provider's endpoint; one without a setting of its own has the usual rate.
    #[must_use]
    pub fn of(&self, provider: &str) -> EndpointLimits {
        let own = self.rates.iter().find(|(name, _)| *name == provider);
        let rate = own.map_or(EndpointLimits::default().rate, |(_, rate)| *rate);
        EndpointLimits { faults_to_open: self.faults_to_open, pause: self.pause, rate }
    }
}

/// A number of which 0 stands for none.
fn count(
    reader: &mut Reader<'_>,
    name: &'static str,
    usual: Option<NonZeroU32>,
    help: &'static str,
) -> Option<NonZeroU32> {
    let usual = u64::from(usual.map_or(0, NonZeroU32::get));
    let number = reader.number_within(name, usual, 0..=MOST, help);
    u32::try_from(number).ok().and_then(NonZeroU32::new)
}
