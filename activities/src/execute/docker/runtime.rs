//! The Docker runtime as a provider of external work.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::models::{ContainerState, ContainerStateStatusEnum as Status};
use serde_json::json;
use ticket_workflows::{Evidence, ExecutionReport, Failed, code};

use super::client::{Created, Engine};
use super::container::{self, Container, Spec, is_id};
use super::follow::follow;
use super::image::{RegistryLogin, registry_of};
use super::params::DockerParams;
use super::starts::Starts;
use crate::execute::PullPolicy;
use crate::execute::container::{KILLED, failed_command};
use crate::execute::output::{Capture, Captured, last_line};
use crate::executor::{Job, Recognition};
use crate::external::{Fault, Key, Leftover, Plan, Provider, said};
use crate::logs::{Log, Redactor};

/// When a container that was never started was.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Longest that the engine may take to say whether it has an image. A preparation has no limit of its own, since a pull may take
/// long.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of the Docker runtime.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// `DOCKER_TIMEOUT_SECONDS`: time of a container whose ticket names none.
    pub default_timeout: Duration,
    /// `DOCKER_DEFAULT_CPU_LIMIT`, in cores.
    pub cpu_limit: f64,
    /// `DOCKER_DEFAULT_MEMORY_LIMIT`, in bytes.
    pub memory_limit: i64,
    /// `DOCKER_NETWORK_MODE`: of tickets that name none.
    pub network_mode: String,
    /// `DOCKER_ALLOWED_NETWORK_MODES`: what tickets may name.
    pub allowed_networks: Vec<String>,
    /// `DOCKER_USER`: of containers whose ticket names none.
    pub user: String,
    /// `DOCKER_PIDS_LIMIT`: processes and threads of a container.
    pub pids_limit: i64,
    /// `DOCKER_SCRATCH_SIZE`: bytes of `/tmp`, which is all that a container can write.
    pub scratch_bytes: i64,
    /// `DOCKER_PULL_POLICY`.
    pub pull: PullPolicy,
    /// `DOCKER_REGISTRY_*`; `None`: images are pulled by nobody in particular.
    pub login: Option<RegistryLogin>,
    /// `DOCKER_STOP_GRACE_SECONDS`: between TERM and KILL.
    pub grace: Duration,
    /// `DOCKER_CLEANUP_CONTAINERS`: whether the containers of ended tickets are removed.
    pub clean_up: bool,
    /// Bytes kept of each output stream, of its two ends.
    pub output_limit: usize,
}

/// Runs commands in containers.
pub struct DockerRuntime {
    engine: Engine,
    config: DockerConfig,
    starts: Starts,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    exit_code: i64,
    /// Something in it was ended for using too much memory; not always what its exit code tells of.
    out_of_memory: bool,
    /// What the engine says went wrong; empty when nothing did.
    error: String,
}

/// What a container wrote.
#[derive(Debug)]
pub struct Written {
    stdout: Captured,
    stderr: Captured,
}

impl DockerRuntime {
    /// Runs containers on `engine`.
    #[must_use]
    pub fn new(engine: Engine, config: DockerConfig) -> Self {
        Self { engine, config, starts: Starts::default() }
    }

    fn login(&self, image: &str) -> Result<Option<DockerCredentials>, Fault> {
        let Some(login) = self.config.login.as_ref().filter(|login| login.server == registry_of(image)) else {
            return Ok(None);
        };
        let (username, password) = (login.credentials)().map_err(|error| Fault::SetupRefused {
            cause: format!("the credentials of registry {} cannot be had: {error}", login.server),
        })?;
        let serveraddress = Some(login.server.clone());
        let (username, password) = (Some(username), Some(password));
        Ok(Some(DockerCredentials { username, password, serveraddress, ..DockerCredentials::default() }))
    }

    /// The folders for which the image wants a volume; `None`: the engine does not have it.
    async fn volumes_of(&self, spec: &Spec) -> Result<Option<Vec<String>>, Fault> {
        let image = &spec.wanted.image;
        let looked = tokio::time::timeout(spec.look_timeout, self.engine.volumes_of(image)).await;
        looked.unwrap_or_else(|_| {
            let seconds = spec.look_timeout.as_secs_f64();
            Err(Fault::Lost {
                cause: format!("the engine does not say within {seconds:.1} s whether it has image {image}"),
            })
        })
    }

