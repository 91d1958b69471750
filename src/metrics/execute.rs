//! Metrics of EXECUTE and its runtimes (`contracts/observability.md §2`).

use prometheus::{Histogram, HistogramVec, IntCounterVec, Registry};
use ticket_activities::{AttemptEnd, code};
use ticket_schemas::TaskType;

use super::attempt::ended_here;
use super::{TASK_BUCKETS, counters, histogram, histograms};

const EXECUTE_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// A function runs for 900 s at most.
const LAMBDA_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0];
const LOCAL_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Names of providers, as they are registered.
const LOCAL: &str = "local";
const DOCKER: &str = "docker";
const KUBERNETES: &str = "k8s";
const LAMBDA: &str = "lambda";

/// Metrics of EXECUTE.
#[derive(Debug, Clone)]
pub struct ExecuteMetrics {
    /// Attempts at EXECUTE tickets, by success: success, failed.
    pub tasks: IntCounterVec,
    /// Their duration, by runtime.
    pub duration: HistogramVec,
    /// Changes to another runtime, by the one before and the one after.
    pub fallbacks: IntCounterVec,
    /// Attempts as local processes, by how they ended: success, failed, timeout, `not_allowed` by the allow-list.
    pub local_executions: IntCounterVec,
    /// Their duration, without those that were not allowed.
    pub local_duration: Histogram,
    /// Attempts in containers, by how they ended: success, failed, timeout.
    pub docker_executions: IntCounterVec,
    /// Their duration.
    pub docker_duration: HistogramVec,
    /// Calls to the Docker engine, by method and success.
    pub docker_calls: IntCounterVec,
    /// Attempts as Kubernetes Jobs, by how they ended: succeeded, failed, timeout.
    pub k8s_jobs: IntCounterVec,
    /// Their duration.
    pub k8s_duration: HistogramVec,
    /// Calls to the Kubernetes API, by method and success.
    pub k8s_calls: IntCounterVec,
    /// Attempts by functions of AWS Lambda, by how they ended: success, failed, timeout.
    pub lambda_invocations: IntCounterVec,
    /// Their duration.
    pub lambda_duration: Histogram,
    /// Time that AWS bills for each invocation, where its report says so.
    pub lambda_billed_duration: Histogram,
}

impl ExecuteMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            tasks: counters(
                registry,
                "worker_agent_execute_tasks_executed_total",
                "attempts at EXECUTE tickets",
                &["status"],
            )?,
            duration: histograms(
                registry,
                "worker_agent_execute_duration_seconds",
                "duration of attempts at EXECUTE tickets",
                EXECUTE_BUCKETS,
                &["runtime"],
            )?,
            fallbacks: counters(
                registry,
                "worker_agent_execute_runtime_fallbacks_total",
                "changes of EXECUTE tickets to another runtime",
                &["from_runtime", "to_runtime"],
            )?,
            local_executions: counters(
                registry,
                "worker_agent_local_executions_total",
                "attempts as local processes",
                &["status"],
            )?,
            local_duration: histogram(
                registry,
                "worker_agent_local_execution_duration_seconds",
                "duration of attempts as local processes",
                LOCAL_BUCKETS,
            )?,
            docker_executions: counters(
                registry,
                "worker_agent_docker_executions_total",
                "attempts in containers",
                &["status"],
            )?,
            docker_duration: histograms(
                registry,
                "worker_agent_docker_execution_duration_seconds",
                "duration of attempts in containers",
                TASK_BUCKETS,
                &["stage"],
            )?,
            docker_calls: counters(
                registry,
                "worker_agent_docker_api_calls_total",
                "calls to the Docker engine",
                &["method", "status"],
            )?,
            k8s_jobs: counters(
                registry,
                "worker_agent_k8s_jobs_executed_total",
                "attempts as Kubernetes Jobs",
                &["status"],
            )?,
            k8s_duration: histograms(
                registry,
                "worker_agent_k8s_job_duration_seconds",
                "duration of attempts as Kubernetes Jobs",
                TASK_BUCKETS,
                &["stage"],
            )?,
            k8s_calls: counters(
                registry,
                "worker_agent_k8s_api_calls_total",
                "calls to the Kubernetes API",
                &["method", "status"],
            )?,
            lambda_invocations: counters(
                registry,
                "worker_agent_lambda_invocations_total",
                "attempts by functions of AWS Lambda",
                &["status"],
            )?,
            lambda_duration: histogram(
                registry,
                "worker_agent_lambda_duration_seconds",
                "duration of attempts by functions of AWS Lambda",
                LAMBDA_BUCKETS,
            )?,
            lambda_billed_duration: histogram(
                registry,
                "worker_agent_lambda_billed_duration_seconds",
                "time that AWS bills for invocations",
                LAMBDA_BUCKETS,
            )?,
        })
    }

    /// An attempt has ended here. One that no runtime of this worker took has had no execution.
    pub(crate) fn note(&self, end: &AttemptEnd<'_>) {
        let Some(runtime) = ended_here(end, TaskType::Execute) else { return };
        let (status, outcome) = match end.end {
            "completed" => ("success", "success"),
            code::TIMEOUT => ("failed", "timeout"),
            _ => ("failed", "failed"),
        };
        let seconds = end.duration.as_secs_f64();
        self.tasks.with_label_values(&[status]).inc();
        self.duration.with_label_values(&[runtime]).observe(seconds);
        if runtime == LOCAL {
            if end.end == code::COMMAND_NOT_ALLOWED {
                self.local_executions.with_label_values(&["not_allowed"]).inc();
            } else {
                self.local_executions.with_label_values(&[outcome]).inc();
                self.local_duration.observe(seconds);
            }
        }
        if runtime == DOCKER {
            self.docker_executions.with_label_values(&[outcome]).inc();
            self.docker_duration.with_label_values(&["total"]).observe(seconds);
        }
        if runtime == KUBERNETES {
            let outcome = if outcome == "success" { "succeeded" } else { outcome };
            self.k8s_jobs.with_label_values(&[outcome]).inc();
            self.k8s_duration.with_label_values(&["total"]).observe(seconds);
        }
        if runtime == LAMBDA {
            self.lambda_invocations.with_label_values(&[outcome]).inc();
            self.lambda_duration.observe(seconds);
        }
    }

    /// Another runtime does the work of a ticket, whose text `from` may be.
    pub(crate) fn fell_back(&self, from: &str, to: &str) {
        self.fallbacks.with_label_values(&[label(from), label(to)]).inc();
    }

    /// The Docker engine was called, and answered or not.
    #[cfg(any(test, feature = "docker"))]
    pub(crate) fn docker_called(&self, method: &'static str, answered: bool) {
        self.docker_calls.with_label_values(&[method, if answered { "success" } else { "error" }]).inc();
    }

    /// The Kubernetes API was called, and answered or not.
    #[cfg(any(test, feature = "kubernetes"))]
    pub(crate) fn k8s_called(&self, method: &'static str, answered: bool) {
        self.k8s_calls.with_label_values(&[method, if answered { "success" } else { "error" }]).inc();
    }
}

