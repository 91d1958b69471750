//! The cluster: every call that is made to its API server, counted, with its faults typed. No decision is made here.

use futures::TryStreamExt as _;
use http::{Request, header};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::api::{Api, CALL_TIMEOUT, MAX_ANSWER, get, post};
use super::faults::{Error, fault, of_asked, of_create, of_log};
use super::job::{STOPPED, is_name};
use super::log::Reading;
use crate::border::border;
use crate::execute::gathering::Gathering;
use crate::external::{Fault, OnCall, said};

/// Jobs of one page of a list.
const PAGE: usize = 50;

/// What a create came to.
pub(super) enum Created {
    /// The new Job.
    New(Box<Job>),
    /// Somebody has the name.
    NameTaken,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Listed<T> {
    pub(super) metadata: ListMeta,
    pub(super) items: Vec<T>,
}

/// What the API server calls itself.
#[derive(Deserialize)]
struct Version {
    #[serde(rename = "gitVersion")]
    git_version: String,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
}

/// A watch, as far as it was read.
#[derive(Default)]
struct Events {
    line: Vec<u8>,
}

impl Events {
    /// Takes a piece, cut anywhere. `Some`: whether something has happened, or the watch only cannot go on.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<bool>, Error> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend(piece);
            if self.line.len() > MAX_ANSWER {
                return Err(Error::malformed("a line of a watch that does not end"));
            }
            if !piece.ends_with(b"\n") {
                continue;
            }
            let event: Event =
                serde_json::from_slice(&self.line).map_err(|error| Error::malformed(&error.to_string()))?;
            match event.kind.as_str() {
                // Nothing has happened.
                "BOOKMARK" => self.line.clear(),
                // What this version was is forgotten; a new look tells what is now.
                "ERROR" => return Ok(Some(false)),
                _ => return Ok(Some(true)),
            }
        }
        Ok(None)
    }
}

/// A Kubernetes cluster, and the namespace of the Jobs.
pub struct Cluster {
    api: Api,
    namespace: String,
    on_call: OnCall,
}