    /// Starts the container, unless an earlier start of this process may still be carried out.
    async fn start(&self, container: &Container) -> Result<(), Fault> {
        if !self.starts.claim(&container.id) {
            return Err(Fault::Lost {
                cause: "the container has not begun, and its start has no answer; it is not started twice".to_owned(),
            });
        }
        let started = self.engine.start(&container.id).await;
        if started.as_ref().is_err_and(|fault| !fault.is_ambiguous()) {
            self.starts.forget(&container.id);
        }
        started
    }

    /// An answer about the container; that this engine does not have it says nothing of one that another engine has.
    async fn here<T>(&self, container: &Container, answer: Result<T, Fault>) -> Result<T, Fault> {
        if !matches!(answer, Err(Fault::Vanished { .. })) {
            return answer;
        }
        let engine = self.engine.id().await?;
        if engine == container.engine {
            return answer;
        }
        let (short, known) = (container.short_id(), said(&container.engine));
        Err(Fault::SetupRefused {
            cause: format!(
                "container {short} is on engine {known:?}, and this worker's engine is {engine:?}; let all workers of a task \
                 queue use one engine"
            ),
        })
    }

    async fn wait_for_end(&self, container: &Container) -> Result<Ended, Fault> {
        let mut state = self.engine.state(&container.id).await?;
        // A worker may have been lost before it started what it had created. What has run is never started: that would be
        // another run.
        if state.status == Some(Status::CREATED) {
            self.start(container).await?;
            state = self.engine.state(&container.id).await?;
        }
        if let Some(end) = end_of(&state)? {
            return Ok(end);
        }
        self.engine.wait(&container.id).await?;
        end_of(&self.engine.state(&container.id).await?)?.ok_or_else(|| Fault::Lost {
            cause: "the engine says that the container has ended, and that it has not".to_owned(),
        })
    }

    async fn end(&self, container: &Container) -> Result<(), Fault> {
        self.engine.stop(&container.id, self.config.grace).await?;
        let state = self.engine.state(&container.id).await?;
        if state.running.unwrap_or(true) {
            return Err(Fault::Lost { cause: "the container was stopped and runs".to_owned() });
        }
        // A start that is under way would begin it after this; without it there is nothing to begin.
        if state.status == Some(Status::CREATED) {
            self.engine.remove(&container.id).await?;
        }
        Ok(())
    }
}

impl Provider for DockerRuntime {
    type Params = DockerParams;
    type Spec = Spec;
    type Handle = Container;
    type End = Ended;
    type Output = Written;

    const NAME: &'static str = "docker";
    /// The key is the container's name, which the engine gives to one container only, and a label that it is found by.
    const RECOGNITION: Recognition = Recognition::Lookup;

    fn plan(&self, params: DockerParams, job: &Job) -> Result<Plan<Spec>, Failed> {
        let (wanted, limit) = params.check(&self.config, &job.ticket)?;
        // Short tickets, too, find out an engine that says nothing, before their time is over.
        let look_timeout = LOOK_TIMEOUT.min(limit.min(job.time_left) / 2);
        Ok(Plan { spec: Spec::of(wanted, job, look_timeout), limit })
    }

    async fn prepare(&self, spec: &mut Spec) -> Result<(), Fault> {
        let image = spec.wanted.image.as_str();
        // Before every pull, too: an engine that says nothing is not waited for.
        let always = self.config.pull == PullPolicy::Always;
        match self.volumes_of(spec).await {
            Ok(Some(volumes)) if !always => {
                spec.volumes = volumes;
                return Ok(());
            }
            Ok(_) => {}
            Err(fault) if always && !fault.blames_endpoint() => {
                tracing::warn!(image, %fault, "the engine cannot read its image, which a pull may mend");
            }
            Err(fault) => return Err(fault),
        }
        if self.config.pull == PullPolicy::Never {
            return Err(no_image(image, "and DOCKER_PULL_POLICY is never"));
        }
        self.engine.pull(image, self.login(image)?).await?;
        let pulled = self.volumes_of(spec).await?;
        spec.volumes = pulled.ok_or_else(|| no_image(image, "it was pulled, and is gone"))?;
        spec.image_pulled = true;
        Ok(())
    }

    async fn look_up(&self, key: &Key, _: &Spec) -> Result<Option<Container>, Fault> {
        let engine = self.engine.id().await?;
        let found = self.engine.list(container::of_key(key), false).await?;
        Ok(found.into_iter().find_map(|summary| Container::listed(summary, &engine)))
    }

