//! Kills this process at a named point, as a power failure would: the worker's half of a chaos run
//! (`scripts/chaos/README.md`). Never part of the shipped image.
//!
//! Each of [`BORDERS`] is two points: `<name>.before`, where the peer has heard nothing yet, and `<name>.after`, where it
//! has and this process has drawn no conclusion from the answer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every border, and the file that crosses it.
pub const BORDERS: &[(&str, &str)] = &[
    ("worker.setup", "src/cli/run.rs"),
    ("kafka.take", "src/bridge/partition.rs"),
    ("kafka.commit", "src/bridge/commits.rs"),
    ("kafka.members", "src/bridge/members.rs"),
    ("kafka.leave", "src/bridge/consumer.rs"),
    ("kafka.dead_letter", "src/bridge/dlq.rs"),
    ("kafka.alert", "src/dead_letters/alerting.rs"),
    ("kafka.result", "src/results/delivery.rs"),
    ("kafka.compensation", "src/compensation.rs"),
    ("kafka.flush", "src/worker.rs"),
    ("registry.ask", "src/registry.rs"),
    ("registry.register", "src/registry.rs"),
    ("registry.body", "src/registry/answer.rs"),
    ("ticket_service.ask", "src/ticket_service/http.rs"),
    ("ticket_service.update", "src/ticket_service/grpc.rs"),
    ("ticket_service.get", "src/ticket_service/grpc.rs"),
    ("ticket_service.body", "src/ticket_service/answer.rs"),
    ("otlp.export", "src/spans/collector.rs"),
    ("service_registry.register", "src/service_registry/client.rs"),
    ("service_registry.heartbeat", "src/service_registry/client.rs"),
    ("service_registry.deregister", "src/service_registry/client.rs"),
    ("service_registry.discover", "src/service_registry/client.rs"),
    ("service_registry.list", "src/service_registry/client.rs"),
    ("service_registry.watch", "src/service_registry/client.rs"),
    ("temporal.start", "src/bridge/start.rs"),
    ("temporal.describe", "src/bridge/start.rs"),
    ("temporal.count", "src/bridge/gate.rs"),
    ("temporal.run_ended", "src/external/runs.rs"),
    ("temporal.why_cancelled", "activities/src/stop.rs"),
    ("temporal.provider_changed", "activities/src/fallback.rs"),
    ("temporal.predecessor", "activities/src/temporal.rs"),
    ("temporal.signal", "activities/src/temporal.rs"),
    ("temporal.join_list", "activities/src/temporal.rs"),
    ("temporal.outputs", "activities/src/temporal.rs"),
    ("supervisor.spawn", "activities/src/supervisor/client.rs"),
    ("supervisor.notice", "activities/src/supervisor/client.rs"),
    ("supervisor.stop", "activities/src/supervisor/client.rs"),
    ("supervisor.collect", "activities/src/supervisor/client.rs"),
    ("s3.send", "src/logs/objects/http.rs"),
    ("s3.body", "src/logs/objects/http.rs"),
    ("command.output", "activities/src/execute/local/output.rs"),
    ("code_forge.generate", "src/code_forge.rs"),
    ("code_forge.generation", "src/code_forge.rs"),
    ("code_forge.body", "src/code_forge/answer.rs"),
    ("lambda.check", "src/lambda.rs"),
    ("lambda.invoke", "src/lambda.rs"),
    ("aws.send", "src/lambda/connector.rs"),
    ("aws.body", "src/lambda/connector.rs"),
    ("docker.version", "activities/src/execute/docker/client.rs"),
    ("docker.info", "activities/src/execute/docker/client.rs"),
    ("docker.list", "activities/src/execute/docker/client.rs"),
    ("docker.image", "activities/src/execute/docker/client.rs"),
    ("docker.pull", "activities/src/execute/docker/client.rs"),
    ("docker.create", "activities/src/execute/docker/client.rs"),
    ("docker.start", "activities/src/execute/docker/client.rs"),
    ("docker.inspect", "activities/src/execute/docker/client.rs"),
    ("docker.wait", "activities/src/execute/docker/client.rs"),
    ("docker.stop", "activities/src/execute/docker/client.rs"),
    ("docker.logs", "activities/src/execute/docker/client.rs"),
    ("docker.follow", "activities/src/execute/docker/client.rs"),
    ("docker.remove", "activities/src/execute/docker/client.rs"),
    ("kubernetes.plugin", "activities/src/execute/kubernetes/plugin.rs"),
    ("kubernetes.version", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.may", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.try_pod", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.create", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.jobs", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.job", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.pods", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.watch", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.suspend", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.delete", "activities/src/execute/kubernetes/client.rs"),
    ("kubernetes.log", "activities/src/execute/kubernetes/client.rs"),
];

/// On which side of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call has not been made.
    Before,
    /// It has been answered.
    After,
}

