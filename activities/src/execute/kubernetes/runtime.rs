//! The Kubernetes runtime as a provider of external work.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job as KubernetesJob;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use ticket_workflows::{Evidence, ExecutionReport, Failed};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::client::{Cluster, Created, Listed};
use super::job::{self, JobHandle, Spec};
use super::log::Written;
use super::params::{Amounts, KubernetesParams};
use super::pod::has_ended;
use super::standing::{Sight, Standing, is_over};
use super::verdict::{Ended, How, verdict};
use crate::execute::PullPolicy;
use crate::executor::{Job, Recognition};
use crate::external::{Fault, Key, Leftover, Plan, Provider};
use crate::logs::Log;

/// After so long a wait for its pod a watch ends, so that what is waited for is told.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
/// How long whoever follows the log of a Job waits for its command to begin, before the driver pauses.
const BEGIN: Duration = Duration::from_secs(1);
/// How long a log that is being followed may bring nothing when the Job's end is known, until its last lines are given up; and for
/// all of them where the Job was stopped, which is to be confirmed in the driver's time.
const LAST_LINES: Duration = Duration::from_secs(4);
/// Between two looks at a Job that is being stopped or removed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// For what a log has beyond what was followed of it: how long one reading may bring nothing, and how long several together. Both fit
/// into the last words of a work that was stopped ([`crate::external::Patience`]).
const REST_OF_LOG: (Duration, Duration) = (Duration::from_secs(4), Duration::from_millis(1500));
/// The same of a log that was not followed. A node that is silent so long is taken for lost.
const WHOLE_LOG: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(60));
/// For a removal to be confirmed. One that takes longer, as that of a command which has its grace, is confirmed by a later sweep.
const REMOVAL: Duration = Duration::from_secs(3);

/// Settings of the Kubernetes runtime.
#[derive(Debug, Clone)]
pub struct KubernetesConfig {
    /// `K8S_JOBS_TIMEOUT_SECONDS`: time of a Job whose ticket names none.
    pub default_timeout: Duration,
    /// `K8S_JOBS_DEFAULT_CPU_*`: of tickets that name none.
    pub cpu: Amounts,
    /// `K8S_JOBS_DEFAULT_MEMORY_*`: of tickets that name none.
    pub memory: Amounts,
    /// `K8S_JOBS_SERVICE_ACCOUNT`: of tickets that name none.
    pub service_account: String,
    /// `K8S_JOBS_ALLOWED_SERVICE_ACCOUNTS`: which others tickets may name.
    pub allowed_service_accounts: Vec<String>,
    /// `K8S_JOBS_SCRATCH_SIZE`: size of `/tmp`, a quantity of Kubernetes; it is all that a pod can write.
    pub scratch: String,
    /// `K8S_JOBS_IMAGE_PULL_POLICY`.
    pub pull: PullPolicy,
    /// `K8S_JOBS_IMAGE_PULL_SECRET`: a Secret of the namespace.
    pub pull_secret: Option<String>,
    /// `K8S_JOBS_TRIAL`: whether the cluster judges a pod before its Job is created.
    pub trial: bool,
    /// `K8S_JOBS_TTL_SECONDS`: how long the cluster keeps a Job that has ended, if nobody removes it.
    pub ttl: Duration,
    /// `K8S_JOBS_STOP_GRACE_SECONDS`: between TERM and KILL.
    pub grace: Duration,
    /// `K8S_JOBS_CLEANUP`: whether Jobs that have ended by themselves are removed with their tickets. Others always are.
    pub clean_up: bool,
    /// `K8S_JOBS_POLL_INTERVAL_SECONDS`: before a Job is looked at again whose watch has ended without news.
    pub poll_interval: Duration,
    /// Bytes kept of the output, of its two ends.
    pub output_limit: usize,
}

/// Runs commands as Jobs.
pub struct KubernetesRuntime {
    cluster: Cluster,
    config: KubernetesConfig,
}

impl KubernetesRuntime {
    /// Runs Jobs on `cluster`.
    #[must_use]
    pub fn new(cluster: Cluster, config: KubernetesConfig) -> Self {
        Self { cluster, config }
    }