impl Cluster {
    /// The cluster that `access` leads to. It is not called before it is needed.
    #[must_use]
    pub fn new(access: Access, namespace: String, on_call: OnCall) -> Self {
        Self { api: Api::new(access, CALL_TIMEOUT), namespace, on_call }
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The version of the API server.
    pub(super) async fn version(&self) -> Result<String, Fault> {
        let asked = border("kubernetes.version", self.api.ask::<Version>("version", get("/version".to_owned()))).await;
        Ok(said(&self.called("version", asked).map_err(fault)?.git_version))
    }

    /// Whether this worker may do what is asked.
    pub(super) async fn may(&self, question: &SelfSubjectAccessReview) -> Result<bool, Fault> {
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let asked =
            border("kubernetes.may", self.api.ask::<SelfSubjectAccessReview>("may", post(path, question))).await;
        let review = self.called("may", asked).map_err(fault)?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }

    /// Has the cluster say whether it would take the pod. A rule that cannot be tried is none that was broken.
    pub(super) async fn try_pod(&self, pod: &Pod) -> Result<(), Fault> {
        let path = format!("{}?dryRun=All", self.pods_path());
        let tried = border("kubernetes.try_pod", self.api.ask::<Pod>("try_pod", post(path, pod))).await;
        match self.called("try_pod", tried) {
            Err(error) if error.is_no_dry_run() => Ok(()),
            Err(error) => Err(of_asked(error)),
            Ok(pod) if pod.spec.is_some() => Ok(()),
            Ok(_) => Err(fault(Error::malformed("a pod without a specification"))),
        }
    }

    pub(super) async fn create(&self, job: &Job) -> Result<Created, Fault> {
        let asked = post(self.jobs_path(), job);
        let created = border("kubernetes.create", self.api.ask::<Job>("create", asked)).await;
        match self.called_unless(&[409], "create", created) {
            Ok(job) => Ok(Created::New(Box::new(job))),
            Err(error) if error.is_name_taken() => Ok(Created::NameTaken),
            Err(error) => Err(of_create(error)),
        }
    }

    /// What `wanted` makes of all Jobs that a selector selects. They are not held together: each may carry a command and an environment
    /// of 128 KiB, six times that as JSON, so that a page may be too long and is asked for in smaller ones.
    pub(super) async fn jobs<T>(&self, selector: &str, wanted: impl Fn(&Job) -> Option<T>) -> Result<Vec<T>, Fault> {
        let mut all = Vec::new();
        let (mut next, mut limit) = (String::new(), PAGE);
        loop {
            let path = format!("{}?labelSelector={selector}&limit={limit}&continue={next}", self.jobs_path());
            let listed = border("kubernetes.jobs", self.api.ask::<Listed<Job>>("jobs", get(path))).await;
            let page = match self.called("jobs", listed) {
                Err(Error::TooLong(_)) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                page => page.map_err(fault)?,
            };
            all.extend(page.items.iter().filter_map(&wanted));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) if token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=.~".contains(&b)) => {
                    next = token
                }
                Some(_) => return Err(fault(Error::malformed("a list that goes on at what is no token"))),
                None => return Ok(all),
            }
        }
    }

    /// The Job of this name, if there is one. It is listed: the version of a list is new enough to watch from, and that of an
    /// object may be long forgotten.
    pub(super) async fn job(&self, name: &str) -> Result<Listed<Job>, Fault> {
        let path = format!("{}?{}", self.jobs_path(), of_name(name));
        let listed = border("kubernetes.job", self.api.ask::<Listed<Job>>("job", get(path))).await;
        self.called("job", listed).map_err(fault)
    }

    /// The pods of a Job.
    pub(super) async fn pods(&self, job: &str) -> Result<Listed<Pod>, Fault> {
        let path = format!("{}?{}", self.pods_path(), of_job(job));
        let listed = border("kubernetes.pods", self.api.ask::<Listed<Pod>>("pods", get(path))).await;
        self.called("pods", listed).map_err(fault)
    }

    /// Returns when the Job or one of its pods has changed since these versions of their lists: whether it was told so, or only
    /// the telling has ended.
    pub(super) async fn changed(&self, job: &str, job_version: &str, pods_version: &str) -> Result<bool, Fault> {
        let watch = |path: String, selector: String, version: &str| {
            format!("{path}?watch=true&allowWatchBookmarks=true&{selector}&resourceVersion={version}")
        };
        let jobs = watch(self.jobs_path(), of_name(job), job_version);
        let pods = watch(self.pods_path(), of_job(job), pods_version);
        let told = tokio::select! {
            told = self.first_event(jobs) => told,
            told = self.first_event(pods) => told,
        };
        self.called_unless(&[410], "watch", told).or_else(|error| match error.status() {
            Some(410) => Ok(false),
            _ => Err(fault(error)),
        })
    }

    async fn first_event(&self, path: String) -> Result<bool, Error> {
        border("kubernetes.watch", async {
            let mut answer = self.api.stream(path).await?;
            let mut events = Events::default();
            while let Some(bytes) = answer.try_next().await? {
                if let Some(is_news) = events.take(bytes.as_ref())? {
                    return Ok(is_news);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Has the Job start no pod any more, and its pods ended.
    pub(super) async fn suspend(&self, name: &str, uid: &str) -> Result<(), Fault> {
        // With its identity: another Job of the name is left alone. Whoever resumes it, as a queue may, has it for a second.
        let patch = json!({
            "metadata": { "uid": uid, "annotations": { STOPPED: "true" } },
            "spec": { "suspend": true, "activeDeadlineSeconds": 1 },
        });
        let asked = Request::patch(format!("{}/{name}", self.jobs_path()))
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .body(Body::from(patch.to_string().into_bytes()));
        let suspended = border("kubernetes.suspend", self.api.ask::<Job>("suspend", asked)).await;
        self.called_unless(&[404], "suspend", suspended).map(|_| ()).map_err(fault)
    }

    /// Has the Job removed, after its pods.
    pub(super) async fn delete(&self, name: &str, uid: &str) -> Result<(), Fault> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground", "preconditions": { "uid": uid },
        });
        let asked = Request::delete(format!("{}/{name}", self.jobs_path()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(options.to_string().into_bytes()));
        let deleted = border("kubernetes.delete", self.api.ask::<Value>("delete", asked)).await;
        match self.called_unless(&[404, 409], "delete", deleted) {
            Ok(_) => Ok(()),
            // Another Job of the name.
            Err(error) if error.status() == Some(409) => {
                Err(Fault::Vanished { cause: "there is another Job of its name".to_owned() })
            }
            Err(error) => Err(fault(error)),
        }
    }

    /// Reads on in a pod's log, to its end; `follow`: until the container has ended.
    pub(super) async fn log(&self, pod: &str, mut reading: Reading<'_>, follow: bool) -> Result<(), Fault> {
        if !is_name(pod) {
            return Err(fault(Error::malformed(&format!("a pod called {pod:?}"))));
        }
        let since = reading.since().map_or_else(String::new, |since| format!("&sinceTime={since}"));
        let path = format!("{}/{pod}/log?timestamps=true&follow={follow}{since}", self.pods_path());
        let read = border("kubernetes.log", async {
            let mut answer = Gathering::of(self.api.stream(path).await?);
            while let Some(pieces) = answer.next().await? {
                let bytes: Vec<u8> = pieces.iter().flat_map(AsRef::as_ref).copied().collect();
                reading.take(&bytes).await?;
            }
            reading.finish()
        });
        self.called_unless(&[400, 404], "log", read.await).map_err(of_log)
    }

    fn jobs_path(&self) -> String {
        format!("/apis/batch/v1/namespaces/{}/jobs", self.namespace)
    }

    fn pods_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    fn called<T>(&self, method: &'static str, answer: Result<T, Error>) -> Result<T, Error> {
        self.called_unless(&[], method, answer)
    }

    /// Counts a call. Statuses of `expected` are answers, not errors.
    fn called_unless<T>(&self, expected: &[u16], method: &'static str, answer: Result<T, Error>) -> Result<T, Error> {
        let is_answer = |error: &Error| error.status().is_some_and(|status| expected.contains(&status));
        (self.on_call)(method, answer.as_ref().err().is_none_or(is_answer));
        answer
    }
}

/// Selects the pods of a Job.
fn of_job(name: &str) -> String {
    format!("labelSelector=batch.kubernetes.io/job-name={name}")
}

/// Selects the Job of a name.
fn of_name(name: &str) -> String {
    format!("fieldSelector=metadata.name={name}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::access::tests::silent;
    use super::*;

    #[test]
    fn bookmarks_are_no_news_and_errors_end_a_watch_wherever_its_lines_are_cut() {
        let line = |kind: &str| json!({ "type": kind, "object": { "code": 410 } }).to_string() + "\n";
        let bookmarks = line("BOOKMARK").repeat(2);
        for (last, expected) in [
            ("ADDED", Some(true)),
            ("MODIFIED", Some(true)),
            ("DELETED", Some(true)),
            ("ERROR", Some(false)),
            ("BOOKMARK", None),
        ] {
            let whole = bookmarks.clone() + &line(last);
            for at in 0..whole.len() {
                let mut events = Events::default();
                assert_eq!(events.take(&whole.as_bytes()[..at]).expect("events"), None, "{last}, cut at {at}");
                assert_eq!(events.take(&whole.as_bytes()[at..]).expect("events"), expected, "{last}, cut at {at}");
            }
        }
        assert!(Events::default().take(b"<html>\n").is_err());
    }

    #[tokio::test]
    async fn a_call_without_answer_ends_and_may_have_been_taken() {
        let (_silent, file) = silent();
        let access = Access::Kubeconfig(file.path().to_owned());
        let api = Api::new(access, Duration::from_millis(200));
        let cluster = Cluster { api, namespace: "jobs".to_owned(), on_call: Arc::new(|_, _| ()) };
        for fault in [
            cluster.try_pod(&Pod::default()).await.expect_err("no answer"),
            cluster.suspend("j", "u").await.expect_err("no answer"),
            cluster.job("j").await.expect_err("no answer"),
        ] {
            assert!(matches!(&fault, Fault::Lost { cause } if cause.contains("within 0.2 s")), "{fault:?}");
        }
    }
}