impl Moment {
    const ALL: [Self; 2] = [Self::Before, Self::After];

    fn as_str(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// The names of all points.
pub fn points() -> impl Iterator<Item = String> {
    BORDERS.iter().flat_map(|(name, _)| Moment::ALL.map(|moment| format!("{name}.{}", moment.as_str())))
}

/// Where, and at which pass.
#[derive(Debug)]
struct Plan {
    name: &'static str,
    moment: Moment,
    passes_left: AtomicU32,
}

/// The text names no point.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no failpoint; expected <point>:<n>, n from 1, with a point of `worker-agents failpoints`")]
pub struct NoSuchPoint(String);

static PLAN: OnceLock<Plan> = OnceLock::new();

/// Makes this process kill itself at the n-th pass of a point. `text` is `<point>:<n>`. The first call in a process counts.
///
/// # Errors
/// When there is no such point.
pub fn arm(text: &str) -> Result<(), NoSuchPoint> {
    let plan = parse(text).ok_or_else(|| NoSuchPoint(text.to_owned()))?;
    PLAN.get_or_init(|| plan);
    Ok(())
}

fn parse(text: &str) -> Option<Plan> {
    let (point, passes) = text.rsplit_once(':')?;
    let (name, moment) = point.rsplit_once('.')?;
    let (name, _) = BORDERS.iter().find(|(known, _)| *known == name)?;
    let moment = Moment::ALL.into_iter().find(|known| known.as_str() == moment)?;
    let passes = passes.parse().ok().filter(|passes| *passes > 0)?;
    Some(Plan { name, moment, passes_left: AtomicU32::new(passes) })
}

/// The process is at this point.
pub(crate) fn pass(name: &'static str, moment: Moment) {
    let Some(plan) = PLAN.get() else { return };
    if plan.name == name && plan.moment == moment && plan.passes_left.fetch_sub(1, Ordering::AcqRel) == 1 {
        // Nothing is flushed, closed or said.
        let _ = kill(Pid::this(), Signal::SIGKILL);
        // Until it takes effect; the call must not be made, or its answer used.
        loop {
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_border_and_a_side_of_it() {
        let plan = parse("kafka.dead_letter.after:3").expect("a point");
        assert_eq!((plan.name, plan.moment), ("kafka.dead_letter", Moment::After));
        assert_eq!(plan.passes_left.into_inner(), 3);
        assert_eq!(points().count(), 2 * BORDERS.len());
        for point in points() {
            assert!(parse(&format!("{point}:1")).is_some(), "{point}");
        }
    }

    #[test]
    fn what_names_no_point_is_an_error() {
        for text in
            ["", "kafka.take", "kafka.take:1", "kafka.take.before", "kafka.take.before:0", "kafka.take.during:1"]
        {
            assert_eq!(parse(text).map(|plan| plan.name), None, "{text:?}");
        }
        assert!(arm("nowhere.after:1").expect_err("no such point").to_string().contains("worker-agents failpoints"));
    }
}
