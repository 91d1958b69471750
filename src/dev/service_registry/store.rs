//! What the registry remembers, and how it judges. Times are epoch seconds; no clock, no I/O.

use std::cmp::Reverse;
use std::collections::HashMap;

use platform_proto::service_registry::agent_change_event::EventType;
use platform_proto::service_registry::{
    AgentChangeEvent, AgentInfo, AgentStatus, AgentTelemetry, AgentType, DiscoverRequest, RegisterRequest,
};
use uuid::Uuid;

/// How long an agent is remembered that is not heard of, in seconds.
const TTL: i64 = 300;
/// How long an agent may be silent before looks find fault with it, in seconds.
const SILENCE: i64 = 120;
/// The look at which a silent agent is removed.
const LAST_LOOK: u32 = 5;
/// Agents of a discovery that does not say how many it wants.
const DEFAULT_RESULTS: usize = 5;

/// An agent, and what only the registry knows of it.
#[derive(Debug)]
struct Known {
    info: AgentInfo,
    /// Looks that found it silent.
    silent_looks: u32,
    /// When it is forgotten.
    until: i64,
}

/// The agents, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Store(Vec<Known>);

/// Why a registration is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("capabilities: at least one is required")]
    NoCapabilities,
    #[error("agent_type: {0} is none")]
    NoSuchType(i32),
}

/// Why a heartbeat is refused. The registry has one code for all of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoHeartbeat {
    #[error("badly formed hexadecimal UUID string")]
    NoId,
    // The platform's own words.
    #[error("Agente {0} não encontrado")]
    Unknown(String),
    #[error("1 validation error for AgentTelemetry")]
    Invalid,
}

impl Store {
    /// Makes an agent, whatever its metadata says.
    pub(super) fn register(&mut self, request: RegisterRequest, now: i64) -> Result<AgentInfo, Refused> {
        if request.capabilities.is_empty() {
            return Err(Refused::NoCapabilities);
        }
        if matches!(AgentType::try_from(request.agent_type), Err(_) | Ok(AgentType::Unspecified)) {
            return Err(Refused::NoSuchType(request.agent_type));
        }
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        let info = AgentInfo {
            agent_id: Uuid::new_v4().to_string(),
            agent_type: request.agent_type,
            capabilities: request.capabilities,
            metadata: request.metadata,
            // What the request says of it is ignored.
            telemetry: Some(AgentTelemetry::default()),
            status: AgentStatus::Healthy.into(),
            registered_at: now,
            last_seen: now,
            namespace: or(request.namespace, "default"),
            cluster: or(request.cluster, "local"),
            version: or(request.version, "1.0.0"),
            schema_version: 1,
        };
        self.0.push(Known { info: info.clone(), silent_looks: 0, until: now + TTL });
        Ok(info)
    }

    /// Takes a heartbeat; the agent, and whether it does better or worse than before.
    pub(super) fn heartbeat(
        &mut self,
        agent_id: &str,
        telemetry: Option<AgentTelemetry>,
        now: i64,
    ) -> Result<(AgentInfo, bool), NoHeartbeat> {
        let id = Uuid::parse_str(agent_id).map_err(|_| NoHeartbeat::NoId)?.to_string();
        let unknown = || NoHeartbeat::Unknown(agent_id.to_owned());
        if telemetry.as_ref().is_some_and(|told| !is_valid(told)) {
            return Err(NoHeartbeat::Invalid);
        }
        let known = self.living(now).find(|known| known.info.agent_id == id).ok_or_else(unknown)?;
        let before = known.info.status;
        if let Some(told) = telemetry {
            known.info.status = judged(&told).into();
            known.info.telemetry = Some(told);
        }
        known.info.last_seen = now;
        known.until = now + TTL;
        known.silent_looks = 0;
        Ok((known.info.clone(), known.info.status != before))
    }

    /// Removes an agent.
    pub(super) fn deregister(&mut self, id: Uuid) -> Option<AgentInfo> {
        let at = self.0.iter().position(|known| known.info.agent_id == id.to_string())?;
        Some(self.0.remove(at).info)
    }

    /// One agent.
    pub(super) fn get(&self, agent_id: &str, now: i64) -> Option<AgentInfo> {
        let living = self.0.iter().find(|known| known.info.agent_id == agent_id && now < known.until)?;
        Some(living.info.clone())
    }

    /// Agents that have every capability, do not do badly and pass the filters, the best first.
    pub(super) fn discover(&self, question: &DiscoverRequest, now: i64) -> Vec<AgentInfo> {
        let mut found = self.list(AgentType::Unspecified, &question.filters, now);
        found.retain(|agent| {
            let able = question.capabilities.iter().all(|wanted| agent.capabilities.contains(wanted));
            able && matches!(agent.status(), AgentStatus::Healthy | AgentStatus::Degraded)
        });
        found.sort_by_key(|agent| Reverse(score(agent)));
        let wanted = usize::try_from(question.max_results).ok().filter(|wanted| *wanted > 0);
        found.truncate(wanted.unwrap_or(DEFAULT_RESULTS));
        found
    }