    /// The Job and its pods, as they are now.
    async fn look(&self, job: &JobHandle) -> Result<Sight, Fault> {
        let jobs = self.cluster.job(&job.name).await?;
        let found = jobs.items.into_iter().find(|found| found.metadata.uid.as_ref() == Some(&job.uid));
        let Some(found) = found else {
            return Err(Fault::Vanished { cause: "there is no such Job any more".to_owned() });
        };
        let pods = self.pods(job).await?;
        let mut sight = Sight {
            job: found,
            job_version: jobs.metadata.resource_version.unwrap_or_default(),
            pods: pods.items,
            pods_version: pods.metadata.resource_version.unwrap_or_default(),
            seen: None,
            may_have_begun: false,
        };
        // A Job has one pod; the first that is seen is it, and what was seen of it first stays.
        if let Some(begun) = sight.begun() {
            let _ = job.log.begun.set(begun);
        }
        if let Some(is_leaving) = sight.over() {
            let _ = job.log.over.set(is_leaving);
        }
        sight.seen = job.seen(sight.end_of_pod());
        sight.may_have_begun = job.log.begun.initialized() || !job.log.from_start;
        Ok(sight)
    }

    async fn pods(&self, job: &JobHandle) -> Result<Listed<Pod>, Fault> {
        let mut listed = self.cluster.pods(&job.name).await?;
        listed.items.retain(|pod| job.owns(pod));
        Ok(listed)
    }

    /// Returns when the Job may stand otherwise than in `sight`.
    async fn changed(&self, job: &JobHandle, sight: &Sight) -> Result<(), Fault> {
        if !self.cluster.changed(&job.name, &sight.job_version, &sight.pods_version).await? {
            sleep(self.config.poll_interval).await;
        }
        Ok(())
    }

    async fn wait_for_end(&self, job: &JobHandle) -> Result<Ended, Fault> {
        let silent_until = Instant::now() + LONGEST_SILENCE;
        loop {
            let sight = self.look(job).await?;
            match sight.standing()? {
                Standing::Ended(ended) => return Ok(ended),
                Standing::Running => self.changed(job, &sight).await?,
                Standing::Preempted => {
                    // Whoever resumes it would have the command run beside the next attempt's.
                    let by_itself = self.end(job).await?;
                    let how = How::Disrupted(
                        "somebody has suspended the Job, such as a queue, or a worker has stopped it".to_owned(),
                    );
                    return Ok(by_itself.unwrap_or(Ended { how, is_stopped: true }));
                }
                Standing::Waiting(cause) => tokio::select! {
                    changed = self.changed(job, &sight) => changed?,
                    () = sleep_until(silent_until) => return Err(Fault::Deferred { cause, after: None }),
                },
            }
        }
    }

    /// Ends what runs of the Job, which stays, so that whoever looks for it finds it. `Some`: it had ended by itself.
    async fn end(&self, job: &JobHandle) -> Result<Option<Ended>, Fault> {
        loop {
            let looked = self.look(job).await;
            if matches!(looked, Err(Fault::Vanished { .. })) && !self.pods(job).await?.items.iter().all(has_ended) {
                // Its pods were left behind.
                sleep(LOOK_AGAIN).await;
                continue;
            }
            let sight = looked?;
            if sight.nothing_runs() {
                return Ok(sight.end_of_command());
            }
            if !is_over(&sight.job) && !sight.is_stopped() {
                self.cluster.suspend(&job.name, &job.uid).await?;
            }
            // A pod that has ended is soon gone, and its log with it.
            let _ = timeout(LOOK_AGAIN, self.changed(job, &sight)).await;
        }
    }