    async fn create(&self, key: &Key, spec: &Spec) -> Result<Container, Fault> {
        let engine = self.engine.id().await?;
        match self.engine.create(key.as_str(), container::body(&self.config, key, spec)).await? {
            Created::New(id) if is_id(&id) => Ok(Container { id, image_pulled: spec.image_pulled, engine }),
            Created::New(id) => {
                Err(Fault::Malformed { cause: format!("the engine named a container {:?}", said(&id)) })
            }
            Created::NoImage(message) => Err(no_image(&spec.wanted.image, &said(&message))),
            // A name is taken before its container is listed, so one that is not found yet is no refusal.
            Created::NameTaken(message) => self.look_up(key, spec).await?.ok_or_else(|| Fault::Lost {
                cause: format!("the name {key} is taken, and no container of this worker has it: {}", said(&message)),
            }),
        }
    }

    async fn watch(&self, container: &Container) -> Result<Ended, Fault> {
        let end = self.here(container, self.wait_for_end(container).await).await?;
        self.starts.forget(&container.id);
        Ok(end)
    }

    async fn follow(&self, container: &Container, log: &Log) -> Result<(), Fault> {
        follow(&self.engine, &container.id, log).await
    }

    async fn stop(&self, container: &Container) -> Result<Option<Ended>, Fault> {
        self.here(container, self.end(container).await).await?;
        self.starts.forget(&container.id);
        Ok(None)
    }