    /// Agents of a type that pass the filters.
    pub(super) fn list(&self, of: AgentType, filters: &HashMap<String, String>, now: i64) -> Vec<AgentInfo> {
        let living = self.0.iter().filter(|known| now < known.until).map(|known| &known.info);
        let wanted = living.filter(|agent| of == AgentType::Unspecified || agent.agent_type() == of);
        wanted.filter(|agent| filters.iter().all(|(key, value)| passes(agent, key, value))).cloned().collect()
    }

    /// Every agent that has not been removed.
    pub(super) fn all(&self) -> Vec<AgentInfo> {
        self.0.iter().map(|known| known.info.clone()).collect()
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Finds fault with silent agents, as the registry does once a minute: unhealthy, then degraded, which makes a dead agent
    /// one that is found again, then removed. What it stores lives on for another while.
    pub(super) fn look(&mut self, now: i64) -> Vec<AgentChangeEvent> {
        let mut events = Vec::new();
        self.0.retain_mut(|known| {
            if known.until <= now {
                return false;
            }
            if now - known.info.last_seen <= SILENCE {
                return true;
            }
            known.silent_looks += 1;
            let status = match known.silent_looks {
                1 => AgentStatus::Unhealthy,
                LAST_LOOK.. => {
                    events.push(event(EventType::Deregistered, known.info.clone(), now));
                    return false;
                }
                _ => AgentStatus::Degraded,
            };
            if known.info.status() != status {
                known.info.status = status.into();
                known.until = now + TTL;
                events.push(event(EventType::StatusChanged, known.info.clone(), now));
            }
            true
        });
        events
    }

    fn living(&mut self, now: i64) -> impl Iterator<Item = &mut Known> {
        self.0.iter_mut().filter(move |known| now < known.until)
    }
}

/// Something happened to an agent.
pub(super) fn event(what: EventType, agent: AgentInfo, now: i64) -> AgentChangeEvent {
    AgentChangeEvent { event_type: what.into(), agent: Some(agent), timestamp: now }
}

fn is_valid(told: &AgentTelemetry) -> bool {
    (0.0..=1.0).contains(&told.success_rate)
        && told.avg_duration_ms >= 0
        && told.total_executions >= 0
        && told.failed_executions >= 0
}

/// A rate that was left at zero counts as one.
fn judged(told: &AgentTelemetry) -> AgentStatus {
    match told.success_rate {
        rate if rate < 0.3 => AgentStatus::Unhealthy,
        rate if rate < 0.5 => AgentStatus::Degraded,
        _ => AgentStatus::Healthy,
    }
}

/// An unknown filter is passed by all.
fn passes(agent: &AgentInfo, key: &str, wanted: &str) -> bool {
    match key {
        "namespace" => agent.namespace == wanted,
        "cluster" => agent.cluster == wanted,
        "version" => agent.version == wanted,
        "agent_type" => agent.agent_type().as_str_name().eq_ignore_ascii_case(wanted),
        "security_level" => agent.metadata.get("security_level").map_or("INTERNAL", String::as_str) == wanted,
        "status" => {
            let status = agent.status();
            status.as_str_name() == wanted || wanted == "HEALTHY" && status == AgentStatus::Degraded
        }
        _ => true,
    }
}

/// What an agent is worth, in thousandths: health counts for 0.4, telemetry for 0.3. The pheromones of the platform, 0.3 as
/// well, are not known here.
fn score(agent: &AgentInfo) -> i64 {
    let health = if agent.status() == AgentStatus::Healthy { 400 } else { 200 };
    let rate = agent.telemetry.as_ref().map_or(0.0, |told| told.success_rate);
    health + (rate * 300.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(pairs: &[(&str, &str)]) -> RegisterRequest {
        RegisterRequest {
            agent_type: AgentType::Worker.into(),
            capabilities: vec!["python".to_owned(), "read".to_owned()],
            metadata: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..RegisterRequest::default()
        }
    }

    fn rate(success_rate: f64) -> Option<AgentTelemetry> {
        Some(AgentTelemetry { success_rate, ..AgentTelemetry::default() })
    }

    fn question(capabilities: &[&str], filters: &[(&str, &str)]) -> DiscoverRequest {
        DiscoverRequest {
            capabilities: capabilities.iter().map(|text| (*text).to_owned()).collect(),
            filters: filters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            max_results: 0,
        }
    }

    #[test]
    fn registering_makes_another_agent_each_time_with_the_contracts_defaults() {
        let mut store = Store::default();
        let request = RegisterRequest { telemetry: rate(0.9), ..worker(&[("agent_id", "mine")]) };
        let first = store.register(request.clone(), 100).expect("taken");
        let second = store.register(request, 101).expect("taken");
        assert_ne!(first.agent_id, second.agent_id);
        assert!(Uuid::parse_str(&first.agent_id).is_ok());
        assert_eq!([&*first.namespace, &*first.cluster, &*first.version], ["default", "local", "1.0.0"]);
        assert_eq!((first.status(), first.telemetry), (AgentStatus::Healthy, Some(AgentTelemetry::default())));
        let without = RegisterRequest { capabilities: Vec::new(), ..worker(&[]) };
        assert_eq!(store.register(without, 0), Err(Refused::NoCapabilities));
        for kind in [0, 9] {
            let request = RegisterRequest { agent_type: kind, ..worker(&[]) };
            assert_eq!(store.register(request, 0), Err(Refused::NoSuchType(kind)));
        }
    }

    #[test]
    fn a_heartbeat_judges_by_the_rate_and_knows_only_whom_it_knows() {
        let mut store = Store::default();
        let id = store.register(worker(&[]), 0).expect("taken").agent_id;
        for (told, status) in [
            (rate(1.0), AgentStatus::Healthy),
            (rate(0.49), AgentStatus::Degraded),
            // Nothing told changes nothing.
            (None, AgentStatus::Degraded),
            (rate(0.0), AgentStatus::Unhealthy),
        ] {
            assert_eq!(store.heartbeat(&id, told, 10).expect("taken").0.status(), status, "{told:?}");
        }
        let stranger = Uuid::new_v4().to_string();
        let said = store.heartbeat(&stranger, rate(1.0), 10).expect_err("unknown").to_string();
        assert_eq!(said, format!("Agente {stranger} não encontrado"));
        assert_eq!(store.heartbeat("me", rate(1.0), 10), Err(NoHeartbeat::NoId));
        let negative = AgentTelemetry { failed_executions: -1, ..AgentTelemetry::default() };
        for wrong in [rate(1.1), rate(f64::NAN), Some(negative)] {
            assert_eq!(store.heartbeat(&id, wrong, 10), Err(NoHeartbeat::Invalid));
        }
    }

    #[test]
    fn who_is_silent_is_forgotten_after_five_minutes() {
        let mut store = Store::default();
        let id = store.register(worker(&[]), 0).expect("taken").agent_id;
        store.heartbeat(&id, rate(1.0), 200).expect("known");
        store.heartbeat(&id, rate(1.0), 499).expect("known");
        assert!(matches!(store.heartbeat(&id, rate(1.0), 799), Err(NoHeartbeat::Unknown(_))));
        assert!(store.discover(&question(&[], &[]), 799).is_empty());
    }

    #[test]
    fn looks_find_a_silent_agent_unhealthy_then_degraded_and_then_remove_it() {
        let mut store = Store::default();
        store.register(worker(&[]), 0).expect("taken");
        assert!(store.look(120).is_empty());
        let seen: Vec<_> = (0..5).map(|n| store.look(180 + 60 * n)).collect();
        let what: Vec<Vec<_>> = seen
            .iter()
            .map(|events| {
                let of = |event: &AgentChangeEvent| event.agent.as_ref().map(AgentInfo::status);
                events.iter().map(|event| (event.event_type(), of(event))).collect()
            })
            .collect();
        assert_eq!(what[0], [(EventType::StatusChanged, Some(AgentStatus::Unhealthy))]);
        assert_eq!(what[1], [(EventType::StatusChanged, Some(AgentStatus::Degraded))]);
        assert_eq!([what[2].len(), what[3].len()], [0, 0]);
        assert_eq!(what[4][0].0, EventType::Deregistered);
        assert!(store.all().is_empty());
    }

    #[test]
    fn a_discovery_needs_all_capabilities_and_passes_filters_as_the_contract_says() {
        let mut store = Store::default();
        let confidential = store.register(worker(&[("security_level", "CONFIDENTIAL")]), 0).expect("taken").agent_id;
        let internal = store.register(worker(&[]), 0).expect("taken").agent_id;
        store.heartbeat(&confidential, rate(0.4), 0).expect("taken");
        store.heartbeat(&internal, rate(1.0), 0).expect("taken");
        let found = |capabilities: &[&str], filters: &[(&str, &str)]| -> Vec<String> {
            let agents = store.discover(&question(capabilities, filters), 1);
            agents.into_iter().map(|agent| agent.agent_id).collect()
        };
        let both = vec![internal.clone(), confidential.clone()];
        assert_eq!(found(&["python", "read"], &[]), both, "the better one first");
        assert_eq!(found(&["python", "deploy"], &[]), Vec::<String>::new());
        // A degraded one passes for a healthy one.
        assert_eq!(found(&[], &[("status", "HEALTHY"), ("agent_type", "worker"), ("nonsense", "x")]), both);
        assert_eq!(found(&[], &[("status", "healthy")]), Vec::<String>::new());
        assert_eq!(found(&[], &[("security_level", "INTERNAL")]), [internal]);
        assert_eq!(found(&[], &[("security_level", "CONFIDENTIAL")]), [confidential]);
        assert_eq!(found(&[], &[("namespace", "neural-hive")]), Vec::<String>::new());
        (0..6).for_each(|_| drop(store.register(worker(&[]), 0)));
        assert_eq!(store.discover(&question(&[], &[]), 1).len(), DEFAULT_RESULTS);
    }
}
