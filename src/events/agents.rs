//! What becomes of this worker at the Service Registry.

use tracing::{debug, info, warn};

use super::Event;
use crate::metrics::Metrics;

/// The registry knows an agent of this worker from now on.
pub struct AgentRegistered<'a> {
    /// The registry's id of it.
    pub agent_id: &'a str,
    /// Its security level.
    pub level: &'static str,
    /// The namespace that it is registered in.
    pub namespace: &'a str,
}

impl Event for AgentRegistered<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(
            registered_agent_id = self.agent_id,
            security_level = self.level,
            namespace = self.namespace,
            "agent_registration"
        );
        metrics.agent_registered.inc();
        metrics.agent_registrations.inc();
    }
}

/// The registry was away or refused; it is tried again.
pub struct AgentNotRegistered<'a> {
    /// The agent's security level.
    pub level: &'static str,
    /// What was said and what to do.
    pub error: &'a str,
}

impl Event for AgentNotRegistered<'_> {
    fn emit(&self, _: &Metrics) {
        warn!(security_level = self.level, error = self.error, "agent_registration_failed");
    }
}

/// The registry took a heartbeat.
pub struct HeartbeatTaken<'a> {
    /// The registry's id of the agent.
    pub agent_id: &'a str,
}

impl Event for HeartbeatTaken<'_> {
    fn emit(&self, metrics: &Metrics) {
        debug!(registered_agent_id = self.agent_id, "agent_heartbeat");
        metrics.agent_heartbeat.with_label_values(&["success"]).inc();
    }
}

/// A heartbeat got no usable answer; the agent counts as registered until the registry says that it is not.
pub struct HeartbeatFailed<'a> {
    /// The registry's id of the agent.
    pub agent_id: &'a str,
    /// What was said and what to do.
    pub error: &'a str,
}

impl Event for HeartbeatFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(registered_agent_id = self.agent_id, error = self.error, "agent_heartbeat_failed");
        metrics.agent_heartbeat.with_label_values(&["error"]).inc();
    }
}

/// The registry does not know an agent any more: it is registered again.
pub struct AgentForgotten<'a> {
    /// The registry's former id of it.
    pub agent_id: &'a str,
    /// Its security level.
    pub level: &'static str,
    /// What was said.
    pub said: &'a str,
}

impl Event for AgentForgotten<'_> {
    fn emit(&self, metrics: &Metrics) {
        warn!(registered_agent_id = self.agent_id, security_level = self.level, said = self.said, "agent_forgotten");
        metrics.agent_heartbeat.with_label_values(&["error"]).inc();
        metrics.agent_registrations.dec();
    }
}

/// The registry judges an agent differently than before.
pub struct AgentJudged<'a> {
    /// The registry's id of it.
    pub agent_id: &'a str,
    /// `HEALTHY`, `DEGRADED`, `UNHEALTHY`: the last is not found for any ticket.
    pub status: &'static str,
}

impl Event for AgentJudged<'_> {
    fn emit(&self, _: &Metrics) {
        info!(registered_agent_id = self.agent_id, status = self.status, "agent_judged");
    }
}

/// The registry knows that an agent is gone.
pub struct AgentDeregistered<'a> {
    /// The registry's former id of it.
    pub agent_id: &'a str,
    /// Whether it knew it until then.
    pub known: bool,
}

impl Event for AgentDeregistered<'_> {
    fn emit(&self, metrics: &Metrics) {
        info!(registered_agent_id = self.agent_id, known = self.known, "agent_deregistration");
        metrics.agent_deregistered.inc();
        metrics.agent_registrations.dec();
    }
}

/// The registry was not told that an agent is gone; it finds out by its silence.
pub struct AgentNotDeregistered<'a> {
    /// The registry's id of it.
    pub agent_id: &'a str,
    /// What was said and what to do.
    pub error: &'a str,
}

impl Event for AgentNotDeregistered<'_> {
    fn emit(&self, _: &Metrics) {
        warn!(registered_agent_id = self.agent_id, error = self.error, "agent_deregistration_failed");
    }
}
