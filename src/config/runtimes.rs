//! Which runtime an EXECUTE ticket gets when it names none, or one that cannot run it.

use super::http_api::DEVELOPMENT;
use super::reader::Reader;

/// What simulates.
pub const SIMULATION: &str = "simulation";
/// The runtime of benches, under `dev`.
const NOOP: &str = "noop";
/// The runtimes that there are, in the platform's order of fallbacks (`contracts/settings.md`).
const CHAIN: [&str; 4] = ["k8s", "docker", "local", SIMULATION];

/// Settings of the choice.
#[derive(Debug, Clone)]
pub struct RuntimesConfig {
    /// `DEFAULT_RUNTIME`: of tickets that name none.
    pub default: String,
    /// `RUNTIME_FALLBACK_CHAIN`: who may take over, in this order. Empty unless set: isolation is never lowered silently.
    pub chain: Vec<String>,
    /// `SIMULATION_FALLBACK`.
    pub simulation: SimulationFallback,
}

/// When nothing is run, and the result says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimulationFallback {
    /// Never: a ticket that nobody can run fails.
    Never,
    /// Where no runtime is configured at all.
    WhenUnconfigured,
    /// Whenever the chain comes to its end, after failures of infrastructure too: what upstream does.
    Always,
}

impl RuntimesConfig {
    pub(super) fn read(reader: &mut Reader<'_>, environment: &str) -> Self {
        const MODES: [(&str, SimulationFallback); 3] = [
            ("never", SimulationFallback::Never),
            ("when_unconfigured", SimulationFallback::WhenUnconfigured),
            ("always", SimulationFallback::Always),
        ];
        let usual = if environment == DEVELOPMENT { "when_unconfigured" } else { "never" };
        let simulation = reader
            .one_of(
                "SIMULATION_FALLBACK",
                &MODES,
                usual,
                "when tickets are simulated: never, when_unconfigured or always; never unless ENVIRONMENT is development; \
                 added by this product",
            )
            .unwrap_or(SimulationFallback::Never);
        if simulation == SimulationFallback::Always && environment != DEVELOPMENT {
            reader.warn(format!(
                "SIMULATION_FALLBACK=always with ENVIRONMENT={environment}: tickets that no runtime can begin are reported COMPLETED, \
                 marked simulated, without having run"
            ));
        }
        let always = if simulation == SimulationFallback::Always { CHAIN.join(",") } else { String::new() };
        let chain = reader.list(
            "RUNTIME_FALLBACK_CHAIN",
            &always,
            "runtimes that may take over from one that is not here or whose infrastructure fails, in this order; empty: none",
        );
        let default =
            reader.text("DEFAULT_RUNTIME", "local", "runtime of EXECUTE tickets that name none").to_ascii_lowercase();
        let named = chain.iter().map(|name| ("RUNTIME_FALLBACK_CHAIN", name)).chain([("DEFAULT_RUNTIME", &default)]);
        for (setting, name) in named {
            if !CHAIN.contains(&name.as_str())
                && name != "lambda"
                && (setting, name.as_str()) != ("DEFAULT_RUNTIME", NOOP)
            {
                reader.error(format!("{setting}: {name:?} is no runtime; there are lambda, {}", CHAIN.join(", ")));
            }
        }
        if chain.iter().enumerate().any(|(at, name)| chain[..at].contains(name)) {
            reader.error("RUNTIME_FALLBACK_CHAIN names a runtime twice".to_owned());
        }
        if simulation != SimulationFallback::Always && chain.iter().any(|name| name == SIMULATION) {
            reader.warn(
                "RUNTIME_FALLBACK_CHAIN: simulation takes over with SIMULATION_FALLBACK=always only, and is passed over".to_owned(),
            );
        }
        Self { default, chain, simulation }
    }

    /// Whether nothing is run for a ticket that no runtime can run, where `any` says whether there is one at all.
    #[must_use]
    pub fn simulates(&self, any: bool) -> bool {
        match self.simulation {
            SimulationFallback::Never => false,
            SimulationFallback::WhenUnconfigured => !any,
            SimulationFallback::Always => true,
        }
    }

    /// Who may take over, where `any` says whether there is a real runtime at all.
    #[must_use]
    pub fn fallbacks(&self, any: bool) -> Vec<String> {
        let mut chain = self.chain.clone();
        chain.retain(|name| name != SIMULATION);
        // At the end, wherever the chain had it: nothing comes after it.
        chain.extend(self.simulates(any).then(|| SIMULATION.to_owned()));
        chain
    }
}