/// The runtime as a label: the platform's names, `other` for what a ticket has made up (INC-92).
fn label(name: &str) -> &'static str {
    const KNOWN: [&str; 6] = [KUBERNETES, DOCKER, LAMBDA, LOCAL, "simulation", "code_forge"];
    KNOWN.into_iter().find(|known| *known == name).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::super::attempt::of_three_seconds;
    use super::*;

    #[test]
    fn attempts_are_counted_by_runtime_and_by_how_they_ended() {
        let metrics = ExecuteMetrics::new(&Registry::new()).expect("metrics");
        let note = |task_type, provider, end| metrics.note(&of_three_seconds(task_type, provider, end));
        note("EXECUTE", Some("docker"), "completed");
        note("EXECUTE", Some("docker"), "timeout");
        note("EXECUTE", Some("docker"), "out_of_memory");
        note("EXECUTE", Some("docker"), "handed_back");
        note("EXECUTE", Some("local"), "completed");
        note("EXECUTE", Some("local"), "timeout");
        note("EXECUTE", Some("local"), "limit_exceeded");
        note("EXECUTE", Some("local"), "command_not_allowed");
        note("EXECUTE", Some("local"), "handed_back");
        note("COMPENSATE", Some("local"), "completed");
        for end in ["completed", "execution_failed", "timeout", "handed_back"] {
            note("EXECUTE", Some("k8s"), end);
        }
        note("EXECUTE", None, "provider_not_available");
        note("COMPENSATE", Some("docker"), "completed");
        note("EXECUTE", Some("lambda"), "completed");
        note("EXECUTE", Some("lambda"), "timeout");
        note("EXECUTE", Some("lambda"), "execution_failed");
        note("EXECUTE", Some("lambda"), "handed_back");
        let tasks = |status| metrics.tasks.with_label_values(&[status]).get();
        let local = |status| metrics.local_executions.with_label_values(&[status]).get();
        let docker = |status| metrics.docker_executions.with_label_values(&[status]).get();
        let jobs = |status| metrics.k8s_jobs.with_label_values(&[status]).get();
        assert_eq!((tasks("success"), tasks("failed")), (4, 9));
        let lambda = |status| metrics.lambda_invocations.with_label_values(&[status]).get();
        assert_eq!((lambda("success"), lambda("failed"), lambda("timeout")), (1, 1, 1));
        assert_eq!(
            (metrics.lambda_duration.get_sample_count(), metrics.lambda_billed_duration.get_sample_count()),
            (3, 0)
        );
        assert_eq!((local("success"), local("failed"), local("timeout"), local("not_allowed")), (1, 1, 1, 1));
        assert_eq!(metrics.local_duration.get_sample_count(), 3);
        assert_eq!((jobs("succeeded"), jobs("failed"), jobs("timeout")), (1, 1, 1));
        assert_eq!(metrics.k8s_duration.with_label_values(&["total"]).get_sample_count(), 3);
        assert_eq!((docker("success"), docker("failed"), docker("timeout")), (1, 1, 1));
        assert_eq!(metrics.duration.with_label_values(&["docker"]).get_sample_count(), 3);
        assert_eq!(metrics.duration.with_label_values(&["local"]).get_sample_count(), 4);
        assert_eq!(metrics.docker_duration.with_label_values(&["total"]).get_sample_count(), 3);
        metrics.docker_called("create", true);
        metrics.docker_called("create", false);
        metrics.k8s_called("create", true);
        metrics.k8s_called("create", false);
        for status in ["success", "error"] {
            assert_eq!(metrics.k8s_calls.with_label_values(&["create", status]).get(), 1, "{status}");
            assert_eq!(metrics.docker_calls.with_label_values(&["create", status]).get(), 1, "{status}");
        }
    }
}