    /// Whether it is to be kept where settings say so. Its pod tells that before the Job does.
    async fn has_ended_by_itself(&self, job: &JobHandle) -> Result<bool, Fault> {
        match self.look(job).await {
            Ok(sight) => Ok(!sight.is_suspended() && sight.end_of_command().is_some()),
            Err(Fault::Vanished { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Reads the pod's log from where it was followed to its end.
    async fn read_out(&self, job: &JobHandle) -> Result<(), Fault> {
        if job.log.begun.get().is_none() {
            // Whoever attaches to a Job that has ended.
            self.look(job).await?;
        }
        let Some(begun) = job.log.begun.get() else {
            return Err(Fault::Vanished { cause: "the Job has no pod any more, and so no log".to_owned() });
        };
        let reading = job.log.reading(self.config.output_limit, None).await;
        self.cluster.log(&begun.pod, reading, false).await
    }
}

impl Provider for KubernetesRuntime {
    type Params = KubernetesParams;
    type Spec = Spec;
    type Handle = JobHandle;
    type End = Ended;
    type Output = Written;

    const NAME: &'static str = "k8s";
    /// The key is the Job's name, which the cluster gives to one Job only, and a label that it is found by.
    const RECOGNITION: Recognition = Recognition::Lookup;

    fn plan(&self, params: KubernetesParams, job: &Job) -> Result<Plan<Spec>, Failed> {
        let (wanted, limit) = params.check(&self.config, &job.ticket)?;
        Ok(Plan { spec: Spec::of(wanted, limit, job), limit })
    }

    /// Nothing is brought. The cluster says whether it would take the pod: of a Job whose pod it does not take it says so in
    /// events only.
    async fn prepare(&self, spec: &mut Spec) -> Result<(), Fault> {
        if !self.config.trial {
            return Ok(());
        }
        // It has the time of any call, however short the ticket's: a cluster is not blamed for what tickets leave it.
        self.cluster.try_pod(&job::pod(&self.config, spec)).await
    }

    async fn look_up(&self, key: &Key, spec: &Spec) -> Result<Option<JobHandle>, Fault> {
        let of_attempt = |found: &KubernetesJob| JobHandle::of(found).filter(|_| spec.is_of(found));
        Ok(self.cluster.jobs(&job::of_key(key), of_attempt).await?.into_iter().next())
    }

    async fn create(&self, key: &Key, spec: &Spec) -> Result<JobHandle, Fault> {
        match self.cluster.create(&job::job(&self.config, spec)).await? {
            Created::New(job) => {
                let mut created = JobHandle::of(&job).ok_or_else(|| Fault::Malformed {
                    cause: "the cluster created a Job without an identity".to_owned(),
                })?;
                created.log.from_start = true;
                Ok(created)
            }
            Created::NameTaken => self.look_up(key, spec).await?.ok_or_else(|| Fault::SetupRefused {
                cause: format!(
                    "the name {key} is taken by a Job that is not this ticket's; look at who creates Jobs there"
                ),
            }),
        }
    }

    async fn watch(&self, job: &JobHandle) -> Result<Ended, Fault> {
        let ended = self.wait_for_end(job).await?;
        job.log.settled(LAST_LINES).await;
        Ok(ended)
    }

    /// From its start, for the result as well: a pod that is gone takes its log with it.
    async fn follow(&self, job: &JobHandle, log: &Log) -> Result<(), Fault> {
        let Ok(begun) = timeout(BEGIN, job.log.begun.wait()).await else { return Ok(()) };
        let read = |live| async move {
            let reading = job.log.reading(self.config.output_limit, Some(log)).await;
            self.cluster.log(&begun.pod, reading, live).await
        };
        job.log.followed(read).await
    }

    async fn stop(&self, job: &JobHandle) -> Result<Option<Ended>, Fault> {
        let ended = self.end(job).await?;
        let _ = timeout(LAST_LINES, job.log.settled(LAST_LINES)).await;
        Ok(ended)
    }

    /// A fault that passes is one for a short while only: a node that is lost never answers.
    async fn collect(&self, job: &JobHandle) -> Result<Written, Fault> {
        if job.log.is_whole() {
            return Ok(job.log.written(None));
        }
        let (asked, was_begun) = job.log.asked();
        let (silence, patience) = if was_begun { REST_OF_LOG } else { WHOLE_LOG };
        let read = job.log.unless_silent(silence, Instant::now(), self.read_out(job)).await;
        let Err(fault) = read.unwrap_or_else(|| Err(Fault::no_answer(silence))) else {
            return Ok(job.log.written(None));
        };
        let silent_since = job.log.heard().map_or(asked, |heard| heard.max(asked));
        if silent_since.elapsed() < patience && !matches!(fault, Fault::Vanished { .. }) {
            return Err(fault);
        }
        let kept = self.kept(job, &fault);
        kept.ok_or_else(|| Fault::Vanished { cause: format!("the log cannot be had: {fault}") })
    }

    fn kept(&self, job: &JobHandle, fault: &Fault) -> Option<Written> {
        let missing = (!job.log.is_whole()).then_some(fault);
        job.log.heard().map(|_| job.log.written(missing))
    }

    fn verdict(&self, job: &JobHandle, end: &Ended, written: Option<&Written>) -> Result<Evidence, Failed> {
        verdict(&job.name, end, written.map(|written| written.text.text.as_str()))
    }

    fn report(&self, spec: &Spec, job: &JobHandle, end: Option<&Ended>, written: Option<Written>) -> ExecutionReport {
        let mut report = ExecutionReport::default();
        let exit_code = end.and_then(|end| match end.how {
            How::Exited { code, .. } => Some(code),
            _ => None,
        });
        let text = written.as_ref().map(|written| written.text.text.clone());
        report.output = BTreeMap::from([
            ("exit_code".to_owned(), json!(exit_code)),
            // A cluster does not tell the streams apart; all of it is here.
            ("stderr".to_owned(), json!(text.as_ref().map(|_| ""))),
            ("stdout".to_owned(), json!(text)),
            ("job_name".to_owned(), json!(job.name)),
            ("pod_name".to_owned(), json!(job.log.begun.get().map(|begun| &begun.pod))),
        ]);
        report.metadata = BTreeMap::from([
            ("executor".to_owned(), json!("ExecuteExecutor")),
            ("runtime".to_owned(), json!(Self::NAME)),
            ("image".to_owned(), json!(spec.wanted.image)),
            ("namespace".to_owned(), json!(self.cluster.namespace())),
        ]);
        if let Some(written) = written {
            written.text.describe(&mut report, "stdout");
            if let Some(why) = written.incomplete {
                report.metadata.insert("stdout_incomplete".to_owned(), json!(true));
                report.logs.push(why);
            }
        }
        if let Some(code) = exit_code {
            report.logs.push(format!("Job {} ended with exit code {code}", job.name));
        }
        report
    }

    async fn leftovers(&self) -> Result<Vec<Leftover<JobHandle>>, Fault> {
        // The cluster itself removes none that goes on, or that was stopped.
        let is_too_many = |job: &KubernetesJob| self.config.clean_up || !is_over(job);
        self.cluster.jobs(&job::of_all(), |job| JobHandle::leftover(job).filter(|_| is_too_many(job))).await
    }

    async fn clean_up(&self, job: &JobHandle) -> Result<(), Fault> {
        if !self.config.clean_up && self.has_ended_by_itself(job).await? {
            return Ok(());
        }
        self.cluster.delete(&job.name, &job.uid).await?;
        let until = Instant::now() + REMOVAL;
        loop {
            match self.look(job).await {
                Err(Fault::Vanished { .. }) => return Ok(()),
                Err(fault) => return Err(fault),
                // The rest is the cluster's, which takes its time for it.
                Ok(sight) if sight.pods.iter().all(has_ended) => return Ok(()),
                Ok(_) if Instant::now() > until => {
                    return Err(Fault::Lost {
                        cause: format!("Job {} is to be removed, and its pods have not ended", job.name),
                    });
                }
                Ok(_) => sleep(LOOK_AGAIN).await,
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::super::access::Access;
    use super::super::access::tests::silent;
    use super::super::job::tests::asked;
    use super::*;

    #[tokio::test]
    async fn a_short_ticket_blames_no_cluster() {
        let (_silent, file) = silent();
        let access = Access::Kubeconfig(file.path().to_owned());
        let cluster = Cluster::new(access, "jobs".to_owned(), Arc::new(|_, _| ()));
        let runtime = KubernetesRuntime::new(cluster, config());
        let mut spec = asked("t-1", &json!({ "command": "x", "timeout_seconds": 0.02 }));
        let prepared = timeout(Duration::from_millis(500), runtime.prepare(&mut spec)).await;
        assert!(prepared.is_err(), "it goes on for as long as any call, and the driver ends it with the ticket");
    }

    /// The defaults of `contracts/settings.md`, and one more service account.
    pub(in crate::execute::kubernetes) fn config() -> KubernetesConfig {
        let amounts = |request: &str, limit: &str| Amounts { request: request.to_owned(), limit: limit.to_owned() };
        KubernetesConfig {
            default_timeout: Duration::from_secs(600),
            cpu: amounts("100m", "1000m"),
            memory: amounts("128Mi", "512Mi"),
            service_account: "worker-agent-executor".to_owned(),
            allowed_service_accounts: vec!["reader".to_owned()],
            scratch: "64Mi".to_owned(),
            pull: PullPolicy::IfNotPresent,
            pull_secret: None,
            trial: true,
            ttl: Duration::from_secs(86_400),
            grace: Duration::from_secs(10),
            clean_up: true,
            poll_interval: Duration::from_secs(5),
            output_limit: 100,
        }
    }
}