    async fn collect(&self, container: &Container) -> Result<Written, Fault> {
        // Secrets are taken out of what comes of it.
        let capture = || Mutex::new(Capture::new(self.config.output_limit, Redactor::default()));
        let (stdout, stderr) = (capture(), capture());
        let push = |capture: &Mutex<Capture>, bytes: &[u8]| {
            capture.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        };
        self.engine
            .logs(&container.id, |piece| match piece {
                LogOutput::StdErr { message } => push(&stderr, &message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => push(&stdout, &message),
                LogOutput::StdIn { .. } => {}
            })
            .await?;
        let finish = |capture: Mutex<Capture>| capture.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
        Ok(Written { stdout: finish(stdout), stderr: finish(stderr) })
    }

    fn verdict(&self, container: &Container, end: &Ended, written: Option<&Written>) -> Result<Evidence, Failed> {
        let ran = format!("container {}", container.short_id());
        let answered = format!("exit code {}", end.exit_code);
        let evidence = Evidence::new(ran, answered.clone())
            .map_err(|error| Failed::permanent(code::INTERNAL, error.to_string()))?;
        if end.exit_code == 0 {
            return Ok(evidence);
        }
        let line = written.map_or_else(String::new, |written| last_line(&written.stderr.text));
        let mut failed = if end.error.is_empty() || (end.out_of_memory && end.exit_code == KILLED) {
            failed_command(end.exit_code, end.out_of_memory, &line)
        } else {
            Failed::permanent(code::EXECUTION_FAILED, format!("the container ended with {answered}: {}", end.error))
        };
        failed.evidence = Some(evidence);
        Err(failed)
    }

    fn report(
        &self,
        spec: &Spec,
        container: &Container,
        end: Option<&Ended>,
        written: Option<Written>,
    ) -> ExecutionReport {
        let mut report = ExecutionReport::default();
        let text = |stream: Option<&Captured>| stream.map(|stream| stream.text.clone());
        report.output = BTreeMap::from([
            ("exit_code".to_owned(), json!(end.map(|end| end.exit_code))),
            ("stdout".to_owned(), json!(text(written.as_ref().map(|written| &written.stdout)))),
            ("stderr".to_owned(), json!(text(written.as_ref().map(|written| &written.stderr)))),
            ("container_id".to_owned(), json!(container.short_id())),
        ]);
        report.metadata = BTreeMap::from([
            ("executor".to_owned(), json!("ExecuteExecutor")),
            ("runtime".to_owned(), json!(Self::NAME)),
            ("image".to_owned(), json!(spec.wanted.image)),
            ("image_pulled".to_owned(), json!(container.image_pulled)),
        ]);
        if let Some(written) = written {
            written.stdout.describe(&mut report, "stdout");
            written.stderr.describe(&mut report, "stderr");
        }
        if let Some(end) = end {
            report.logs.push(format!("container {} ended with exit code {}", container.short_id(), end.exit_code));
            if end.out_of_memory {
                report.logs.push("something in the container was ended for using too much memory".to_owned());
            }
        }
        report
    }

    async fn leftovers(&self) -> Result<Vec<Leftover<Container>>, Fault> {
        // Where containers are kept, only those that run are too many.
        let found = self.engine.list(container::of_all(), !self.config.clean_up).await?;
        Ok(found.into_iter().filter_map(|summary| Container::leftover(summary, "")).collect())
    }

    async fn clean_up(&self, container: &Container) -> Result<(), Fault> {
        if self.config.clean_up {
            self.engine.remove(&container.id).await
        } else {
            self.engine.stop(&container.id, self.config.grace).await
        }
    }
}

/// How the container ended, if it has.
fn end_of(state: &ContainerState) -> Result<Option<Ended>, Fault> {
    if !matches!(state.status, Some(Status::EXITED | Status::DEAD | Status::REMOVING)) {
        return Ok(None);
    }
    // One that is removed before it was started says that it ended with 0.
    if matches!(state.started_at.as_deref(), None | Some("" | NEVER)) {
        return Err(Fault::Vanished { cause: "the container was removed, and never ran".to_owned() });
    }
    let exit_code = state.exit_code.ok_or_else(|| Fault::Malformed {
        cause: "the container has ended, and the engine names no exit code".to_owned(),
    })?;
    Ok(Some(Ended {
        exit_code,
        out_of_memory: state.oom_killed.unwrap_or_default(),
        error: said(state.error.as_deref().unwrap_or_default()),
    }))
}

fn no_image(image: &str, why: &str) -> Fault {
    Fault::TicketRefused {
        code: code::IMAGE_NOT_AVAILABLE,
        cause: format!("the engine does not have image {image}: {why}; name one that it has, or that can be pulled"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    use serde_json::Value;
    use ticket_schemas::{ParameterView, decode_json_ticket};

    use super::*;

    #[test]
    fn only_a_container_that_ran_has_an_end_and_only_with_an_exit_code() {
        let began = "2026-01-01T00:00:00.5Z";
        for status in [Status::EXITED, Status::DEAD, Status::REMOVING] {
            let of = |started_at: &str, exit_code| {
                let started_at = Some(started_at.to_owned());
                end_of(&ContainerState { status: Some(status), started_at, exit_code, ..ContainerState::default() })
            };
            assert!(matches!(of(began, Some(3)), Ok(Some(Ended { exit_code: 3, .. }))), "{status}");
            assert!(matches!(of(NEVER, Some(0)), Err(Fault::Vanished { .. })), "{status}");
            assert!(matches!(of(began, None), Err(Fault::Malformed { .. })), "{status}");
        }
        for status in [Status::CREATED, Status::RUNNING, Status::PAUSED, Status::RESTARTING] {
            let state = ContainerState { status: Some(status), exit_code: Some(0), ..ContainerState::default() };
            assert_eq!(end_of(&state), Ok(None), "{status}");
        }
    }

    /// A runtime whose engine is at this port.
    fn runtime(engine: &TcpListener, pull: PullPolicy) -> DockerRuntime {
        let address = format!("tcp://{}", engine.local_addr().expect("an address"));
        DockerRuntime::new(Engine::new(address, Arc::new(|_, _| ())), DockerConfig { pull, ..config() })
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_takes_connections_and_says_nothing_is_found_out_by_short_tickets_too() {
        let engine = TcpListener::bind("127.0.0.1:0").expect("a port");
        for (seconds, most) in [(60, 6), (2, 2)] {
            let runtime = runtime(&engine, PullPolicy::IfNotPresent);
            let (params, job) = asked(&json!({ "image": "busybox", "command": "true" }));
            let job = Job { time_left: Duration::from_secs(seconds), ..job };
            let mut spec = runtime.plan(params, &job).expect("allowed").spec;
            let prepared = tokio::time::timeout(Duration::from_secs(most), runtime.prepare(&mut spec)).await;
            let fault = prepared.expect("in time").expect_err("no answer");
            assert!(matches!(fault, Fault::Lost { .. }) && fault.blames_endpoint(), "{seconds}: {fault:?}");
        }
    }

    /// Gives these answers, a connection each, and then what it was asked.
    fn answering(engine: TcpListener, answers: Vec<(&'static str, &'static str)>) -> JoinHandle<Vec<String>> {
        std::thread::spawn(move || {
            let answer = |(status, body): (&str, &str)| {
                let (mut peer, _) = engine.accept().expect("a connection");
                let mut request = String::new();
                while !request.contains("\r\n\r\n") {
                    let mut piece = [0; 4096];
                    let read = peer.read(&mut piece).expect("a request");
                    assert!(read > 0, "the request ends early: {request}");
                    request.push_str(std::str::from_utf8(&piece[..read]).expect("text"));
                }
                let head = "content-type: application/json\r\nconnection: close";
                write!(peer, "HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    .expect("it is heard");
                request.lines().next().unwrap_or_default().to_owned()
            };
            answers.into_iter().map(answer).collect()
        })
    }

    #[tokio::test]
    async fn an_image_that_is_always_pulled_is_mended_where_it_is_broken() {
        let version = ("200 OK", r#"{ "Version": "20.10.24", "ApiVersion": "1.41" }"#);
        let broken = ("500 Internal Server Error", r#"{ "message": "open /var/lib/docker/image: no such file" }"#);
        let found = ("200 OK", r#"{ "Id": "sha256:0" }"#);
        for (pull, answers) in [
            (PullPolicy::Always, vec![version, broken, ("200 OK", r#"{ "status": "Pulling" }"#), found]),
            (PullPolicy::IfNotPresent, vec![version, broken]),
        ] {
            let engine = TcpListener::bind("127.0.0.1:0").expect("a port");
            let runtime = runtime(&engine, pull);
            let (params, job) = asked(&json!({ "image": "busybox:1", "command": "true" }));
            let mut spec = runtime.plan(params, &job).expect("allowed").spec;
            let engine = answering(engine, answers);
            let prepared = runtime.prepare(&mut spec).await;
            let asked = engine.join().expect("no panic");
            if pull == PullPolicy::Always {
                assert_eq!((prepared, spec.image_pulled), (Ok(()), true), "{asked:?}");
                assert!(asked[2].starts_with("POST ") && asked[2].contains("/images/create?"), "{asked:?}");
            } else {
                assert!(matches!(prepared, Err(Fault::Errored { .. })), "{prepared:?}");
            }
        }
    }

    #[test]
    fn too_much_memory_is_the_verdict_only_of_what_was_killed() {
        let engine = Engine::new("unix:///none".to_owned(), Arc::new(|_, _| ()));
        let runtime = DockerRuntime::new(engine, config());
        let container = Container { id: "0abc".to_owned(), image_pulled: false, engine: String::new() };
        let verdict = |exit_code, out_of_memory| {
            let end = Ended { exit_code, out_of_memory, error: String::new() };
            runtime.verdict(&container, &end, None)
        };
        let failed = |exit_code, out_of_memory| verdict(exit_code, out_of_memory).expect_err("a failure");
        assert_eq!(failed(137, true).code, code::OUT_OF_MEMORY);
        assert_eq!(failed(137, false).code, code::EXECUTION_FAILED);
        let other = failed(3, true);
        assert_eq!(other.code, code::EXECUTION_FAILED);
        assert!(other.message.contains("exit code 3") && other.message.contains("memory_limit"), "{}", other.message);
        assert!(!failed(3, false).message.contains("memory_limit"));
        assert!(verdict(0, true).is_ok(), "whatever was killed in it, the command did its work");
    }

    /// What a ticket with these parameters asks for, and its second attempt, with a minute of time.
    pub(in crate::execute::docker) fn asked(parameters: &Value) -> (DockerParams, Job) {
        let ticket = json!({
            "ticket_id": "t-1", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let params = ParameterView::new(&ticket.parameters).deserialize().expect("parameters");
        (params, Job { attempt: 2, ..Job::first(ticket) })
    }

    /// The defaults of `contracts/settings.md`, with the networks that settings allow by default.
    pub(in crate::execute::docker) fn config() -> DockerConfig {
        DockerConfig {
            default_timeout: Duration::from_secs(600),
            cpu_limit: 1.0,
            memory_limit: 512 << 20,
            network_mode: "none".to_owned(),
            allowed_networks: vec!["none".to_owned(), "bridge".to_owned()],
            user: "65534:65534".to_owned(),
            pids_limit: 256,
            scratch_bytes: 64 << 20,
            pull: PullPolicy::IfNotPresent,
            login: None,
            grace: Duration::from_secs(10),
            clean_up: true,
            output_limit: 100,
        }
    }
}
